package agreed

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const noon = 1_800_000_000 // second 0 of slot 500,000

// A story is a document that commands are told to, one after the other.
type story struct {
	*testing.T
	d   *Document
	now int64
}

func newStory(t *testing.T, founders int) *story { return &story{t, mustFound(t, founders), noon} }

// must applies a command, which must not be refused.
func (s *story) must(c Command) Result {
	s.Helper()
	c.Now = s.now
	next, r := s.d.Apply(c)
	if r.Err != nil {
		s.Fatalf("%v: %v", c.Kind, r.Err)
	}
	if err := next.check(); err != nil {
		s.Fatalf("%v: %v", c.Kind, err)
	}
	s.d = next
	return r
}

// refused applies a command, which must be refused with a sentence.
func (s *story) refused(code object.Code, sentence string, c Command) {
	s.Helper()
	c.Now = s.now
	next, r := s.d.Apply(c)
	if r.Err == nil || next != s.d || r.Changed || r.Err.Code != code || r.Err.Outcome != object.NotDone || !strings.Contains(r.Err.Message, sentence) {
		s.Errorf("%v:\n got %v\nwant %v: …%s…", c.Kind, r.Err, code, sentence)
	}
}

func (s *story) join(i int) ring.NodeID {
	m := testMember(i, string(rune('a'+i%3)))
	s.must(Command{Kind: Join, Member: m})
	return m.ID
}

func (s *story) stage(kind StageKind, i int) {
	s.Helper()
	s.must(Command{Kind: Stage, Stage: Staged{Kind: kind, Node: nodeID(i)}})
}

