package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A Cluster is one node's part in it. It is made by [Start] and ended by
// [Cluster.Close]. Its methods may be called by any goroutine.
type Cluster struct {
	cfg       Config
	advertise string // host:port
	dirs      []*vfs.Dir
	gossip    *gossip
	streams   *streams
	release   func() // unlocks dirs
	keeper    keeper
	encoded   encoding
	sessions  sync.Map // ring.NodeID to fetch: one document is fetched from a node at a time

	stop context.CancelFunc
	ctx  context.Context // ends with Close
	wg   sync.WaitGroup
	kept chan struct{} // closed when keep has returned; nil: it was not begun

	closeMu sync.Mutex
	closed  bool

	quorumMu sync.RWMutex
	quorum   *quorum // of the era of the document; nil while it is changed
	rewrite  string  // the log that has to be written anew first, if any; only keep looks at it

	heard     moment       // when another node was last heard
	proposing atomic.Int64 // proposals of this node under way
	passing   atomic.Int64 // those of others
	started   time.Time

	refusedMu sync.Mutex
	refused   error // why this node may not be a member, if so

	stats   counters
	streamC streamCounters
	packetC packetCounters
}

// Start runs this node's part in the cluster it belongs to: [Introduce] has been
// called before with the same configuration, and the ids of the disks are known by
// now. A node that is a member already starts although nobody else answers. One that
// is not joins first: Start returns when it has, with the sentence of whoever
// refuses it, or when ctx ends.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStart(); err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, started: time.Now()}
	c.ctx, c.stop = context.WithCancel(context.Background())
	if err := c.open(ctx); err != nil {
		c.stop()
		return nil, errors.Join(err, c.shut(0))
	}
	c.kept = make(chan struct{})
	go c.keep()
	c.wg.Go(c.upkeep)
	if err := c.becomeMember(ctx); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

func (c Config) checkStart() error {
	faults := []error{c.Validate()}
	if c.Node.IsZero() || c.Mux == nil || c.Mux.packets == nil {
		panic("cluster: BUG: a start without a node id, or without a port for packets")
	}
	for _, d := range c.Disks {
		if d.ID == (agreed.DiskID{}) {
			faults = append(faults, fmt.Errorf("data directory %s has no disk id", d.Path))
		}
	}
	return errors.Join(faults...)
}

// open opens what is on disk, Raft, gossip, and the door.
func (c *Cluster) open(ctx context.Context) (err error) {
	if c.advertise, err = c.cfg.advertised(); err != nil {
		return err
	}
	at, err := resolve(ctx, c.advertise)
	if err != nil {
		return err
	}
	all := c.cfg.Disks
	if c.dirs, c.cfg.Disks, err = openDirs(c.cfg); err != nil {
		return err
	}
	for _, d := range all { // one that cannot be written is the node's all the same
		if !slices.Contains(c.cfg.Disks, d) {
			c.cfg.Missing = append(slices.Clone(c.cfg.Missing), d.ID)
		}
	}
	if c.release, err = lockDirs(c.dirs); err != nil {
		return err
	}
	began, faults := readDocument(c.dirs)
	for _, fault := range faults {
		c.cfg.Log.Error("a copy of the agreed document is damaged", "error", fault)
	}
	if began.doc == nil {
		return errors.Join(errors.New("this node has no agreed document: it has to be introduced to the cluster first"), errors.Join(faults...))
	}
	if c.cfg.Bound != ([16]byte{}) && c.cfg.Bound != began.doc.Cluster {
		return fmt.Errorf("the data directories belong to cluster %x, their agreed document to %x: name the directories of one node", c.cfg.Bound, began.doc.Cluster)
	}
	c.keeper.init(began)
	founds, err := c.mayFound(began)
	if err != nil {
		return err
	}
	if err := c.openQuorum(began, founds); vfs.IsNoSpace(err) && !founds {
		c.cfg.Log.Error("the log of the agreed state cannot be opened, for a disk is full; it is tried again, and meanwhile this node does not vote", "error", err)
	} else if err != nil {
		return err
	}
	if err := removeFounding(c.dirs); err != nil {
		return err
	}
	c.gossip, err = startGossip(c.cfg, c.identity, c.isMember, at, c.news(), &c.streamC, &c.packetC)
	if err != nil {
		return err
	}
	c.streams = serveStreams(c.cfg.Mux, c, c.cfg.Timing.Ask, c.cfg.Log, &c.streamC)
	return nil
}

