package replication

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A syncNode is a node's replicas of one partition, in memory. What is not
// synced does not survive a crash of it.
type syncNode struct {
	world *syncWorld
	id    ring.NodeID
	away  bool

	syncState
	disk    syncState                // what a crash leaves
	refuses func(Lane) *object.Error // nil: it stores what it is given
}

// syncState is what a node has.
type syncState struct {
	lanes    map[Lane]map[string][]byte // records; the rows of an index
	since    int64
	plain    bool
	born     int64
	doubts   []Doubt
	horizons map[string]int64
}

func (s syncState) clone() syncState {
	c := s
	c.lanes = map[Lane]map[string][]byte{}
	for l, keys := range s.lanes {
		c.lanes[l] = maps.Clone(keys)
	}
	c.doubts, c.horizons = slices.Clone(s.doubts), maps.Clone(s.horizons)
	return c
}

// A syncWorld is a cluster of them with one partition. It counts what is done,
// and stops it all at a set point.
type syncWorld struct {
	t       *testing.T
	history *ring.History
	nodes   []*syncNode // in the order of preference
	ops     int
	digests int // asked for
	crashAt int // the op that, with all after it, is not done; 0: never
	now     time.Time
	owed    *Owed
	rescued map[string]bool

	completed func(under ring.Version, done []ring.Completion) error // nil: there are no newcomers
}

var errCrashed = object.Errorf(object.CodeStopping, object.NotDone, "crashed")

func newSyncWorld(t *testing.T) *syncWorld { return newSyncWorldOf(t, 3) }

// newSyncWorldOf is newSyncWorld with more nodes, which own nothing at first.
func newSyncWorldOf(t *testing.T, nodes int) *syncWorld {
	w := &syncWorld{t: t, history: testHistory(t, 1, 0, 1, 2), now: time.Unix(36_000_000, 0), owed: NewOwed(100, 10_000, 10), rescued: map[string]bool{}}
	ids := slices.Clone(w.history.Newest().Owners(ring.Partition{}))
	for i := len(ids); i < nodes; i++ {
		ids = append(ids, nodeID(i))
	}
	for _, id := range ids {
		n := &syncNode{world: w, id: id, syncState: syncState{lanes: map[Lane]map[string][]byte{}, plain: true, horizons: map[string]int64{}}}
		n.disk = n.syncState.clone()
		w.nodes = append(w.nodes, n)
	}
	return w
}

// op counts one operation of node n and tells why it cannot be done.
func (n *syncNode) op() error {
	w := n.world
	if w.ops++; w.crashAt > 0 && w.ops >= w.crashAt {
		return errCrashed
	}
	if n.away {
		return down
	}
	return nil
}

// put stores a record on some nodes.
func (w *syncWorld) put(rec object.Record, nodes ...int) {
	lane := laneOfRecord(&rec)
	for _, i := range nodes {
		w.nodes[i].store(lane, &rec)
		w.nodes[i].disk = w.nodes[i].syncState.clone()
	}
}

func laneOfRecord(rec *object.Record) Lane {
	l := Lane{Type: string(rec.Type), Bucket: string(rec.Bucket), Slot: -1}
	if l.Timed = l.Bucket == bucket.Events || l.Bucket == bucket.Epochs; l.Timed {
		epoch, err := event.TimedEpoch(rec.Key)
		if err != nil {
			panic(err)
		}
		l.Slot = epoch / 3600
	}
	return l
}

func (n *syncNode) store(lane Lane, rec *object.Record) {
	keys := n.lanes[lane]
	if keys == nil {
		keys = map[string][]byte{}
		n.lanes[lane] = keys
	}
	key := string(rec.Key)
	if rec.Kind == object.Delta {
		keys[key] = index.AppendRow(nil, index.Merge(storedRow(n.world.t, keys[key]), storedRow(n.world.t, rec.Value())))
		return
	}
	if old := keys[key]; old == nil || parse(n.world.t, old).Version().Compare(rec.Version()) < 0 {
		keys[key] = bytes.Clone(rec.Raw())
	}
}