func (s *story) commit() Result {
	s.Helper()
	return s.must(Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
}

// promise lets members promise that never admitted anything.
func (s *story) promise(ids ...ring.NodeID) {
	s.Helper()
	for _, id := range ids {
		s.must(Command{Kind: Promised, Node: id, Round: s.d.Change.Round, Highest: ring.NoEpoch})
	}
}

func (s *story) allPromise() {
	s.Helper()
	s.promise(s.d.Change.Waiting...)
	if s.d.Change.Phase != ring.Fixed {
		s.Fatalf("not fixed: %+v", s.d.Change)
	}
}

func (s *story) expect(i int, state MemberState) Member {
	s.Helper()
	m, known := s.d.Member(nodeID(i))
	if known != (state != 0) || m.State != state {
		s.Errorf("n%d is %v, want %v", i, m.State, state)
	}
	return m
}

func nodeID(i int) ring.NodeID { return testMember(i, "").ID }

// completeAll lets every member complete all it lacks.
func (s *story) completeAll() {
	s.Helper()
	var all []ring.Completion
	for _, m := range s.d.Members {
		if m.State.Live() {
			all = append(all, ring.Completion{Node: m.ID, Until: ring.Forever}, ring.Completion{Node: m.ID, Plain: true})
		}
	}
	s.must(Command{Kind: Completed, Completions: all, History: s.d.History.Version()})
}

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

// A member leaves, hands over what it has, and may be switched off only then.
func TestLeave(t *testing.T) {
	s := newStory(t, 4)
	s.stage(StageLeave, 0)
	s.commit()
	s.allPromise()
	s.expect(0, Leaving)
	if len(s.d.History.PlainSources(ring.Partition{})) == 0 {
		t.Error("who left is no source of plain data")
	}
	s.refused(object.CodeConflict, "is leaving: it cannot be asked to leave", Command{Kind: Stage, Stage: Staged{Kind: StageLeave, Node: nodeID(0)}})
	s.completeAll()
	s.expect(0, Left)
	s.now += 20 * 86400
	s.must(Command{Kind: Trim, Oldest: s.d.oldest(s.now)})
	s.expect(0, 0)
	if s.d.History.Len() != 1 || s.d.Trimmed != s.d.oldest(s.now) {
		t.Errorf("%d rings, trimmed to %d", s.d.History.Len(), s.d.Trimmed)
	}
	if r := s.must(Command{Kind: Trim, Oldest: s.d.oldest(s.now)}); r.Changed {
		t.Error("trimmed twice")
	}
}

// Who has left may be switched off: a change does not wait for it, whether it was
// the last to promise or not.
func TestLeftWhilePending(t *testing.T) {
	for _, last := range []bool{false, true} {
		s := newStory(t, 4)
		s.stage(StageLeave, 0)
		s.commit()
		s.allPromise()
		s.join(4)
		s.commit()
		if !slices.Contains(s.d.Change.Waiting, nodeID(0)) {
			t.Fatal("it is not asked although it is leaving")
		}
		if last {
			s.promise(nodeID(1), nodeID(2), nodeID(3), nodeID(4))
		}
		s.completeAll()
		if slices.Contains(s.d.Change.Members, nodeID(0)) || last != (s.d.Change.Phase == ring.Fixed) {
			t.Errorf("%+v", s.d.Change)
		}
		if !last {
			s.allPromise()
		}
		s.expect(0, Left)
		s.expect(4, Valid)
	}
}

// A leaving member that is to be declared lost has nothing any more, before or
// after that is committed.
func TestLeftWhileItIsToBeLost(t *testing.T) {
	for _, committed := range []bool{false, true} {
		s := newStory(t, 4)
		s.stage(StageLeave, 0)
		s.commit()
		s.allPromise()
		s.stage(StageLose, 0)
		if !committed {
			s.completeAll()
			if s.expect(0, Left); len(s.d.Staged) != 0 {
				t.Errorf("still staged: %v", s.d.Staged)
			}
			continue
		}
		s.commit()
		s.completeAll()
		s.expect(0, Leaving)
		s.allPromise()
		s.expect(0, Lost)
	}
}

// A replacement takes all places; its predecessor leaves.
func TestReplace(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	before := s.d.History.Newest()
	replace := Staged{Kind: StageReplace, Node: nodeID(1), New: nodeID(3)}
	s.must(Command{Kind: Stage, Stage: replace})
	if !slices.Equal(s.d.Staged, []Staged{replace}) {
		t.Errorf("the join is staged besides: %v", s.d.Staged)
	}
	s.commit()
	s.refused(object.CodeConflict, "part of the change that is pending", Command{Kind: Stage, Stage: Staged{Kind: StageLeave, Node: nodeID(3)}})
	s.allPromise()
	s.expect(1, Leaving)
	s.expect(3, Valid)
	for p := range before.Partitions() {
		want := slices.Clone(before.Owners(p))
		want[slices.Index(want, nodeID(1))] = nodeID(3)
		if got := s.d.History.Newest().Owners(p); !slices.Equal(distinct(got), distinct(want)) {
			t.Errorf("%v: owners %v, want %v", p, got, want)
		}
	}
	s.completeAll()
	s.expect(1, Left)
}

// The last copy is not given up unless that is accepted, and the refusal says
// how much it would be.
func TestLastCopy(t *testing.T) {
	s := newStory(t, 1)
	s.join(1)
	s.commit()
	s.allPromise()
	s.stage(StageLose, 0)
	c := Command{Kind: CommitStaged, Now: s.now, Commit: Commit{Staged: s.d.StagedHash()}}
	_, r := s.d.Apply(c)
	loss, found := errors.AsType[*ring.LastCopyError](r.Failure())
	if !found || !errors.Is(r.Failure(), object.CodeConflict) || loss.Slots == 0 || loss.PlainPartitions == 0 {
		t.Fatalf("%+v", r)
	}
	if _, err := s.d.Plan(s.now, ring.Data{}, 0, false); !errors.As(err, new(*ring.LastCopyError)) {
		t.Errorf("planned: %v", err)
	}
	if plan, err := s.d.Plan(s.now, ring.Data{}, 0, true); err != nil || plan.Loss == nil {
		t.Errorf("accepted: %v", err)
	}
	c.Commit.AcceptLoss = true
	s.must(c)
	s.allPromise()
	s.expect(0, Lost)
}

// As many gaps as may be, none like another, are planned with in a while.
func BenchmarkCommitWithGaps(b *testing.B) {
	d := mustFound(b, 5)
	d, _ = d.Apply(Command{Kind: Stage, Stage: Staged{Kind: StageLeave, Node: nodeID(4)}})
	c := Commit{Staged: d.StagedHash()}
	for i := range MaxGaps {
		c.Gaps = append(c.Gaps, ring.Gap{Node: nodeID(i % 2), Partition: ring.Partition{Bits: 3, Prefix: uint32(i % 8)}, From: 499_800 + int64(i%100), Until: 500_000 - int64(i/100)})
	}
	for b.Loop() {
		if _, r := d.Apply(Command{Kind: CommitStaged, Now: noon, Commit: c}); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

// A gap counts: who lacks something is no copy of it.
func TestGapsCount(t *testing.T) {
	s := newStory(t, 4)
	s.completeAll()
	s.stage(StageLose, 0)
	var gaps []ring.Gap
	for _, i := range []int{1, 2, 3} {
		gaps = append(gaps, ring.Gap{Node: nodeID(i), Plain: true})
	}
	s.refused(object.CodeConflict, "plain data in", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Gaps: gaps}})
	s.refused(object.CodeBadRequest, "gaps are more than", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Gaps: make([]ring.Gap, MaxGaps+1)}})
	s.commit()
}

