package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
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

// A Member is one node of a cluster whose membership is a list in the
// configuration, the same on every node.
type Member struct {
	Name    string // unique in the cluster; the node's id is derived from it
	Address string // where the others reach it: host:port
}

// ParseMember reads "name=host:port".
func ParseMember(text string) (Member, error) {
	name, address, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return Member{}, fmt.Errorf("member %q: write name=host:port", text)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return Member{}, fmt.Errorf("member %q: write name=host:port: %w", text, err)
	}
	return Member{Name: name, Address: address}, nil
}

// memberID derives a member's id from its name and its cluster's.
func memberID(cluster, name string) (id ring.NodeID) {
	sum := sha256.Sum256([]byte("mayfly node\x00" + cluster + "\x00" + name))
	copy(id[:], sum[:])
	return id
}

// checkMembers reports what is wrong with the list.
func (c Config) checkMembers() error {
	if len(c.Members) == 0 {
		return nil
	}
	var faults []error
	seen := map[string]bool{}
	for _, m := range c.Members {
		if m.Name == "" || m.Address == "" {
			faults = append(faults, fmt.Errorf("member %q at %q: each has a name and an address", m.Name, m.Address))
		}
		if seen[m.Name] {
			faults = append(faults, fmt.Errorf("member %q is there twice", m.Name))
		}
		seen[m.Name] = true
	}
	if !seen[c.Name] {
		faults = append(faults, fmt.Errorf("this node is %q and not among the members: give it the name of one", c.Name))
	}
	return errors.Join(faults...)
}

// ringNodes returns the nodes of the first ring: the members, or this node alone.
func (c Config) ringNodes(me ring.NodeID) []ring.Node {
	if len(c.Members) == 0 {
		return []ring.Node{{ID: me, Name: c.Name, Weight: 1}}
	}
	nodes := make([]ring.Node, len(c.Members))
	for i, m := range c.Members {
		nodes[i] = ring.Node{ID: memberID(c.Cluster, m.Name), Name: m.Name, Weight: 1}
	}
	slices.SortFunc(nodes, func(a, b ring.Node) int { return a.ID.Compare(b.ID) })
	return nodes
}

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
