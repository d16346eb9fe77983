package sim

import (
	"context"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A syncOwn is a node's own replicas as merging asks them. It is a
// [replication.OwnSyncer]; nothing of it waits.
type syncOwn struct {
	n *node
	t *task
}

// Survey implements replication.Syncer.
func (o syncOwn) Survey(_ context.Context, p ring.Partition) (replication.Survey, error) {
	return o.n.survey(p)
}

// Page implements replication.Syncer.
func (o syncOwn) Page(_ context.Context, lane replication.Lane, from uint64) (replication.Page, error) {
	return o.n.page(lane, from)
}

// Digest implements replication.Syncer.
func (o syncOwn) Digest(_ context.Context, lane replication.Lane) (replication.LaneDigest, error) {
	return o.n.digest(lane)
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
	version := o.from.history().Version()
	o.t.await(func(done func()) {
		fail := func(err *object.Error) { fault = err; done() }
		o.from.call(o.to, o.from.now().Add(mergeTimeout), func(c *outcall) {
			o.to.caughtUp(o.from, version, func(refusal *object.Error) {
				if refusal != nil {
					unsent()
					c.answer(func() { fail(refusal) }, nothing)
					return
				}
				take, drop, err := serve()
				c.answer(func() {
					if err == nil {
						take()
					}
					fault = object.AsError(err)
					done()
				}, drop)
			})
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

// Digest implements replication.Syncer.
func (o syncOther) Digest(_ context.Context, lane replication.Lane) (got replication.LaneDigest, err error) {
	err = o.ask(func() (func(), func(), error) {
		d, err := o.to.digest(lane)
		return func() { got = d }, nothing, err
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