func storedRow(t *testing.T, b []byte) index.Row {
	if b == nil {
		return index.Row{}
	}
	r, err := index.ParseRow(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, b []byte) *object.Record {
	rec, err := object.ParseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return &rec
}

func (n *syncNode) Survey(context.Context, ring.Partition) (Survey, error) {
	if err := n.op(); err != nil {
		return Survey{}, err
	}
	s := Survey{Since: n.since, Plain: n.plain, Born: n.born}
	slots := map[[2]string][]int64{}
	for l := range n.lanes {
		id := [2]string{l.Type, l.Bucket}
		slots[id] = append(slots[id], l.Slot)
	}
	for _, d := range n.doubts {
		s.All = s.All || d.All
	}
	for name := range n.horizons {
		if id := [2]string{bucket.DefaultType, name}; slots[id] == nil {
			s.Buckets = append(s.Buckets, SurveyedBucket{Type: id[0], Name: id[1], Timed: true, Horizon: n.horizons[name]})
		}
	}
	for id, all := range slots {
		slices.Sort(all)
		s.Buckets = append(s.Buckets, SurveyedBucket{Type: id[0], Name: id[1], Timed: all[0] >= 0, Horizon: n.horizons[id[1]], Slots: all})
	}
	return s, nil
}

func (n *syncNode) complete(l Lane) bool {
	if l.Timed && l.Slot < n.since || !l.Timed && !n.plain {
		return false
	}
	return !slices.ContainsFunc(n.doubts, func(d Doubt) bool {
		return d.All || d.Bucket == uint64(bucket.IDOf(l.Type, l.Bucket)) && d.Slot == l.Slot
	})
}

func (n *syncNode) Page(_ context.Context, l Lane, from uint64) (Page, error) {
	if err := n.op(); err != nil {
		return Page{}, err
	}
	const perPage = 3
	var all []Item
	for key, b := range n.lanes[l] {
		item := Item{Position: uint64(uint32(ring.Hash(l.Type, l.Bucket, key))), Key: key}
		if l.Bucket == bucket.Epochs {
			item.Row = storedRow(n.world.t, b).Digest()
		} else {
			rec := parse(n.world.t, b)
			item.Version, item.Checksum, item.ValueBytes = rec.Version(), rec.Checksum, rec.ValueBytes
		}
		if item.Position >= from {
			all = append(all, item)
		}
	}
	slices.SortFunc(all, func(a, b Item) int { return int(int64(a.Position) - int64(b.Position)) })
	p := Page{Next: PageEnd, Complete: n.complete(l), Horizon: n.horizons[l.Bucket]}
	if len(all) > perPage {
		all, p.Next = all[:perPage], all[perPage-1].Position+1
	}
	p.Items = all
	return p, nil
}

func (n *syncNode) Digest(_ context.Context, l Lane) (LaneDigest, error) {
	if err := n.op(); err != nil {
		return LaneDigest{}, err
	}
	n.world.digests++
	d := LaneDigest{Complete: n.complete(l), Horizon: n.horizons[l.Bucket]}
	minutes := map[int64]MinuteDigest{}
	for key, b := range n.lanes[l] {
		minute := int64(0)
		if l.Timed {
			epoch, err := event.TimedEpoch(key)
			if err != nil {
				n.world.t.Fatal(err)
			}
			minute = epoch / 60
		}
		m := minutes[minute]
		m.Minute = minute
		m.Count++
		if l.Bucket == bucket.Epochs {
			row := storedRow(n.world.t, b).Digest()
			m.Digest.Add(ring.Hash(l.Type, l.Bucket, key), object.Version{TimestampMicros: int64(row.Lo), HeaderCRC: uint32(row.Hi)})
		} else {
			m.Digest.Add(ring.Hash(l.Type, l.Bucket, key), parse(n.world.t, b).Version())
		}
		minutes[minute] = m
	}
	for _, minute := range slices.Sorted(maps.Keys(minutes)) {
		d.Minutes = append(d.Minutes, minutes[minute])
	}
	return d, nil
}

func (n *syncNode) Fetch(_ context.Context, l Lane, key string) (object.Record, error) {
	if err := n.op(); err != nil {
		return object.Record{}, err
	}
	b := n.lanes[l][key]
	if b == nil {
		return object.Record{}, nowhere
	}
	if l.Bucket == bucket.Epochs {
		return object.Encode(object.Header{
			Kind: object.Delta, TimestampMicros: 1, Type: []byte(l.Type), Bucket: []byte(l.Bucket), Key: []byte(key),
		}, b)
	}
	return *parse(n.world.t, bytes.Clone(b)), nil
}

func (n *syncNode) Repair(_ context.Context, l Lane, rec object.Record, over object.Version) error {
	if err := n.op(); err != nil {
		return err
	}
	if n.refuses != nil && n.refuses(l) != nil {
		return n.refuses(l)
	}
	if old := n.lanes[l][string(rec.Key)]; old != nil && l.Bucket == bucket.Events {
		if o := parse(n.world.t, old); o.Checksum != rec.Checksum && o.Version() != over {
			return conflict
		}
	}
	n.store(l, &rec)
	return nil
}

func (n *syncNode) InDoubt(ring.Partition) bool { return n.since > 0 || !n.plain || len(n.doubts) > 0 }

func (n *syncNode) Doubts(ring.Partition) ([]Doubt, error) { return slices.Clone(n.doubts), n.op() }

func (n *syncNode) RaiseHorizon(_ ring.Partition, _, name string, to int64) error {
	if err := n.op(); err != nil {
		return err
	}
	n.horizons[name] = max(n.horizons[name], to)
	n.disk.horizons = maps.Clone(n.horizons)
	return nil
}

func (n *syncNode) Sync(l Lane) error {
	if err := n.op(); err != nil {
		return err
	}
	n.disk.lanes[l] = maps.Clone(n.lanes[l])
	return nil
}

func (n *syncNode) Clear(_ ring.Partition, d Doubt) error {
	if err := n.op(); err != nil {
		return err
	}
	n.doubts = slices.DeleteFunc(slices.Clone(n.doubts), func(have Doubt) bool { return have == d })
	n.disk.doubts = n.doubts
	return nil
}

func (n *syncNode) Vouch(_ ring.Partition, since int64, plain bool) error {
	if err := n.op(); err != nil {
		return err
	}
	if since > n.since || n.plain && !plain {
		n.world.t.Errorf("it vouches for less: slot %d after %d, plain %v after %v", since, n.since, plain, n.plain)
	}
	n.since, n.plain = since, plain
	n.disk.since, n.disk.plain = since, plain
	return nil
}

// merger returns the merger of a node.
func (w *syncWorld) merger(i int) *Merger {
	set := bucket.DefaultSet()
	cfg := MergerConfig{
		Self: w.nodes[i].id, History: func() *ring.History { return w.history }, Buckets: func() *bucket.Set { return set },
		Own: w.nodes[i], Owed: w.owed, Now: func() time.Time { return w.now },
		Other: func(id ring.NodeID) Syncer {
			for _, n := range w.nodes {
				if n.id == id {
					return n
				}
			}
			return nil
		},
		Rescue: func(_ context.Context, rec object.Record) error {
			if err := w.nodes[i].op(); err != nil {
				return err
			}
			w.rescued[string(rec.Value())] = true
			return nil
		},
	}
	if w.completed != nil {
		cfg.Completed = func(_ context.Context, under ring.Version, done []ring.Completion) error {
			if err := w.nodes[i].op(); err != nil {
				return err
			}
			return w.completed(under, done)
		}
	}
	return NewMerger(cfg)
}

// rounds makes a round of a merger, and after the grace as many as get anything
// done.
func (w *syncWorld) rounds(m *Merger) {
	m.Round(w.t.Context())
	w.now = w.now.Add(time.Minute)
	for range 50 {
		if did, _ := m.Round(w.t.Context()); !did {
			return
		}
	}
	w.t.Error("it gets something done for ever")
}

// wipe makes a node one that has nothing and vouches for nothing before a slot.
func (n *syncNode) wipe(since int64) {
	n.syncState = syncState{lanes: map[Lane]map[string][]byte{}, since: since, born: n.world.now.Unix(), horizons: map[string]int64{}}
	n.disk = n.syncState.clone()
}

// crash leaves what was durable.
func (n *syncNode) crash() { n.syncState = n.disk.clone() }

func (w *syncWorld) record(name, key, value string, stamp int64) object.Record {
	rec, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: stamp, Type: []byte(bucket.DefaultType), Bucket: []byte(name), Key: []byte(key)}, []byte(value))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(rec.Release)
	return rec
}

