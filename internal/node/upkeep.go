package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/vnode"
)

// upkeep recovers what the last stop left undone and then, until ctx ends, seals
// and expires. It is one goroutine: what it does is in its order.
func (n *Node) upkeep(ctx context.Context) {
	n.fresh.await(ctx) // before that this node's own replicas take nothing in
	n.recover(ctx)
	n.ready.Store(ctx.Err() == nil)
	trust := expiry.NewTrust(expiry.TrustConfig{}, n.newestEpoch())
	tick := time.NewTicker(n.cfg.UpkeepInterval)
	defer tick.Stop()
	last := n.cfg.Now()
	said := ""
	moved := n.bytesMoved()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := n.cfg.Now()
		verdict := trust.Observe(now, now.Sub(last))
		if after, passed := n.bytesMoved(), now.Sub(last); passed > 0 {
			// Half of it is of the last second, and so on.
			n.moving.Store((n.moving.Load() + uint64(float64(after-moved)/passed.Seconds())) / 2)
			moved = after
		}
		last = now
		if text := verdict.String(); !verdict.Trusted() && verdict.Reason.String() != said {
			n.cfg.Log.Warn(text)
		}
		if said = verdict.Reason.String(); verdict.Trusted() {
			said = ""
		}
		n.maintain(ctx, now, verdict.Trusted())
	}
}

// bytesMoved returns how much merging has moved, here and away.
func (n *Node) bytesMoved() uint64 {
	s := n.merger.Stats()
	return s.PulledBytes + s.PushedBytes
}

// recover adds to the index the entries of blobs that were stored and not yet
// listed when the node stopped.
func (n *Node) recover(ctx context.Context) {
	start := time.Now()
	added, err := n.vnodes.Recover(ctx, n.cfg.Now(), n.index())
	if err != nil {
		n.cfg.Log.Warn("not every open slot could be compared with the index; sealing tries again", "error", err)
	}
	if added > 0 {
		n.cfg.Log.Info("blobs stored before the last stop were added to the index", "entries", added, "took", time.Since(start))
	}
	n.clearDoubts()
}

// alone tells whether no ring has another node.
func (n *Node) alone() bool { return !sharesWith(n.ring(), n.id) }

// index returns the index as recovery and sealing compare blobs with it.
func (n *Node) index() vnode.Index {
	if n.alone() {
		return soleIndex{n.store}
	}
	return n.store
}

// A soleIndex is the index of a node that is alone. A row that may have lost
// entries is still all there is of it: what it lacks and the blobs can tell must
// go into it.
type soleIndex struct{ *Store }

// Row returns the row, which is certain: nobody else could have more of it.
func (s soleIndex) Row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	row, _, err := s.Store.Row(ctx, key)
	return row, true, err
}

// clearDoubts makes slots complete again that lost something, or may have: after
// an unclean stop of the machine, or damage. Where the ring has one node, it has
// nobody to ask for what it lacks: what is lost is lost, and is said here once.
func (n *Node) clearDoubts() {
	if !n.alone() {
		return
	}
	err := n.eachStore(func(p bitcask.Partition, store *bitcask.Store) error {
		var faults []error
		for _, d := range store.Doubts() {
			what := []any{"partition", p.String(), "reason", d.Reason.String()}
			if !d.All {
				what = append(what, "bucket", bucket.ID(d.Bucket).String(), "slot", int64(d.Slot))
			}
			n.cfg.Log.Warn("acknowledged objects may have been lost, and there is no other replica", what...)
			faults = append(faults, store.ClearDoubt(d))
		}
		return errors.Join(faults...)
	})
	if err != nil {
		n.cfg.Log.Error("some slots stay in doubt: reads there answer unknown instead of absent", "error", err)
	}
}

// eachStore calls f with every partition that has something stored.
func (n *Node) eachStore(f func(bitcask.Partition, *bitcask.Store) error) error {
	var faults []error
	for _, d := range n.disks {
		partitions, err := d.Partitions()
		faults = append(faults, err)
		for _, p := range partitions {
			store, err := d.Store(p)
			if err == nil {
				err = f(p, store)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("partition %v: %w", p, err))
			}
		}
	}
	return errors.Join(faults...)
}

func (n *Node) maintain(ctx context.Context, now time.Time, clockTrusted bool) {
	if err := n.vnodes.Maintain(ctx, now, n.index()); err != nil && ctx.Err() == nil {
		n.cfg.Log.Warn("sealing is tried again", "error", err)
	}
	for _, d := range n.disks {
		if _, err := d.Maintain(now.Unix(), clockTrusted); err != nil {
			n.cfg.Log.Warn("a disk's upkeep is tried again", "error", err)
		}
		if d.Stats().Doubts > 0 {
			n.clearDoubts()
		}
	}
}
