package node

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A view is what this node has adopted of what is agreed. But for settled it is
// immutable.
type view struct {
	doc     *agreed.Document
	fence   *ring.Fence // of doc's history and some before it
	settled atomic.Bool // all members are known to have adopted it
}

// ring returns the history of rings that counts here.
func (n *Node) ring() *ring.History { return n.view.Load().fence.History() }

// document returns the document that this node has adopted.
func (n *Node) document() *agreed.Document { return n.view.Load().doc }

// adopt takes over the newest document, if it is not that already. In this order:
//
//  1. Partitions that are new to this node are opened.
//  2. The history and the buckets become visible. From here on requests are judged
//     by them.
//  3. The gate is told of the change that is being prepared, and the promise is
//     durable.
//  4. Only then may the promise be brought to agreement: the reply is returned for
//     that.
//
// Requests that were begun under the history before are judged again when they end.
// It may be called by any goroutine.
func (n *Node) adopt() (*ring.Reply, error) {
	n.adopting.Lock()
	defer n.adopting.Unlock()
	doc, have := n.agreement.Document(), n.view.Load()
	if have.doc.Version.Before(doc.Version) {
		next := &view{doc: doc, fence: have.fence}
		switch before, now := have.doc.History.Version(), doc.History.Version(); {
		case before.Before(now):
			next.fence = have.fence.Adopt(doc.History)
			n.openOwned(doc.History)
		case before != now:
			return nil, object.Errorf(object.CodeInternal, object.NotDone,
				"version %v of what is agreed has version %v of the history, and version %v was there before", doc.Version, now, before)
		}
		n.view.Store(next)
		n.buckets.Store(doc.Buckets)
		n.meet(doc)
		n.checkSettings(doc)
		n.adopted.happened()
		if have.fence != next.fence {
			n.cfg.Log.Info("another history of rings counts", "version", n.ring().Version().String(), "rings", n.ring().Len())
		}
	}
	return n.gate.Agreed(n.document().Change, func(p ring.Promise) error { return writePromise(n.homes, p) })
}

// openAgreement begins with what was agreed when this node was last there.
func (n *Node) openAgreement() {
	doc := n.agreement.Document()
	first := &view{doc: doc, fence: ring.NewFence(doc.History)}
	if n.began = doc.History.Version(); n.began.Index <= 1 && n.began.Era <= 1 {
		first.settled.Store(true) // there was none before
	}
	if _, ok := n.agreement.(refresher); ok {
		n.fresh.stale.Store(n.othersMatter())
	}
	n.view.Store(first)
	n.buckets.Store(doc.Buckets)
}

// openGate makes the gate of what was promised and stored before this start.
func (n *Node) openGate() error {
	promise, err := readPromise(n.homes)
	if err != nil {
		return err
	}
	if promise != (ring.Promise{}) {
		n.spreadPromise(promise)
	}
	n.gate = agreed.NewGate(n.cfg.SlotSeconds, promise, n.highestStored())
	return nil
}

// meet makes the ways to the members of a document.
func (n *Node) meet(doc *agreed.Document) {
	var others []ring.NodeID
	for _, m := range doc.Members {
		if m.ID != n.id && m.State.Live() {
			others = append(others, m.ID)
		}
	}
	if err := n.peers.update(others); err != nil {
		n.cfg.Log.Error("some members are not connected to", "error", err)
	}
}

// openOwned opens the vnodes of all partitions that this node holds under a history,
// before it is served. One that cannot be opened does not stop the node.
func (n *Node) openOwned(h *ring.History) {
	n.shared.Store(n.shared.Load() || sharesWith(h, n.id))
	start, owned := n.cfg.Now(), h.HeldBy(n.id)
	if err := n.vnodes.Open(start, owned...); err != nil {
		n.cfg.Log.Error("some partitions cannot be opened; the others are served", "error", err)
	}
	n.cfg.Log.Debug("partitions opened", "partitions", len(owned), "took", n.cfg.Now().Sub(start))
}

// sharesWith reports whether any ring of a history has another node than this one.
func sharesWith(h *ring.History, me ring.NodeID) bool {
	for _, r := range h.All() {
		if slices.ContainsFunc(r.Nodes(), func(node ring.Node) bool { return node.ID != me }) {
			return true
		}
	}
	return false
}

// Pauses before a promise that could not be brought to agreement is tried again.
const (
	promiseLeast = 200 * time.Millisecond
	promiseMost  = 5 * time.Second
)

// follow adopts what is agreed, as it changes, and brings this node's promises to
// agreement, until ctx ends.
func (n *Node) follow(ctx context.Context) {
	pause := promiseLeast
	for ctx.Err() == nil {
		changed := n.agreement.Changed()
		reply, err := n.adopt()
		if err != nil {
			n.cfg.Log.Error("what is agreed cannot be adopted; it is tried again", "error", err)
		}
		again := err != nil
		if reply != nil && n.promises(reply.Round) {
			err := n.propose(ctx, agreed.Command{Kind: agreed.Promised, Node: n.id, Round: reply.Round, Highest: reply.Highest})
			if err != nil && ctx.Err() == nil {
				n.cfg.Log.Warn("a promise was not brought to agreement; it is tried again", "round", reply.Round, "error", err)
			}
			again = err != nil || n.promises(reply.Round) // until the document says that it is known
		}
		if !again {
			pause = promiseLeast
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, promiseMost)
	}
}

// promises reports whether the document waits for this node's promise of a round.
func (n *Node) promises(round uint64) bool {
	c := n.agreement.Document().Change
	return c.Phase == ring.Proposed && c.Round == round && slices.Contains(c.Waiting, n.id)
}

// propose brings a command, stamped now, to agreement. The error is that of the
// way, or the refusal.
func (n *Node) propose(ctx context.Context, c agreed.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	c.Now = n.cfg.Now().Unix()
	result, err := n.agreement.Propose(ctx, c)
	return errors.Join(err, result.Failure())
}

// proposeTimeout bounds how long this node's own word waits for a majority.
const proposeTimeout = 5 * time.Second

// catchUp gets a document from another member and adopts it.
func (n *Node) catchUp(ctx context.Context, v ring.Version, from ring.NodeID) error {
	if n.agreement.Document().History.Version().Before(v) {
		if err := n.agreement.CatchUp(ctx, v, from); err != nil {
			return err
		}
	}
	_, err := n.adopt() // the promise is brought to agreement by follow, which sees the same change
	return err
}

// unneeded reports whether nobody needs this node's plain data of a partition: others
// own it, and all of them are known to have everything. While anything is being
// changed, or this node may have missed a change, everything is needed.
func (n *Node) unneeded(p bitcask.Partition) bool {
	v := n.view.Load()
	if v == nil || n.fresh.stale.Load() || v.doc.Pending != nil {
		return false
	}
	h, part := v.fence.History(), ring.Partition(p)
	me, _ := v.doc.Member(n.id)
	return me.State == agreed.Valid && part.Bits == h.Newest().Bits() && !holdsPlain(h, n.id, part) && len(h.PlainNewcomers(part)) == 0
}
