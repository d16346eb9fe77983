package agreed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Three become six: nothing counts before all have promised, then the six do.
func TestGrow(t *testing.T) {
	s := newStory(t, 3)
	for i := 3; i < 6; i++ {
		s.join(i)
	}
	plan, err := s.d.Plan(noon, ring.Data{}, 0, false)
	if err != nil || plan.From != 500_001 || len(plan.Past) != 0 || plan.TimedMoves != 0 {
		t.Fatalf("%v: %+v", err, plan)
	}
	before := s.d.History
	r := s.commit()
	if got := fmt.Sprint(r.Notes); got != "[slot 500001 is proposed; waiting for n0, n1, n2, n3, n4, n5]" {
		t.Error(got)
	}
	s.promise(nodeID(0), nodeID(1), nodeID(3), nodeID(4), nodeID(5))
	s.refused(object.CodeConflict, "waits for n2: wait until it is fixed, cancel it, or remove as lost", func() Command {
		s.stage(StageFill, -1)
		return Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}}
	}())
	s.expect(3, Joining)
	if s.d.History != before {
		t.Error("the history changed before all had promised")
	}
	r = s.must(Command{Kind: Promised, Node: nodeID(2), Round: 1, Highest: 500_001*3600 - 1})
	if s.d.Change.Phase != ring.Fixed || s.d.History.NewestFrom() != 500_001 || s.d.History.Version() != s.d.Version || s.d.Moved != s.d.Version {
		t.Errorf("%+v %+v", r, s.d.Change)
	}
	for i := range 6 {
		s.expect(i, Valid)
	}
	if !slices.Equal(s.d.Staged, []Staged{{Kind: StageFill}}) {
		t.Errorf("staged meanwhile: %v", s.d.Staged)
	}
}

// Who had admitted an epoch past the boundary, or answers too late, makes
// another round.
func TestOneMoreRound(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	r := s.must(Command{Kind: Promised, Node: nodeID(2), Round: 1, Highest: 500_001 * 3600})
	if got := fmt.Sprint(r.Notes); got != "[node n2 had admitted epoch 1800003600, which is past the boundary, slot 500001]" {
		t.Error(got)
	}
	if c := s.d.Change; c.Round != 2 || c.Boundary != 500_002 || len(c.Waiting) != 4 {
		t.Errorf("%+v", c)
	}
	s.now += 3600
	if r := s.must(Command{Kind: Tick}); r.Changed {
		t.Errorf("a tick did something: %+v", r)
	}
	s.now += 3600
	if r := s.must(Command{Kind: Tick}); s.d.Change.Round != 3 || !strings.Contains(r.Notes[0], "still waiting for n0, n1, n2, n3") {
		t.Errorf("%+v", r)
	}
	s.allPromise()
}

// What was cancelled is staged again, and can be committed again.
func TestCancel(t *testing.T) {
	s := newStory(t, 3)
	s.refused(object.CodeBadRequest, "no change is pending", Command{Kind: Cancel})
	s.join(3)
	hash := s.d.StagedHash()
	s.commit()
	s.stage(StageLeave, 1)
	s.must(Command{Kind: Cancel})
	if s.d.Change.Phase != ring.Idle || s.d.Pending != nil || len(s.d.Staged) != 2 || s.d.StagedHash() == hash {
		t.Errorf("%+v, staged %v", s.d.Change, s.d.Staged)
	}
	s.refused(object.CodeConflict, "has changed since you looked", Command{Kind: CommitStaged, Commit: Commit{Staged: hash}})
	s.must(Command{Kind: Clear, Node: nodeID(1)})
	s.commit()
	if s.d.Change.Round != 2 {
		t.Errorf("%+v", s.d.Change)
	}
	s.allPromise()
}

// A plan that cannot be carried out when all have promised is given up: the
// promises are lifted, and the members are as they were.
func TestGivenUp(t *testing.T) {
	s := newStory(t, 3)
	s.stage(StageLeave, 0)
	s.commit()
	next := *s.d
	next.Pending = &Pending{Staged: []Staged{{Kind: StageLeave, Node: nodeID(0)}, {Kind: StageLeave, Node: nodeID(1)}, {Kind: StageLeave, Node: nodeID(2)}}}
	s.d = &next
	s.promise(nodeID(0), nodeID(1))
	before := s.d.History
	r := s.must(Command{Kind: Promised, Node: nodeID(2), Round: 1, Highest: ring.NoEpoch})
	if c := s.d.Change; c.Phase != ring.Idle || c.Round != 1 || s.d.Pending != nil || len(s.d.Staged) != 3 || s.d.History != before {
		t.Errorf("%+v, %d staged", c, len(s.d.Staged))
	}
	if got := fmt.Sprint(r.Notes); !strings.Contains(got, "was given up as all had promised: nobody would be left") {
		t.Error(got)
	}
	s.expect(0, Valid)
}

// What was staged of a member that has left meanwhile cannot be any more.
func TestStagedMeanwhile(t *testing.T) {
	s := newStory(t, 4)
	s.stage(StageLeave, 0)
	s.commit()
	weight := Command{Kind: Stage, Stage: Staged{Kind: StageWeight, Node: nodeID(0), Weight: 3}}
	s.must(weight)
	if r := s.must(weight); r.Changed {
		t.Error("staged twice is another document")
	}
	s.allPromise()
	if len(s.d.Staged) != 0 {
		t.Errorf("still staged: %v", s.d.Staged)
	}
}

