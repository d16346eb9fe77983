package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
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
		Self: n.id, History: n.history, Buckets: n.buckets, Now: n.now,
		Own: syncOwn{n, t},
		Other: func(id ring.NodeID) replication.Syncer {
			if to := n.s.nodeOf(id); to != n {
				return syncOther{n, to, t}
			}
			return nil
		},
		Completed: func(ctx context.Context, under ring.Version, done []ring.Completion) error {
			return n.completed(t, under, done)
		},
		Lost: func(id ring.NodeID) bool {
			m, known := n.doc.Member(id)
			return known && m.State == agreed.Lost
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

// completed brings to agreement what the node has taken over.
func (n *node) completed(t *task, under ring.Version, done []ring.Completion) error {
	fault := errStopped
	t.await(func(over func()) {
		n.s.agreement.propose(n, agreed.Command{Kind: agreed.Completed, History: under, Completions: done}, func(r agreed.Result, err *object.Error) {
			if fault = err; err == nil {
				fault = r.Err
			}
			over()
		})
	})
	if fault != nil {
		return fault
	}
	return nil
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

// firstDoubt tells of one of them.
func (s *Sim) firstDoubt() string {
	for _, node := range s.upNodes() {
		for _, p := range node.history().HeldBy(node.id) {
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
	for _, node := range s.upNodes() {
		n += node.doubts()
	}
	return n
}

// doubts is the same of one node, which must be up.
func (n *node) doubts() (doubts int) {
	for _, p := range n.history().HeldBy(n.id) {
		v, err := n.vnodes.Vnode(p)
		if err != nil || !v.Since().Whole() {
			doubts++
			continue
		}
		doubts += len(v.Doubts())
	}
	return doubts
}

// owing tells of one node that owes copies, "" if none does.
func (s *Sim) owing() string {
	for _, n := range s.upNodes() {
		if o := n.coord.Owed().Stats(); o.Places+o.Nodes > 0 {
			return fmt.Sprintf("node %d owes %d keys in %d places, and %d nodes everything", n.at, o.Keys, o.Places, o.Nodes)
		}
	}
	return ""
}

// anyInDoubtBut reports whether a node besides n is down, or not complete.
func (s *Sim) anyInDoubtBut(n *node) bool {
	return slices.ContainsFunc(s.members(), func(other *node) bool {
		return other != n && (!other.up || other.doubts() > 0)
	})
}
