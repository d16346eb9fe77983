package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A node is one machine: its disk, its clock, and, while it is up, the real parts
// of a node on them.
type node struct {
	s      *Sim
	at     int // place in Sim.nodes
	id     ring.NodeID
	name   string
	zone   string
	weight uint32

	fs     *vfs.Mem
	boot   int           // of the machine
	offset time.Duration // of its clock
	slow   time.Duration // greatest delay of an operation of its disk; 0: none
	fault  diskFault

	deaf    bool          // hears nothing of agreement, and of versions only in requests
	late    time.Duration // by how much it hears later of agreement than others, at most
	slowly  bool          // promises nothing
	wiped   bool          // all it had is gone, and it will not come back
	barred  bool          // it is not started for now
	retired bool          // it has left, or was declared lost: it does not start again

	admitted int64 // the highest epoch it took or sent under a ring without a promise, in this life

	running bool // the process; it may still be finding out what it has to know
	up      bool // and serves
	life    int  // of the process: what was arranged in another one does not happen

	member

	disk   *bitcask.Disk
	vnodes *vnode.Set
	coord  *replication.Coordinator
	hub    *tail.Hub
	rows   replication.Gatherer[[]func(*object.Error)]
	tasks  []*task

	tickAt      time.Duration // when the coordinator is called next; 0: not arranged
	inbound     []*outcall    // requests of others, some of them over
	inboundLive int           // of them, when they were last looked through
	clients     []func()      // breaks the connections of clients, answered ones too
}

// A diskFault is what a node's disk refuses to do.
type diskFault uint8

const (
	diskWell diskFault = iota
	diskNoWrites
	diskNoSyncs
	diskNoReads
	diskFull
)

// Bounds of a simulated node.
const (
	slotSeconds      = 10
	sealAfterSeconds = 25
	latenessSeconds  = 5
	syncInterval     = time.Second
	readTimeout      = 4 * time.Second
	writeTimeout     = 8 * time.Second
	hubReadTimeout   = 2 * time.Second
)

// now is the node's clock.
func (n *node) now() time.Time { return n.s.timeAt(n.s.now).Add(n.offset) }

// after arranges for f in this life of the node; lost is called instead, then, if
// it is over.
func (n *node) after(d time.Duration, f, lost func()) {
	life := n.life
	n.s.after(d, func() {
		if !n.up || n.life != life {
			lost()
			return
		}
		f()
		n.settle()
	})
}

// every arranges for f every so often for as long as the node lives.
func (n *node) every(d time.Duration, f func()) {
	n.after(d, func() {
		f()
		n.every(d, f)
	}, func() {})
}

// rule is the disk's: it fails what is to fail.
func (n *node) rule(op vfs.Op) error {
	fails := func(err error) error { return fmt.Errorf("%s: %w", op.Name, err) }
	switch {
	case n.fault == diskNoWrites && op.Kind == vfs.OpWrite,
		n.fault == diskNoSyncs && (op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir),
		n.fault == diskNoReads && op.Kind == vfs.OpRead:
		return fails(syscall.EIO)
	case n.fault == diskFull && op.Kind == vfs.OpWrite:
		return fails(syscall.ENOSPC)
	}
	return nil
}

// start brings the process up: it learns what has been agreed, or joins, and then
// serves.
func (n *node) start() {
	if n.retired || n.wiped || n.barred || n.s.ended {
		return
	}
	n.life++
	n.running = true
	n.member = member{known: map[ring.NodeID]ring.Version{}, heard: n.s.now}
	doc, err := n.stored()
	switch {
	case err != nil:
		n.startLater(err)
	case doc == nil:
		n.joins()
	default:
		n.doc = doc
		n.asks(n.serve)
	}
}

// startLater tries again, as the disk does not let it.
func (n *node) startLater(err error) {
	n.s.trace.note(n.s.now, n.at, "does not start", "", outcome(err))
	life := n.life
	n.s.after(time.Second, func() {
		if n.life == life && !n.up {
			n.start()
		}
	})
}

// joins asks to be a member until it is one.
func (n *node) joins() {
	life := n.life
	n.s.agreement.propose(n, agreed.Command{Kind: agreed.Join, Member: n.introduction()}, func(r agreed.Result, err *object.Error) {
		if err == nil && r.Err == nil {
			n.learns(n.s.agreement.doc)
			n.asks(n.serve)
			return
		}
		n.s.after(time.Second, func() {
			if n.life == life && n.running {
				n.joins()
			}
		})
	})
}

// serve opens the engine and begins to answer, or tries again later.
func (n *node) serve() {
	if m, known := n.doc.Member(n.id); !known || !m.State.Live() {
		n.retire(m.State)
		return
	}
	if err := n.open(); err != nil {
		n.startLater(err)
		return
	}
	n.s.trace.note(n.s.now, n.at, "is up", "", int64(n.boot))
	n.up = true
	n.every(n.disk.TickInterval(), n.disk.Tick)
	n.every(time.Second, n.hub.Step)
	n.every(time.Second, n.live)
	n.spawn(n.upkeep)
	n.spawn(n.merging)
	n.announce()
	n.settle()
}

