package node

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/cluster"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// Collectors returns the node's metrics, to be registered once.
func (n *Node) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{newCollector(n.snapshot, n.paths, n.cfg.Data)}
	for _, l := range []*latency{n.store.puts, n.store.gets, n.store.deltas} {
		all = append(all, l.collectors()...)
	}
	return all
}

// A snapshot is all figures of one scrape.
type snapshot struct {
	ready   bool
	vnodes  vnode.Stats
	tail    tail.Counters
	wire    wire.Stats
	buffers int64
	bytes   int64
	dcs     int
	pushed  peer.PushStats
	follows peer.FollowStats
	bodies  bodyStats
	coord   replication.Stats
	merge   replication.MergerStats
	door    peer.HandlerStats
	syncs   peer.SyncStats
	agreed  agreedFigures
	cluster cluster.Stats // zero where the agreement is another
	disks   []bitcask.Stats
	peers   []peerFigures
}

// agreedFigures are what of the agreed document is a figure.
type agreedFigures struct {
	era            uint32
	index, history uint64 // of the document's version, and of the history's
	rings          int
	members        int // that take part
	unreachable    int // of these, others without a connection
	pending        bool
	waiting        int // members whose promise is missing
	promised       bool
	stale          bool
}

// peerFigures are those of the way to one member.
type peerFigures struct {
	name, node string
	stats      peer.Stats
}

func (n *Node) snapshot() snapshot {
	s := snapshot{ready: n.Ready(), vnodes: n.vnodes.Stats(), tail: n.hub.Counters(), wire: n.server.Stats(), dcs: len(n.store.dcs.names())}
	s.pushed, s.follows, s.bodies = n.pushes.door.Stats(), n.pushes.received.Stats(), n.pushes.bodies.stats()
	s.coord, s.merge = n.coord.Stats(), n.merger.Stats()
	s.door, s.syncs = n.nodes.Stats(), n.syncs.Stats()
	n.snapshotMembers(&s)
	for _, d := range n.disks {
		s.disks = append(s.disks, d.Stats())
	}
	s.buffers, s.bytes = object.Live()
	return s
}

func (n *Node) snapshotMembers(s *snapshot) {
	view := n.view.Load()
	doc, h := view.doc, view.fence.History()
	s.agreed = agreedFigures{era: doc.Version.Era, index: doc.Version.Index, history: h.Version().Index, rings: h.Len()}
	if c := doc.Change; c.Phase == ring.Proposed {
		s.agreed.pending, s.agreed.waiting = true, len(c.Waiting)
	}
	s.agreed.stale = n.fresh.stale.Load()
	if n.member != nil {
		s.cluster = n.member.Stats()
	}
	p := n.gate.Promise()
	s.agreed.promised = p.Round > 0 && !p.Lifted && !p.Fixed
	peers := n.peers.each()
	for _, m := range doc.Members {
		if !m.State.Live() {
			continue
		}
		s.agreed.members++
		if m.ID == n.id {
			continue
		}
		p := peers[m.ID]
		if p == nil {
			s.agreed.unreachable++
			continue
		}
		stats := p.Stats()
		if stats.Connected == 0 {
			s.agreed.unreachable++
		}
		s.peers = append(s.peers, peerFigures{m.Name, m.ID.String(), stats})
	}
}

// A figure is one metric: its name, what it means, and where it comes from.
type figure[T any] struct {
	name, help string
	kind       prometheus.ValueType
	value      func(*T) float64
}

const (
	count = prometheus.CounterValue
	gauge = prometheus.GaugeValue
)

// A collector reads one snapshot a scrape and tells all figures of it.
type collector struct {
	read  func() snapshot
	paths []string // of the disks, in the order of snapshot.disks
	node  []*prometheus.Desc
	disk  []*prometheus.Desc
	peer  []*prometheus.Desc

	configured []string // paths of all data directories
	failed     *prometheus.Desc
}

func newCollector(read func() snapshot, paths, configured []string) *collector {
	c := &collector{read: read, paths: paths, configured: configured}
	c.failed = prometheus.NewDesc("mayfly_disk_failed", "1 if the data directory could not be opened at the start: what it holds is refused.", []string{"disk"}, nil)
	for _, f := range nodeFigures {
		c.node = append(c.node, prometheus.NewDesc("mayfly_"+f.name, f.help, nil, nil))
	}
	for _, f := range diskFigures {
		c.disk = append(c.disk, prometheus.NewDesc("mayfly_disk_"+f.name, f.help, []string{"disk"}, nil))
	}
	for _, f := range wayFigures {
		c.peer = append(c.peer, prometheus.NewDesc("mayfly_peer_"+f.name, f.help, []string{"member", "node"}, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.node {
		out <- d
	}
	for _, d := range slices.Concat(c.disk, c.peer) {
		out <- d
	}
	out <- c.failed
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.read()
	for i, f := range nodeFigures {
		out <- prometheus.MustNewConstMetric(c.node[i], f.kind, f.value(&s))
	}
	for _, path := range c.configured {
		out <- prometheus.MustNewConstMetric(c.failed, gauge, boolFigure(!slices.Contains(c.paths, path)), path)
	}
	for i := range s.disks {
		for j, f := range diskFigures {
			out <- prometheus.MustNewConstMetric(c.disk[j], f.kind, f.value(&s.disks[i]), c.paths[i])
		}
	}
	c.collectPeers(out, s.peers)
}

// collectPeers tells the figures of the ways to the members: there are as many as
// the cluster has.
func (c *collector) collectPeers(out chan<- prometheus.Metric, peers []peerFigures) {
	for i := range peers {
		for j, f := range wayFigures {
			out <- prometheus.MustNewConstMetric(c.peer[j], f.kind, f.value(&peers[i].stats), peers[i].name, peers[i].node)
		}
	}
}

func boolFigure(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