// resolve returns the address of the network behind host:port.
func resolve(ctx context.Context, address string) (netip.AddrPort, error) {
	explain := func(err error) error {
		return fmt.Errorf("the address %q, where the others are to reach this node: %w", address, err)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, explain(err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return netip.AddrPort{}, explain(err)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, explain(err)
	}
	ip := preferred(found)
	if !ip.IsValid() || ip.IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("the address %q is none that others can reach: name one of this machine's", address)
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}

// preferred returns the first address of IPv4, otherwise the first.
func preferred(found []netip.Addr) (best netip.Addr) {
	for _, ip := range found {
		if ip = ip.Unmap(); !best.IsValid() || ip.Is4() && !best.Is4() {
			best = ip
		}
	}
	return best
}

// mayFound reports whether this node is to make itself the only voter: it has made
// the document in this founding, and nothing has happened since.
func (c *Cluster) mayFound(began held) (bool, error) {
	files, err := readFounding(c.dirs)
	if err != nil {
		return false, err
	}
	v, _ := vowOf(files)
	return began.version() == ring.Version{Era: 1, Index: 1} && began.origin == c.cfg.Node &&
		v == vow{Founder: c.cfg.Node, Cluster: began.doc.Cluster}, nil
}

// openQuorum opens Raft for the era of a document.
func (c *Cluster) openQuorum(began held, found bool) error {
	q, err := openQuorum(quorumConfig{
		Config: c.cfg, dirs: c.dirs, began: began, found: found, lookup: c.lookup, publish: c.keeper.offer, stats: &c.streamC,
	})
	if err != nil {
		return err
	}
	c.quorumMu.Lock()
	c.quorum = q
	c.quorumMu.Unlock()
	return nil
}

// era returns Raft of the present era, nil while it changes.
func (c *Cluster) era() *quorum {
	c.quorumMu.RLock()
	defer c.quorumMu.RUnlock()
	return c.quorum
}

// Close leaves the cluster for now: the others are told that the node is away, not
// that it is gone. It returns when nothing of it runs any more.
func (c *Cluster) Close(ctx context.Context) error {
	c.closeMu.Lock()
	again := c.closed
	c.closed = true
	c.closeMu.Unlock()
	if again {
		return nil
	}
	farewell := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		farewell = max(time.Millisecond, min(farewell, time.Until(deadline)))
	}
	c.resign()
	c.stop()
	return c.shut(farewell)
}

// enter lets a caller in, who is waited for by Close until it has called c.wg.Done.
func (c *Cluster) enter() bool {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	if !c.closed {
		c.wg.Add(1)
	}
	return !c.closed
}

func (c *Cluster) isClosed() bool {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	return c.closed
}

// shut closes what open opened.
func (c *Cluster) shut(farewell time.Duration) error {
	var faults []error
	if c.streams != nil {
		c.streams.close()
	}
	if c.gossip != nil {
		faults = append(faults, c.gossip.close(farewell))
	}
	if c.kept != nil {
		<-c.kept // it may be changing the era
	}
	if q := c.era(); q != nil {
		faults = append(faults, q.close())
	}
	c.wg.Wait() // what waited for Raft waits no more
	if c.release != nil {
		c.release()
	}
	return errors.Join(append(faults, closeDirs(c.dirs))...)
}

// resign hands the lead to another voter, if there is one: a restart then costs no
// election.
func (c *Cluster) resign() {
	q := c.era()
	if q == nil || !q.leads() {
		return
	}
	all, err := q.servers()
	if err != nil {
		return
	}
	for _, s := range all {
		if s.Voter && s.Node != c.cfg.Node && c.Alive(s.Node) {
			_ = q.raft.LeadershipTransfer().Error() // then they elect one
			return
		}
	}
}

// identity implements host.
func (c *Cluster) identity() identity {
	now := c.keeper.newest()
	id := identity{Cluster: now.doc.Cluster, Era: now.version().Era, Origin: now.origin, Node: c.cfg.Node}
	if q := c.era(); q != nil && q.era == id.Era {
		id.Log = q.log
	}
	return id
}

