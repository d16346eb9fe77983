package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// newMerger returns what makes this node's replicas complete with the help of
// the others, and pays what they are owed.
func (n *Node) newMerger() *replication.Merger {
	return replication.NewMerger(replication.MergerConfig{
		Self: n.id, History: n.ring, Buckets: n.buckets.Load, Now: n.cfg.Now, Log: n.cfg.Log,
		Own: mergeLocal{n}, Other: n.syncer, Rescue: n.rescue, Owed: n.coord.Owed(), Grace: n.cfg.mergeGrace,
		Completed: n.completed, Lost: n.isLost,
	})
}

// isLost reports whether a node was declared lost.
func (n *Node) isLost(id ring.NodeID) bool {
	m, known := n.view.Load().doc.Member(id)
	return known && m.State == agreed.Lost
}

// completed brings to agreement what this node has taken over.
func (n *Node) completed(ctx context.Context, under ring.Version, done []ring.Completion) error {
	return n.propose(ctx, agreed.Command{Kind: agreed.Completed, History: under, Completions: done})
}

// merge runs the Merger while this node is not alone: it would have nobody to ask.
func (n *Node) merge(ctx context.Context) {
	for n.alone() {
		adopted := n.adopted.next()
		if !n.alone() {
			break
		}
		select {
		case <-adopted:
		case <-ctx.Done():
			return
		}
	}
	n.merger.Run(ctx)
}

// syncer returns the way to another node's replicas for merging, nil if there is
// none.
func (n *Node) syncer(id ring.NodeID) replication.Syncer {
	p := n.peers.get(id)
	if p == nil {
		return nil
	}
	return mergeRemote{p.Sync(func() ring.Version { return n.ring().Version() }), p.Repair(), n}
}

// A mergeRemote is another node's replicas as merging asks them.
type mergeRemote struct {
	*peer.Syncer
	replica replication.Replica
	n       *Node
}

// Fetch reads an object, or a row.
func (r mergeRemote) Fetch(ctx context.Context, lane replication.Lane, key string) (object.Record, error) {
	return replication.FetchFrom(ctx, r.replica, r.n.ring().Version(), lane, r.n.isRows(lane), key)
}

// Repair gives a record.
func (r mergeRemote) Repair(ctx context.Context, _ replication.Lane, rec object.Record, over object.Version) error {
	return r.RepairRecord(ctx, rec, over)
}

func (n *Node) isRows(l replication.Lane) bool {
	return n.buckets.Load().Lookup(l.Type, l.Bucket).Rows
}

// A mergeLocal is this node's replicas as merging asks them, from here and from
// other nodes. It is a [replication.OwnSyncer] and a [peer.SyncLocal].
type mergeLocal struct{ n *Node }

// Survey tells what this node has of a partition.
func (l mergeLocal) survey(p ring.Partition) (replication.Survey, error) {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return replication.Survey{}, err
	}
	since := v.Since()
	s := replication.Survey{Since: int64(since.Slot), Plain: since.Plain, Born: since.Born}
	doubted := make(map[uint64][]int64)
	for _, d := range v.Doubts() {
		s.All = s.All || d.All
		if !d.All {
			doubted[d.Bucket] = append(doubted[d.Bucket], int64(d.Slot))
		}
	}
	stored, err := v.Buckets()
	if err != nil {
		return replication.Survey{}, err
	}
	seen := make(map[uint64]bool)
	for _, b := range stored {
		seen[b.ID] = true
		if err := surveyBucket(&s, v, b, doubted[b.ID]); err != nil {
			return replication.Survey{}, err
		}
	}
	for p := range l.n.buckets.Load().All() {
		b := bitcask.Bucket{ID: uint64(p.ID()), Type: p.Type, Name: p.Name, Timed: p.Timed}
		if !seen[b.ID] && (p.Timed || len(doubted[b.ID]) > 0) {
			if err := surveyBucket(&s, v, b, doubted[b.ID]); err != nil {
				return replication.Survey{}, err
			}
		}
	}
	return s, nil
}

// surveyBucket adds a bucket to a survey.
func surveyBucket(s *replication.Survey, v *vnode.Vnode, b bitcask.Bucket, doubted []int64) error {
	sb := replication.SurveyedBucket{Type: b.Type, Name: b.Name, Timed: b.Timed}
	if !b.Timed {
		sb.Slots = []int64{-1}
		s.Buckets = append(s.Buckets, sb)
		return nil
	}
	horizon, err := v.Horizon([]byte(b.Type), []byte(b.Name))
	if err != nil {
		return err
	}
	slots, err := v.Slots([]byte(b.Type), []byte(b.Name))
	if err != nil {
		return err
	}
	sb.Horizon = int64(horizon)
	for _, slot := range slots {
		sb.Slots = append(sb.Slots, int64(slot))
	}
	sb.Slots = append(sb.Slots, doubted...)
	slices.Sort(sb.Slots)
	sb.Slots = slices.Compact(sb.Slots)
	s.Buckets = append(s.Buckets, sb)
	return nil
}

