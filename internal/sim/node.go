package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
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
	s  *Sim
	at int // place in Sim.nodes
	id ring.NodeID

	fs     *vfs.Mem
	boot   int           // of the machine
	offset time.Duration // of its clock
	slow   time.Duration // greatest delay of an operation of its disk; 0: none
	fault  diskFault

	up   bool
	life int // of the process: what was arranged in another one does not happen

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

// start brings the process up, or tries again later if the disk does not let it.
func (n *node) start() {
	n.life++
	if err := n.open(); err != nil {
		n.s.trace.note(n.s.now, n.at, "does not start", "", outcome(err))
		life := n.life
		n.s.after(time.Second, func() {
			if n.life == life && !n.up {
				n.start()
			}
		})
		return
	}
	n.s.trace.note(n.s.now, n.at, "is up", "", int64(n.boot))
	n.up = true
	n.every(n.disk.TickInterval(), n.disk.Tick)
	n.every(time.Second, n.hub.Step)
	n.spawn(n.upkeep)
	n.spawn(n.merging)
	n.settle()
}

func (n *node) open() (err error) {
	log := slog.New(slog.DiscardHandler)
	n.fs.Inject(n.rule)
	n.disk, err = bitcask.OpenDisk(n.fs, bitcask.Config{
		Cluster: bitcask.ID{1}, Node: bitcask.ID(n.id), SlotSeconds: slotSeconds,
		Hash: ring.Hash[[]byte, []byte], TTL: vnode.TTLs(n.s.agreed.Buckets), BootID: fmt.Sprintf("boot-%d", n.boot),
		SyncInterval: syncInterval, SealAfterSeconds: sealAfterSeconds,
		Manual: true, Random: n.s.rng.Uint64, Log: log,
	}, n.now().UnixMicro())
	if err != nil {
		return err
	}
	disks, err := vnode.OnDisks(n.disk)
	if err != nil {
		return err
	}
	n.vnodes, err = vnode.NewSet(vnode.Config{
		Buckets: n.s.agreed.Buckets, History: n.s.agreed.History,
		SlotSeconds: slotSeconds, LatenessSeconds: latenessSeconds, SealAfterSeconds: sealAfterSeconds,
	}, disks)
	if err != nil {
		return err
	}
	for p := range n.s.agreed.History().Newest().OwnedBy(n.id) {
		if err := n.vnodes.Open(n.now(), p); err != nil {
			return err
		}
	}
	n.coord, err = replication.New(replication.Config{
		Self: n.id, History: n.s.agreed.History, Buckets: n.s.agreed.Buckets, Replica: n.replica,
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
	case !n.up:
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
	n.up = false
	n.life++
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