// isMember reports whether a node is a live member, as far as is known here.
func (c *Cluster) isMember(id ring.NodeID) bool {
	m, known := c.Document().Member(id)
	return known && m.State.Live()
}

func (c *Cluster) news() news {
	now, id := c.keeper.newest(), c.identity()
	return news{Version: now.version(), History: now.doc.History.Version(), Origin: now.origin, Log: id.Log, Sum: c.encoded.sum(now)}
}

// judge implements host.
func (c *Cluster) judge(p preface) (Verdict, string) {
	me := c.identity()
	if v, why := judgeAll(me, p); v != Welcome {
		return v, why
	}
	if c.isClosed() {
		return Busy, "this node is stopping"
	}
	if p.From.Cluster == me.Cluster {
		c.hear()
	}
	if p.Kind != kindRaft {
		return Welcome, ""
	}
	return judgeRaft(me, p, c.Document())
}

// judgeRaft says whether a server of Raft may talk to this one.
func judgeRaft(me identity, p preface, doc *agreed.Document) (Verdict, string) {
	from, known := doc.Member(p.From.Node)
	switch {
	case p.From.Era != me.Era:
		return OtherEra, fmt.Sprintf("this node is in era %d, the caller in era %d: the older one has to catch up", me.Era, p.From.Era)
	case p.From.Origin != me.Origin:
		return OtherOrigin, fmt.Sprintf("era %d was begun twice, by node %v and by node %v: recover once more, on the node whose state is to stay", me.Era, me.Origin, p.From.Origin)
	case p.WantLog != me.Log || me.Log == logID{}:
		return OtherLog, fmt.Sprintf("the log %v is not here: it was lost with its disk, or set aside; this node has %v, which has never voted as that one", p.WantLog, me.Log)
	case !known:
		return Stranger, fmt.Sprintf("node %v is no member of cluster %q, as far as is known here at %v", p.From.Node, doc.Name, doc.Version)
	case from.State == agreed.Lost || from.State == agreed.Left:
		return Stranger, fmt.Sprintf("node %q is %v: it takes no part any more", from.Name, from.State)
	}
	return Welcome, ""
}

// take implements host.
func (c *Cluster) take(p preface, nc net.Conn) {
	if p.Kind == kindGossip {
		c.gossip.wire.offer(nc)
		return
	}
	if q := c.era(); q != nil && q.log == p.WantLog {
		q.streams.offer(nc)
		return
	}
	_ = nc.Close()
}

func (c *Cluster) hear() { c.heard.set() }

// A moment is when something happened last, by both clocks: that of the wall may jump,
// the other one stands still while the machine does.
type moment struct{ at atomic.Pointer[time.Time] }

func (m *moment) set() {
	now := time.Now()
	m.at.Store(&now)
}

// get returns the zero time if it never happened.
func (m *moment) get() time.Time {
	if at := m.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Contact returns when another node of the cluster was last heard: by gossip, by
// Raft, or by an answer. The zero time is never, since the start.
func (c *Cluster) Contact() time.Time {
	at := c.heard.get()
	if c.gossip != nil {
		if packet := c.gossip.wire.heard.get(); packet.After(at) {
			at = packet
		}
	}
	return at
}

// Document returns the newest document known here: agreed, learned from another
// node, or the last one on disk.
func (c *Cluster) Document() *agreed.Document { return c.keeper.newest().doc }

// Changed returns a channel that is closed when there is a newer document.
func (c *Cluster) Changed() <-chan struct{} { return c.keeper.changed() }

// Address returns where a node is: what gossip says, otherwise what the document
// says; empty if neither knows it.
func (c *Cluster) Address(id ring.NodeID) string {
	if id == c.cfg.Node {
		return c.advertise
	}
	s, found := c.gossip.sighting(id)
	if found && s.Alive {
		return s.Address
	}
	if m, known := c.Document().Member(id); known && m.Address != "" {
		return m.Address
	}
	return s.Address
}

// Alive tells whether a node answers, as far as is known here; this node does.
func (c *Cluster) Alive(id ring.NodeID) bool {
	if id == c.cfg.Node {
		return true
	}
	s, found := c.gossip.sighting(id)
	return found && s.Alive
}

func (c *Cluster) lookup(id ring.NodeID) (string, error) {
	if a := c.Address(id); a != "" {
		return a, nil
	}
	return "", fmt.Errorf("the address of node %v is not known", id)
}
