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

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/cluster"
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
	cluster  wire.ID
	disks    []*bitcask.Disk
	paths    []string     // of the disks
	failed   []failedDisk // data directories that are not in use
	missing  []string     // ids of disks that the others remember
	away     []bitcask.ID // the node's disks that are not in use, and may be back
	homes    []vfs.FS     // the disks in use; the first is where the node's own files are kept
	mirrors  []vfs.FS     // the others, with copies of these
	vnodes   *vnode.Set
	local    *localReplica
	coord    *replication.Coordinator
	merger   *replication.Merger
	store    *Store
	hub      *tail.Hub
	pushes   *pushes
	nodes    *peer.Handler
	syncs    *peer.SyncHandler
	server   *wire.Server
	listener net.Listener

	mux       *cluster.Mux     // the port
	join      cluster.Config   // zero where agreement was given
	member    *cluster.Cluster // the same as agreement; nil where that was given
	fresh     freshness
	agreement Agreement
	gate      *agreed.Gate
	view      atomic.Pointer[view]       // what is adopted of what is agreed; replaced under adopting
	adopting  sync.Mutex                 // held by adopt
	adopted   *signal                    // happens when view was replaced
	heardOf   *signal                    // happens when a member is known to have adopted another history
	began     ring.Version               // of the history that this node began with
	buckets   atomic.Pointer[bucket.Set] // those of view
	shared    atomic.Bool                // some ring had, or is about to have, another node
	peers     *peerSet                   // the other members
	catcher   *catcher

	stop   context.CancelFunc // ends the goroutines
	wg     sync.WaitGroup     // the goroutines, the server's among them
	ready  atomic.Bool        // recovered, and not stopping
	moving atomic.Uint64      // bytes a second that merging moves, lately
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
	n := &Node{cfg: cfg, adopted: newSignal(), heardOf: newSignal()}
	n.fresh.again.init()
	// The address comes first: a port in use is the likeliest mistake, and costs
	// nothing to find.
	if err := n.listen(ctx); err != nil {
		return nil, err
	}
	n.buckets.Store(cfg.Buckets) // until those that are agreed are known
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.closePeers(), n.leave(ctx), n.closeDisks(), n.closeListener())
	}
	n.serve()
	return n, nil
}

// open opens the disks and what is made of them.
func (n *Node) open(ctx context.Context) error {
	home, err := n.openDisks(ctx)
	if err != nil {
		return err
	}
	if n.agreement == nil {
		if err := n.startCluster(ctx); err != nil {
			return err
		}
	}
	n.openAgreement()
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
		Self: n.id, Buckets: n.buckets.Load, History: n.ring, Shared: n.shared.Load, Admit: n.admit, Vouches: n.vouches,
		SlotSeconds: n.cfg.SlotSeconds, AheadSeconds: n.aheadSeconds,
		LatenessSeconds: n.cfg.LatenessSeconds, SealAfterSeconds: n.cfg.SealAfterSeconds,
	}, disks)
	if err != nil {
		return err
	}
	n.openOwned(n.ring())
	if err := n.openGate(); err != nil {
		return err
	}
	n.local = &localReplica{me: n.id, vnodes: n.vnodes, history: n.ring, now: n.cfg.Now, fence: n.newFence(), fresh: &n.fresh}
	n.openPeers()
	n.coord, err = replication.New(replication.Config{
		Self: n.id, History: n.ring, Buckets: n.buckets.Load, Now: n.cfg.Now, Replica: n.replica, Repair: n.repairer, Admit: n.admit,
	})
	if err != nil {
		return err
	}
	n.store = newStore(n, n.coord, dcs)
	n.hub = tail.New(tailSource{n.store}, n.tailConfig(), n.cfg.Log)
	n.store.hub = n.hub
	n.pushes = newPushes(n)
	n.local.pushes = n.pushes
	n.merger = n.newMerger()
	n.meet(n.document())
	return nil
}

func (n *Node) engineConfig() bitcask.Config {
	return bitcask.Config{
		Cluster: bitcask.ID(n.cluster), Node: bitcask.ID(n.id), SlotSeconds: n.cfg.SlotSeconds,
		Hash: ring.Hash[[]byte, []byte], TTL: vnode.TTLs(n.buckets.Load), Unneeded: n.unneeded, BootID: n.cfg.bootID,
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
	n.wg.Go(func() { n.follow(ctx) })
	n.wg.Go(func() { n.announce(ctx) })
	if r, ok := n.agreement.(refresher); ok {
		n.wg.Go(func() { n.keepFresh(ctx, r) })
	}
	n.wg.Go(func() { n.pushes.run(ctx) })
	n.wg.Go(func() { n.upkeep(ctx) })
	n.wg.Go(func() { n.merge(ctx) })
}

// door returns what serves the node's connections.
func (n *Node) door() wire.Handler {
	n.nodes = peer.NewHandler(peer.HandlerConfig{Local: peerLocal{n.local}, Cluster: n.cluster, CatchUp: n.catcher.await, Heard: n.heard})
	n.syncs = peer.NewSyncHandler(peer.SyncHandlerConfig{Local: syncDoor{mergeLocal{n}}, Cluster: n.cluster, History: func() ring.Version { return n.ring().Version() }, CatchUp: n.catcher.await})
	users := native.NewHandler(clientStore{n.store, n}).WithCluster(admin{n})
	return door{users: users, nodes: n.nodes, pushes: n.pushes.door, syncs: n.syncs}
}

// hello is how the node introduces itself, to clients and to other nodes.
func (n *Node) hello() wire.Hello {
	return wire.Hello{Cluster: n.cluster, Node: wire.ID(n.id), Name: n.cfg.Name}
}

func (n *Node) wireHistory() wire.History {
	v := n.ring().Version()
	return wire.History{Era: v.Era, Index: v.Index}
}

func (n *Node) info() proto.Info {
	h := n.ring()
	v := h.Version()
	i := proto.Info{
		Node: n.id.String(), Name: n.cfg.Name, Cluster: n.cfg.Cluster, Version: n.cfg.Version,
		Era: v.Era, HistoryIndex: v.Index, Partitions: 1 << h.Newest().Bits(),
		SlotSeconds: n.cfg.SlotSeconds, LatenessSeconds: n.cfg.LatenessSeconds, AheadSeconds: n.document().Settings.AheadSeconds,
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
	return errors.Join(append(faults, n.coord.Close(ctx), n.leave(ctx), n.closePeers(), n.closeDisks(), n.closeListener())...)
}

// leave takes leave of the cluster, if the node was in it.
func (n *Node) leave(ctx context.Context) error {
	if n.agreement == nil {
		return nil
	}
	return n.agreement.Close(ctx)
}

// closeListener closes the port; the server's Shutdown may have done so.
func (n *Node) closeListener() error {
	return n.mux.Close()
}

// closePeers ends the ways to other nodes, as far as they were made.
func (n *Node) closePeers() error {
	if n.peers == nil {
		return nil
	}
	err := n.peers.close()
	n.catcher.close()
	return err
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
