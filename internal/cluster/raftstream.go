package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Raft's configuration names servers by id and address. The id is that of the
// server's log. The address is no address of the network but the node and its log:
// a node that comes back elsewhere needs no change of the configuration, and one
// that comes back without its log is not taken for the server it was.

// serverAddress returns the address of a server in the configuration.
func serverAddress(node ring.NodeID, log logID) raft.ServerAddress {
	return raft.ServerAddress(hex.EncodeToString(node[:]) + "/" + log.String())
}

// parseServer is the inverse of serverAddress.
func parseServer(address raft.ServerAddress) (node ring.NodeID, log logID, err error) {
	a, b, _ := strings.Cut(string(address), "/")
	if !decodeID(node[:], a) || !decodeID(log[:], b) {
		return ring.NodeID{}, logID{}, fmt.Errorf("%q is no server of mayfly: want a node id, a slash, a log id", object.Printable(string(address), 80))
	}
	return node, log, nil
}

func decodeID(dst []byte, s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && copy(dst, b) == len(dst) && len(b) == len(dst)
}

func serverID(log logID) raft.ServerID { return raft.ServerID(log.String()) }

const (
	raftBacklog = 16  // connections that wait for Raft to take them
	maxRaftIn   = 128 // connections that others have made; a leader makes a few to each server

	// A message of a leader has maxAppend commands at most, of which one may be the
	// document the era begins with, or a snapshot. There is one leader.
	maxAppend    = 8
	maxRaftHeard = 2 * (agreed.MaxDocumentBytes + maxAppend*agreed.MaxCommandBytes) // bytes
)

// A raftStreams is Raft's [raft.StreamLayer] over the shared port.
type raftStreams struct {
	self   raft.ServerAddress
	me     func() identity
	lookup lookup
	stats  *streamCounters
	queue  chan net.Conn
	in     *conns // called by others
	out    *conns // called by this node

	ctx    context.Context // ends with cut
	stop   context.CancelFunc
	once   sync.Once
	closed chan struct{} // by Close
}

func newRaftStreams(me func() identity, lookup lookup, stats *streamCounters) *raftStreams {
	ctx, stop := context.WithCancel(context.Background())
	id := me()
	return &raftStreams{
		self: serverAddress(id.Node, id.Log), me: me, lookup: lookup, stats: stats,
		queue: make(chan net.Conn, raftBacklog), in: newConns(maxRaftIn, maxRaftHeard, &stats.crowded), out: newConns(0, 0, nil), ctx: ctx, stop: stop, closed: make(chan struct{}),
	}
}

// offer hands a connection that was greeted to Raft, without waiting.
func (r *raftStreams) offer(nc net.Conn) {
	owned, err := r.in.add(nc)
	if err != nil {
		return
	}
	select {
	case r.queue <- owned:
	default:
		r.stats.crowded.Add(1)
		_ = owned.Close()
	}
}

// Accept implements [net.Listener].
func (r *raftStreams) Accept() (net.Conn, error) {
	select {
	case nc := <-r.queue:
		return nc, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// cut ends all connections, those that wait to be taken too; there are no new ones.
func (r *raftStreams) cut() {
	r.stop()
	r.in.cut()
	r.out.cut()
	for {
		select {
		case nc := <-r.queue:
			_ = nc.Close()
		default:
			return
		}
	}
}

// Close implements [net.Listener].
func (r *raftStreams) Close() error {
	r.once.Do(func() { close(r.closed) })
	r.cut()
	return nil
}

// Addr implements [net.Listener]: the address in the configuration.
func (r *raftStreams) Addr() net.Addr { return serverAddr(r.self) }

type serverAddr string

func (a serverAddr) Network() string { return "mayfly" }
func (a serverAddr) String() string  { return string(a) }

// Dial implements [raft.StreamLayer].
func (r *raftStreams) Dial(server raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, log, err := parseServer(server)
	if err != nil {
		return nil, err
	}
	address, err := r.lookup(node)
	if err != nil {
		return nil, err
	}
	nc, _, err := r.stats.call(r.ctx, address, preface{Kind: kindRaft, From: r.me(), WantNode: node, WantLog: log}, timeout)
	if err != nil {
		return nil, err
	}
	return r.out.add(nc)
}