// Survey tells what this node has of a partition.
func (l mergeLocal) Survey(_ context.Context, p ring.Partition) (replication.Survey, error) {
	return l.survey(p)
}

// Bounds of one page: what it costs the node that makes it, and the one that
// compares it.
const (
	pageItems = 2048
	pageBytes = 256 << 10
	pageTime  = 50 * time.Millisecond
)

// page makes a page of a lane.
func (l mergeLocal) page(lane replication.Lane, from uint64) (replication.Page, error) {
	v, err := l.n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return replication.Page{}, err
	}
	bucketType, name, slot := []byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot)
	if err := l.sameKind(lane); err != nil {
		return replication.Page{}, err
	}
	before, err := v.Complete(bucketType, name, slot)
	if err != nil {
		return replication.Page{}, err
	}
	var page replication.Page
	size, began := 0, time.Now()
	next, damaged, err := v.Page(l.n.cfg.Now(), bucketType, name, slot, from, func(position uint64, h *object.Header, row object.Digest) bool {
		item := replication.Item{Position: position, Key: string(h.Key), Row: row}
		if h.Kind != object.Delta {
			item.Version, item.Checksum, item.ValueBytes = h.Version(), h.Checksum, h.ValueBytes
		}
		page.Items = append(page.Items, item)
		size += len(item.Key) + 32
		return len(page.Items) < pageItems && size < pageBytes && time.Since(began) < pageTime
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

// Page makes a page for this node's own merging.
func (l mergeLocal) Page(_ context.Context, lane replication.Lane, from uint64) (replication.Page, error) {
	return l.page(lane, from)
}

// Digest sums up a lane.
func (l mergeLocal) Digest(_ context.Context, lane replication.Lane) (replication.LaneDigest, error) {
	v, err := l.n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return replication.LaneDigest{}, err
	}
	if err := l.sameKind(lane); err != nil {
		return replication.LaneDigest{}, err
	}
	sum, err := v.Sum(l.n.cfg.Now(), []byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot))
	if err != nil {
		return replication.LaneDigest{}, err
	}
	d := replication.LaneDigest{Complete: sum.Complete, Horizon: int64(sum.Horizon)}
	for _, m := range sum.Minutes {
		if m.Count > 0 { // a minute is left when what was there was merged away
			d.Minutes = append(d.Minutes, replication.MinuteDigest(m))
		}
	}
	return d, nil
}

// sameKind refuses a lane whose bucket is timed on one node only.
func (l mergeLocal) sameKind(lane replication.Lane) error {
	if l.n.buckets.Load().Lookup(lane.Type, lane.Bucket).Timed != lane.Timed {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "the bucket %q of type %q is timed on one node only", lane.Bucket, lane.Type)
	}
	return nil
}

// Fetch reads an object, or a row.
func (l mergeLocal) Fetch(ctx context.Context, lane replication.Lane, key string) (object.Record, error) {
	return replication.FetchFrom(ctx, l.n.local, l.n.ring().Version(), lane, l.n.isRows(lane), key)
}

// Repair stores what this node lacks, as a source too.
func (l mergeLocal) Repair(_ context.Context, lane replication.Lane, rec object.Record, over object.Version) error {
	return l.repair(lane.Partition, ring.Hash(rec.Type, rec.Bucket, rec.Key), rec, over)
}

func (l mergeLocal) repair(p ring.Partition, hash uint64, rec object.Record, over object.Version) error {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	_, err = v.Repair(l.n.cfg.Now(), hash, rec, over)
	return err
}

