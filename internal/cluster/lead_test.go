package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// What is trimmed is gone: not by a clock that has just jumped.
func TestTrimByATrustedClock(t *testing.T) {
	h := goldenDocument(t)
	now := time.Now().Add(100 * 366 * 24 * time.Hour)
	c := &Cluster{cfg: Config{Node: h.doc.Members[0].ID, Now: func() time.Time { return now }}.withDefaults()}
	// A ring that ended long ago.
	doc := h.doc
	must := func(cmd agreed.Command) {
		t.Helper()
		cmd.Now = time.Now().Unix()
		next, result := doc.Apply(cmd)
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		doc = next
	}
	must(agreed.Command{Kind: agreed.Join, Member: agreed.Member{ID: nodeID("b"), Name: "b", Weight: 1, Disks: []agreed.DiskID{id("b")}, Address: "h:9"}})
	must(agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: doc.StagedHash()}})
	for _, m := range doc.Change.Waiting {
		must(agreed.Command{Kind: agreed.Promised, Node: m, Round: doc.Change.Round, Highest: ring.NoEpoch})
	}
	if duties := doc.History.Duties(nodeID("b")); len(duties) > 0 { // or the ring would stay for plain data
		must(agreed.Command{Kind: agreed.Completed, Completions: duties, History: doc.History.Version()})
	}
	c.gossip = &gossip{seen: map[ring.NodeID]sighting{nodeID("b"): {Alive: true}}}
	l := leadership{said: map[ring.NodeID]string{}}
	if cmd, due := c.dueCommand(&l, doc); due {
		t.Errorf("by a clock that is not trusted: %v", cmd.Kind)
	}
	l.trusted = true
	if cmd, due := c.dueCommand(&l, doc); !due || cmd.Kind != agreed.Trim {
		t.Errorf("by one that is: %v, %v", cmd.Kind, due)
	}
}

// A command that this program cannot apply is not agreed on; one that was agreed on all
// the same ends nobody.
func TestFault(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	n.touch(5)
	tellsDuties(t, n)
	q := n.era()
	broken := *n.Document()
	broken.History = nil
	q.machine.mu.Lock()
	whole := q.machine.at
	q.machine.at = held{&broken, whole.origin}
	q.machine.mu.Unlock()
	cmd := agreed.Command{Kind: agreed.Trim, Now: time.Now().Unix()}
	_, err := n.Propose(t.Context(), cmd)
	says(t, err, "a fault of this release of mayfly", "trim", "nil pointer")
	q.machine.mu.Lock()
	stuck := q.machine.stuck
	q.machine.at = whole
	q.machine.mu.Unlock()
	if stuck != nil {
		t.Errorf("it was agreed on: %v", stuck)
	}
	n.touch(6)

	m := &machine{publish: func(held) {}, at: held{&broken, whole.origin}}
	if r := applied(t, m, 9, encodedCommand(t, cmd)); r.Err == nil {
		t.Errorf("%+v", r)
	}
	if _, ok := errors.AsType[*fault](m.stuck); !ok {
		t.Errorf("the machine is stuck by %v", m.stuck)
	}
}

// tellsDuties checks that a leader knows which of its duties came to agreement.
func tellsDuties(t *testing.T, n *testNode) {
	cmd := agreed.Command{Kind: agreed.Down, Now: time.Now().Unix(), Node: n.cfg.Node}
	n.proposing.Store(maxProposals)
	if n.duty(cmd) {
		t.Error("one proposal too many counts as tried")
	}
	n.proposing.Store(0)
	n.passing.Store(maxProposals) // what others ask does not keep a leader from its duties
	defer n.passing.Store(0)
	if a := n.answerProposal(t.Context(), message{Op: opPropose, Body: append([]byte{0}, encodedCommand(t, cmd)[1:]...)}); a.Err == nil || a.Err.Code != object.CodeOverload {
		t.Errorf("one proposal too many of others: %+v", a)
	}
	if cmd.Now = -1; !n.duty(cmd) {
		t.Error("one that is refused does not count as tried")
	}
}

// Which member is to be marked: one that was back and is silent again is Down, or its
// return would wait for it for ever; one whose return was given up is nudged now and
// then.
func TestWhoIsDue(t *testing.T) {
	doc, err := agreed.Found(agreed.Founding{Cluster: seq(0x10), Name: "prod", Settings: agreed.DefaultSettings(), Bits: 3, Members: []agreed.Member{
		{ID: nodeID("a"), Name: "a", Weight: 1, Disks: []agreed.DiskID{id("a")}, Address: "h:1"},
		{ID: nodeID("b"), Name: "b", Weight: 1, Disks: []agreed.DiskID{id("b")}, Address: "h:2"},
		{ID: nodeID("c"), Name: "c", Weight: 1, Disks: []agreed.DiskID{id("c")}, Address: "h:3"},
		{ID: nodeID("d"), Name: "d", Weight: 1, Disks: []agreed.DiskID{id("d")}, Address: "h:4"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{cfg: Config{Node: nodeID("a")}.withDefaults(), gossip: &gossip{seen: map[ring.NodeID]sighting{}}}
	now := time.Now().Unix()
	l := leadership{said: map[ring.NodeID]string{}}
	due := func(claim string, alive bool, silent time.Duration, want agreed.Kind) {
		t.Helper()
		for _, name := range []string{"b", "c", "d"} {
			c.gossip.seen[nodeID(name)] = sighting{Alive: true}
		}
		c.gossip.seen[nodeID("b")] = sighting{Alive: alive, Since: time.Now().Add(-silent)}
		m, _ := doc.Member(nodeID("b"))
		cmd, is := c.dueFor(&l, doc, m, now)
		if !is {
			cmd.Kind = 0
		}
		if cmd.Kind != want {
			t.Errorf("%s: %v, want %v", claim, cmd.Kind, want)
		}
		if is {
			next, result := doc.Apply(cmd)
			if result.Err != nil {
				t.Fatalf("%s: %v", claim, result.Err)
			}
			doc = next
		}
	}
	due("it answers", true, 0, 0)
	due("silent for a moment", false, time.Second, 0)
	due("silent for long", false, time.Hour, agreed.Down)
	due("down", false, time.Hour, 0)
	due("it answers again", true, 0, agreed.Up)
	if m, _ := doc.Member(nodeID("b")); !m.Back || doc.Pending == nil {
		t.Fatalf("%+v", m)
	}
	due("it is back", true, 0, 0)
	due("silent again for a moment", false, time.Second, 0)
	due("silent again for long", false, time.Hour, agreed.Down)
	due("it answers once more", true, 0, agreed.Up)
	recovered := doc.Recovered() // its return was given up
	doc = recovered
	due("its return was given up", true, 0, agreed.Up)
	doc = recovered
	doc.Version.Index++
	due("and again", true, 0, 0)
	l.nudged = time.Now().Add(-time.Hour)
	due("and again, later", true, 0, agreed.Up)
}
