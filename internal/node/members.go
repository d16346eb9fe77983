package node

import (
	"context"
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// openPeers makes the ways to the other members, as far as they are known.
func (n *Node) openPeers() {
	n.peers = newPeerSet(n.openPeer, func() { n.pushes.changed() })
	n.catcher = newCatcher(func() ring.Version { return n.ring().Version() }, n.catchUp)
}

// openPeer makes the way to a member.
func (n *Node) openPeer(id ring.NodeID) (*peer.Peer, error) {
	p, err := peer.New(peer.Config{
		Node: id, Address: func() string { return n.agreement.Address(id) }, Hello: n.hello(), Logger: n.cfg.Log,
		CatchUp: func(v ring.Version, deadline time.Time, then func()) { n.catcher.later(v, id, deadline, then) },
	})
	if err != nil {
		return nil, fmt.Errorf("member %v: %w", id, err)
	}
	return p, nil
}

// replica returns the way to a node's replica, nil if there is none.
func (n *Node) replica(id ring.NodeID) replication.Replica {
	if id == n.id {
		return n.local
	}
	if p := n.peers.get(id); p != nil {
		return p
	}
	return nil
}

// repairer is replica for read repair, which is shed first.
func (n *Node) repairer(id ring.NodeID) replication.Replica {
	if p := n.peers.get(id); p != nil {
		return p.Repair()
	}
	return n.replica(id)
}

// greeted is told of every caller. A member that connects to this node is there:
// it should not wait for its copies until this one happens to try again.
func (n *Node) greeted(caller wire.Hello) {
	if p := n.peers.get(ring.NodeID(caller.Node)); p != nil && caller.Cluster == n.cluster {
		p.Heard()
	}
}

// A door sends a request to where its operation belongs: other nodes' requests
// to the replicas, their subscriptions to the pushes, what merging asks to where
// it is answered, all others to the native door.
type door struct {
	users, nodes, syncs wire.Handler
	pushes              *peer.PushHandler
}

// ServeWire implements wire.Handler.
func (d door) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	switch {
	case r.Op == peer.OpPut && d.pushes.Subscribed():
		return d.nodes.ServeWire(withSender(ctx, r), r)
	case peer.Serves(r.Op):
		return d.nodes.ServeWire(ctx, r)
	case peer.Pushes(r.Op):
		return d.pushes.ServeWire(ctx, r)
	case peer.Syncs(r.Op):
		return d.syncs.ServeWire(ctx, r)
	}
	return d.users.ServeWire(ctx, r)
}

// A peerLocal is this node's replicas as other nodes ask them. It is a
// [peer.Local].
type peerLocal struct{ *localReplica }

// Judge compares histories.
func (l peerLocal) Judge(theirs ring.Version, ref peer.Ref, put bool) peer.Judgement {
	return l.fence.judge(theirs, ref, put)
}

// Put stores a record.
func (l peerLocal) Put(ctx context.Context, hash uint64, rec object.Record) error {
	return l.put(senderOf(ctx), hash, rec)
}

// Get reads a record, or its header alone.
func (l peerLocal) Get(_ context.Context, ref peer.Ref, body bool) (object.Record, bool, error) {
	return l.get(vnode.Ref(ref), body)
}

// Row reads an index row.
func (l peerLocal) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	return l.row(key)
}