// A member that is down is replaced in the open slot and in later ones; back, it
// owns again once all that are up have promised.
func TestDownAndUp(t *testing.T) {
	s := newStory(t, 5)
	made := s.d.History.Newest()
	s.must(Command{Kind: Down, Node: nodeID(0)})
	owns := func(slot int64) bool {
		return slices.ContainsFunc(slices.Collect(made.Partitions()), func(p ring.Partition) bool { return s.d.History.At(slot).Owns(nodeID(0), p) })
	}
	if !s.expect(0, Valid).Down || owns(500_000) || owns(1<<40) || !owns(499_999) || s.d.Moved != s.d.Version {
		t.Error("it is not replaced in the open slot and later ones only")
	}
	for p := range made.OwnedBy(nodeID(0)) {
		if len(s.d.History.Newcomers(500_000, p)) != 1 || len(s.d.History.Newcomers(500_001, p)) != 0 {
			t.Errorf("%v: newcomers of the open slot %v, of the next %v", p, s.d.History.Newcomers(500_000, p), s.d.History.Newcomers(500_001, p))
		}
	}
	if r := s.must(Command{Kind: Down, Node: nodeID(0)}); r.Changed {
		t.Error("down twice is another document")
	}
	s.must(Command{Kind: Up, Node: nodeID(0)})
	if m := s.expect(0, Valid); !m.Down || !m.Back || !slices.Equal(s.d.Pending.Returning, []ring.NodeID{nodeID(0)}) || len(s.d.Change.Waiting) != 5 || owns(500_001) {
		t.Errorf("%+v, %+v, %+v", m, s.d.Pending, s.d.Change)
	}
	s.refused(object.CodeBadRequest, "no change is pending", Command{Kind: Cancel})
	s.now += 10
	s.allPromise()
	if m := s.expect(0, Valid); m.Down || m.Back || owns(500_000) || !owns(500_001) {
		t.Errorf("%+v", m)
	}
}