// fill puts blobs of three slots, their rows, and plain objects, on some nodes.
func (w *syncWorld) fill(what string, nodes ...int) {
	for i := range 12 {
		epoch := 36_000_000 - int64(i%3)*3600
		key := event.Key{Epoch: epoch, DC: "ams", Type: "WEB", Subtype: what, Chunk: event.PlainChunk(uint64(i))}
		rec := w.record(bucket.Events, key.String(), fmt.Sprint(what, i), 1000)
		w.put(rec, nodes...)
		w.put(w.record("notes", fmt.Sprint(what, i), what, 1000), nodes...)
		row, delta, err := index.DeltaOf(&rec.Header)
		if err != nil {
			w.t.Fatal(err)
		}
		d, err := object.Encode(object.Header{Kind: object.Delta, TimestampMicros: 1, Type: []byte(bucket.DefaultType), Bucket: []byte(bucket.Epochs), Key: row.AppendTo(nil)}, index.AppendRow(nil, delta))
		if err != nil {
			w.t.Fatal(err)
		}
		w.put(d, nodes...)
		d.Release()
	}
}

// same fails unless two nodes hold the same.
func (w *syncWorld) same(claim string, a, b int) {
	w.t.Helper()
	x, y := w.nodes[a].lanes, w.nodes[b].lanes
	if !maps.EqualFunc(x, y, func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }) {
		w.t.Errorf("%s: nodes %d and %d differ", claim, a, b)
	}
}

