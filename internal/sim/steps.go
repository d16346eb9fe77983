package sim

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// checkStep holds a step of the agreed document against what the members have done.
func (s *Sim) checkStep(before, after *agreed.Document) {
	if !before.Version.Before(after.Version) {
		s.breach("agreed", "", "document %v follows %v", after.Version, before.Version)
	}
	if after.History.Version().Before(before.History.Version()) {
		s.breach("agreed", "", "history %v follows %v", after.History.Version(), before.History.Version())
	}
	if before.Change.Phase != ring.Fixed && after.Change.Phase == ring.Fixed || before.Change.Round != after.Change.Round && after.Change.Phase == ring.Fixed {
		s.checkFixed(before, after)
		s.faults.outdate()
	}
}

// asked returns who has to promise a change: who is said to, and whoever owns in the
// newest ring before it, but for those who are down, even if they have come back since
// it was proposed: they were replaced, and do not own again before a change of their
// own. Who leaves has promised the ring that it is not in.
func asked(before, doc *agreed.Document) (ids []ring.NodeID) {
	for _, m := range before.Members {
		if m.State == agreed.Valid && !m.Down || slices.Contains(doc.Change.Members, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// checkFixed: a change is fixed only if all who are not lost have promised, durably,
// and have never admitted what is past the boundary.
func (s *Sim) checkFixed(before, doc *agreed.Document) {
	s.notes.add("rings fixed", 1)
	boundary := doc.Change.Boundary
	for _, id := range asked(before, doc) {
		n := s.nodeOf(id)
		if n.wiped {
			continue
		}
		n.fs.Inject(nil) // a disk that fails to read at the moment has it all the same
		p, err := n.promise()
		n.fs.Inject(n.rule)
		if err != nil || p.Round != doc.Change.Round || p.Boundary != boundary {
			s.breach("prepare", "", "the ring from slot %d is fixed in round %d, and node %d has promised %+v (%v)", boundary, doc.Change.Round, n.at, p, err)
		}
		if n.up && max(n.admitted, n.highestStored()) >= boundary*slotSeconds {
			s.breach("prepare", "", "the ring from slot %d is fixed, and node %d has admitted epoch %d under the one before, and stored up to %d", boundary, n.at, n.admitted, n.highestStored())
		}
	}
}
