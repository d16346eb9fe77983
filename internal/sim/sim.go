package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A Config says what to simulate.
type Config struct {
	Seed uint64
	Ops  int // operations of clients, at least; default 500
	// Trace, if set, is told each thing that happens, in a line.
	Trace func(line string)
}

// DefaultOps is how many operations a simulation has at least.
const DefaultOps = 500

// A Breach is a broken promise.
type Breach struct {
	Invariant string // I1, I2, … or a word
	Key       string // bucket and key; "" if none in particular
	What      string
	At        time.Duration // since the simulation began
}

// A Result is what came of a simulation.
type Result struct {
	Seed   uint64
	Hash   uint64 // of all that happened: equal for equal seeds
	Nodes  int
	Span   time.Duration // simulated
	Ops    Counts        // of clients, by kind
	Faults Counts        // by kind
	Notes  Counts        // other things worth counting
	Breach *Breach       // nil: every promise was kept
}

// Sim is one simulation under way.
type Sim struct {
	queue
	rng   *rand.Rand
	cfg   Config
	epoch int64 // Unix seconds at which it began

	agreement *agreement
	nodes     []*node // all there ever were
	byID      map[ring.NodeID]*node
	zones     int
	net       network
	model     *model
	work      workload
	tails     []*tailer
	faults    faults
	operator  operator
	dcs       []string

	running *task // that has the thread; nil: none
	pending int   // requests of clients that are not over

	trace        trace
	ops, notes   Counts
	faultCounts  Counts
	lostMessages int
	repeated     int
	lossy        bool // a replica has lost bytes, or may have
	read         bool // all that was ever put has been read, at the end
	broken       *Breach
	ended        bool
}

// Run simulates. It returns when all has been checked, or at the first breach.
func Run(cfg Config) (r Result) {
	if cfg.Ops == 0 {
		cfg.Ops = DefaultOps
	}
	s := newSim(cfg)
	defer func() { // what waits is left where it is then: who knows which locks are held
		if p := recover(); p != nil {
			s.breach("panic", "", "%v\n%s", p, debug.Stack())
			r = s.result()
		}
	}()
	s.run()
	r = s.result()
	s.end()
	return r
}

func newSim(cfg Config) *Sim {
	s := &Sim{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6d61_7966_6c79)), byID: map[ring.NodeID]*node{},
		trace: trace{hash: fnvOffset, tell: cfg.Trace},
	}
	s.epoch = 1_800_000_000 + s.rng.Int64N(1_000_000)
	s.dcs = []string{"ams", "fra"}[:1+s.rng.IntN(2)]
	nodes := 3 + s.rng.IntN(3)
	if s.rng.IntN(10) == 0 {
		nodes = 7
	}
	s.zones = 1 + s.rng.IntN(4)
	s.model = newModel(s)
	for range nodes {
		s.addNode("")
	}
	s.agreement = newAgreement(s)
	for _, n := range s.nodes {
		n.store(s.agreement.doc)
	}
	s.faults.init(s)
	s.operator.init(s)
	s.work.init(s)
	return s
}

// addNode adds a machine with an empty disk, which is a member of nothing. name is
// its name, "" for one of its own.
func (s *Sim) addNode(name string) *node {
	at := len(s.nodes)
	n := &node{s: s, at: at, id: nodeID(at), name: name, zone: fmt.Sprintf("z%d", at%s.zones), weight: 1, fs: vfs.NewMem()}
	if n.name == "" {
		n.name = fmt.Sprintf("n%d", at)
	}
	if err := errors.Join(n.fs.MkdirAll(ownDir), n.fs.SyncDir(".")); err != nil {
		panic("sim: BUG: a new disk: " + err.Error())
	}
	s.nodes = append(s.nodes, n)
	s.byID[n.id] = n
	s.net.grow()
	s.model.grow()
	return n
}

// The times of a simulation: clients work, everything is healed, what is left to be
// done is done, and then all is looked at.
const (
	startTime  = 2 * time.Second
	settleTime = 20 * time.Second
	restTime   = 180 * time.Second // in which changes must end, and all that must move has moved
	mergeTime  = 90 * time.Second  // in which the replicas in doubt must be complete again
	tailTime   = 35 * time.Second  // after the last put: its second is finished for all
)

