// Package node assembles one node: disks, vnodes, the index, the hub of tails
// and the native door, and the goroutine that keeps them up. It is what
// `mayfly serve`, `mayfly demo` and the tests start.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/native"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A Node is one running node. It is made by [Start] and ended by [Node.Close].
type Node struct {
	cfg      Config
	id       ring.NodeID
	disks    []*bitcask.Disk
	paths    []string     // of the disks
	failed   []failedDisk // data directories that are not in use
	missing  []string     // ids of disks that the others remember
	mirrors  []vfs.FS     // disks with copies of the node's own files
	history  *ring.History
	buckets  atomic.Pointer[bucket.Set]
	vnodes   *vnode.Set
	local    *localReplica
	peers    map[ring.NodeID]*peer.Peer // the other members
	coord    *replication.Coordinator
	merger   *replication.Merger // nil on a node that is alone
	store    *Store
	hub      *tail.Hub
	pushes   *pushes
	server   *wire.Server
	listener net.Listener

	stop   context.CancelFunc // ends the upkeep
	wg     sync.WaitGroup     // upkeep and server
	ready  atomic.Bool        // recovered, and not stopping
	served error              // why the server ended, if it did by itself
}

// Start opens the data directories, which are made if they are missing, and
// serves them. The error says what to change; nothing was written to a directory
// that is not this node's. A node always starts on directories of its own: what
// is damaged in them is set aside, logged and counted.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	// The address comes first: a port in use is the likeliest mistake, and costs
	// nothing to find.
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = listen(ctx, cfg.Listen); err != nil {
			return nil, err
		}
	}
	n := &Node{cfg: cfg, listener: ln}
	n.buckets.Store(cfg.Buckets)
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.closePeers(), n.closeDisks(), ln.Close())
	}
	n.serve()
	return n, nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program uses the port: stop it, or choose another address: %w", address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: choose an address of this machine and a port from 1 to 65535 that you may use: %w", address, err)
	}
	return ln, nil
}

// open opens the disks and what is made of them.
func (n *Node) open() error {
	home, err := n.openDisks()
	if err != nil {
		return err
	}
	if n.history, err = openHistory(home, n.cfg, n.id); err != nil {
		return err
	}
	buckets, err := openBuckets(home, n.cfg.Buckets)
	if err != nil {
		return err
	}
	n.buckets.Store(buckets)
	dcs, err := openDCs(home)
	if err != nil {
		return err
	}
	n.mirror(home)
	disks, err := vnode.OnSomeDisks(n.lostDisks(), n.disks...)
	if err != nil {
		return err
	}
	n.vnodes, err = vnode.NewSet(vnode.Config{
		Buckets: n.buckets.Load, History: n.ring,
		SlotSeconds: n.cfg.SlotSeconds, AheadSeconds: n.cfg.AheadSeconds,
		LatenessSeconds: n.cfg.LatenessSeconds, SealAfterSeconds: n.cfg.SealAfterSeconds,
	}, disks)
	if err != nil {
		return err
	}
	n.openOwned()
	n.local = &localReplica{me: n.id, vnodes: n.vnodes, history: n.ring, now: n.cfg.Now}
	if err := n.openPeers(); err != nil {
		return err
	}
	n.coord, err = replication.New(replication.Config{
		Self: n.id, History: n.ring, Buckets: n.buckets.Load, Now: n.cfg.Now, Replica: n.replica, Repair: n.repairer,
	})
	if err != nil {
		return err
	}
	n.store = newStore(n, n.coord, dcs)
	n.hub = tail.New(tailSource{n.store}, n.tailConfig(), n.cfg.Log)
	n.store.hub = n.hub
	n.pushes = newPushes(n)
	n.local.pushes = n.pushes
	if !n.alone() {
		n.merger = n.newMerger()
	}
	return nil
}

func (n *Node) engineConfig() bitcask.Config {
	return bitcask.Config{
		Cluster: clusterID(n.cfg.Cluster), Node: bitcask.ID(n.id), SlotSeconds: n.cfg.SlotSeconds,
		Hash: ring.Hash[[]byte, []byte], TTL: vnode.TTLs(n.buckets.Load), BootID: n.cfg.bootID,
		SyncInterval: n.cfg.SyncInterval, SealAfterSeconds: n.cfg.SealAfterSeconds,
		MaxHandles: n.cfg.MaxHandles, HintCacheBytes: n.hintCacheBytes(), MinFreeBytes: n.cfg.MinFreeBytes, Log: n.cfg.Log,
		MergeBytesPerSecond: n.cfg.MergeBytesPerSecond, TombstoneGraceSeconds: n.cfg.TombstoneGraceSeconds,
	}
}

// hintCacheBytes returns each disk's share; negative: none.
func (n *Node) hintCacheBytes() int64 {
	if share := n.cfg.HintCacheBytes / int64(max(len(n.cfg.Data), 1)); share > 0 {
		return share
	}
	return -1
}

