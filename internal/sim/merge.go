package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// Bounds of merging in a simulation: pages are small, so that there are some.
const (
	pageItems    = 20
	mergeTimeout = 5 * time.Second
	mergeGrace   = writeTimeout + 2*time.Second
	mergePause   = 300 * time.Millisecond
)

// merging makes the node's replicas complete, and pays what others are owed, for
// ever.
func (n *node) merging(t *task) {
	m := replication.NewMerger(replication.MergerConfig{
		Self: n.id, History: n.s.agreed.History, Buckets: n.s.agreed.Buckets, Now: n.now,
		Own: syncOwn{n, t},
		Other: func(id ring.NodeID) replication.Syncer {
			if to := n.s.nodeOf(id); to != n {
				return syncOther{n, to, t}
			}
			return nil
		},
		Rescue:         func(_ context.Context, rec object.Record) error { return n.rescue(t, rec) },
		Owed:           n.coord.Owed(),
		Grace:          mergeGrace,
		BytesPerSecond: 1 << 50, // it would wait by the wall clock
	})
	before := m.Stats()
	for {
		m.Round(t.ctx)
		if t.dead {
			return
		}
		if now := m.Stats(); now != before {
			n.s.trace.note(n.s.now, n.at, "merges", "", int64(now.DoubtsCleared)<<32|int64(now.Lanes)<<16|int64(now.LanesFailed))
			n.s.notes.add("records merged", int(now.Pulled+now.Pushed-before.Pulled-before.Pushed))
			n.s.notes.add("doubts cleared", int(now.DoubtsCleared-before.DoubtsCleared))
			n.s.notes.add("values rescued", int(now.Rescued-before.Rescued))
			n.s.notes.add("copies paid", int(now.CopiesPaid-before.CopiesPaid))
			before = now
		}
		if !t.sleep(mergePause) {
			return
		}
	}
}

// rescue stores a value that loses its key to another one.
func (n *node) rescue(t *task, rec object.Record) error {
	h := rec.Header
	key, err := event.ParseKey(string(h.Key))
	if err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	h.Key = key.LoserKey(h.Checksum).AppendTo(nil)
	loser, err := object.Encode(h, rec.Value())
	if err != nil {
		return err
	}
	n.s.model.rescues(&rec, &loser)
	fault := errStopped
	t.await(func(done func()) {
		n.put([]object.Record{loser}, func(answers []putAnswer) {
			loser.Release()
			fault = answers[0].err
			done()
		})
	})
	if fault != nil {
		return fault
	}
	return nil
}

// A syncOwn is a node's own replicas as merging asks them. It is a
// [replication.OwnSyncer]; nothing of it waits.
type syncOwn struct {
	n *node
	t *task
}

// survey tells what a node has of a partition.
func (n *node) survey(p ring.Partition) (replication.Survey, error) {
	v, err := n.vnodes.Vnode(p)
	if err != nil {
		return replication.Survey{}, err
	}
	since := v.Since()
	s := replication.Survey{Since: int64(since.Slot), Plain: since.Plain, Born: since.Born}
	doubted := map[uint64][]int64{}
	for _, d := range v.Doubts() {
		s.All = s.All || d.All
		if !d.All {
			doubted[d.Bucket] = append(doubted[d.Bucket], int64(d.Slot))
		}
	}
	all, err := v.Buckets()
	if err != nil {
		return replication.Survey{}, err
	}
	for p := range n.s.agreed.Buckets().All() {
		id := uint64(p.ID())
		known := slices.ContainsFunc(all, func(b bitcask.Bucket) bool { return b.ID == id })
		if !known && (p.Timed || len(doubted[id]) > 0) {
			all = append(all, bitcask.Bucket{ID: id, Type: p.Type, Name: p.Name, Timed: p.Timed})
		}
	}
	for _, b := range all {
		sb := replication.SurveyedBucket{Type: b.Type, Name: b.Name, Timed: b.Timed, Slots: []int64{-1}}
		if b.Timed {
			horizon, err := v.Horizon([]byte(b.Type), []byte(b.Name))
			if err != nil {
				return replication.Survey{}, err
			}
			slots, err := v.Slots([]byte(b.Type), []byte(b.Name))
			if err != nil {
				return replication.Survey{}, err
			}
			sb.Horizon, sb.Slots = int64(horizon), doubted[b.ID]
			for _, slot := range slots {
				sb.Slots = append(sb.Slots, int64(slot))
			}
			slices.Sort(sb.Slots)
			sb.Slots = slices.Compact(sb.Slots)
		}
		s.Buckets = append(s.Buckets, sb)
	}
	return s, nil
}

