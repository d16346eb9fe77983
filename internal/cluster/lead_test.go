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
