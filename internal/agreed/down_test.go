package agreed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

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