func (s *Sim) run() {
	for _, n := range s.nodes {
		n.start()
	}
	s.agreement.rule()
	s.runUntil(startTime)
	s.startTails()
	end := s.work.start()
	s.faults.start(end)
	s.operator.start(end)
	s.runUntil(end)
	s.faults.heal()
	s.runWhile(end+callTime+time.Minute, func() bool { return s.pending > 0 })
	if s.pending > 0 {
		s.breach("progress", "", "%d requests are not over long after their time", s.pending)
	}
	last := s.now
	s.operator.finish()
	s.runUntil(last + settleTime)
	s.runWhile(s.now+restTime, func() bool { return s.restless() != "" })
	if why := s.restless(); why != "" {
		s.breach("rest", "", "all is healed, and long after the members have not come to rest: %s", why)
	}
	none := func() bool { return false }
	s.clear(none)
	s.auditPlaces()
	s.clear(none) // of damage that was met just now
	s.audit()
	s.read = true
	s.clear(func() bool { return s.owing() != "" })
	if why := s.owing(); why != "" {
		s.breach("paid", "", "all is healed and was read, and long after %s", why)
	}
	s.auditPlaces()
	s.runUntil(max(s.now, last+tailTime))
	s.auditTails()
}

// clear waits until all replicas are complete, which they must become, and for what
// else is left.
func (s *Sim) clear(left func() bool) {
	s.runWhile(s.now+mergeTime, func() bool { return s.doubts() > 0 || left() })
	if n := s.doubts(); n > 0 {
		s.breach("complete", "", "all is healed, and %d slots are in doubt long after: %s", n, s.firstDoubt())
	}
}

// runUntil lets things happen up to a time, or the first breach.
func (s *Sim) runUntil(t time.Duration) { s.runWhile(t, func() bool { return true }) }

func (s *Sim) runWhile(t time.Duration, more func() bool) {
	for s.broken == nil && more() && len(s.heap) > 0 && s.heap[0].at <= t {
		s.step()
	}
	if s.broken == nil && more() {
		s.now = max(s.now, t)
	}
}

// end brings all to a stop and gives everything back.
func (s *Sim) end() {
	s.ended, s.trace.tell = true, nil
	for _, n := range s.nodes {
		if n.up {
			n.shutDown()
		}
		n.running = false
		n.life++
	}
	for s.step() { // what is on its way gives up its buffers
	}
	for i := range s.work.blobs {
		s.work.blobs[i].Release()
	}
}

// breach notes a broken promise: the first one counts.
func (s *Sim) breach(invariant, key, format string, args ...any) {
	if s.broken == nil {
		s.broken = &Breach{invariant, key, fmt.Sprintf(format, args...), s.now}
	}
}

func (s *Sim) result() Result {
	s.notes.add("messages lost", s.lostMessages)
	s.notes.add("requests repeated by the network", s.repeated)
	return Result{
		Seed: s.cfg.Seed, Hash: s.trace.hash, Nodes: len(s.nodes), Span: s.now,
		Ops: s.ops, Faults: s.faultCounts, Notes: s.notes, Breach: s.broken,
	}
}

func (s *Sim) count(n *int) { *n++ }

func (s *Sim) timeAt(t time.Duration) time.Time { return time.Unix(s.epoch, 0).Add(t).UTC() }

func (s *Sim) nodeOf(id ring.NodeID) *node { return s.byID[id] }

// upTo returns a duration from 0 to d.
func (s *Sim) upTo(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d) + 1)) }

// between returns a duration from a to b.
func (s *Sim) between(a, b time.Duration) time.Duration { return a + s.upTo(b-a) }

// members returns the nodes that the newest document has as members that take part:
// those that clients know.
func (s *Sim) members() []*node {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *node) bool { return !s.isMember(n) })
}

// upNodes returns the nodes that are up.
func (s *Sim) upNodes() []*node {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *node) bool { return !n.up })
}
