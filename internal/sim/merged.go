package sim

import (
	"context"
	"slices"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// survey tells what a node has of a partition.
func (n *node) survey(p ring.Partition) (replication.Survey, error) {
	if err := n.holds(p); err != nil {
		return replication.Survey{}, err
	}
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
	for p := range n.buckets().All() {
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
	if err := n.holds(lane.Partition); err != nil {
		return replication.Page{}, err
	}
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

// digest sums up a lane.
func (n *node) digest(lane replication.Lane) (replication.LaneDigest, error) {
	if err := n.holds(lane.Partition); err != nil {
		return replication.LaneDigest{}, err
	}
	v, err := n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return replication.LaneDigest{}, err
	}
	sum, err := v.Sum(n.now(), []byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot))
	if err != nil {
		return replication.LaneDigest{}, err
	}
	d := replication.LaneDigest{Complete: sum.Complete, Horizon: int64(sum.Horizon)}
	for _, m := range sum.Minutes {
		if m.Count > 0 {
			d.Minutes = append(d.Minutes, replication.MinuteDigest(m))
		}
	}
	return d, nil
}

// holds refuses partitions that the node has nothing to do with.
func (n *node) holds(p ring.Partition) error {
	if !n.history().Holds(n.id, p) {
		return errWrongOwner
	}
	return nil
}

// fetch reads an object, or a row as a delta.
func (n *node) fetch(lane replication.Lane, key string) (object.Record, error) {
	rows := n.buckets().Lookup(lane.Type, lane.Bucket).Rows
	return replication.FetchFrom(context.Background(), prompt{n}, n.history().Version(), lane, rows, key)
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
	timed, epoch := n.buckets().Lookup(string(rec.Type), string(rec.Bucket)).Timed, int64(0)
	if timed {
		var err error
		if epoch, err = event.TimedEpoch(rec.Key); err != nil {
			return err
		}
	}
	_, p := n.history().For(timed, hash, epoch)
	if err := n.holds(p); err != nil {
		return err
	}
	v, err := n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	_, err = v.Repair(n.now(), hash, rec, over)
	n.s.trace.note(n.s.now, n.at, "is given", string(rec.Key), outcome(err))
	return err
}
