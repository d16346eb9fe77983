package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A council agrees for nodes of one process: it applies commands, one after
// another, to one document. Each node has a seat, which may be made deaf.
type council struct {
	t     testing.TB
	clock atomic.Int64 // seconds of Unix time
	bits  uint8

	started []*Node // by startAll

	mu      sync.Mutex
	doc     *agreed.Document
	seats   map[ring.NodeID]*seat
	said    []agreed.Command // all that was applied, or refused
	results []agreed.Result  // of these
	refuses func(agreed.Command) bool
}

// A seat is one node's Agreement.
type seat struct {
	c       *council
	id      ring.NodeID
	doc     *agreed.Document // what it knows
	changed chan struct{}
	deaf    bool // hears of nothing
	alone   bool // and cannot ask
}

const councilSlot = 10 // seconds

func newCouncil(t testing.TB, names ...string) *council { return newCouncilOf(t, 2, names...) }

// newCouncilOf makes one of these members; its ring has 1<<bits partitions.
func newCouncilOf(t testing.TB, bits uint8, names ...string) *council {
	c := &council{t: t, seats: map[ring.NodeID]*seat{}, bits: bits}
	c.clock.Store(time.Now().Unix())
	f := agreed.Founding{Cluster: [16]byte{1: 1}, Name: "council", Settings: agreed.DefaultSettings(), Bits: c.bits}
	f.Settings.SlotSeconds, f.Settings.LeadSeconds = councilSlot, 5
	for _, name := range names {
		f.Members = append(f.Members, c.member(name, "127.0.0.1:1"))
	}
	var err error
	if c.doc, err = agreed.Found(f); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *council) member(name, address string) agreed.Member {
	id := councilID(name)
	return agreed.Member{ID: id, Name: name, Zone: "z" + name, Weight: 1, Disks: []agreed.DiskID{agreed.DiskID(id)}, Address: address}
}

func councilID(name string) (id ring.NodeID) {
	copy(id[:], name)
	return id
}

func (c *council) now() time.Time { return time.Unix(c.clock.Load(), 0) }

// config is that of the node of this name, whose seat is made.
func (c *council) config(name string) Config {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	id := councilID(name)
	c.mu.Lock()
	s := &seat{c: c, id: id, doc: c.doc, changed: make(chan struct{})}
	c.seats[id] = s
	c.mu.Unlock()
	m := c.member(name, ln.Addr().String())
	c.do(agreed.Command{Kind: agreed.Introduce, Member: agreed.Member{ID: m.ID, Disks: m.Disks, Address: m.Address}})
	return Config{
		Name: name, Cluster: "council", Listener: ln, Data: []string{c.t.TempDir()}, SlotSeconds: councilSlot,
		Log: slog.New(slog.DiscardHandler), Now: c.now, UpkeepInterval: 20 * time.Millisecond,
		agreement: s, id: id, mergeGrace: time.Millisecond,
	}
}

func (s *seat) hearLocked() {
	if !s.deaf && s.doc != s.c.doc {
		s.doc = s.c.doc
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// deafen makes a node hear of nothing, and be unable to ask if alone is set; or
// hear again.
func (c *council) deafen(name string, deaf, alone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seats[councilID(name)]
	s.deaf, s.alone = deaf, alone
	s.hearLocked()
}

func (s *seat) Document() *agreed.Document {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.doc
}

func (s *seat) Changed() <-chan struct{} {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.changed
}

func (s *seat) Propose(_ context.Context, cmd agreed.Command) (agreed.Result, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.deaf || s.c.refuses != nil && s.c.refuses(cmd) {
		return agreed.Result{}, object.Errorf(object.CodeUnavailable, object.NotDone, "nobody hears you")
	}
	return s.c.applyLocked(cmd), nil
}

func (s *seat) CatchUp(_ context.Context, v ring.Version, from ring.NodeID) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	other := s.c.seats[from]
	if s.alone || other == nil || other.doc.History.Version().Before(v) {
		return object.Errorf(object.CodeUnavailable, object.NotDone, "it is not to be had")
	}
	if s.doc.Version.Before(other.doc.Version) {
		s.doc = other.doc
	}
	return nil
}

func (s *seat) Address(id ring.NodeID) string {
	m, _ := s.Document().Member(id)
	return m.Address
}

func (s *seat) Alive(ring.NodeID) bool { return true }

func (s *seat) Close(context.Context) error { return nil }

// applyLocked carries a command out.
func (c *council) applyLocked(cmd agreed.Command) agreed.Result {
	next, result := c.doc.Apply(cmd)
	c.said, c.results = append(c.said, cmd), append(c.results, result)
	c.doc = next
	for _, s := range c.seats {
		s.hearLocked()
	}
	return result
}

// do carries a command of the test out, which must not be refused.
func (c *council) do(cmd agreed.Command) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd.Now = c.clock.Load()
	if r := c.applyLocked(cmd); r.Err != nil {
		c.t.Fatalf("%v: %v", cmd.Kind, r.Err)
	}
}