func (n *Node) tailConfig() tail.Config {
	cfg := tail.DefaultConfig()
	cfg.LatenessSeconds = n.cfg.LatenessSeconds
	cfg.TotalBytes = n.cfg.TailBufferBytes
	cfg.QueueBytes = min(cfg.QueueBytes, cfg.TotalBytes)
	return cfg
}

// serve starts the door and the upkeep.
func (n *Node) serve() {
	n.server = wire.NewServer(wire.ServerConfig{
		Handler:   n.door(),
		Logger:    n.cfg.Log,
		Hello:     n.hello(),
		History:   n.wireHistory,
		Greeted:   n.greeted,
		UserBytes: n.cfg.MaxInFlightBytes, NodeBytes: n.cfg.MaxInFlightBytes,
	})
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.wg.Go(func() {
		if err := n.server.Serve(n.listener); err != nil {
			n.cfg.Log.Error("the listener failed; restart the node", "address", n.Addr().String(), "error", err)
			n.served = err
			n.ready.Store(false)
		}
	})
	for _, p := range n.peers {
		n.wg.Go(func() {
			if err := p.Connect(ctx); err != nil && ctx.Err() == nil {
				n.cfg.Log.Warn("a member cannot be reached; it is tried again", "member", p.Node().String(), "error", err)
			}
		})
	}
	n.wg.Go(func() { n.pushes.run(ctx) })
	n.wg.Go(func() { n.upkeep(ctx) })
	if n.merger != nil {
		n.wg.Go(func() { n.merger.Run(ctx) })
	}
}

// door returns what serves the node's connections.
func (n *Node) door() wire.Handler {
	return door{
		users:  native.NewHandler(clientStore{n.store, n}),
		nodes:  peer.NewHandler(peer.HandlerConfig{Local: peerLocal{n.local}, Cluster: clusterID(n.cfg.Cluster)}),
		pushes: n.pushes.door,
		syncs:  peer.NewSyncHandler(peer.SyncHandlerConfig{Local: syncDoor{mergeLocal{n}}, Cluster: clusterID(n.cfg.Cluster), History: n.history.Version}),
	}
}

// hello is how the node introduces itself, to clients and to other nodes.
func (n *Node) hello() wire.Hello {
	return wire.Hello{Cluster: clusterID(n.cfg.Cluster), Node: wire.ID(n.id), Name: n.cfg.Name}
}

// ring returns the history of rings.
func (n *Node) ring() *ring.History { return n.history }

func (n *Node) wireHistory() wire.History {
	v := n.history.Version()
	return wire.History{Era: v.Era, Index: v.Index}
}

func (n *Node) info() proto.Info {
	v := n.history.Version()
	i := proto.Info{
		Node: n.id.String(), Name: n.cfg.Name, Cluster: n.cfg.Cluster, Version: n.cfg.Version,
		Era: v.Era, HistoryIndex: v.Index, Partitions: 1 << n.history.Newest().Bits(),
		SlotSeconds: n.cfg.SlotSeconds, LatenessSeconds: n.cfg.LatenessSeconds, AheadSeconds: n.cfg.AheadSeconds,
		NowMicros: n.cfg.Now().UnixMicro(), Ready: n.Ready(), DCs: n.store.dcs.names(),
	}
	for p := range n.buckets.Load().All() {
		i.Buckets = append(i.Buckets, p)
	}
	return i
}

// Addr returns the address the native protocol is served on.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// ID returns the node's id: random, kept in its data directories.
func (n *Node) ID() ring.NodeID { return n.id }

// Store returns the node's data, as its doors see it.
func (n *Node) Store() *Store { return n.store }

// Ready tells whether the node has recovered and serves.
func (n *Node) Ready() bool { return n.ready.Load() }

// Close ends the node: no new requests, those under way get until ctx ends,
// tails are told to go elsewhere, disks are synced and marked clean. The error
// tells what may have to be recovered at the next start.
func (n *Node) Close(ctx context.Context) error {
	n.ready.Store(false)
	n.stop()
	n.hub.Close() // its readers are handlers of the server
	n.pushes.door.Close()
	faults := []error{n.server.Shutdown(ctx)}
	n.wg.Wait()
	return errors.Join(append(faults, n.coord.Close(ctx), n.closePeers(), n.closeDisks())...)
}

func (n *Node) closeDisks() error {
	var faults []error
	for _, d := range n.disks {
		faults = append(faults, d.Close())
	}
	return errors.Join(faults...)
}

// String names the node in messages.
func (n *Node) String() string {
	return fmt.Sprintf("%s (%s) on %s, data in %s", n.cfg.Name, n.id, n.Addr(), strings.Join(n.cfg.Data, ", "))
}
