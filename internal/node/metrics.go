package node

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
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
	merge   replication.MergerStats // zero on a node that is alone
	owed    replication.OwedStats
	disks   []bitcask.Stats
}

func (n *Node) snapshot() snapshot {
	s := snapshot{ready: n.Ready(), vnodes: n.vnodes.Stats(), tail: n.hub.Counters(), wire: n.server.Stats(), dcs: len(n.store.dcs.names())}
	s.pushed, s.follows, s.bodies = n.pushes.door.Stats(), n.pushes.received.Stats(), n.pushes.bodies.stats()
	s.owed = n.coord.Owed().Stats()
	if n.merger != nil {
		s.merge = n.merger.Stats()
	}
	for _, d := range n.disks {
		s.disks = append(s.disks, d.Stats())
	}
	s.buffers, s.bytes = object.Live()
	return s
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
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.node {
		out <- d
	}
	for _, d := range c.disk {
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
}

func boolFigure(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
