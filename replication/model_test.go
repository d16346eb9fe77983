package replication

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A world is a cluster on one goroutine: messages are events that happen at a
// time drawn from a seed, replicas are maps that lose messages, answers, and
// sometimes everything they had.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	now    time.Time
	events []happening // unordered
	nodes  []*modelNode
	c      *Coordinator
	faults map[string]int
	held   []object.Record // what answers under way refer to
}

type happening struct {
	at time.Time
	do func()
}

// A modelNode is a replica that follows the rules, but for what befalls it.
type modelNode struct {
	w        *world
	id       ring.NodeID
	recs     map[string]object.Record
	forgot   bool // it lost what it had, and knows it
	down     bool
	bodies   int // values it sent for the read under test
	heads    int // and headers
	failures int // questions for a value it did not answer with one
}

func (w *world) after(d time.Duration, do func()) {
	w.events = append(w.events, happening{w.now.Add(d), do})
}

// run lets everything happen that happens until nothing is left, or stop says so.
func (w *world) run(stop func() bool) {
	for !stop() {
		next := -1
		for i := range w.events {
			if next < 0 || w.events[i].at.Before(w.events[next].at) {
				next = i
			}
		}
		tick, armed := w.c.NextTick()
		switch {
		case next >= 0 && !(armed && tick.Before(w.events[next].at)):
			ev := w.events[next]
			w.events = slices.Delete(w.events, next, next+1)
			w.now = ev.at
			ev.do()
		case armed:
			w.now = tick
		default:
			return
		}
		w.c.Tick(w.now)
	}
}

func (w *world) delay() time.Duration {
	if w.rnd.IntN(20) == 0 {
		w.faults["slow"]++
		return time.Duration(w.rnd.IntN(20_000)) * ms
	}
	return time.Duration(w.rnd.IntN(5_000)) * time.Microsecond
}

// carry takes a request to the node and its answer back, or loses either; some
// answers come twice. serve answers; lose says that nothing came back.
func (n *modelNode) carry(serve func() (answer func()), lose func()) {
	w := n.w
	lost := func(why string) {
		w.faults[why]++
		w.after(w.delay(), lose)
	}
	switch {
	case n.down:
		lost("down")
		return
	case w.rnd.IntN(30) == 0:
		lost("request lost")
		return
	}
	work := func() {
		if n.down {
			lost("down meanwhile")
			return
		}
		answer := serve()
		switch w.rnd.IntN(40) {
		case 0:
			lost("answer lost")
		case 1:
			w.faults["answer twice"]++
			w.after(w.delay(), answer)
			w.after(w.delay(), answer)
		default:
			w.after(w.delay(), answer)
		}
	}
	if n.id == w.c.cfg.Self {
		serve()() // the local replica answers before it returns
		return
	}
	w.after(w.delay(), work)
}

func (n *modelNode) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	keep := rec.Retain()
	served := false
	n.carry(func() func() {
		served = true
		err := n.take(keep)
		keep.Release()
		return func() { done(ask.Call, err) }
	}, func() {
		if !served {
			keep.Release()
		}
		done(ask.Call, lost)
	})
}

func (n *modelNode) take(rec object.Record) *object.Error {
	if err := rec.Verify(); err != nil {
		n.w.t.Fatal("a replica was given bytes that were not its own any more")
	}
	if n.w.rnd.IntN(50) == 0 {
		n.w.faults["full"]++
		return full
	}
	key := mapKey(rec.Type, rec.Bucket, rec.Key)
	old, have := n.recs[key]
	if have && string(rec.Bucket) == bucket.Events && old.Checksum != rec.Checksum {
		return conflict
	}
	if have && old.Version().Compare(rec.Version()) >= 0 {
		return nil
	}
	if have {
		old.Release()
	}
	n.recs[key] = rec.Retain()
	return nil
}

