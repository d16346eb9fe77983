package agreed

import (
	"errors"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

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

// What was lost, and accepted, is not lost again by the next plan: nobody has it.
func TestLostOnce(t *testing.T) {
	s := newStory(t, 2)
	s.completeAll()
	commit := func(accept bool) Command {
		gaps := []ring.Gap{{Node: nodeID(1), Until: ring.Forever}, {Node: nodeID(1), Plain: true}}
		return Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), Gaps: gaps, AcceptLoss: accept}}
	}
	s.stage(StageLose, 0)
	s.refused(object.CodeConflict, "nobody has a complete copy", commit(false))
	s.must(commit(true))
	s.allPromise()
	s.expect(0, Lost)
	s.join(2)
	s.must(commit(false))
	s.allPromise()
	s.expect(2, Valid)
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