func (n *node) open() (err error) {
	log := slog.New(slog.DiscardHandler)
	n.fs.Inject(n.rule)
	n.disk, err = bitcask.OpenDisk(n.fs, bitcask.Config{
		Cluster: bitcask.ID{1}, Node: bitcask.ID(n.id), SlotSeconds: slotSeconds,
		Hash: ring.Hash[[]byte, []byte], TTL: vnode.TTLs(n.buckets), Unneeded: n.unneeded, BootID: fmt.Sprintf("boot-%d", n.boot),
		SyncInterval: syncInterval, SealAfterSeconds: sealAfterSeconds,
		Manual: true, Random: n.s.rng.Uint64, Log: log,
	}, n.now().UnixMicro())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // it gives up: another attempt opens it anew
			_ = n.disk.Close()
		}
	}()
	disks, err := vnode.OnDisks(n.disk)
	if err != nil {
		return err
	}
	n.vnodes, err = vnode.NewSet(vnode.Config{
		Self: n.id, Buckets: n.buckets, History: n.history,
		Admit: n.admit, Vouches: func(epoch int64) bool { return n.gate.Vouches(epoch) },
		SlotSeconds: slotSeconds, AheadSeconds: func() int64 { return aheadSeconds }, LatenessSeconds: latenessSeconds, SealAfterSeconds: sealAfterSeconds,
	}, disks)
	if err != nil {
		return err
	}
	n.fence = ring.NewFence(n.history())
	if n.began = n.history().Version(); n.began == (ring.Version{Era: 1, Index: 1}) {
		n.began = ring.Version{} // there was none before
	}
	if err := n.openAll(disks); err != nil {
		return err
	}
	promised, err := n.promise()
	if err != nil {
		return err
	}
	n.gate = agreed.NewGate(slotSeconds, promised, n.highestStored())
	n.admitted = 0
	n.coord, err = replication.New(replication.Config{
		Self: n.id, History: n.history, Buckets: n.buckets, Replica: n.replica,
		Now: n.now, Manual: true, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
	})
	if err != nil {
		return err
	}
	n.rows = replication.Gatherer[[]func(*object.Error)]{}
	cfg := tail.DefaultConfig()
	cfg.LatenessSeconds = latenessSeconds
	cfg.Runtime = hubTime{n}
	n.hub = tail.New(tailSource{n}, cfg, log)
	n.tickAt, n.inbound, n.inboundLive = 0, nil, 0
	return nil
}

// replica is how the coordinator reaches a node.
func (n *node) replica(id ring.NodeID) replication.Replica {
	to := n.s.nodeOf(id)
	switch {
	case !n.up || to == nil:
		return nil
	case to == n:
		return local{n}
	}
	return remote{n, to}
}

// settle arranges for the coordinator to be called at its next deadline. It is
// called after whatever may have set one.
func (n *node) settle() {
	if !n.up {
		return
	}
	when, ok := n.coord.NextTick()
	if !ok {
		return
	}
	at := max(when.Sub(n.s.timeAt(0))-n.offset, n.s.now)
	if n.tickAt != 0 && n.tickAt <= at {
		return
	}
	n.tickAt = at
	life := n.life
	n.s.at(at, func() {
		if !n.up || n.life != life || n.tickAt != at {
			return
		}
		n.tickAt = 0
		n.coord.Tick(n.now())
		n.settle()
	})
}

// spawn runs f as a task of this life.
func (n *node) spawn(f func(*task)) {
	running := n.tasks[:0]
	for _, t := range n.tasks {
		if !t.over {
			running = append(running, t)
		}
	}
	clear(n.tasks[len(running):])
	n.tasks = append(running, n.s.spawn(n.settle, f))
}

// down ends the process: what it held in memory is gone, what it had begun with
// others stays begun, and their connections to it break.
func (n *node) down() {
	n.running = false
	n.life++
	if !n.up {
		return
	}
	n.up = false
	for len(n.tasks) > 0 { // a task that ends may begin another one
		tasks := n.tasks
		n.tasks = nil
		for _, t := range tasks {
			t.kill()
		}
	}
	for _, c := range n.inbound {
		if !c.over {
			c.failAfter(n.s.delay(), errReset)
		}
	}
	n.inbound = nil
	for _, broken := range n.clients {
		broken()
	}
	n.clients = nil
	// Nobody is left to see the rest: it gives back the buffers.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.coord.Close(over)
	n.hub.Close()
}

// kill ends the process at once; the machine goes on.
func (n *node) kill() {
	left := n.fs.Kill()
	n.down()
	_ = n.disk.Close()
	n.fs = left
}

// crash ends the machine: bytes that were not synced may be gone.
func (n *node) crash() {
	left := n.fs.PowerCut(n.s.rng)
	n.down()
	_ = n.disk.Close()
	n.fs = left
	n.boot++
}

// shutDown ends the process as it should end.
func (n *node) shutDown() {
	n.down()
	_ = n.disk.Close()
}

func nodeID(i int) (id ring.NodeID) {
	binary.BigEndian.PutUint64(id[:], 0x6d61_7966_6c79_0000|uint64(i+1))
	return id
}