// holds reports whether a state has all that another one has of the lanes it
// vouches for.
func (n *syncNode) diskHolds(all map[Lane]map[string][]byte) error {
	onDisk := &syncNode{world: n.world, syncState: n.disk}
	for l, keys := range all {
		if !onDisk.complete(l) {
			continue
		}
		for key := range keys {
			if n.disk.lanes[l][key] == nil {
				return fmt.Errorf("%s %q is not on the disk, which vouches for slot %d", l.Bucket, key, l.Slot)
			}
		}
	}
	return nil
}

// TestMergerBringsBack: a node that was wiped has everything again, in one go.
func TestMergerBringsBack(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	w.fill("two", 0, 1)
	w.fill("other", 1, 2)
	w.nodes[1].horizons[bucket.Events], w.nodes[2].horizons[bucket.Events] = 7200, 3600
	w.nodes[0].wipe(10_002)
	m := w.merger(0)
	w.rounds(m)
	if w.nodes[0].InDoubt(ring.Partition{}) || w.nodes[0].horizons[bucket.Events] != 7200 {
		t.Fatalf("since %d, plain %v, %v, horizon %d", w.nodes[0].since, w.nodes[0].plain, w.nodes[0].doubts, w.nodes[0].horizons[bucket.Events])
	}
	w.same("brought back", 0, 1)
	w.same("brought back", 1, 2) // two-way: what one of the others lacked it has, too
	if st := m.Stats(); st.Pulled == 0 || st.Pushed == 0 || st.LanesFailed > 0 || st.PartitionsInDoubt != 0 {
		t.Errorf("%+v", st)
	}
}