// Who commits cannot declare expired what has not.
func TestOldestIsNotBelieved(t *testing.T) {
	for _, oldest := range []int64{0, 1 << 40, 499_800} {
		s := newStory(t, 4)
		s.stage(StageLeave, 0)
		s.must(Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Oldest: oldest}})
		s.allPromise()
		for p := range s.d.History.At(499_900).Partitions() {
			if s.d.History.At(499_900).Owns(nodeID(0), p) {
				t.Fatalf("oldest %d: who left still owns slot 499,900", oldest)
			}
		}
	}
}

// Nodes that begin to join meanwhile stage that themselves; it waits for the next
// change, and keeps nobody from being declared lost.
func TestLostWhilePendingAndOthersJoin(t *testing.T) {
	s := newStory(t, 4)
	s.join(4)
	s.commit()
	s.promise(nodeID(0), nodeID(1), nodeID(2), nodeID(4))
	s.join(5)
	s.refused(object.CodeConflict, "nothing else can be added", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Oldest: s.d.Trimmed}})
	s.stage(StageLose, 3)
	if r := s.commit(); !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "only who is lost was added") }) {
		t.Errorf("notes %q", r.Notes)
	}
	if s.d.Change.Phase != ring.Fixed {
		t.Fatalf("%+v", s.d.Change)
	}
	s.expect(3, Lost)
	s.expect(4, Valid)
	s.expect(5, Joining)
	if len(s.d.Staged) != 1 || s.d.Staged[0].Kind != StageJoin || s.d.Staged[0].Node != nodeID(5) {
		t.Errorf("staged: %+v", s.d.Staged)
	}
}

// Who is to take a lost member's places in a change that is pending has to promise,
// and has not: it waits for the next change.
func TestNewcomerOfLostWhilePending(t *testing.T) {
	s := newStory(t, 4)
	s.join(4)
	s.commit()
	s.promise(nodeID(0), nodeID(1), nodeID(2), nodeID(4))
	s.join(5)
	s.must(Command{Kind: Stage, Stage: Staged{Kind: StageLose, Node: nodeID(3), New: nodeID(5)}})
	s.refused(object.CodeConflict, "nothing else can be added", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Oldest: s.d.Trimmed}})
	s.must(Command{Kind: Clear, Node: nodeID(3)})
	s.stage(StageLose, 3)
	s.commit()
	s.expect(3, Lost)
	s.expect(5, Joining)
}

// A silent member holds a change up until it is declared lost.
func TestLostWhilePending(t *testing.T) {
	s := newStory(t, 4)
	s.join(4)
	s.commit()
	s.promise(nodeID(0), nodeID(1), nodeID(2), nodeID(4))
	s.stage(StageLose, 3)
	s.commit()
	if s.d.Change.Phase != ring.Fixed || s.d.Change.Round != 1 {
		t.Fatalf("%+v", s.d.Change)
	}
	s.expect(3, Lost)
	s.expect(4, Valid)
	if _, member := s.d.History.Newest().Node(nodeID(3)); member {
		t.Error("the lost member is in the ring")
	}
	s.refused(object.CodeRefused, "was declared lost", Command{Kind: Introduce, Member: testMember(3, "a")})
	s.refused(object.CodeRefused, "was declared lost", Command{Kind: Join, Member: testMember(3, "a")})
	other := testMember(5, "a")
	other.Name = "n3" // the name is free again
	s.must(Command{Kind: Join, Member: other})
}

// A history that a document could not hold is not made: neither by the operator, nor
// by members that go and come, nor as all have promised.
func TestTooLongAHistory(t *testing.T) {
	defer func(before int) { maxHistoryBytes = before }(maxHistoryBytes)
	s := newStory(t, 4)
	size := func() int {
		b, err := s.d.History.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	s.join(4)
	maxHistoryBytes = size() + 10
	s.refused(object.CodeConflict, "the history of rings would have", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
	if r := s.must(Command{Kind: Down, Node: nodeID(1)}); len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "keeps its places although it is down: the history of rings would have") {
		t.Errorf("%v", r.Notes)
	}
	s.must(Command{Kind: Up, Node: nodeID(1)})
	maxHistoryBytes *= 4
	s.commit()
	maxHistoryBytes /= 4
	s.promise(s.d.Change.Waiting...)
	if s.d.Pending != nil || s.d.Change.Phase != ring.Idle || len(s.d.Staged) != 1 || s.d.History.Len() != 1 {
		t.Errorf("%+v, staged %v", s.d.Change, s.d.Staged)
	}
}

// A return that cannot be carried out is not proposed again at once, which would be
// promised and given up for ever, but with the next command.
func TestReturnThatCannotBe(t *testing.T) {
	defer func(before int) { maxHistoryBytes = before }(maxHistoryBytes)
	before := maxHistoryBytes
	s := newStory(t, 4)
	s.must(Command{Kind: Down, Node: nodeID(1)})
	s.now += 3600
	s.must(Command{Kind: Up, Node: nodeID(1)})
	if s.d.Pending == nil {
		t.Fatal("no return is pending")
	}
	maxHistoryBytes = 1
	waiting := s.d.Change.Waiting
	s.promise(waiting[1:]...)
	r := s.must(Command{Kind: Promised, Node: waiting[0], Round: s.d.Change.Round, Highest: ring.NoEpoch})
	if m := s.expect(1, Valid); s.d.Pending != nil || s.d.Change.Phase != ring.Idle || !m.Back || len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "was given up as all had promised: the history of rings would have") {
		t.Fatalf("%+v, %+v: %v", s.d.Change, m, r.Notes)
	}
	maxHistoryBytes = before
	next := s.d.Settings
	next.LatenessSeconds++
	s.must(Command{Kind: SetSettings, Settings: next})
	if s.d.Pending == nil {
		t.Fatal("no return is pending again")
	}
	s.allPromise()
	if s.expect(1, Valid).Down {
		t.Error("it is down still")
	}
}