// Where more are silent than may be, all keep their places; and a return waits
// for those who would not promise.
func TestDownOfMany(t *testing.T) {
	s := newStory(t, 6)
	r := s.must(Command{Kind: Down, Node: nodeID(0), Silent: []ring.NodeID{nodeID(1), nodeID(2), nodeID(3), nodeID(4), nodeID(5)}})
	if s.d.History.AmendmentCount() != 0 || !strings.Contains(fmt.Sprint(r.Notes), "all of the 0 others own") {
		t.Errorf("%d amendments: %v", s.d.History.AmendmentCount(), r.Notes)
	}
	r = s.must(Command{Kind: Down, Node: nodeID(0), Silent: []ring.NodeID{nodeID(1)}})
	if !strings.Contains(fmt.Sprint(r.Notes), "more than 1 of the owners of these partitions do not answer") {
		t.Errorf("%v", r.Notes)
	}
	for i := range 4 {
		s.must(Command{Kind: Down, Node: nodeID(i)})
	}
	r = s.must(Command{Kind: Up, Node: nodeID(0)})
	if m := s.expect(0, Valid); !m.Back || s.d.Pending != nil || !strings.Contains(fmt.Sprint(r.Notes), "waits with its places") {
		t.Errorf("returns although too many would not promise: %+v, %+v, %v", m, s.d.Pending, r.Notes)
	}
	for i := range 4 {
		s.must(Command{Kind: Up, Node: nodeID(i)})
	}
	for s.d.Change.Phase == ring.Proposed {
		s.promise(s.d.Change.Waiting...)
	}
	if s.d.Change.Boundary != 500_001 {
		t.Errorf("returns one after the other went ahead to slot %d", s.d.Change.Boundary)
	}
	for i := range 4 {
		if m := s.expect(i, Valid); m.Down {
			t.Errorf("%+v", m)
		}
	}
}

// What could not be given away because another was down is, once that is back.
func TestReplacedOnceAnotherIsBack(t *testing.T) {
	s := newStory(t, 6)
	s.must(Command{Kind: Down, Node: nodeID(0)})
	s.must(Command{Kind: Down, Node: nodeID(1)})
	owned := func(i int, slot int64) (count int) {
		r := s.d.History.At(slot)
		for range r.OwnedBy(nodeID(i)) {
			count++
		}
		return count
	}
	if owned(1, 500_002) == 0 {
		t.Fatal("nothing was held back, the test is of no use")
	}
	s.must(Command{Kind: Up, Node: nodeID(0)})
	s.allPromise()
	if got := owned(1, 500_002); got != 0 {
		t.Errorf("%d partitions stay with who is down", got)
	}
	s.must(Command{Kind: Up, Node: nodeID(1)})
	s.must(Command{Kind: Down, Node: nodeID(4)}) // of the same zone
	for a := range s.d.History.Amendments() {
		if a.Out == nodeID(4) && slices.ContainsFunc(a.Nodes, func(n ring.Node) bool { return n.ID == nodeID(1) }) {
			t.Error("who is back and owns nothing yet takes the places of another")
		}
	}
}

// A plan goes first: a return makes way for it, and who is back owns in the new
// ring; who is not is replaced in it again.
func TestPlanAmidReturns(t *testing.T) {
	s := newStory(t, 6)
	s.must(Command{Kind: Down, Node: nodeID(0)})
	s.must(Command{Kind: Down, Node: nodeID(1)})
	s.must(Command{Kind: Up, Node: nodeID(0)})
	s.join(6)
	s.commit()
	if s.d.Pending == nil || len(s.d.Pending.Returning) != 0 || len(s.d.Change.Waiting) != 7 {
		t.Fatalf("%+v %+v", s.d.Pending, s.d.Change)
	}
	s.allPromise()
	from := s.d.History.NewestFrom()
	made, amended := s.d.History.Newest(), s.d.History.At(from)
	both := 0
	for p := range made.Partitions() {
		if made.Owns(nodeID(0), p) && !amended.Owns(nodeID(0), p) {
			t.Errorf("%v: who is back does not own it", p)
		}
		if made.Owns(nodeID(1), p) && amended.Owns(nodeID(1), p) {
			both++
		}
	}
	if both > 0 || s.expect(0, Valid).Down || !s.expect(1, Valid).Down {
		t.Errorf("%d partitions are with who is down", both)
	}
}