// page makes a page of a lane.
func (n *node) page(lane replication.Lane, from uint64) (replication.Page, error) {
	v, err := n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return replication.Page{}, err
	}
	bucketType, name, slot := []byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot)
	before, err := v.Complete(bucketType, name, slot)
	if err != nil {
		return replication.Page{}, err
	}
	var page replication.Page
	next, damaged, err := v.Page(n.now(), bucketType, name, slot, from, func(position uint64, h *object.Header, row object.Digest) bool {
		item := replication.Item{Position: position, Key: string(h.Key), Row: row}
		if h.Kind != object.Delta {
			item.Version, item.Checksum, item.ValueBytes = h.Version(), h.Checksum, h.ValueBytes
		}
		page.Items = append(page.Items, item)
		return len(page.Items) < pageItems
	})
	if err != nil {
		return replication.Page{}, err
	}
	after, err := v.Complete(bucketType, name, slot)
	if err != nil {
		return replication.Page{}, err
	}
	horizon, err := v.Horizon(bucketType, name)
	page.Next, page.Complete, page.Horizon = next, before && after && !damaged, int64(horizon)
	return page, err
}

// fetch reads an object, or a row as a delta.
func (n *node) fetch(lane replication.Lane, key string) (object.Record, error) {
	rows := n.s.agreed.Buckets().Lookup(lane.Type, lane.Bucket).Rows
	return replication.FetchFrom(context.Background(), prompt{n}, n.s.agreed.History().Version(), lane, rows, key)
}

// A prompt is a node's vnodes, answering before they return, however slow the disk:
// merging may not come between other requests.
type prompt struct{ n *node }

// Put implements replication.Replica.
func (p prompt) Put(ask replication.Ask, _ object.Record, done func(uint64, *object.Error)) {
	done(ask.Call, errRefused)
}

// Get implements replication.Replica.
func (p prompt) Get(ask replication.Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	ref := refOf(bucketType, bucket, key, ask.Hash)
	rec, complete, err := p.n.get(ref, body)
	p.n.s.model.replicaSaid(p.n, &ref, &rec, complete, err)
	done(ask.Call, rec, complete, object.AsError(err))
}

// Row implements replication.Replica.
func (p prompt) Row(ask replication.Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	a, err := p.n.vnodes.Row(p.n.now(), key)
	if err == nil && a.State == vnode.Expired {
		err = stateError(a.State)
	}
	done(ask.Call, a.Row, a.Complete, object.AsError(err))
}

// repair stores what a node lacks.
func (n *node) repair(rec object.Record, over object.Version) error {
	hash := ring.Hash(rec.Type, rec.Bucket, rec.Key)
	timed, epoch := n.s.agreed.Buckets().Lookup(string(rec.Type), string(rec.Bucket)).Timed, int64(0)
	if timed {
		var err error
		if epoch, err = event.TimedEpoch(rec.Key); err != nil {
			return err
		}
	}
	_, p := n.s.agreed.History().For(timed, hash, epoch)
	v, err := n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	_, err = v.Repair(n.now(), hash, rec, over)
	n.s.trace.note(n.s.now, n.at, "is given", string(rec.Key), outcome(err))
	return err
}

// Survey implements replication.Syncer.
func (o syncOwn) Survey(_ context.Context, p ring.Partition) (replication.Survey, error) {
	return o.n.survey(p)
}

// Page implements replication.Syncer.
func (o syncOwn) Page(_ context.Context, lane replication.Lane, from uint64) (replication.Page, error) {
	return o.n.page(lane, from)
}

// Fetch implements replication.Syncer.
func (o syncOwn) Fetch(_ context.Context, lane replication.Lane, key string) (object.Record, error) {
	return o.n.fetch(lane, key)
}

// Repair implements replication.Syncer.
func (o syncOwn) Repair(_ context.Context, _ replication.Lane, rec object.Record, over object.Version) error {
	return o.n.repair(rec, over)
}

// InDoubt implements replication.OwnSyncer.
func (o syncOwn) InDoubt(p ring.Partition) bool {
	v, err := o.n.vnodes.Vnode(p)
	return err == nil && (!v.Since().Whole() || len(v.Doubts()) > 0)
}

// Doubts implements replication.OwnSyncer.
func (o syncOwn) Doubts(p ring.Partition) (all []replication.Doubt, err error) {
	v, err := o.n.vnodes.Vnode(p)
	if err != nil {
		return nil, err
	}
	for _, d := range v.Doubts() {
		all = append(all, replication.Doubt{Bucket: d.Bucket, Slot: int64(d.Slot), All: d.All, Reason: d.Reason.String(), Token: d})
	}
	return all, nil
}

// RaiseHorizon implements replication.OwnSyncer.
func (o syncOwn) RaiseHorizon(p ring.Partition, bucketType, name string, to int64) error {
	v, err := o.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.RaiseHorizon([]byte(bucketType), []byte(name), expiry.Horizon(to))
}