// TestMergerAtEveryCrash: whatever is done last before a crash, the node never
// vouches for more than it has on its disk; and the next run completes it.
func TestMergerAtEveryCrash(t *testing.T) {
	for _, doubt := range []string{"wiped", "one slot", "everything"} {
		for at := 1; ; at += crashStride {
			w := newSyncWorld(t)
			w.fill("all", 1, 2)
			n := w.nodes[0]
			switch doubt {
			case "wiped":
				n.wipe(10_002)
			case "one slot":
				w.fill("all", 0)
				slot := Lane{Type: bucket.DefaultType, Bucket: bucket.Events, Timed: true, Slot: 10_000}
				delete(n.lanes, slot)
				n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(slot.Type, slot.Bucket)), Slot: slot.Slot}}
			case "everything":
				n.doubts = []Doubt{{All: true}}
			}
			n.disk = n.syncState.clone()
			w.crashAt = at
			w.rounds(w.merger(0))
			if err := n.diskHolds(w.nodes[1].lanes); err != nil {
				t.Fatalf("%s: crash at %d: %v", doubt, at, err)
			}
			crashed := w.ops >= at
			if !crashed && n.InDoubt(ring.Partition{}) {
				t.Fatalf("%s: still in doubt after %d operations without a crash", doubt, w.ops)
			}
			w.crashAt = 0
			n.crash()
			w.rounds(w.merger(0))
			if n.InDoubt(ring.Partition{}) {
				t.Fatalf("%s: crash at %d: in doubt after the next run: since %d, plain %v, %v", doubt, at, n.since, n.plain, n.doubts)
			}
			w.same(fmt.Sprint(doubt, ", crash at ", at), 0, 1)
			if t.Failed() || !crashed {
				break
			}
		}
	}
}

// TestMergerNeedsThem: what a node does while others are away or incomplete.
func TestMergerNeedsThem(t *testing.T) {
	for _, c := range []struct {
		claim    string
		change   func(w *syncWorld)
		complete bool
	}{
		{"two complete ones", func(*syncWorld) {}, true},
		{"one is away", func(w *syncWorld) { w.nodes[2].away = true }, false},
		{"both are away", func(w *syncWorld) { w.nodes[1].away, w.nodes[2].away = true, true }, false},
		{"one is away, the other vouches for nothing", func(w *syncWorld) { w.nodes[2].away = true; w.nodes[1].since, w.nodes[1].plain = 1<<62, false }, false},
		{"one vouches for nothing: all were asked", func(w *syncWorld) { w.nodes[1].since, w.nodes[1].plain = 1<<62, false }, true},
		{"one doubts everything: all were asked", func(w *syncWorld) { w.nodes[1].doubts = []Doubt{{All: true}} }, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			w.fill("all", 1, 2)
			w.nodes[0].wipe(10_002)
			c.change(w)
			w.rounds(w.merger(0))
			n := w.nodes[0]
			if n.InDoubt(ring.Partition{}) == c.complete {
				t.Fatalf("since %d, plain %v", n.since, n.plain)
			}
			if !c.complete && (n.since != 10_002 || n.plain) {
				t.Errorf("it vouches for more than before: since %d, plain %v", n.since, n.plain)
			}
		})
	}
}