// A return begins again when another member goes down, so that it need not wait
// for it.
func TestDownDuringReturn(t *testing.T) {
	s := newStory(t, 5)
	s.must(Command{Kind: Down, Node: nodeID(0)})
	s.must(Command{Kind: Up, Node: nodeID(0)})
	s.promise(nodeID(0), nodeID(1), nodeID(2), nodeID(3))
	s.must(Command{Kind: Down, Node: nodeID(4)})
	if s.d.Change.Round != 2 || slices.Contains(s.d.Change.Members, nodeID(4)) {
		t.Errorf("%+v", s.d.Change)
	}
	s.must(Command{Kind: Down, Node: nodeID(0)}) // it went again
	if s.d.Pending != nil || s.d.Change.Phase != ring.Idle {
		t.Errorf("%+v", s.d.Change)
	}
}

// A node that comes and goes cannot fill the history, nor move boundaries ahead.
func TestFlapping(t *testing.T) {
	defer func(before int) { maxDownAmendments = before }(maxDownAmendments)
	maxDownAmendments = 50
	s := newStory(t, 5)
	flap := func() Result {
		r := s.must(Command{Kind: Down, Node: nodeID(0)})
		s.must(Command{Kind: Up, Node: nodeID(0)})
		if s.d.Change.Phase == ring.Proposed {
			s.allPromise()
		}
		if got := s.d.Change.Boundary; got > s.d.Timing().Boundary(s.now) {
			t.Fatalf("the boundary is slot %d", got)
		}
		return r
	}
	for range 50 {
		s.now += 60
		flap()
	}
	if got := s.d.History.AmendmentCount(); got > 10 {
		t.Errorf("%d amendments in two slots", got)
	}
	for range 60 {
		s.now += 3600
		if r := flap(); len(r.Notes) > 0 && !strings.Contains(r.Notes[0], "of nodes that go and come again; they go as their slots expire") {
			t.Fatal(r.Notes)
		}
	}
	if got := s.d.History.AmendmentCount(); got > 50 || got < 45 {
		t.Errorf("%d amendments", got)
	}
	s.join(5)
	s.commit() // there is room for what the operator asks
	s.allPromise()
	s.now += 30 * 86400
	s.must(Command{Kind: Trim, Oldest: s.d.oldest(s.now)})
	if got := s.d.History.AmendmentCount(); got > 10 {
		t.Errorf("%d amendments after a month", got)
	}
}

func TestWhoMayJoin(t *testing.T) {
	s := newStory(t, 3)
	id := s.join(3)
	if r := s.must(Command{Kind: Join, Member: testMember(3, "a")}); r.Changed {
		t.Error("said again, and changed")
	}
	change := func(i int, change func(*Member)) Command {
		m := testMember(i, "a")
		change(&m)
		return Command{Kind: Join, Member: m}
	}
	s.refused(object.CodeConflict, `the name "n1" is that of node 02`, change(7, func(m *Member) { m.Name = "n1" }))
	s.refused(object.CodeConflict, "it was copied or moved", change(7, func(m *Member) { m.Disks = testMember(0, "").Disks }))
	s.refused(object.CodeRefused, "is a member already", change(1, func(*Member) {}))
	s.refused(object.CodeRefused, "has none of the disks", change(1, func(m *Member) { m.Disks = []DiskID{{77}} }))
	s.refused(object.CodeBadRequest, "with a past", change(7, func(m *Member) { m.State = Valid }))
	s.refused(object.CodeBadRequest, "weight is 0", change(7, func(m *Member) { m.Weight = 0 }))
	s.refused(object.CodeBadRequest, "0 disks", change(7, func(m *Member) { m.Disks = nil }))
	s.refused(object.CodeBadRequest, "want host:port", change(7, func(m *Member) { m.Address = "" }))

	back := Member{ID: id, Address: "10.9.9.9:1", Disks: []DiskID{{4, 1}, {4, 2}}}
	s.must(Command{Kind: Introduce, Member: back})
	if r := s.must(Command{Kind: Introduce, Member: back}); r.Changed {
		t.Error("introduced again, and changed")
	}
	back.Disks = []DiskID{{4, 2}}
	s.must(Command{Kind: Introduce, Member: back})
	if m := s.expect(3, Joining); !m.Lacks(DiskID{4, 1}) || m.Address != "10.9.9.9:1" || m.Name != "n3" {
		t.Errorf("%+v", m)
	}
	back.Disks = []DiskID{{4, 1}, {4, 2}}
	s.refused(object.CodeRefused, "was taken out of service", Command{Kind: Introduce, Member: back})
	back.Disks = []DiskID{{4, 3}}
	s.refused(object.CodeRefused, "let it make a new id and join", Command{Kind: Introduce, Member: back})
	s.refused(object.CodeRefused, "is no member of cluster", Command{Kind: Introduce, Member: testMember(9, "a")})
	s.stage(StageLeave, 3) // it had no places: it is forgotten
	s.expect(3, 0)
	if len(s.d.Staged) != 0 {
		t.Errorf("still staged: %v", s.d.Staged)
	}
}

