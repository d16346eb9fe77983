package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// A Config says who a node is and how it finds the others. Fields without
// "required" have a default. Introduce, Start and Recover are given the same one.
type Config struct {
	Name   string      // required: of the node, unique in the cluster
	Zone   string      // default: none
	Weight uint32      // capacity, in any unit; default 1
	Node   ring.NodeID // required by Start and Recover; Introduce makes one for a node that has none
	Disks  []Disk      // required: the data directories in use, at least one
	// Missing are disks of the node that are not there and may come back: they stay
	// the node's. A disk that is in neither list is given up for good.
	Missing []agreed.DiskID
	Mux     *Mux             // required by Introduce and Start: the port; the caller closes it, after the Cluster
	Bound   [16]byte         // the cluster the data directories belong to already; zero: to none
	Log     *slog.Logger     // default: discards
	Now     func() time.Time // default: time.Now

	// Cluster is the name of the cluster to join or to found; required.
	Cluster string
	// Advertise is where the others reach this node: host:port. Default: the
	// listener's address, or one of the machine's if that is unspecified.
	Advertise string
	// Seeds are addresses of nodes to ask for the cluster: host:port. Without any,
	// a fresh node founds one.
	Seeds []string
	// Expect is how many fresh nodes found the cluster together, all with the same
	// number; 0 or 1: a node with seeds joins, one without founds alone.
	Expect int

	// Settings, Bits and Buckets are of a cluster that is founded; one that is
	// joined has its own. Default: agreed.DefaultSettings, ring.DefaultBits,
	// bucket.DefaultSet.
	Settings agreed.Settings
	Bits     uint8
	Buckets  *bucket.Set

	// MaxVoters is how many nodes agree on changes, at most; default 5.
	MaxVoters int
	// MaxServers is how many nodes are told by the leader, voters included; the others
	// learn of changes by gossip, a second later; default 64.
	MaxServers int
	// DownAfter is how long a member must be silent before others take its places in
	// the open and later slots; default 60 s.
	DownAfter time.Duration
	// ReplaceVoterAfter is how long a voter must be silent before another becomes
	// one in its place; default 5 min.
	ReplaceVoterAfter time.Duration
	Timing            Timing

	snapshotEvery uint64 // entries of the log; tests make it small
}

// A Disk is one data directory.
type Disk struct {
	Path string        // required: the directory
	ID   agreed.DiskID // required by Start and Recover
}

// Timing is how fast a cluster notices. Tests make it short.
type Timing struct {
	Election      time.Duration // how long voters wait for a leader; 1 s
	Commit        time.Duration // how soon followers are told what is agreed; 200 ms
	Probe         time.Duration // between two questions whether a node is alive; 500 ms
	ProbeTimeout  time.Duration // for an answer; 300 ms
	SuspicionMult int           // of Probe and of the logarithm of the number of nodes: until a silent node is dead; 3
	Gossip        time.Duration // between two rounds of gossip; 200 ms
	PushPull      time.Duration // between two full exchanges with a node; 30 s
	Upkeep        time.Duration // between two looks at what there is to do; 500 ms
	Rejoin        time.Duration // between two attempts to find members that are not seen; 10 s
	Ask           time.Duration // for the answer of another node; 5 s
	Trim          time.Duration // between two trims of the history; 10 min
}

func (t Timing) withDefaults() Timing {
	setDefault(&t.Election, time.Second)
	setDefault(&t.Commit, 200*time.Millisecond)
	setDefault(&t.Probe, 500*time.Millisecond)
	setDefault(&t.ProbeTimeout, 300*time.Millisecond)
	setDefault(&t.SuspicionMult, 3)
	setDefault(&t.Gossip, 200*time.Millisecond)
	setDefault(&t.PushPull, 30*time.Second)
	setDefault(&t.Upkeep, 500*time.Millisecond)
	setDefault(&t.Rejoin, 10*time.Second)
	setDefault(&t.Ask, 5*time.Second)
	setDefault(&t.Trim, 10*time.Minute)
	return t
}

func (c Config) withDefaults() Config {
	setDefault(&c.Weight, 1)
	setDefault(&c.Settings, agreed.DefaultSettings())
	setDefault(&c.Bits, ring.DefaultBits)
	setDefault(&c.MaxVoters, 5)
	setDefault(&c.MaxServers, 64)
	setDefault(&c.DownAfter, time.Minute)
	setDefault(&c.ReplaceVoterAfter, 5*time.Minute)
	if c.Buckets == nil {
		c.Buckets = bucket.DefaultSet()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Timing = c.Timing.withDefaults()
	return c
}

// maxSeeds bounds how many nodes are asked.
const maxSeeds = 64

// Validate reports all faults of the configuration at once, apart from those of
// fields that only some calls require.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Name == "", "the node needs a name")
	fault(c.Cluster == "", "the cluster needs a name")
	fault(len(c.Disks) == 0, "the node needs a data directory")
	fault(len(c.Disks) > agreed.MaxDisks, "%d data directories: at most %d", len(c.Disks), agreed.MaxDisks)
	fault(len(c.Seeds) > maxSeeds, "%d nodes to ask for the cluster: at most %d", len(c.Seeds), maxSeeds)
	fault(c.Expect < 0 || c.Expect > maxCandidates, "%d nodes are to found the cluster: at most %d, others join later", c.Expect, maxCandidates)
	for _, a := range append([]string{cmp.Or(c.Advertise, "localhost:1")}, c.Seeds...) {
		_, port, err := net.SplitHostPort(a)
		fault(err != nil || port == "" || port == "0", "the address %q: write host:port", a)
	}
	return errors.Join(faults...)
}

// me returns the node as a member that joins.
func (c Config) me(address string) agreed.Member {
	m := agreed.Member{ID: c.Node, Name: c.Name, Zone: c.Zone, Weight: c.Weight, Address: address}
	for _, d := range c.Disks {
		m.Disks = append(m.Disks, d.ID)
	}
	for _, id := range c.Missing {
		if !m.Uses(id) { // or what it says of itself would never be what the document has
			m.Disks = append(m.Disks, id)
		}
	}
	return m
}

// advertised returns where the others reach this node.
func (c Config) advertised() (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	here, ok := c.Mux.Addr().(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("the address %v is not one of TCP: say where the others reach this node", c.Mux.Addr())
	}
	if !here.IP.IsUnspecified() {
		return here.String(), nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("the addresses of this machine cannot be listed; say where the others reach this node: %w", err)
	}
	best := net.IPv4(127, 0, 0, 1)
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && (best.IsLoopback() || best.To4() == nil && ip.IP.To4() != nil) {
			best = ip.IP
		}
	}
	return (&net.TCPAddr{IP: best, Port: here.Port}).String(), nil
}