// TestMergerWaits: a put that this node acknowledged and lost may still be on its
// way to the others: nothing is merged before it must be over, except in a
// cluster that begins.
func TestMergerWaits(t *testing.T) {
	for _, c := range []struct {
		claim string
		after time.Duration
		fresh bool
		data  bool
		done  bool
	}{
		{"at once", 0, false, true, false},
		{"before the grace is over", 10 * time.Second, false, true, false},
		{"after the grace", 11 * time.Second, false, true, true},
		{"at once in a cluster that begins", 0, true, false, true},
		{"not at once if there is anything", 0, true, true, false},
		{"not at once if the others are older", 0, false, false, false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			if c.data {
				w.fill("all", 1, 2)
			}
			w.nodes[0].wipe(10_002)
			for _, n := range w.nodes[1:] {
				if n.born = w.now.Unix(); !c.fresh {
					n.born -= 3600
				}
			}
			m := w.merger(0)
			m.Round(t.Context())
			if c.after > 0 {
				w.now = w.now.Add(c.after)
				for range 3 {
					m.Round(t.Context())
				}
			}
			if w.nodes[0].InDoubt(ring.Partition{}) == c.done {
				t.Errorf("done: %v, want %v", !c.done, c.done)
			}
		})
	}
}

// TestMergerWaitsForEachDoubt: one that is found later waits from then on.
func TestMergerWaitsForEachDoubt(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	n, m := w.nodes[0], w.merger(0)
	id := uint64(bucket.IDOf(bucket.DefaultType, bucket.Events))
	n.doubts = []Doubt{{Bucket: id, Slot: 10_000}}
	m.Round(t.Context())
	w.now = w.now.Add(6 * time.Second)
	n.doubts = append(n.doubts, Doubt{Bucket: id, Slot: 9_999})
	m.Round(t.Context())
	w.now = w.now.Add(6 * time.Second)
	m.Round(t.Context())
	if len(n.doubts) != 1 || n.doubts[0].Slot != 9_999 {
		t.Fatalf("after 12 and 6 seconds: %v", n.doubts)
	}
	w.now = w.now.Add(6 * time.Second)
	m.Round(t.Context())
	if len(n.doubts) != 0 {
		t.Errorf("%v", n.doubts)
	}
}

// TestBootstrap: three nodes at their first start become complete one after the
// other, as soon as all are there.
func TestBootstrap(t *testing.T) {
	w := newSyncWorld(t)
	for _, n := range w.nodes {
		n.wipe(10_002)
	}
	w.nodes[2].away = true
	mergers := []*Merger{w.merger(0), w.merger(1), w.merger(2)}
	mergers[0].Round(t.Context())
	mergers[1].Round(t.Context())
	if !w.nodes[0].InDoubt(ring.Partition{}) || !w.nodes[1].InDoubt(ring.Partition{}) {
		t.Fatal("two of three are complete without the third")
	}
	w.nodes[2].away = false
	for i, m := range mergers {
		m.Round(t.Context())
		if w.nodes[i].InDoubt(ring.Partition{}) {
			t.Errorf("node %d is in doubt", i)
		}
	}
}

// TestTwoBodiesOfOneKey: the lesser one is kept elsewhere.
func TestTwoBodiesOfOneKey(t *testing.T) {
	w := newSyncWorld(t)
	key := "36000000:ams:WEB:app:1"
	w.put(w.record(bucket.Events, key, "lesser", 1000), 0)
	w.put(w.record(bucket.Events, key, "greater", 2000), 1, 2)
	n := w.nodes[0]
	n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: 10_000}}
	w.rounds(w.merger(0))
	if len(n.doubts) > 0 || !w.rescued["lesser"] || len(w.rescued) != 1 {
		t.Errorf("doubts %v, rescued %v", n.doubts, w.rescued)
	}
	w.same("the greater one", 0, 1)
}

