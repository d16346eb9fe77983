package agreed

import (
	"math"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A member that has admitted a second far ahead, by a clock that was wrong, does not
// put a change off till then, after which the ring could not change before.
func TestPromiseOfAWrongClock(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	boundary := s.d.Change.Boundary
	const year = 365 * 86400
	promise := func(i int, highest int64) Command {
		return Command{Kind: Promised, Node: nodeID(i), Round: s.d.Change.Round, Highest: highest}
	}
	s.refused(object.CodeConflict, `node "n1" has admitted second 1831536000 by a clock that was wrong, 31446000 seconds past the latest boundary`, promise(1, noon+year))
	s.refused(object.CodeConflict, "by a clock that was wrong", promise(1, 1<<62))
	s.promise(nodeID(0), nodeID(2), nodeID(3))
	if c := s.d.Change; c.Boundary != boundary || !slices.Equal(c.Waiting, []ring.NodeID{nodeID(1)}) {
		t.Fatalf("%+v", c)
	}
	s.must(promise(1, noon+7200)) // ahead, and within a day: another round
	if c := s.d.Change; c.Boundary != boundary+2 || len(c.Waiting) != 4 {
		t.Fatalf("%+v", c)
	}
	s.must(promise(9, 1<<62)) // of nobody who is asked
	s.allPromise()
	s.must(promise(1, 1<<62)) // too late to matter
}

// What was proposed by a clock that is far ahead is promised by nobody whose clock is
// right, and given up when the leader's is.
func TestChangeOfAWrongClock(t *testing.T) {
	s := newStory(t, 4)
	s.join(4)
	s.now += 30 * 86400
	s.commit()
	s.now -= 30 * 86400
	s.refused(object.CodeConflict, `boundary, slot 500721, is 2505600 seconds past the latest one there can be by the clock of node "n0"`,
		Command{Kind: Promised, Node: nodeID(0), Round: s.d.Change.Round, Highest: noon})
	r := s.must(Command{Kind: Tick})
	if s.d.Pending != nil || len(s.d.Staged) != 1 || s.d.Change.Phase != ring.Idle || len(r.Notes) == 0 {
		t.Fatalf("%+v, staged %v: %v", s.d.Change, s.d.Staged, r.Notes)
	}
	if r := s.must(Command{Kind: Tick}); r.Changed {
		t.Errorf("one more tick: %v", r)
	}
	s.commit()
	if s.d.Change.Boundary != 500_001 {
		t.Errorf("committed again for slot %d", s.d.Change.Boundary)
	}
	s.allPromise()

	// A return begins again by itself.
	s.now += 3600
	s.must(Command{Kind: Down, Node: nodeID(1)})
	s.now += 30 * 86400
	s.must(Command{Kind: Up, Node: nodeID(1)})
	if s.d.Pending == nil {
		t.Fatal("no return is pending")
	}
	s.now -= 30 * 86400
	s.must(Command{Kind: Tick})
	if s.d.Pending == nil || s.d.Change.Boundary != 500_002 {
		t.Errorf("pending %v, for slot %d", s.d.Pending, s.d.Change.Boundary)
	}
	s.allPromise()
}

// The latest slot that can be committed is promised, by clocks that are slow.
func TestLatestBoundaryIsPromised(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.now += 3560 // ten seconds before, the boundary was a slot earlier
	s.must(Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), From: s.d.latest(s.now)}})
	s.now -= s.d.Settings.SkewSeconds + 5
	s.allPromise()
}

func TestPastLatest(t *testing.T) {
	d := mustFound(t, 1)
	latest := d.latest(noon + 10)
	for _, c := range []struct{ slot, seconds int64 }{
		{math.MinInt64, 0}, {0, 0}, {latest, 0}, {latest + 1, 3600}, {latest + 2, 7200}, {math.MaxInt64, math.MaxInt64},
	} {
		if got := d.pastLatest(c.slot, noon); got != c.seconds {
			t.Errorf("slot %d is %d seconds past, want %d", c.slot, got, c.seconds)
		}
	}
}
