package vnode

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A model is what a node must know: a map of what was put, and a map of what
// each row was given.
type model struct {
	*node
	rng *rand.Rand

	objects map[Ref2]object.Record
	rows    map[event.IndexKey]map[string]bool // blobs a row must list, by suffix
	seconds map[int64]bool                     // in which something was done: late lists are of these
	dropped map[string]expiry.Horizon          // by partition and bucket
}

// A Ref2 is a bucket and a key.
type Ref2 struct{ bucket, key string }

// TestModel runs random operations, with restarts, changes of TTLs, sealing and
// expiry in between, against a map. The seed is logged; to run one again, put it
// first among the seeds.
func TestModel(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if testing.Short() || raceBuild {
		seeds = nil
	}
	for _, seed := range append(seeds, rand.Uint64()) {
		for name, makeSystem := range map[string]func(ttl func(uint64) int64) system{
			"fake":    func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} },
			"bitcask": func(ttl func(uint64) int64) system { return newEngine(t, vfs.NewMem(), ttl) },
		} {
			t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
				t.Attr("seed", fmt.Sprint(seed))
				m := &model{
					node: newNode(t, 2, makeSystem), rng: rand.New(rand.NewPCG(seed, 0)),
					objects: map[Ref2]object.Record{}, rows: map[event.IndexKey]map[string]bool{},
					seconds: map[int64]bool{}, dropped: map[string]expiry.Horizon{},
				}
				m.cfg.RowCacheBytes = []int64{1, 4 << 10, 1 << 20}[m.rng.IntN(3)]
				m.open()
				for range 1500 {
					m.step()
				}
				m.finish()
			})
		}
	}
}

func (m *model) step() {
	m.seconds[m.now.Unix()] = true
	switch p := m.rng.IntN(100); {
	case p < 30:
		m.putOne(object.Value)
	case p < 36:
		m.putOne(object.Tombstone)
	case p < 56:
		m.getOne()
	case p < 70:
		m.indexOne()
	case p < 85:
		m.readRow()
	case p < 91:
		m.now = m.now.Add(time.Duration(m.rng.IntN(4000)) * time.Millisecond)
	case p < 93:
		m.now = m.now.Add(time.Duration(m.rng.IntN(90)) * time.Second)
	case p < 95:
		m.restart()
		m.recover()
		m.recovered()
	case p < 98:
		m.maintain()
		m.sys.maintain(m.now)
		m.noteDrops()
	default:
		ttl := []int64{0, 20, 100, 100_000}[m.rng.IntN(4)]
		m.declare(bucket.Declaration{Name: []string{"events", "timed"}[m.rng.IntN(2)], TTLSeconds: &ttl})
	}
}

// anyRef is one of few keys around now, so that they meet.
func (m *model) anyRef() Ref2 {
	epoch := m.now.Unix() - int64(m.rng.IntN(40)) + 3
	switch m.rng.IntN(5) {
	case 0:
		return Ref2{"plain", fmt.Sprint("k", m.rng.IntN(4))}
	case 1:
		return Ref2{"once", fmt.Sprint("k", m.rng.IntN(20))}
	case 2:
		return Ref2{"timed", fmt.Sprintf("%d:%d", epoch, m.rng.IntN(2))}
	}
	return Ref2{"events", blobKey(epoch, m.rng.IntN(3))}
}

func (m *model) properties(bucketName string) bucket.Properties {
	return m.buckets.Load().Lookup(bucket.DefaultType, bucketName)
}