func TestWhatCannotBeStaged(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	stage := func(x Staged) Command { return Command{Kind: Stage, Stage: x} }
	s.refused(object.CodeBadRequest, "is no member", stage(Staged{Kind: StageLeave, Node: nodeID(9)}))
	s.refused(object.CodeConflict, "is valid: it cannot be asked to join", stage(Staged{Kind: StageJoin, Node: nodeID(0)}))
	s.refused(object.CodeConflict, "has places of its own", stage(Staged{Kind: StageReplace, Node: nodeID(0), New: nodeID(1)}))
	s.refused(object.CodeBadRequest, "let it join first", stage(Staged{Kind: StageReplace, Node: nodeID(0), New: nodeID(9)}))
	s.refused(object.CodeConflict, "cannot be asked to replace", stage(Staged{Kind: StageReplace, Node: nodeID(3), New: nodeID(3)}))
	s.refused(object.CodeBadRequest, "weight is 0", stage(Staged{Kind: StageWeight, Node: nodeID(0)}))
	s.refused(object.CodeBadRequest, "fields that do not belong", stage(Staged{Kind: StageLeave, Node: nodeID(0), Weight: 1}))
	s.refused(object.CodeUnsupported, "files of plain buckets are by partition", stage(Staged{Kind: StagePartitions, Bits: 7}))
	s.refused(object.CodeBadRequest, "it is about no node", stage(Staged{Kind: StageFill, Node: nodeID(0)}))
	s.must(Command{Kind: Clear})
	s.refused(object.CodeBadRequest, "nothing is staged", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
	for i := range 3 {
		s.stage(StageLeave, i)
	}
	s.refused(object.CodeBadRequest, "nobody would be left", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
	s.must(Command{Kind: Clear})
	s.must(Command{Kind: Stage, Stage: Staged{Kind: StageWeight, Node: nodeID(0), Weight: 2}})
	s.must(Command{Kind: Stage, Stage: Staged{Kind: StageZone, Node: nodeID(0), Zone: "d"}})
	s.refused(object.CodeBadRequest, "is too far ahead", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), From: 600_000}})
	s.commit()
	s.allPromise()
	if m := s.expect(0, Valid); m.Weight != 2 || m.Zone != "d" {
		t.Errorf("%+v", m)
	}
	if node, _ := s.d.History.Newest().Node(nodeID(0)); node.Weight != 2 || node.Zone != "d" {
		t.Errorf("in the ring: %+v", node)
	}
}

