package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/cluster"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A Join says how a node finds its cluster, whose members agree on all that
// changes. The zero Join founds a cluster of one, which others may join.
type Join struct {
	// Seeds are addresses, host:port, of nodes of the cluster, or of those that are
	// to found it; this node's own may be among them. A node with a data directory
	// finds the others without.
	Seeds []string
	// Expect is how many new nodes found the cluster together, the same on each; 0
	// or 1: a new node with seeds joins a cluster that is there.
	Expect int
	// Advertise is where others reach this node, host:port; default: the address it
	// listens on, or one of the machine's.
	Advertise string
	Zone      string // what may fail together with this node
	Weight    uint32 // capacity in any unit, the same for all nodes; default 1

	tune func(*cluster.Config) // tests make it quick
}

// oldRingName is the history of rings of a node of a version in which members were
// listed: it is in no agreed document, and a cluster cannot take it over.
const oldRingName = nodeDir + "/ring"

// introduce has the node find, or found, its cluster, before its disks are opened:
// what it has to know of it becomes part of its configuration. dirs are those that
// will be in use.
func (n *Node) introduce(ctx context.Context, dirs []dataDir) error {
	for _, d := range dirs {
		if err := bitcask.CheckForeign(d.fs); err != nil {
			return err
		}
		if _, err := d.fs.Stat(oldRingName); err == nil {
			return fmt.Errorf("the data directory %s was made by an older version of mayfly, in which nodes did not agree on their members: its data cannot be taken over; name an empty one", d.path)
		}
	}
	n.join = n.clusterConfig(dirs)
	genesis, err := cluster.Introduce(ctx, n.join)
	if err != nil {
		return err
	}
	n.cluster, n.id = wire.ID(genesis.Cluster), genesis.Node
	s := genesis.Settings
	if s.SlotSeconds != n.cfg.SlotSeconds || s.AheadSeconds != n.cfg.AheadSeconds || s.LatenessSeconds != n.cfg.LatenessSeconds {
		n.cfg.Log.Info("the cluster's settings count, not the configuration's", "slot_seconds", s.SlotSeconds, "ahead_seconds", s.AheadSeconds, "lateness_seconds", s.LatenessSeconds)
	}
	n.cfg.SlotSeconds, n.cfg.AheadSeconds, n.cfg.LatenessSeconds = s.SlotSeconds, s.AheadSeconds, s.LatenessSeconds
	if err := n.checkRemoved(genesis.Document, dirs); err != nil {
		return err
	}
	if m, known := genesis.Document.Member(n.id); known && (m.Weight != n.join.Weight || m.Zone != n.join.Zone) {
		n.cfg.Log.Info("the agreed zone and weight count, not the configuration's: \"mayfly cluster zone\" and \"weight\" change them", "zone", m.Zone, "weight", m.Weight)
	}
	for i := range dirs {
		dirs[i].becomes = bitcask.ID(genesis.Disks[i])
	}
	return nil
}

// checkRemoved refuses to start with a disk that was taken out of service: what is on
// it is older than what others have had since, and vouches for itself.
func (n *Node) checkRemoved(doc *agreed.Document, dirs []dataDir) error {
	m, _ := doc.Member(n.id)
	for _, d := range dirs {
		if m.Lacks(agreed.DiskID(d.disk)) {
			return fmt.Errorf("disk %v, in %s, was taken out of service, and others have what was on it since: remove its data and start again", d.disk, d.path)
		}
	}
	return nil
}

// clusterConfig is the node's part in its cluster, as far as that is known before
// the disks are opened.
func (n *Node) clusterConfig(dirs []dataDir) cluster.Config {
	j := &n.cfg.Join
	cfg := cluster.Config{
		Name: n.cfg.Name, Zone: j.Zone, Weight: j.Weight, Node: n.id, Mux: n.mux, Log: n.cfg.Log, Now: n.cfg.Now,
		Cluster: n.cfg.Cluster, Advertise: j.Advertise, Seeds: j.Seeds, Expect: j.Expect,
		Settings: agreed.DefaultSettings(), Bits: n.cfg.partitionBits(), Buckets: n.cfg.Buckets,
	}
	cfg.Settings.SlotSeconds, cfg.Settings.AheadSeconds, cfg.Settings.LatenessSeconds = n.cfg.SlotSeconds, n.cfg.AheadSeconds, n.cfg.LatenessSeconds
	for _, d := range dirs {
		cfg.Disks = append(cfg.Disks, cluster.Disk{Path: d.path, ID: agreed.DiskID(d.disk)})
		if d.cluster != (bitcask.ID{}) {
			cfg.Bound = d.cluster
		}
	}
	if j.tune != nil {
		j.tune(&cfg)
	}
	return cfg
}

