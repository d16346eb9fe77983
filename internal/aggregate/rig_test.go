package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/aggregate/generate"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// begin is when rigs start: 200 ms into a second.
var begin = time.Unix(1_800_000_000, 200_000_000)

// epoch0 is the second rigs start in.
const epoch0 = 1_800_000_000

const incarnation = 0xabcdef0123456789

func testOptions() Options {
	return Options{DC: "eu", Writer: "agg-1", Incarnation: incarnation}
}

// A rig drives a core by hand: time is set, work is done at once and in order,
// and a modelStore takes what comes out unless it is told to fail.
type rig struct {
	t        testing.TB
	c        *core
	counters Counters
	now      time.Time
	sealer   sealer
	chunk    atomic.Uint64
	store    *modelStore
	acked    map[string]uint64 // checksums by key
	log      []string          // what was sent, in words
	wakes    int               // times the core asked to be woken
}

func newRig(t testing.TB, change func(*Options)) *rig {
	o := testOptions()
	if change != nil {
		change(&o)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, now: begin, store: newModelStore(), acked: make(map[string]uint64)}
	r.sealer = sealer{writer: []byte(o.Writer), incarnation: o.Incarnation, next: &r.chunk}
	r.c = newCore(o.withDefaults(), &r.counters, r.now)
	r.work()
	return r
}

// at moves the clock to d after the second rigs start in, and does what is due
// on the way.
func (r *rig) at(d time.Duration) {
	target := time.Unix(epoch0, 0).Add(d)
	for {
		wake := r.c.wake(r.now)
		if !wake.After(r.now) {
			r.t.Fatalf("wake at %v does not move time", wake)
		}
		if wake.After(target) {
			break
		}
		r.now = wake
		r.wakes++
		r.work()
	}
	r.now = target
	r.work()
}

// work does all there is to do now.
func (r *rig) work() {
	r.c.tick(r.now)
	for r.workOnce() {
	}
	r.check()
}

func (r *rig) workOnce() bool {
	if g := r.c.takeJob(); g != nil {
		r.c.sealed(g, r.sealer.seal(g))
		return true
	}
	if batch := r.c.takeBatch(r.now); batch != nil {
		errs := r.store.put(r.now, records(batch))
		for i, b := range batch {
			r.log = append(r.log, fmt.Sprintf("%s put %s events=%d: %v", r.clock(), b.key.Suffix(), b.events, errs[i]))
		}
		for _, b := range r.c.batchDone(r.now, batch, errs) {
			if _, twice := r.acked[b.key.String()]; twice {
				r.t.Fatalf("%v was acknowledged twice", b.key)
			}
			r.acked[b.key.String()] = b.record.Checksum
		}
		return true
	}
	if o := r.c.takeOp(r.now); o != nil {
		err := r.store.append(r.now, o.key, o.delta)
		r.log = append(r.log, fmt.Sprintf("%s %s %v: %v", r.clock(), opText(o), o.key, err))
		r.c.opDone(r.now, o, err)
		return true
	}
	return false
}

func (r *rig) clock() string {
	return fmt.Sprintf("+%.1f", r.now.Sub(time.Unix(epoch0, 0)).Seconds())
}

func opText(o *op) string {
	s := o.delta.Sections[0]
	switch {
	case s.Hello:
		return "hello"
	case s.Goodbye:
		return "goodbye"
	}
	return fmt.Sprintf("final(%d)", s.Final.Count)
}

// check verifies the core's invariants.
func (r *rig) check() {
	r.t.Helper()
	var sum, openSize int64
	for i, g := range r.c.open {
		if g.at != i || r.c.groups[g.key] != g {
			r.t.Fatalf("group %q is misplaced", g.key)
		}
		openSize += g.size
	}
	sum = openSize
	for _, g := range r.c.jobs {
		sum += g.size
	}
	for _, b := range r.c.blobs.items[r.c.blobs.head:] {
		sum += b.size
	}
	for _, d := range r.c.blobs.waiting {
		sum += d.item.size
	}
	if sum != r.c.buffered || openSize != r.c.openSize || len(r.c.groups) != len(r.c.open) {
		r.t.Fatalf("buffered %d, held %d; open %d, held %d; %d groups, %d open",
			r.c.buffered, sum, r.c.openSize, openSize, len(r.c.groups), len(r.c.open))
	}
	if r.c.buffered > r.c.o.MaxBufferedBytes {
		r.t.Fatalf("buffered %d, bound %d", r.c.buffered, r.c.o.MaxBufferedBytes)
	}
}

// send offers one datagram with these envelopes.
func (r *rig) send(envelopes ...[]byte) {
	r.c.datagram(r.now, slices.Concat(envelopes...))
}

// stop ends the rig's core as Run would.
func (r *rig) stop() {
	r.c.stop(r.now)
	r.work()
}

// envelope is one event of WEB:app with a number in it.
func envelope(epoch int64, n byte) []byte {
	return envelopeOf(epoch, "", "WEB", "app", n)
}

func envelopeOf(epoch int64, dc, typ, subtype string, n byte) []byte {
	ev := generate.Event{Type: typ, Subtype: subtype, Body: []byte{0x81, 0xa1, 'n', 0xcc, n}}
	return generate.Msgpack.AppendEnvelope(nil, ev, generate.Tags{Epoch: epoch, DC: dc})
}