func TestBuckets(t *testing.T) {
	s := newStory(t, 3)
	events := s.d.Buckets.Lookup(bucket.DefaultType, bucket.Events)
	set := func(change func(*bucket.Properties), empty bool) Command {
		p := bucket.Plain(bucket.DefaultType, "x")
		change(&p)
		return Command{Kind: SetBucket, Bucket: p, Empty: empty}
	}
	s.refused(object.CodeBadRequest, "timed cannot become true: the bucket holds data", set(func(p *bucket.Properties) { p.Timed = true }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 3 }, true))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, "x"); s.d.N() != 5 || !got.Timed || got.SmallestW != 3 {
		t.Errorf("n is %d, %+v", s.d.N(), got)
	}
	s.refused(object.CodeBadRequest, "n cannot become 3", set(func(p *bucket.Properties) { p.Timed = true }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 1 }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 4 }, false))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, "x"); got.SmallestW != 1 || got.W != 4 || s.d.mostStale() != 0 {
		t.Errorf("the smallest w is forgotten: %+v", got)
	}
	s.refused(object.CodeBadRequest, "index and rows are the store's own", set(func(p *bucket.Properties) { p.Index = true }, true))
	s.refused(object.CodeBadRequest, "want 1 to n", set(func(p *bucket.Properties) { p.W = 4 }, true))
	s.refused(object.CodeBadRequest, "name is empty", set(func(p *bucket.Properties) { p.Name = "" }, true))

	ttl := func(seconds int64) Command {
		return Command{Kind: SetTTL, Bucket: bucket.Properties{Type: events.Type, Name: events.Name, TTLSeconds: seconds}}
	}
	s.must(ttl(7200))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, bucket.Epochs); got.TTLSeconds != 7200 {
		t.Errorf("the index lives for %d seconds", got.TTLSeconds)
	}
	if r := s.must(ttl(7200)); r.Changed {
		t.Error("set again, and changed")
	}
	bad := ttl(1)
	bad.Bucket.N = 3
	s.refused(object.CodeBadRequest, "and nothing else", bad)
	s.refused(object.CodeBadRequest, "ttl_seconds is -1", ttl(-1))
	s.refused(object.CodeConflict, "keeps its data for ever", Command{Kind: Trim, Oldest: 499_000})
	s.must(Command{Kind: SetTTL, Bucket: bucket.Properties{Type: bucket.DefaultType, Name: "x", TTLSeconds: 3600}})
	s.refused(object.CodeConflict, "has not expired, the first that may hold something is 499997", Command{Kind: Trim, Oldest: 499_998})
	s.join(3)
	s.commit()
	s.refused(object.CodeConflict, "another number of owners", func() Command {
		c := set(func(p *bucket.Properties) { p.N = 6 }, true)
		c.Bucket.Name = "y"
		return c
	}())
}

func TestSettings(t *testing.T) {
	s := newStory(t, 3)
	next := s.d.Settings
	next.AheadSeconds = 20
	s.must(Command{Kind: SetSettings, Settings: next})
	if r := s.must(Command{Kind: SetSettings, Settings: next}); r.Changed || s.d.Timing().AheadSeconds != 20 {
		t.Error("set again, and changed")
	}
	next.LeadSeconds = 0
	s.refused(object.CodeBadRequest, "lead_seconds is 0, want 1 to 86400", Command{Kind: SetSettings, Settings: next})
	next.LeadSeconds, next.SlotSeconds = 1, 10
	s.refused(object.CodeBadRequest, "slots are 3600 seconds since the cluster was founded", Command{Kind: SetSettings, Settings: next})
	next.SlotSeconds = 3600
	s.join(3)
	s.commit()
	s.refused(object.CodeConflict, "is being prepared by the present settings", Command{Kind: SetSettings, Settings: next})
}

