package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// What a node lets all others know of itself by gossip. Integers are
// little-endian; memberlist ends the process if it is given more than 512 bytes.
//
//	offset  size  field
//	0       1     format, 2
//	1       12    version of its document: era (4), index (8)
//	13      12    version of its history: era (4), index (8)
//	25      16    origin of the era
//	41      16    id of its log of Raft; zero if it has none
//	57      8     xxhash64 of its document, as that ends with; zero: not known
const (
	newsFormat = 2
	newsSize   = 65
)

// news is what a node lets the others know.
type news struct {
	Version ring.Version // of its document
	History ring.Version // of the history in it
	Origin  ring.NodeID
	Log     logID
	Sum     uint64 // of the document
}

func appendNews(dst []byte, n news) []byte {
	dst = append(dst, newsFormat)
	dst = appendVersion(appendVersion(dst, n.Version), n.History)
	dst = append(dst, n.Origin[:]...)
	dst = append(dst, n.Log[:]...)
	return binary.LittleEndian.AppendUint64(dst, n.Sum)
}

func parseNews(b []byte) (news, error) {
	if len(b) != newsSize || b[0] != newsFormat {
		return news{}, fmt.Errorf("%w: news of %d bytes in another format", ErrMessage, len(b))
	}
	c := &cutter{b: b[1:]}
	n := news{Version: c.version(), History: c.version(), Origin: c.id(), Log: c.id(), Sum: c.u64()}
	return n, c.done("news")
}

// A sighting is what gossip knows of another node.
type sighting struct {
	Node    ring.NodeID
	Address string
	Alive   bool
	Since   time.Time // when it became alive, or ceased to be
	News    news      // zero if it could not be read
}

// maxSightings bounds how many nodes are remembered: all members, and some that are
// none, see welcomer.
const maxSightings = agreed.MaxMembers + maxStrangers

// A gossip tells who is alive and where. Its methods may be called by any
// goroutine.
type gossip struct {
	list *memberlist.Memberlist
	wire *gossipWire
	self string
	own  atomic.Pointer[[]byte] // news of this node, encoded

	conflicts atomic.Uint64
	unwelcome atomic.Uint64 // times a node was told of that is not taken in
	updates   sync.Mutex    // one update at a time

	mu   sync.Mutex
	seen map[ring.NodeID]sighting
}

// startGossip makes the node known, to nobody yet: see join.
func startGossip(cfg Config, me func() identity, member func(ring.NodeID) bool, advertise netip.AddrPort, first news, stats *streamCounters, lost *packetCounters) (*gossip, error) {
	id := me()
	g := &gossip{self: hex.EncodeToString(id.Node[:]), seen: make(map[ring.NodeID]sighting)}
	g.set(first)
	g.wire = newGossipWire(me, advertise, cfg.Mux.packets, cfg.Timing.Ask, stats, lost)
	mc := memberlist.DefaultLANConfig()
	mc.Name = g.self
	mc.Transport = g.wire
	mc.AdvertiseAddr, mc.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
	mc.BindAddr, mc.BindPort = advertise.Addr().String(), int(advertise.Port())
	mc.ProbeInterval, mc.ProbeTimeout = cfg.Timing.Probe, cfg.Timing.ProbeTimeout
	mc.SuspicionMult = cfg.Timing.SuspicionMult
	mc.GossipInterval, mc.PushPullInterval = cfg.Timing.Gossip, cfg.Timing.PushPull
	mc.TCPTimeout = cfg.Timing.Ask
	mc.EnableCompression = false             // see plainPacket
	mc.DeadNodeReclaimTime = time.Nanosecond // a node that is dead may come back elsewhere at once
	mc.Delegate, mc.Events, mc.Conflict = delegate{g}, delegate{g}, conflict{g, cfg}
	mc.Alive = welcomer{g, advertise, member}
	mc.LogOutput = newLineLog(cfg.Log, "gossip", cfg.Now)
	list, err := memberlist.Create(mc)
	if err != nil {
		_ = g.wire.Shutdown()
		return nil, fmt.Errorf("gossip cannot begin on %s: %w", advertise, err)
	}
	g.list = list
	return g, nil
}

// set stores the news of this node; they are told with the next update.
func (g *gossip) set(n news) {
	b := appendNews(nil, n)
	g.own.Store(&b)
}

// updateWait is how long an update of the news may take to be sent to somebody; it
// goes on after that.
const updateWait = 50 * time.Millisecond

// tell makes news of this node known.
func (g *gossip) tell(n news) {
	g.updates.Lock()
	defer g.updates.Unlock()
	g.set(n)
	_ = g.list.UpdateNode(updateWait) // it could not be sent to anybody yet: it goes on
}

// join finds others: addresses are ip:port. It returns how many answered.
func (g *gossip) join(addresses []string) int {
	n, _ := g.list.Join(addresses) // why not is in the log
	return n
}

// close says farewell, if leave is set, and ends gossip.
func (g *gossip) close(leave time.Duration) error {
	if leave > 0 {
		_ = g.list.Leave(leave) // nobody heard it: they will find out
	}
	err := g.list.Shutdown()
	g.wire.in.wait(time.Second)
	g.wire.out.wait(time.Second)
	return err
}

// sighting returns what is known of a node.
func (g *gossip) sighting(id ring.NodeID) (sighting, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, found := g.seen[id]
	return s, found
}

// sightings returns all nodes that were ever seen, ascending by id.
func (g *gossip) sightings() []sighting {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]sighting, 0, len(g.seen))
	for _, s := range g.seen {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b sighting) int { return a.Node.Compare(b.Node) })
	return all
}

// note takes in what memberlist has found out. It is called with memberlist's
// locks held: it waits for nothing.
func (g *gossip) note(n *memberlist.Node, alive bool) {
	var id ring.NodeID
	if !decodeID(id[:], n.Name) || n.Name == g.self {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s, found := g.seen[id]
	if !found && len(g.seen) >= maxSightings {
		return
	}
	if !found || s.Alive != alive {
		s.Since = time.Now()
	}
	s.Node, s.Alive = id, alive
	s.Address = net.JoinHostPort(n.Addr.String(), fmt.Sprint(n.Port))
	s.News, _ = parseNews(n.Meta) // another version's: nothing is known
	g.seen[id] = s
}

// A delegate is what memberlist asks and tells.
type delegate struct{ g *gossip }

// NodeMeta implements [memberlist.Delegate].
func (d delegate) NodeMeta(limit int) []byte {
	b := *d.g.own.Load()
	if len(b) > limit {
		panic(fmt.Sprintf("cluster: BUG: news of %d bytes, %d are allowed", len(b), limit))
	}
	return b
}

func (delegate) NotifyMsg([]byte)                  {}
func (delegate) GetBroadcasts(_, _ int) [][]byte   { return nil }
func (delegate) LocalState(bool) []byte            { return nil }
func (delegate) MergeRemoteState([]byte, bool)     {}
func (d delegate) NotifyJoin(n *memberlist.Node)   { d.g.note(n, true) }
func (d delegate) NotifyLeave(n *memberlist.Node)  { d.g.note(n, false) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.note(n, true) }

type conflict struct {
	g   *gossip
	cfg Config
}

// NotifyConflict implements [memberlist.ConflictDelegate].
func (c conflict) NotifyConflict(existing, other *memberlist.Node) {
	c.g.conflicts.Add(1)
	c.cfg.Log.Warn("a node id is used at two addresses: either it has moved, or its data directory was copied and both run: stop one of them",
		"node_id", existing.Name, "address", existing.Address(), "other", other.Address())
}