// RepairRecord stores what this node lacks of what it owns.
func (l mergeLocal) RepairRecord(_ context.Context, rec object.Record, over object.Version) error {
	hash := ring.Hash(rec.Type, rec.Bucket, rec.Key)
	timed, epoch := l.n.buckets.Load().Lookup(string(rec.Type), string(rec.Bucket)).Timed, int64(0)
	if timed {
		var err error
		if epoch, err = event.TimedEpoch(rec.Key); err != nil {
			return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
	}
	h := l.n.ring()
	r, p := h.For(timed, hash, epoch)
	sources := h.PlainSources(p)
	if timed {
		sources = h.Sources(h.SlotOf(epoch), p)
	}
	// A source that lost something must be mended too, or those who come after it
	// wait for ever.
	if !r.Owns(l.n.id, p) && !slices.Contains(sources, l.n.id) {
		return object.Errorf(object.CodeWrongOwner, object.NotDone, "this node does not own partition %v", p)
	}
	return l.repair(p, hash, rec, over)
}

// InDoubt reports whether this node is not complete for all of a partition.
func (l mergeLocal) InDoubt(p ring.Partition) bool {
	v, err := l.n.vnodes.Vnode(p)
	return err == nil && (!v.Since().Whole() || len(v.Doubts()) > 0)
}

// Doubts returns what the engine doubts.
func (l mergeLocal) Doubts(p ring.Partition) ([]replication.Doubt, error) {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return nil, err
	}
	var all []replication.Doubt
	for _, d := range v.Doubts() {
		all = append(all, replication.Doubt{Bucket: d.Bucket, Slot: int64(d.Slot), All: d.All, Reason: d.Reason.String(), Token: d})
	}
	return all, nil
}

// RaiseHorizon takes over a drop horizon.
func (l mergeLocal) RaiseHorizon(p ring.Partition, bucketType, name string, to int64) error {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.RaiseHorizon([]byte(bucketType), []byte(name), expiry.Horizon(to))
}

// Sync makes a lane durable.
func (l mergeLocal) Sync(lane replication.Lane) error {
	v, err := l.n.vnodes.Vnode(lane.Partition)
	if err != nil {
		return err
	}
	return v.Sync([]byte(lane.Type), []byte(lane.Bucket), expiry.Slot(lane.Slot))
}

// Clear takes back a doubt.
func (l mergeLocal) Clear(p ring.Partition, d replication.Doubt) error {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.ClearDoubt(d.Token.(bitcask.Doubt))
}

// Vouch has a vnode vouch for more.
func (l mergeLocal) Vouch(p ring.Partition, since int64, plain bool) error {
	v, err := l.n.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	return v.Vouch(vnode.Since{Slot: expiry.Slot(since), Plain: plain})
}

// A syncDoor is a mergeLocal as other nodes ask it.
type syncDoor struct{ mergeLocal }

// Survey tells what this node has of a partition it owns.
func (d syncDoor) Survey(_ context.Context, p ring.Partition) (peer.Survey, error) {
	if err := d.owned(p); err != nil {
		return peer.Survey{}, err
	}
	return d.survey(p)
}

// Page makes a page of a lane.
func (d syncDoor) Page(_ context.Context, lane peer.Lane, from uint64) (peer.Page, bool, error) {
	if err := d.owned(lane.Partition); err != nil {
		return peer.Page{}, false, err
	}
	if err := bucket.CheckNames(lane.Type, lane.Bucket); err != nil {
		return peer.Page{}, false, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	page, err := d.page(lane, from)
	return page, d.n.isRows(lane), err
}

// Digest sums up a lane.
func (d syncDoor) Digest(ctx context.Context, lane peer.Lane) (peer.LaneDigest, error) {
	if err := d.owned(lane.Partition); err != nil {
		return peer.LaneDigest{}, err
	}
	if err := bucket.CheckNames(lane.Type, lane.Bucket); err != nil {
		return peer.LaneDigest{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	return d.mergeLocal.Digest(ctx, lane)
}

// owned refuses partitions of which this node is neither owner nor source under any
// ring: nothing is opened for them.
func (d syncDoor) owned(p ring.Partition) error {
	if !d.n.ring().Holds(d.n.id, p) {
		return object.Errorf(object.CodeWrongOwner, object.NotDone, "this node does not own partition %v", p)
	}
	return nil
}

// rescue stores a value that loses its key to another one: under a key of its
// own, made of the key and the value's checksum, and in the index.
func (n *Node) rescue(ctx context.Context, rec object.Record) error {
	h := rec.Header
	if isIndexed(&h) {
		key, err := event.ParseKey(string(h.Key))
		if err != nil {
			return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
		h.Key = key.LoserKey(h.Checksum).AppendTo(nil)
	} else {
		h.Key = fmt.Appendf(slices.Clone(h.Key), "-x%016x", h.Checksum)
	}
	loser, err := object.Encode(h, rec.Value())
	if err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	defer loser.Release()
	err = n.store.Put(ctx, loser)
	if errors.Is(err, object.CodeExpired) {
		return nil
	}
	return err
}