// Sync implements replication.OwnSyncer.
func (o syncOwn) Sync(lane replication.Lane) error {
	v, err := o.n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return err
	}
	return v.Sync([]byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot))
}

// Clear implements replication.OwnSyncer.
func (o syncOwn) Clear(p ring.Partition, d replication.Doubt) error {
	v, err := o.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.ClearDoubt(d.Token.(bitcask.Doubt))
}

// Vouch implements replication.OwnSyncer.
func (o syncOwn) Vouch(p ring.Partition, since int64, plain bool) error {
	v, err := o.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.Vouch(vnode.Since{Slot: expiry.Slot(since), Plain: plain})
}

// A syncOther is another node's replicas as merging asks them, over the network.
// It is a [replication.Syncer]; its methods wait.
type syncOther struct {
	from, to *node
	t        *task
}

// ask has serve run at the other node and waits for its answer, which take takes
// over at this end.
func (o syncOther) ask(serve func() (take, drop func(), err error), unsent func()) error {
	fault := errStopped
	o.t.await(func(done func()) {
		fail := func(err *object.Error) { fault = err; done() }
		o.from.call(o.to, o.from.now().Add(mergeTimeout), func(c *outcall) {
			take, drop, err := serve()
			c.answer(func() {
				if err == nil {
					take()
				}
				fault = object.AsError(err)
				done()
			}, drop)
		}, unsent, fail)
	})
	if fault != nil {
		return fault
	}
	return nil
}

// Survey implements replication.Syncer.
func (o syncOther) Survey(_ context.Context, p ring.Partition) (got replication.Survey, err error) {
	err = o.ask(func() (func(), func(), error) {
		s, err := o.to.survey(p)
		return func() { got = s }, nothing, err
	}, nothing)
	return got, err
}

// Page implements replication.Syncer.
func (o syncOther) Page(_ context.Context, lane replication.Lane, from uint64) (got replication.Page, err error) {
	err = o.ask(func() (func(), func(), error) {
		p, err := o.to.page(lane, from)
		return func() { got = p }, nothing, err
	}, nothing)
	return got, err
}

// Fetch implements replication.Syncer.
func (o syncOther) Fetch(_ context.Context, lane replication.Lane, key string) (got object.Record, err error) {
	err = o.ask(func() (func(), func(), error) {
		rec, err := o.to.fetch(lane, key)
		return func() { got, _ = o.from.s.crossed(rec) }, func() { rec.Release() }, err
	}, nothing)
	return got, err
}

// Repair implements replication.Syncer.
func (o syncOther) Repair(_ context.Context, _ replication.Lane, rec object.Record, over object.Version) error {
	rec = rec.Retain()
	return o.ask(func() (func(), func(), error) {
		arrived, ok := o.from.s.crossed(rec)
		if !ok {
			return nothing, nothing, errReset
		}
		defer arrived.Release()
		return nothing, nothing, o.to.repair(arrived, over)
	}, func() { rec.Release() })
}

var _ replication.OwnSyncer = syncOwn{}

// firstDoubt tells of one of them.
func (s *Sim) firstDoubt() string {
	for _, node := range s.nodes {
		for p := range s.agreed.History().Newest().OwnedBy(node.id) {
			v, err := node.vnodes.Vnode(p)
			switch {
			case err != nil:
				return fmt.Sprintf("node %d, partition %v: %v", node.at, p, err)
			case !v.Since().Whole():
				return fmt.Sprintf("node %d, partition %v vouches for %+v", node.at, p, v.Since())
			case len(v.Doubts()) > 0:
				d := v.Doubts()[0]
				return fmt.Sprintf("node %d, partition %v, bucket %016x, slot %d: %v", node.at, p, d.Bucket, d.Slot, d.Reason)
			}
		}
	}
	return "none any more"
}

// doubts returns how many partitions and slots there are for which some replica is
// not complete.
func (s *Sim) doubts() (n int) {
	for _, node := range s.nodes {
		n += node.doubts()
	}
	return n
}

// doubts is the same of one node, which must be up.
func (n *node) doubts() (doubts int) {
	for p := range n.s.agreed.History().Newest().OwnedBy(n.id) {
		v, err := n.vnodes.Vnode(p)
		if err != nil || !v.Since().Whole() {
			doubts++
			continue
		}
		doubts += len(v.Doubts())
	}
	return doubts
}

// anyInDoubtBut reports whether a node besides n is down, or not complete.
func (s *Sim) anyInDoubtBut(n *node) bool {
	return slices.ContainsFunc(s.nodes, func(other *node) bool {
		return other != n && (!other.up || other.doubts() > 0)
	})
}
