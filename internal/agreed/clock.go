package agreed

import (
	"math"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A change that is fixed for a slot far ahead cannot be undone: the ring could not
// change again before, nor could a member that was down return. So a clock that is
// wrong must not bring one about: neither that of who proposes, nor one by which a
// member has admitted something once.

// A boundary further ahead than this is refused: a day, or 16 slots.
func (d *Document) latest(now int64) int64 {
	return d.earliest(now) + max(16, 86400/d.Settings.SlotSeconds)
}

func (d *Document) tooFar(from, now int64) error {
	return refuse(object.CodeBadRequest, "slot %d is too far ahead: a change committed now can begin with a slot between %d and %d", from, d.earliest(now), d.latest(now))
}

// pastLatest returns by how many seconds a slot is past all that can be proposed, by
// clocks that are as far apart as they may be; 0 if it is not.
func (d *Document) pastLatest(slot, now int64) int64 {
	latest := d.latest(now + 2*d.Settings.SkewSeconds)
	if slot <= latest {
		return 0
	}
	if slots := slot - latest; slots <= math.MaxInt64/d.Settings.SlotSeconds {
		return slots * d.Settings.SlotSeconds
	}
	return math.MaxInt64
}

// promised takes in a member's promise. The time is that of the member's clock.
func (s *step) promised(c Command) error {
	d := s.d
	if d.Change.Phase == ring.Proposed && c.Round == d.Change.Round && slices.Contains(d.Change.Waiting, c.Node) {
		if past := d.pastLatest(d.Change.Boundary, s.now); past > 0 {
			return refuse(object.CodeConflict, "the boundary, slot %d, is %d seconds past the latest one there can be by the clock of node %q: set the clocks right, then cancel the change", d.Change.Boundary, past, d.label(c.Node))
		}
		if past := d.pastLatest(d.History.SlotOf(c.Highest), s.now); past > 0 {
			return refuse(object.CodeConflict, "node %q has admitted second %d by a clock that was wrong, %d seconds past the latest boundary there can be: the ring could not change before; the change waits for the node until then, or is cancelled, or the node is removed as lost",
				d.label(c.Node), c.Highest, past)
		}
	}
	s.event(ring.ChangeEvent{Kind: ring.Promised, Round: c.Round, Node: c.Node, Highest: c.Highest})
	return nil
}

// tick lets time pass. A change that was proposed by another clock, which was far
// ahead, is given up; a return begins again by this one.
func (s *step) tick() {
	if s.d.Change.Phase == ring.Proposed {
		if past := s.d.pastLatest(s.d.Change.Boundary, s.now); past > 0 {
			s.note("the change for slot %d is given up: by the clock of who leads it is %d seconds past the latest slot there can be", s.d.Change.Boundary, past)
			s.event(ring.ChangeEvent{Kind: ring.Cancel})
			s.unstage()
			return
		}
	}
	s.event(ring.ChangeEvent{Kind: ring.Tick})
}