// A modelStore is what a node promises, in maps: write-once blobs, index rows
// with an entry for every blob, late lists once a second is closed.
type modelStore struct {
	openSeconds int64
	blobs       map[string][]byte
	rows        map[event.IndexKey]index.Row
	stamps      map[string]object.Version
	heard       map[string][]heard     // of each dc
	broken      []string               // promises
	fail        func(key string) error // nil = take everything
	lose        func(key string) error // its error is given although the blob was stored
	failIndex   func(key event.IndexKey, s index.Section) error
}

// heard is a hello or a final: of which row, and in which second it was stored.
type heard struct{ row, at int64 }

func newModelStore() *modelStore {
	return &modelStore{
		openSeconds: defaultOpenSeconds, heard: make(map[string][]heard),
		blobs: make(map[string][]byte), rows: make(map[event.IndexKey]index.Row), stamps: make(map[string]object.Version),
	}
}

func (s *modelStore) put(now time.Time, records []object.Record) []error {
	errs := make([]error, len(records))
	for i := range records {
		errs[i] = s.putOne(now, &records[i])
	}
	return errs
}

func (s *modelStore) putOne(now time.Time, r *object.Record) error {
	key := string(r.Key)
	if s.fail != nil {
		if err := s.fail(key); err != nil {
			return err
		}
	}
	if old, ok := s.stamps[key]; ok && old != r.Version() {
		return object.Errorf(object.CodeConflict, object.NotDone, "%s is there with another version", key)
	}
	if err := r.Verify(); err != nil {
		return err
	}
	s.stamps[key] = r.Version()
	s.blobs[key] = slices.Clone(r.Value())
	at, delta, err := index.DeltaOf(&r.Header)
	if err != nil {
		return err
	}
	if now.Unix() >= at.Epoch+s.openSeconds {
		marked, list := index.Relist(at, delta, now.Unix())
		s.merge(index.LateKey(at, now.Unix()), list)
		delta = marked
	} else if len(r.Writer) > 0 {
		s.promised(at)
	}
	s.merge(at, delta)
	if s.lose != nil {
		return s.lose(key)
	}
	return nil
}

func (s *modelStore) append(now time.Time, key event.IndexKey, delta index.Row) error {
	if err := delta.ValidateFor(key); err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	if s.failIndex != nil {
		if err := s.failIndex(key, delta.Sections[0]); err != nil {
			return err
		}
	}
	if now.Unix() >= key.Epoch+s.openSeconds {
		return object.Errorf(object.CodeExpired, object.NotDone, "second %d is closed", key.Epoch)
	}
	if d := &delta.Sections[0]; d.Hello || d.Final != nil {
		s.heard[key.DC] = append(s.heard[key.DC], heard{key.Epoch, now.Unix()})
	} else if d.Goodbye {
		s.heard[key.DC] = nil
		s.left(key, d.Writer)
	}
	s.merge(key, delta)
	return nil
}

// promised notes a broken promise unless the writer of a blob was heard, before
// the blob's second began, in one of the rows that tell readers to wait for it.
func (s *modelStore) promised(at event.IndexKey) {
	if !slices.ContainsFunc(s.heard[at.DC], func(h heard) bool {
		return h.row < at.Epoch && h.row >= at.Epoch-index.ExpectedSeconds && h.at < at.Epoch
	}) {
		s.broken = append(s.broken, fmt.Sprintf("%v has a blob of a writer that nobody expects", at))
	}
}

// left notes a broken promise if a goodbye hides blobs from readers: of seconds
// after it they wait for nobody.
func (s *modelStore) left(at event.IndexKey, w index.Writer) {
	for e := at.Epoch + 1; e <= at.Epoch+index.ExpectedSeconds; e++ {
		row := s.rows[event.IndexKey{Epoch: e, DC: at.DC}]
		if section := row.Section(w); section != nil && len(section.Entries) > 0 {
			s.broken = append(s.broken, fmt.Sprintf("the goodbye in %v hides blobs of second +%d", at, e-epoch0))
		}
	}
}

func (s *modelStore) merge(key event.IndexKey, delta index.Row) {
	s.rows[key] = index.Merge(s.rows[key], delta)
}

// verdict is the watermark of a second at its lateness bound.
func (s *modelStore) verdict(epoch int64, dc string) index.Verdict {
	var before []index.Row
	for e := epoch - index.ExpectedSeconds; e < epoch; e++ {
		before = append(before, s.rows[event.IndexKey{Epoch: e, DC: dc}])
	}
	return index.Evaluate(epoch, s.rows[event.IndexKey{Epoch: epoch, DC: dc}], index.ExpectedIn(before...), true, epoch+60, 5)
}

// events lists the numbers of the events stored, by the epoch, type and subtype
// of their blobs.
func (s *modelStore) events(t testing.TB) map[string][]byte {
	t.Helper()
	found := make(map[string][]byte)
	for _, text := range slices.Sorted(maps.Keys(s.blobs)) {
		key, err := event.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := event.ParseBlob(s.blobs[text])
		if err != nil {
			t.Fatal(err)
		}
		all, err := b.Events(nil)
		if err != nil {
			t.Fatal(err)
		}
		group := fmt.Sprintf("+%d %s %s:%s", key.Epoch-epoch0, key.DC, key.Type, key.Subtype)
		for _, ev := range all.All() {
			found[group] = append(found[group], ev[len(ev)-1])
		}
	}
	for _, numbers := range found {
		slices.Sort(numbers)
	}
	return found
}