// expired reports whether a key's time is over: by its TTL, or because it was
// dropped.
func (m *model) expired(ref Ref2) bool {
	p := m.properties(ref.bucket)
	if !p.Timed {
		return false
	}
	epoch, err := event.TimedEpoch(ref.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return expiry.Expired(epoch, p.TTLSeconds, m.now.Unix()) || m.dropped[m.place(ref)].Covers(epoch)
}

// place names the partition and the bucket of a key.
func (m *model) place(ref Ref2) string {
	return fmt.Sprint(ring.PartitionOf(refOf(ref.bucket, ref.key).Hash, 2), ref.bucket)
}

func (m *model) putOne(kind object.Kind) {
	ref := m.anyRef()
	value := ""
	if kind == object.Value {
		value = []string{"a", "b"}[m.rng.IntN(2)]
	}
	rec := recordOf(m.t, kind, ref.bucket, ref.key, value, m.now.Add(time.Duration(m.rng.IntN(4000)-2000)*time.Microsecond))
	want := m.expect(ref, &rec)
	ack, err := m.set.Put(m.now, rec)
	got := ack.String()
	if err != nil {
		got = object.AsError(err).Code.String()
	}
	m.want(fmt.Sprintf("put %v %v %q", ref, kind, value), got, want)
	if err != nil {
		return
	}
	if ack == Stored {
		m.objects[ref] = rec
	}
	if ref.bucket == bucket.Events && m.rng.IntN(4) > 0 { // the others are cut off before their entry is written
		m.indexRecord(&rec)
	}
}

// expect says what a put must come to.
func (m *model) expect(ref Ref2, rec *object.Record) string {
	if m.expired(ref) {
		return "expired"
	}
	old, there := m.objects[ref]
	once := m.properties(ref.bucket).WriteOnce
	switch newer := there && rec.Version().Compare(old.Version()) > 0; {
	case !there:
		return "stored"
	case once && rec.Kind == object.Value && old.Kind == object.Value && string(rec.Value()) == string(old.Value()):
		return "known"
	case once && rec.Kind == object.Value:
		return "conflict"
	case newer:
		return "stored"
	case once && old.Kind == object.Value:
		return "conflict"
	}
	return "known"
}

func (m *model) getOne() {
	ref := m.anyRef()
	want := "absent"
	if rec, there := m.objects[ref]; there && rec.Kind == object.Value {
		want = string(rec.Value())
	}
	if m.expired(ref) {
		want = "expired"
	}
	m.want(fmt.Sprintf("get %v", ref), m.get(ref.bucket, ref.key), want)
}

// indexOne writes the entry of any blob that is there, a second time perhaps.
func (m *model) indexOne() {
	ref := m.anyRef()
	if rec, there := m.objects[ref]; there && ref.bucket == bucket.Events && !m.expired(ref) {
		m.indexRecord(&rec)
	}
}

func (m *model) indexRecord(rec *object.Record) {
	m.t.Helper()
	key, delta, err := index.DeltaOf(&rec.Header)
	if err != nil {
		m.t.Fatal(err)
	}
	err = m.set.Add(m.now, key, delta)
	if m.rowExpired(key) != (err != nil) {
		m.t.Fatalf("entry of %q: %v", rec.Key, err)
	}
	if err == nil {
		m.given(key, delta.Sections[0].Entries[0].Suffix)
	}
}

func (m *model) rowExpired(key event.IndexKey) bool {
	return m.expired(Ref2{bucket.Epochs, key.String()})
}

func (m *model) given(key event.IndexKey, suffix string) {
	if m.rows[key] == nil {
		m.rows[key] = map[string]bool{}
	}
	m.rows[key][suffix] = true
}

func (m *model) readRow() {
	m.checkRow(event.IndexKey{Epoch: m.now.Unix() - int64(m.rng.IntN(40)) + 3, DC: "ams"})
}

// checkRow holds a row to what it was given: it lists all of that, and nothing
// that was never put.
func (m *model) checkRow(key event.IndexKey) {
	m.t.Helper()
	a, err := m.set.Row(m.now, key)
	if err != nil {
		m.t.Fatal(err)
	}
	if (a.State == Expired) != m.rowExpired(key) {
		m.t.Errorf("row %v: %v", key, a.State)
	}
	if a.State == Expired {
		return
	}
	listed := map[string]bool{}
	for _, e := range a.Row.Blobs() {
		listed[e.Suffix] = true
		k, err := e.Key(key)
		if err != nil {
			m.t.Fatal(err)
		}
		rec, there := m.objects[Ref2{bucket.Events, k.String()}]
		if !there {
			m.t.Errorf("row %v lists %q, which was never put", key, e.Suffix)
		} else if e.Flags&index.Erased != 0 && rec.Kind == object.Value {
			m.t.Errorf("row %v calls %q erased", key, e.Suffix)
		}
	}
	for suffix := range m.rows[key] {
		if !listed[suffix] {
			m.t.Errorf("row %v has forgotten %q", key, suffix)
		}
	}
}

// recovered: all blobs of slots that were open are in the index now. Those of
// sealed slots were before.
func (m *model) recovered() {
	m.t.Helper()
	for ref := range m.objects {
		if ref.bucket != bucket.Events || m.expired(ref) {
			continue
		}
		k, err := event.ParseKey(ref.key)
		if err != nil {
			m.t.Fatal(err)
		}
		if !m.rowExpired(k.Index()) {
			m.given(k.Index(), k.Suffix())
		}
	}
	for key := range m.rows {
		m.checkRow(key)
	}
}

// noteDrops follows the drop horizons, which only rise, and never past what may
// have been dropped.
func (m *model) noteDrops() {
	m.t.Helper()
	for _, v := range m.set.Vnodes() {
		for _, name := range []string{"events", "epochs", "timed"} {
			r, err := m.set.rulebook.of([]byte(bucket.DefaultType), []byte(name))
			if err != nil {
				m.t.Fatal(err)
			}
			place, now := fmt.Sprint(v.partition, name), v.store.Horizon(r.engine)
			if was := m.dropped[place]; now < was || now > was && now > expiry.NextHorizon(m.now.Unix(), r.TTLSeconds, testSlotSeconds) {
				m.t.Errorf("%s: the drop horizon went from %d to %d at %d with TTL %d", place, was, now, m.now.Unix(), r.TTLSeconds)
			}
			m.dropped[place] = now
		}
	}
}

// finish lets everything be sealed, and then checks everything.
func (m *model) finish() {
	m.t.Helper()
	forever := int64(0)
	m.declare(bucket.Declaration{Name: "events", TTLSeconds: &forever})
	for range 3 { // events, then what they added to the index, then its late lists
		m.now = m.now.Add((testSlotSeconds + DefaultSealAfterSeconds + 10) * time.Second)
		m.seconds[m.now.Unix()] = true
		for range 40 {
			m.maintain()
		}
	}
	if s := m.set.Stats(); s.WaitingSlots > 0 {
		m.t.Errorf("%d slots are still to be sealed", s.WaitingSlots)
	}
	for range 2 {
		m.recovered()
		m.checkLateLists()
		for ref := range m.objects {
			if m.expired(ref) {
				m.want(fmt.Sprintf("get %v", ref), m.get(ref.bucket, ref.key), "expired")
			}
		}
		m.restart()
		if added := m.recover(); added > 0 {
			m.t.Errorf("%d entries were missing from sealed slots", added)
		}
	}
}

// checkLateLists: what a row calls listed stands in the late list of a second.
func (m *model) checkLateLists() {
	m.t.Helper()
	listed, gone := map[string]bool{}, int64(0)
	for second := range m.seconds {
		key := event.IndexKey{Epoch: second, DC: "ams", Late: true}
		a, err := m.set.Row(m.now, key)
		if err != nil {
			m.t.Fatal(err)
		}
		if a.State == Expired {
			gone = max(gone, second)
		}
		for _, e := range a.Row.Blobs() {
			listed[e.Suffix] = true
		}
	}
	for key := range m.rows {
		a, err := m.set.Row(m.now, key)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range a.Row.Blobs() {
			if e.Flags&index.Listed != 0 && key.Epoch > gone && !listed[fmt.Sprintf("%d:%s", key.Epoch, e.Suffix)] {
				m.t.Errorf("row %v calls %q listed, and no late list has it", key, e.Suffix)
			}
		}
	}
}