func (n *modelNode) Get(ask Ask, bucketType, name, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	k := mapKey(bucketType, name, key)
	n.carry(func() func() {
		rec, have := n.recs[k]
		complete := !n.forgot
		if !have {
			if body {
				n.failures++
			}
			return func() { done(ask.Call, object.Record{}, complete, nowhere) }
		}
		rec = rec.Retain() // for as long as an answer may be under way
		n.w.held = append(n.w.held, rec)
		if body {
			n.bodies++
		} else {
			n.heads++
		}
		return func() {
			if body {
				done(ask.Call, rec.Retain(), complete, nil)
				return
			}
			done(ask.Call, headOf(rec), complete, nil)
		}
	}, func() {
		if body {
			n.failures++
		}
		done(ask.Call, object.Record{}, false, lost)
	})
}

func (n *modelNode) Row(ask Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	panic("not in this model")
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), faults: make(map[string]int)}
	var members []int
	n := 1 + w.rnd.IntN(5)
	for i := range n {
		members = append(members, i)
		w.nodes = append(w.nodes, &modelNode{w: w, id: nodeID(i), recs: make(map[string]object.Record)})
	}
	h := testHistory(t, 1, members...)
	set := bucket.DefaultSet()
	cfg := Config{
		History: func() *ring.History { return h }, Buckets: func() *bucket.Set { return set },
		Replica: func(id ring.NodeID) Replica { return w.nodes[id[15]-1] },
		Now:     func() time.Time { return w.now }, Manual: true,
		PeerBytes: 1 << uint(10+w.rnd.IntN(8)), LingerBytes: 1 << uint(10+w.rnd.IntN(8)),
	}
	if w.rnd.IntN(3) > 0 {
		cfg.Self = nodeID(w.rnd.IntN(n))
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.c = c
	return w
}

// stir lets something happen to the nodes.
func (w *world) stir() {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	switch w.rnd.IntN(12) {
	case 0, 1:
		n.down = !n.down
	case 2:
		if len(w.nodes) > 1 && w.rnd.IntN(3) == 0 {
			w.faults["amnesia"]++
			n.forgot = true
			for _, rec := range n.recs {
				rec.Release()
			}
			clear(n.recs)
		}
	}
}

// A modelKey is what the clients know of one key.
type modelKey struct {
	name, key string
	acked     object.Version // the greatest version that was acknowledged
	sent      map[object.Version]string
}

// TestModel plays random clients against random faults and checks what was
// promised: an acknowledged put is on w different nodes at that moment (I1); no
// read ever calls an acknowledged object absent, and what it finds was put and is
// not older than what was acknowledged before it began (I6); no more than one
// value moves for a read but for those that a failure, a hedge or a newer header
// calls for (I7); every operation ends, once; no buffer is kept.
func TestModel(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 30
	}
	counts, faults := map[string]int{}, map[string]int{}
	for seed := range seeds {
		playModel(t, seed, counts, faults)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Log(counts, faults)
	for _, want := range []string{"acknowledged", "refused", "found", "absent", "unknown", "hedged"} {
		if counts[want] < 20 {
			t.Errorf("only %d %s: the test does not try it", counts[want], want)
		}
	}
}

func playModel(t *testing.T, seed uint64, counts, faults map[string]int) {
	live, bytes := object.Live()
	w := newWorld(t, seed)
	w.faults = faults
	var keys []*modelKey
	for i := range 6 {
		keys = append(keys,
			&modelKey{name: "events", key: fmt.Sprintf("%d:dc1:WEB:app:%d", w.now.Unix()-int64(i*20), i), sent: map[object.Version]string{}},
			&modelKey{name: "plain", key: fmt.Sprint("k", i), sent: map[object.Version]string{}})
	}
	for range 60 {
		w.stir()
		k := keys[w.rnd.IntN(len(keys))]
		if w.rnd.IntN(2) == 0 {
			w.put(k, counts)
		} else {
			w.get(k, counts)
		}
		if w.rnd.IntN(3) == 0 { // let some of what is under way go on beside what follows
			until := w.now.Add(w.delay())
			w.after(until.Sub(w.now), func() {})
			w.run(func() bool { return !w.now.Before(until) })
		}
	}
	w.run(func() bool { return false })
	s := w.c.Stats()
	if s.Active != 0 || s.LingerBytes != 0 || s.FlightBytes != 0 || s.RepairBytes != 0 {
		t.Errorf("left behind: %+v", s)
	}
	if err := w.c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, n := range w.nodes {
		for _, rec := range n.recs {
			rec.Release()
		}
	}
	for _, rec := range w.held {
		rec.Release()
	}
	if l, b := object.Live(); l != live || b != bytes {
		t.Errorf("%d buffers of %d bytes leaked", l-live, b-bytes)
	}
}