// startCluster takes part in the cluster, now that the disks are open. What others
// agreed on while this node was away is here when it returns, if any of them could
// be asked.
func (n *Node) startCluster(ctx context.Context) error {
	n.join.Node, n.join.Bound, n.join.Disks = n.id, n.cluster, nil
	for i, d := range n.disks {
		n.join.Disks = append(n.join.Disks, cluster.Disk{Path: n.paths[i], ID: agreed.DiskID(d.Identity().Disk)})
	}
	n.join.Missing = nil
	for _, id := range n.away {
		n.join.Missing = append(n.join.Missing, agreed.DiskID(id))
	}
	c, err := cluster.Start(ctx, n.join)
	if err != nil {
		return err
	}
	n.agreement, n.member = c, c
	return nil
}

// listen opens the port on which the native protocol and the cluster are served.
func (n *Node) listen(ctx context.Context) error {
	var ln net.Listener
	var packets net.PacketConn
	var err error
	if ln = n.cfg.Listener; ln == nil {
		ln, packets, err = cluster.Listen(ctx, n.cfg.Listen)
	} else if packets, err = cluster.ListenPackets(ctx, ln); err != nil {
		err = errors.Join(err, ln.Close())
	}
	if err != nil {
		return err
	}
	n.mux = cluster.NewMux(ln, packets, cluster.MuxConfig{Log: n.cfg.Log})
	n.listener = n.mux.Native()
	return nil
}

// A freshness tells whether this node can know of all that was agreed. One that was
// away, or cut off from all others for a while, may have been replaced, and others
// may have acknowledged in its place: until it has asked, its replicas take nothing
// in, and call nothing absent.
type freshness struct {
	stale atomic.Bool
	asked atomic.Pointer[time.Time] // when the newest document was last asked for, successfully; nil: never
	again signal                    // happens when it is stale no more
}

// await returns when the node is not stale, after a while, or when ctx ends.
func (f *freshness) await(ctx context.Context) {
	timer := time.NewTimer(freshPatience)
	defer timer.Stop()
	for {
		again := f.again.next()
		if !f.stale.Load() {
			return
		}
		select {
		case <-again:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// A refresher is an Agreement that others may know more of.
type refresher interface {
	// Refresh brings the newest document that anybody can be asked for.
	Refresh(ctx context.Context) error
	// Contact is when any other node was last heard, zero for never.
	Contact() time.Time
}

const (
	staleAfter   = 30 * time.Second // half the time after which others take the places of who is silent
	freshCheck   = time.Second
	freshTimeout = 3 * time.Second
	freshLeast   = 100 * time.Millisecond // pause before it is tried again

	freshPatience = 10 * time.Second // how long a node that starts waits before it goes on without the others
)

// keepFresh has the node ask for what is agreed, when it starts and whenever it has
// heard of no other for long, until ctx ends.
func (n *Node) keepFresh(ctx context.Context, r refresher) {
	for ctx.Err() == nil {
		pause := freshCheck
		heard := r.Contact()
		if asked := n.fresh.asked.Load(); asked != nil && asked.After(heard) {
			heard = *asked
		}
		if n.othersMatter() && elapsed(heard, time.Now()) > staleAfter && !n.fresh.stale.Swap(true) {
			n.cfg.Log.Warn("this node is cut off from all others: it takes nothing in until it has learned what they agreed on meanwhile")
		}
		if n.fresh.stale.Load() && !n.refresh(ctx, r) {
			pause = freshLeast
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// elapsed returns how long ago something was, by that clock by which it is longer ago:
// that of the wall may be set back, the other one stands still while the machine does.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// refresh asks once, and reports whether this node is up to date now.
func (n *Node) refresh(ctx context.Context, r refresher) bool {
	if n.othersMatter() {
		ctx, cancel := context.WithTimeout(ctx, freshTimeout)
		defer cancel()
		if err := r.Refresh(ctx); err != nil {
			n.cfg.Log.Debug("what is agreed cannot be asked for; it is tried again", "error", err)
			return false
		}
	}
	if _, err := n.adopt(); err != nil {
		return false // follow tells
	}
	now := time.Now()
	n.fresh.asked.Store(&now)
	n.fresh.stale.Store(false)
	n.fresh.again.happened()
	return true
}

// othersMatter reports whether there is another member that may have agreed to
// something without this one.
func (n *Node) othersMatter() bool {
	return slices.ContainsFunc(n.agreement.Document().Members, func(m agreed.Member) bool { return m.ID != n.id && m.State.Live() })
}

// checkSettings tells what of the document a node can follow only by being
// started again.
func (n *Node) checkSettings(doc *agreed.Document) {
	if s := doc.Settings; s.LatenessSeconds != n.cfg.LatenessSeconds {
		n.cfg.Log.Warn("the cluster's lateness has changed: it counts on this node when it is started again", "lateness_seconds", s.LatenessSeconds)
	}
}
