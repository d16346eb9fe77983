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
	if old := keys[key]; old == nil || parse(n.world.t, old).Version().Compare(rec.Version()) < 0 || parse(n.world.t, old).Verify() != nil {
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
