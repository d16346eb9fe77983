package replication

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// nodeID returns the id of the i-th node of a test.
func nodeID(i int) ring.NodeID { return ring.NodeID{15: byte(i + 1)} }

// testRing is a ring of one partition whose owners are nodes first, first+1, …
// in an order that the claim chose.
func testHistory(t testing.TB, version uint64, nodes ...int) *ring.History {
	t.Helper()
	return testHistoryOf(t, version, min(3, len(nodes)), nodes...)
}

// testHistoryOf is testHistory with so many owners.
func testHistoryOf(t testing.TB, version uint64, n int, nodes ...int) *ring.History {
	t.Helper()
	var members []ring.Node
	for _, i := range nodes {
		members = append(members, ring.Node{ID: nodeID(i), Name: fmt.Sprint("n", i), Weight: 1})
	}
	r, _, err := ring.Claim(members, 0, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ring.NewHistory(ring.Version{Index: version}, 3600, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A fake is a replica with a map. The fields that say how it misbehaves are set
// while nothing is under way.
type fake struct {
	id    ring.NodeID
	delay time.Duration // 0: it answers before the call returns

	hang       bool          // it takes what it is asked and never answers, until release
	hangPuts   bool          // the same, for puts only
	fail       *object.Error // what it answers instead of doing anything
	failPuts   *object.Error // the same, for puts only
	lose       bool          // it does what it is asked and answers CodeUnavailable
	twice      bool          // it answers everything twice
	incomplete bool
	before     func(f *fake) // called with each request, before anything else

	mu      sync.Mutex
	recs    map[string]object.Record
	rows    map[event.IndexKey]index.Row
	held    []func()
	history ring.Version // of the last request

	puts, bodies, heads atomic.Int64
}

func newFake(id ring.NodeID) *fake {
	return &fake{id: id, recs: make(map[string]object.Record), rows: make(map[event.IndexKey]index.Row)}
}

func mapKey(bucketType, name, key []byte) string {
	return fmt.Sprintf("%s/%s/%s", bucketType, name, key)
}

// later runs f now, after the delay, or at release.
func (f *fake) later(ask *Ask, hang bool, do func()) {
	if f.before != nil {
		f.before(f)
	}
	f.mu.Lock()
	f.history = ask.History
	if f.hang || hang {
		f.held = append(f.held, do)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	if f.delay == 0 {
		do()
		return
	}
	time.AfterFunc(f.delay, do)
}

// release lets everything that hangs go on.
func (f *fake) release() {
	f.mu.Lock()
	held := f.held
	f.held, f.hang, f.hangPuts = nil, false, false
	f.mu.Unlock()
	for _, do := range held {
		do()
	}
}

func (f *fake) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	f.puts.Add(1)
	keep := rec.Retain()
	f.later(&ask, f.hangPuts, func() {
		err := cmp.Or(f.fail, f.failPuts)
		if err == nil {
			err = f.take(keep)
		}
		if f.lose {
			err = lost
		}
		keep.Release()
		done(ask.Call, err)
		if f.twice {
			done(ask.Call, err)
		}
	})
}

// take stores a record by the rules of a replica.
func (f *fake) take(rec object.Record) *object.Error {
	if err := rec.Verify(); err != nil {
		return object.Errorf(object.CodeCorrupt, object.NotDone, "%w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if rec.Kind == object.Delta {
		key, err := event.ParseIndexKey(string(rec.Key))
		if err != nil {
			return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
		row, err := index.ParseRow(rec.Value())
		if err != nil {
			return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
		f.rows[key] = index.Merge(f.rows[key], row)
		return nil
	}
	key := mapKey(rec.Type, rec.Bucket, rec.Key)
	old, have := f.recs[key]
	switch {
	case have && string(rec.Bucket) == bucket.Events && old.Checksum != rec.Checksum:
		return conflict
	case have && old.Version().Compare(rec.Version()) >= 0:
		return nil
	case have:
		old.Release()
	}
	f.recs[key] = rec.Retain()
	return nil
}

var nowhere = object.Errorf(object.CodeAbsent, object.NotDone, "it is not there")

func (f *fake) Get(ask Ask, bucketType, name, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	if body {
		f.bodies.Add(1)
	} else {
		f.heads.Add(1)
	}
	k := mapKey(bucketType, name, key)
	f.later(&ask, false, func() {
		answer := func() {
			rec, err := f.look(k, body)
			done(ask.Call, rec, !f.incomplete, err)
		}
		answer()
		if f.twice {
			answer()
		}
	})
}

func (f *fake) look(key string, body bool) (object.Record, *object.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, have := f.recs[key]
	switch {
	case f.fail != nil:
		return object.Record{}, f.fail
	case f.lose:
		return object.Record{}, lost
	case !have:
		return object.Record{}, nowhere
	case body:
		return rec.Retain(), nil
	}
	return headOf(rec), nil
}

// headOf returns a record's header in a Buffer of its own.
func headOf(rec object.Record) object.Record {
	buf := object.NewBuffer(len(rec.RawHeader()))
	copy(buf.Bytes(), rec.RawHeader())
	h, _, err := object.ParseHeader(buf.Bytes())
	if err != nil {
		panic(err)
	}
	return object.Record{Header: h, Buf: buf}
}

func (f *fake) Row(ask Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	f.later(&ask, false, func() {
		f.mu.Lock()
		row, err := f.rows[key], f.fail
		f.mu.Unlock()
		done(ask.Call, row, !f.incomplete, err)
		if f.twice {
			done(ask.Call, row, !f.incomplete, err)
		}
	})
}

func (f *fake) has(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, have := f.recs[key]
	return have
}

// A rig is a coordinator over fakes.
type rig struct {
	t     testing.TB
	c     *Coordinator
	nodes []*fake // in the order of preference, but for those added later
	past  atomic.Pointer[ring.History]
	live  int64
	bytes int64
}

// newRig makes a coordinator over n nodes. self is the place of the local one in
// the order of preference; -1 for none.
func newRig(t testing.TB, n, self int, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t}
	r.live, r.bytes = object.Live()
	var members []int
	for i := range n {
		members = append(members, i)
	}
	h := testHistory(t, 1, members...)
	r.past.Store(h)
	for _, id := range h.Newest().Owners(ring.Partition{}) {
		r.nodes = append(r.nodes, newFake(id))
	}
	for i := range n { // those that own nothing
		if !slices.ContainsFunc(r.nodes, func(f *fake) bool { return f.id == nodeID(i) }) {
			r.nodes = append(r.nodes, newFake(nodeID(i)))
		}
	}
	set := bucket.DefaultSet()
	cfg := Config{
		History: r.past.Load,
		Buckets: func() *bucket.Set { return set },
		Replica: func(id ring.NodeID) Replica {
			if f := r.node(id); f != nil {
				return f
			}
			return nil
		},
	}
	if self >= 0 {
		cfg.Self = r.nodes[self].id
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.c = c
	return r
}

func (r *rig) node(id ring.NodeID) *fake {
	for _, f := range r.nodes {
		if f.id == id {
			return f
		}
	}
	return nil
}

// close ends the coordinator and checks that nothing is left behind.
func (r *rig) close() {
	r.t.Helper()
	if err := r.c.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
	for _, f := range r.nodes {
		f.release()
		f.mu.Lock()
		for _, rec := range f.recs {
			rec.Release()
		}
		f.recs = nil
		f.mu.Unlock()
	}
	s := r.c.Stats()
	if s.Active != 0 || s.LingerBytes != 0 || s.FlightBytes != 0 || s.RepairBytes != 0 {
		r.t.Errorf("left behind: %d requests, %d bytes lingering, %d in flight, %d in repair", s.Active, s.LingerBytes, s.FlightBytes, s.RepairBytes)
	}
	if r.c.wheel.count != 0 {
		r.t.Errorf("%d alarms are still set", r.c.wheel.count)
	}
	if live, bytes := object.Live(); live != r.live || bytes != r.bytes {
		r.t.Errorf("%d buffers of %d bytes leaked", live-r.live, bytes-r.bytes)
	}
}

// blob makes the record of a blob in events.
func blob(t testing.TB, epoch int64, chunk int, value string) object.Record {
	t.Helper()
	return record(t, object.Value, "events", fmt.Sprintf("%d:dc1:WEB:app:%d", epoch, chunk), epoch*1_000_000, value)
}

// record makes any record.
func record(t testing.TB, kind object.Kind, name, key string, micros int64, value string) object.Record {
	t.Helper()
	rec, err := object.Encode(object.Header{
		Kind: kind, TimestampMicros: micros, Type: []byte("default"), Bucket: []byte(name), Key: []byte(key),
	}, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// delta makes the record of a delta with one writer's hello.
func delta(t testing.TB, key event.IndexKey, row index.Row) object.Record {
	t.Helper()
	return record(t, object.Delta, bucket.Epochs, key.String(), key.Epoch*1_000_000, string(index.AppendRow(nil, row)))
}

// get reads an object and returns its value.
func (r *rig) get(rec *object.Record) (string, error) {
	got, err := r.c.Get(r.t.Context(), rec.Type, rec.Bucket, rec.Key)
	if err != nil {
		return "", err
	}
	defer got.Release()
	return string(got.Value()), nil
}

// holders counts the nodes that have a record's key.
func (r *rig) holders(rec *object.Record) (n int) {
	for _, f := range r.nodes {
		if f.has(mapKey(rec.Type, rec.Bucket, rec.Key)) {
			n++
		}
	}
	return n
}
