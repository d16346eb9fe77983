package agreed

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Members that are down stop being replaced when the history has so many
// amendments: what the operator asks for must find room.
var maxDownAmendments = ring.MaxAmendments / 4 * 3

// down gives the places of a member that does not answer to others, in the open
// slot and in later ones. Silent are others that do not answer either, whether
// they are Down yet or not: they count as stale, and take no place.
func (s *step) down(id ring.NodeID, silent []ring.NodeID) error {
	m, known := s.d.Member(id)
	if !known || !m.State.Live() {
		return refuse(object.CodeBadRequest, "node %v is no member that could be down", id)
	}
	if len(silent) > MaxMembers {
		return refuse(object.CodeBadRequest, "%d silent nodes are more than there are members", len(silent))
	}
	m.Down, m.Back = true, false
	s.change(m)
	if s.d.Pending != nil && len(s.d.Pending.Returning) > 0 { // made with another list of who promises: it begins again
		s.event(ring.ChangeEvent{Kind: ring.Cancel})
		s.d.Pending = nil
	}
	s.replace(id, silent)
	return nil
}

// replace gives to others what a member owns that is down. What cannot be is
// noted, and tried again when the ring changes or another member returns.
func (s *step) replace(id ring.NodeID, silent []ring.NodeID) {
	m, _ := s.d.Member(id)
	if m.State != Valid {
		return
	}
	stale := slices.Concat(s.d.stale(), silent)
	var candidates []ring.Node
	for _, other := range s.d.Members {
		if other.State == Valid && !other.Down && !slices.Contains(stale, other.ID) {
			candidates = append(candidates, other.Node())
		}
	}
	h, short, err := s.d.History.Replace(later(s.d.History), ring.Replacement{
		Out: id, Reason: ring.Down, From: s.d.History.SlotOf(s.now), Until: ring.Forever, Unwritten: s.d.Timing().Boundary(s.now),
		Candidates: candidates, Stale: distinct(stale), MostStale: s.d.mostStale(),
	})
	if err == nil {
		err = checkSize(h)
	}
	switch {
	case err != nil:
		s.note("node %q keeps its places although it is down: %v", m.Name, err)
	case h.Same(s.d.History):
		s.noteShort(short)
	case h.AmendmentCount() > maxDownAmendments:
		s.note("node %q keeps its places although it is down: the history has %d amendments, of nodes that go and come again; they go as their slots expire",
			m.Name, s.d.History.AmendmentCount())
	default:
		s.move(h)
		s.noteShort(short)
	}
}

// replaceDown gives to others what members that are down have come to own.
func (s *step) replaceDown() {
	for _, id := range s.d.stale() {
		s.replace(id, nil)
	}
}

// stale returns who may not learn of what is agreed: who is down and not back,
// ascending.
func (d *Document) stale() (ids []ring.NodeID) {
	for _, m := range d.Members {
		if m.State.Live() && m.Down && !m.Back {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// mostStale returns how many stale owners a partition may have for others to
// take their places: one less than could acknowledge a put of any timed bucket.
func (d *Document) mostStale() int {
	most := ring.MaxN
	for p := range d.Buckets.All() {
		if p.Timed {
			most = min(most, p.SmallestW-1)
		}
	}
	return most
}

// up notes that a member answers again. If others have its places, a change
// begins that gives them back: see beginReturn.
func (s *step) up(id ring.NodeID) error {
	m, known := s.d.Member(id)
	if !known || !m.State.Live() {
		return refuse(object.CodeBadRequest, "node %v is no member that could be up", id)
	}
	if !m.Down || m.Back {
		return nil
	}
	m.Back = m.State == Valid
	m.Down = m.Back
	s.change(m)
	return nil
}

// beginReturn proposes that members which are back own again from a boundary on,
// once no other change is pending. All members that are up promise, so that no
// two of them go on with the successors while others go on with those that
// returned. Where too many would not promise, the return waits.
func (s *step) beginReturn() {
	if s.d.Change.Phase == ring.Proposed {
		return
	}
	from := s.d.nextBoundary(s.now)
	var returning, promising []ring.NodeID
	for _, m := range s.d.Members {
		if m.State != Valid || m.Down && !m.Back {
			continue
		}
		promising = append(promising, m.ID)
		if !m.Back {
			continue
		}
		places, unsafe := s.d.History.Returning(m.ID, from, s.d.stale(), s.d.mostStale())
		switch {
		case places == 0: // nobody took its place, or the ring has changed
			m.Down, m.Back = false, false
			s.change(m)
		case unsafe > 0:
			s.note("node %q is back and waits with its places: in %d partitions too many other owners are down", m.Name, unsafe)
		default:
			returning = append(returning, m.ID)
		}
	}
	if len(returning) == 0 {
		return
	}
	if err := s.propose(&Pending{Returning: returning}, promising, from); err != nil {
		panic("agreed: BUG: a return cannot be proposed: " + err.Error())
	}
}

// fixReturn lets members own again from a slot on.
func (s *step) fixReturn(ids []ring.NodeID, boundary int64) error {
	h := s.d.History
	for _, id := range ids {
		next, err := h.Return(later(h), id, boundary)
		if err != nil {
			return refused(err)
		}
		h = next
	}
	if err := checkSize(h); err != nil {
		return err
	}
	s.move(h)
	s.d.Pending = nil
	for _, id := range ids {
		m, _ := s.d.Member(id)
		m.Down, m.Back = false, false
		s.change(m)
		s.note("node %q owns again from slot %d on", m.Name, boundary)
	}
	s.replaceDown()
	return nil
}

func distinct(ids []ring.NodeID) []ring.NodeID {
	return slices.Compact(slices.SortedFunc(slices.Values(ids), ring.NodeID.Compare))
}