func TestWhatCannotBeCompleted(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	old := s.d.History.Version()
	s.allPromise()
	done := func(v ring.Version, all ...ring.Completion) Command {
		return Command{Kind: Completed, Completions: all, History: v}
	}
	now := s.d.History.Version()
	s.refused(object.CodeWrongOwner, "compare again under the newest one", done(old, ring.Completion{Node: nodeID(3), Plain: true}))
	s.refused(object.CodeBadRequest, "which is not agreed", done(ring.Version{Era: 2}, ring.Completion{Node: nodeID(3), Plain: true}))
	s.refused(object.CodeBadRequest, "0 completions", done(now))
	s.refused(object.CodeRefused, "is no member", done(now, ring.Completion{Node: nodeID(9), Plain: true}))
	s.refused(object.CodeBadRequest, "no slots", done(now, ring.Completion{Node: nodeID(3)}))
	s.refused(object.CodeBadRequest, "is no partition", done(now, ring.Completion{Node: nodeID(3), Plain: true, Partition: ring.Partition{Bits: 1, Prefix: 2}}))
	s.must(done(now, ring.Completion{Node: nodeID(3), Plain: true}))
	if r := s.must(done(now, ring.Completion{Node: nodeID(3), Plain: true})); r.Changed {
		t.Error("completed twice is another document")
	}
}

// Recovered by hand, the document is of another era, no change is under way, and
// no promise of the era before holds.
func TestRecovered(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	g := NewGate(3600, ring.Promise{}, ring.NoEpoch)
	if _, err := g.Agreed(s.d.Change, func(ring.Promise) error { return nil }); err != nil || g.Vouches(500_001*3600) {
		t.Fatal(err)
	}
	d := s.d.Recovered()
	if err := d.check(); err != nil || d.Version != (ring.Version{Era: 2, Index: 1}) || d.History.Version() != d.Version || d.Pending != nil || len(d.Staged) != 1 {
		t.Errorf("%v: %+v", err, d)
	}
	if _, err := g.Agreed(d.Change, func(ring.Promise) error { return nil }); err != nil || !g.Vouches(500_001*3600) {
		t.Errorf("%v: the promise is still in force", err)
	}
	// The lost majority had gone on: its rounds are over as well.
	later := s.d.Change
	later.Round += 5
	g = NewGate(3600, ring.Promise{}, ring.NoEpoch)
	if _, err := g.Agreed(later, func(ring.Promise) error { return nil }); err != nil || g.Vouches(500_001*3600) {
		t.Fatal(err)
	}
	if _, err := g.Agreed(d.Change, func(ring.Promise) error { return nil }); err != nil || !g.Vouches(500_001*3600) {
		t.Errorf("%v: a later promise is still in force", err)
	}
	s.d = d
	s.commit()
	s.allPromise()
}

func TestWhoMayFound(t *testing.T) {
	for want, change := range map[string]func(*Founding){
		"needs an id":                    func(f *Founding) { f.Cluster = ClusterID{} },
		"the cluster's name is \"\"":     func(f *Founding) { f.Name = "" },
		"slot_seconds is 0":              func(f *Founding) { f.Settings.SlotSeconds = 0 },
		"needs a member":                 func(f *Founding) { f.Members = nil },
		"it has a past in one":           func(f *Founding) { f.Members[0].Down = true },
		"is there twice, as \"n0\"":      func(f *Founding) { f.Members[1].ID = f.Members[0].ID },
		"2^17 partitions":                func(f *Founding) { f.Bits = 17 },
		"the name \"n0\" is that of":     func(f *Founding) { f.Members[1].Name = "n0" },
		"is one of node \"n0\"":          func(f *Founding) { f.Members[1].Disks = f.Members[0].Disks },
		"\"n0\" has the address \"\", w": func(f *Founding) { f.Members[0].Address = "" },
	} {
		f := testFounding(2)
		change(&f)
		if d, err := Found(f); d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	s := newStory(t, 1)
	s.refused(object.CodeUnsupported, "run the same version on all nodes", Command{Kind: 99})
	s.now = -1
	s.refused(object.CodeBadRequest, "set it right", Command{Kind: Tick})
}