// TestDebtsArePaid: keys, whole slots and everything arrive where they are owed,
// and are settled only then.
func TestDebtsArePaid(t *testing.T) {
	for _, c := range []struct {
		claim string
		owe   func(w *syncWorld)
	}{
		{"keys", func(w *syncWorld) {
			for l, keys := range w.nodes[0].lanes {
				for key := range keys {
					w.owed.Add(placeOf(w.nodes[2].id, l), []byte(key))
				}
			}
		}},
		{"whole slots", func(w *syncWorld) {
			for l := range w.nodes[0].lanes {
				w.owed.Add(placeOf(w.nodes[2].id, l), nil)
			}
		}},
		{"everything", func(w *syncWorld) {
			for i := range 20 {
				w.owed.Add(Place{Node: w.nodes[2].id, Type: "t", Bucket: fmt.Sprint(i)}, []byte("k"))
			}
		}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			w.fill("all", 0, 1)
			w.owed = NewOwed(100, 10_000, 10)
			c.owe(w)
			owed := w.owed.Stats()
			w.nodes[2].away = true
			m := w.merger(0)
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places != owed.Places || st.Nodes != owed.Nodes {
				t.Fatalf("settled while it was away: %+v, then %+v", owed, st)
			}
			w.nodes[2].away = false
			w.crashAt = w.ops + 9 // the first attempt is cut short
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places+st.Nodes == 0 {
				t.Fatal("settled before it was paid")
			}
			w.crashAt = 0
			w.now = w.now.Add(time.Minute)
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places+st.Nodes+st.Keys+st.KeyBytes != 0 {
				t.Errorf("still owed: %+v", st)
			}
			w.same("paid", 0, 2)
		})
	}
}

// TestDebtOfTheLocalReplica: this node's own replica may be owed a copy; another
// node's is taken.
func TestDebtOfTheLocalReplica(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	rec := w.record("notes", "all1", "newer", 5000)
	w.put(rec, 1)
	lane := laneOfRecord(&rec)
	w.owed.Add(placeOf(w.nodes[0].id, lane), rec.Key)
	w.owed.Add(placeOf(w.nodes[2].id, lane), rec.Key)
	w.merger(0).Round(t.Context())
	w.same("the local one", 0, 1)
	w.same("the other one is not paid with the old version", 2, 1)
}

// TestDebtOfAnotherValue: whoever has another value of a write-once key, lesser or
// greater, and is owed one, ends with the greater, the lesser being kept elsewhere.
func TestDebtOfAnotherValue(t *testing.T) {
	for claim, stamp := range map[string]int64{"it has the lesser": 1000, "it has the greater": 3000} {
		w := newSyncWorld(t)
		key := "36000000:ams:WEB:app:1"
		rec := w.record(bucket.Events, key, "of two", 2000)
		w.put(w.record(bucket.Events, key, "of one", stamp), 1)
		w.put(rec, 0, 2)
		lane := laneOfRecord(&rec)
		w.owed.Add(placeOf(w.nodes[1].id, lane), rec.Key)
		w.merger(0).Round(t.Context())
		lesser, greater := "of one", "of two"
		if stamp > 2000 {
			lesser, greater = greater, lesser
		}
		if st := w.owed.Stats(); st.Places != 0 || !w.rescued[lesser] || len(w.rescued) != 1 {
			t.Errorf("%s: owed %+v, rescued %v", claim, st, w.rescued)
		}
		for i, n := range w.nodes {
			if got := parse(t, n.lanes[lane][key]); string(got.Value()) != greater {
				t.Errorf("%s: node %d has the value %s", claim, i, got.Value())
			}
		}
	}
}

// TestDebtsOfNobody: what no owner has was never acknowledged, and is owed to
// nobody; but that takes all their words.
func TestDebtsOfNobody(t *testing.T) {
	w := newSyncWorld(t)
	w.owed.Add(Place{Node: w.nodes[2].id, Type: bucket.DefaultType, Bucket: "notes"}, []byte("nothing"))
	w.nodes[1].away = true
	w.merger(0).Round(t.Context())
	if st := w.owed.Stats(); st.Places != 1 {
		t.Errorf("settled although one owner was not asked: %+v", st)
	}
	w.nodes[1].away = false
	w.merger(0).Round(t.Context())
	if st := w.owed.Stats(); st.Places != 0 {
		t.Errorf("still owed: %+v", st)
	}
}