// join makes new members known.
func (c *council) join(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.do(agreed.Command{Kind: agreed.Join, Member: c.member(name, "127.0.0.1:1")})
	}
}

// commit begins the change that is staged.
func (c *council) commit() {
	c.t.Helper()
	c.mu.Lock()
	hash := c.doc.StagedHash()
	c.mu.Unlock()
	c.do(agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: hash, Oldest: c.clock.Load()/councilSlot - 100}})
}

// awaitFixed waits until the change is fixed, and returns from which slot on it
// counts.
func (c *council) awaitFixed() (boundary int64) {
	c.t.Helper()
	until(c.t, "the change is fixed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		boundary = c.doc.Change.Boundary
		return c.doc.Change.Phase == ring.Fixed
	})
	return boundary
}

// present returns the newest document.
func (c *council) present() *agreed.Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc
}

// run has the clock go on by a second each pause, until the test ends.
func (c *council) run(pause time.Duration) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.clock.Add(1)
			case <-done:
				return
			}
		}
	})
	c.t.Cleanup(func() {
		close(done)
		wg.Wait()
	})
}

// startAll starts nodes of these names, and returns when each two that it ever
// started have met.
func (c *council) startAll(names ...string) []*Node {
	c.t.Helper()
	var all []*Node
	for _, name := range names {
		all = append(all, start(c.t, c.config(name)))
	}
	c.started = append(c.started, all...)
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for _, n := range c.started {
		for _, other := range c.started {
			if n == other {
				continue
			}
			until(c.t, "nodes know of each other", func() bool { return n.peers.get(other.id) != nil })
			if err := n.peers.get(other.id).Connect(ctx); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	return all
}

// startNow starts nodes n1, n2, … whose clock is the machine's and of which nothing
// that is agreed changes. It sets their configurations, for another start at the same
// address.
func startNow(t testing.TB, cfgs []Config, nodes []*Node) {
	t.Helper()
	names := numbered(1, len(cfgs))
	c := newCouncilOf(t, 3, names...)
	for i, name := range names { // first: all know where all are
		cfgs[i] = c.config(name)
		cfgs[i].Now, cfgs[i].UpkeepInterval, cfgs[i].Listen = nil, 0, cfgs[i].Listener.Addr().String()
	}
	for i := range cfgs {
		nodes[i] = start(t, cfgs[i])
		cfgs[i].Listener = nil
	}
}

func numbered(from, to int) (names []string) {
	for i := from; i <= to; i++ {
		names = append(names, fmt.Sprint("n", i))
	}
	return names
}

// refuse has the council not hear what is proposed, if f says so; nil: it hears all.
func (c *council) refuse(f func(agreed.Command) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = f
}

// heardPromise reports whether a node's promise of the present round was heard.
func (c *council) heardPromise(name string) bool {
	change := c.present().Change
	return change.Phase == ring.Proposed && !slices.Contains(change.Waiting, councilID(name))
}

// nudge has nodes propose again what was refused.
func (c *council) nudge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.seats {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func refOf(rec object.Record) vnode.Ref { return vnode.RefOf(rec.Type, rec.Bucket, rec.Key) }
