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
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A council agrees for nodes of one process: it applies commands, one after
// another, to one document. Each node has a seat, which may be made deaf.
type council struct {
	t     testing.TB
	clock atomic.Int64 // seconds of Unix time
	bits  uint8

	mu      sync.Mutex
	doc     *agreed.Document
	seats   map[ring.NodeID]*seat
	said    []agreed.Command // all that nodes proposed
	refuses func(agreed.Command) bool
	plan    *ring.Plan // of the pending change
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

func newCouncil(t testing.TB, names ...string) *council {
	c := &council{t: t, seats: map[ring.NodeID]*seat{}, bits: 2}
	c.clock.Store(time.Now().Unix())
	f := agreed.Founding{Cluster: clusterID("council"), Name: "council", Settings: agreed.DefaultSettings(), Bits: c.bits}
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
	c.change(func(d *agreed.Document) {
		for i := range d.Members {
			if d.Members[i].ID == id {
				d.Members[i].Address = ln.Addr().String()
			}
		}
	})
	return Config{
		Name: name, Cluster: "council", Listener: ln, Data: []string{c.t.TempDir()}, SlotSeconds: councilSlot,
		Log: slog.New(slog.DiscardHandler), Now: c.now, UpkeepInterval: 20 * time.Millisecond,
		agreement: s, id: id, mergeGrace: time.Millisecond,
	}
}

// change makes the next document.
func (c *council) change(f func(d *agreed.Document)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changeLocked(f)
}

func (c *council) changeLocked(f func(d *agreed.Document)) {
	next := *c.doc
	next.Members = slices.Clone(next.Members)
	next.Version.Index++
	f(&next)
	c.doc = &next
	for _, s := range c.seats {
		s.hearLocked()
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
	s.c.said = append(s.c.said, cmd)
	s.c.applyLocked(cmd)
	return agreed.Result{Version: s.c.doc.Version}, nil
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

// applyLocked carries a command out, as far as these tests need it.
func (c *council) applyLocked(cmd agreed.Command) {
	switch cmd.Kind {
	case agreed.Promised, agreed.Tick:
		e := ring.ChangeEvent{Kind: ring.Tick, Now: cmd.Now}
		if cmd.Kind == agreed.Promised {
			e = ring.ChangeEvent{Kind: ring.Promised, Now: cmd.Now, Round: cmd.Round, Node: cmd.Node, Highest: cmd.Highest}
		}
		c.stepLocked(e)
	case agreed.Completed:
		c.changeLocked(func(d *agreed.Document) { c.history(d.History.Complete(d.Version, cmd.Completions...))(d) })
	}
}

func (c *council) history(h *ring.History, err error) func(*agreed.Document) {
	if err != nil {
		c.t.Error(err)
	}
	return func(d *agreed.Document) { d.History = h }
}

// stepLocked brings the change of the ring further.
func (c *council) stepLocked(e ring.ChangeEvent) {
	change, actions := c.doc.Change.Step(c.doc.Timing(), e)
	c.changeLocked(func(d *agreed.Document) {
		d.Change = change
		for _, a := range actions {
			if a.Kind == ring.Fix {
				c.history(c.plan.Commit(d.History, d.Version, change.Boundary))(d)
				for i := range d.Members {
					if d.Members[i].State == agreed.Joining {
						d.Members[i].State = agreed.Valid
					}
				}
			}
		}
	})
}

// join makes new members known.
func (c *council) join(names ...string) {
	c.change(func(d *agreed.Document) {
		for _, name := range names {
			m := c.member(name, "127.0.0.1:1")
			m.State = agreed.Joining
			d.Members = append(d.Members, m)
		}
		slices.SortFunc(d.Members, func(a, b agreed.Member) int { return a.ID.Compare(b.ID) })
	})
}

// propose begins a change to a ring of these members.
func (c *council) propose(names ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	w := ring.Wanted{Bits: c.bits, N: 3}
	var all []ring.NodeID
	for _, m := range c.doc.Members {
		all = append(all, m.ID)
		if slices.Contains(names, m.Name) {
			w.Nodes = append(w.Nodes, m.Node())
		}
	}
	d := ring.Data{Oldest: c.clock.Load()/councilSlot - 100, TTLSeconds: bucket.DefaultEventsTTL}
	w.From = c.doc.History.SlotOf(c.clock.Load()) + 1
	var err error
	if c.plan, err = ring.NewPlan(c.doc.History, w, d); err != nil {
		c.t.Fatal(err)
	}
	c.stepLocked(ring.ChangeEvent{Kind: ring.Propose, Now: c.clock.Load(), Members: all, From: w.From})
}

// fixed reports whether the change is, and from which slot on it counts.
func (c *council) fixed() (boundary int64, fixed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc.Change.Boundary, c.doc.Change.Phase == ring.Fixed
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

// startAll starts nodes of these names.
func (c *council) startAll(names ...string) []*Node {
	c.t.Helper()
	var all []*Node
	for _, name := range names {
		all = append(all, start(c.t, c.config(name)))
	}
	return all
}

func numbered(from, to int) (names []string) {
	for i := from; i <= to; i++ {
		names = append(names, fmt.Sprint("n", i))
	}
	return names
}