func (w *world) put(k *modelKey, counts map[string]int) {
	value := fmt.Sprint("value ", w.rnd.Uint64())
	if k.name == "events" && w.rnd.IntN(10) > 0 {
		value = "the value of " + k.key // a retry, mostly
	}
	rec := record(w.t, object.Value, k.name, k.key, w.now.UnixMicro(), value)
	defer rec.Release()
	version := rec.Version()
	k.sent[version] = value
	need := min(2, len(w.nodes))
	key := mapKey(rec.Type, rec.Bucket, rec.Key)
	answers := 0
	w.c.BeginWrite(rec, func(err *object.Error) {
		if answers++; answers > 1 {
			w.t.Error("a put was answered twice")
		}
		if err != nil {
			counts["refused"]++
			return
		}
		counts["acknowledged"]++
		have := 0
		for _, n := range w.nodes {
			// In events the same value under another stamp is the same object. A node
			// that forgot it in the meantime had it, and knows.
			if got, ok := n.recs[key]; ok && (got.Version().Compare(version) >= 0 || string(got.Value()) == value) || n.forgot {
				have++
			}
		}
		if have < need {
			w.t.Errorf("acknowledged with %d copies", have)
		}
		if k.name == "events" {
			k.acked = version // of any version: the value is what counts
		} else if k.acked.Compare(version) < 0 {
			k.acked = version
		}
	})
	if w.rnd.IntN(2) == 0 {
		w.run(func() bool { return answers > 0 })
	}
	if w.c.gate.inside == 0 && answers == 0 {
		w.t.Error("a put was not answered")
	}
}

func (w *world) get(k *modelKey, counts map[string]int) {
	acked := k.acked
	before := w.c.Stats()
	for _, n := range w.nodes {
		n.bodies, n.heads, n.failures = 0, 0, 0
	}
	quiet := w.c.gate.inside == 0 // nothing else moves values
	answers := 0
	w.c.BeginGet([]byte("default"), []byte(k.name), []byte(k.key), true, func(rec object.Record, err *object.Error) {
		if answers++; answers > 1 {
			w.t.Error("a get was answered twice")
		}
		if err != nil {
			counts[err.Code.String()]++
			if errors.Is(err, object.CodeAbsent) && acked != (object.Version{}) {
				w.t.Errorf("%s was acknowledged and is called absent", k.key)
			}
			return
		}
		counts["found"]++
		value, sent := k.sent[rec.Version()]
		if !sent || value != string(rec.Value()) {
			w.t.Errorf("%s: found %q, which nobody put", k.key, rec.Value())
		}
		if k.name == "plain" && rec.Version().Compare(acked) < 0 {
			w.t.Errorf("%s: found a version older than one acknowledged before", k.key)
		}
		rec.Release()
	})
	w.run(func() bool { return answers > 0 })
	if answers != 1 {
		w.t.Fatal("a get was not answered")
	}
	hedges := int(w.c.Stats().Hedges - before.Hedges)
	if hedges > 0 {
		counts["hedged"]++
	}
	bodies, failures := 0, 0
	for _, n := range w.nodes {
		bodies += n.bodies
		failures += n.failures
	}
	newer := 0
	if k.name == "plain" || len(k.sent) > 1 {
		newer = 1
	}
	if quiet && bodies > 1+hedges+failures+newer {
		w.t.Errorf("%d values moved: %d hedges, %d failures", bodies, hedges, failures)
	}
	if quiet && hedges+failures+newer == 0 && bodies == 1 {
		counts["one body"]++
	}
}
