package agreed

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/mayflydb/mayfly/internal/object"
)

// join makes a node a member without places, and stages that it gets some.
func (s *step) join(m Member) error {
	if m.State != 0 || m.Down || len(m.Removed) > 0 {
		return refuse(object.CodeBadRequest, "node %q cannot join with a past: give only id, name, zone, weight, disks and address", m.Name)
	}
	m = m.own()
	if old, known := s.d.Member(m.ID); known {
		m.State = Joining
		if old.State == Joining && sameMember(old, m) {
			return nil // said again: its answer was lost
		}
		return s.d.checkBack(old, m)
	}
	if err := s.d.checkNew(m); err != nil {
		return err
	}
	if len(s.d.Members) >= MaxMembers {
		return refuse(object.CodeBadRequest, "the cluster has %d members, those that left included, and can have no more: wait until some are forgotten", len(s.d.Members))
	}
	m.State = Joining
	s.d.Members = s.d.with(m)
	s.d.Staged = staging(s.d.Staged, Staged{Kind: StageJoin, Node: m.ID})
	return nil
}

// checkBack says why a node that is a member already cannot join.
func (d *Document) checkBack(old, m Member) error {
	switch {
	case old.State == Lost:
		return refuse(object.CodeRefused, "node %q (%v) was declared lost, and others took its places: remove its data and start it anew, as another node", old.Name, old.ID)
	case old.State == Left:
		return refuse(object.CodeRefused, "node %q (%v) has left the cluster: remove its data and start it anew, as another node", old.Name, old.ID)
	case !slices.ContainsFunc(m.Disks, old.Uses):
		return d.noneKnown(old)
	}
	return refuse(object.CodeRefused, "node %q (%v) is a member already: it has to be introduced, not joined", old.Name, old.ID)
}

func (d *Document) noneKnown(old Member) error {
	return refuse(object.CodeRefused, "node %v has none of the disks that member %q has: it is not the same any more; let it make a new id and join, then replace %q by it",
		old.ID, old.Name, old.Name)
}

// introduce takes in what a member says of itself that is back.
func (s *step) introduce(m Member) error {
	old, known := s.d.Member(m.ID)
	if !known {
		return refuse(object.CodeRefused, "node %v is no member of cluster %q: let it join", m.ID, s.d.Name)
	}
	if !old.State.Live() {
		return s.d.checkBack(old, m)
	}
	next := old.own()
	next.Address = m.Address
	if m.Name != "" {
		next.Name = m.Name
	}
	next.Disks = sortedDisks(m.Disks)
	for _, disk := range next.Disks {
		if old.Lacks(disk) {
			return refuse(object.CodeRefused, "disk %x of node %q was taken out of service, and others have what was on it since: remove its data and start again", disk, old.Name)
		}
	}
	if !slices.ContainsFunc(next.Disks, old.Uses) {
		return s.d.noneKnown(old)
	}
	for _, disk := range old.Disks {
		if !next.Uses(disk) {
			next.Removed = append(next.Removed, disk)
			s.note("disk %x of node %q is gone: it serves nothing any more", disk, old.Name)
		}
	}
	next.Removed = sortedDisks(next.Removed)
	if len(next.Removed) > MaxRemoved {
		return refuse(object.CodeBadRequest, "node %q has lost %d disks, more than are remembered: replace it by a new node", old.Name, len(next.Removed))
	}
	if err := s.d.checkMember(next); err != nil {
		return err
	}
	if !sameMember(old, next) || !slices.Equal(old.Removed, next.Removed) {
		s.d.Members = s.d.with(next)
	}
	return nil
}

// sameMember reports whether nothing differs that a node says of itself.
func sameMember(a, b Member) bool {
	return a.Node() == b.Node() && a.Address == b.Address && slices.Equal(a.Disks, b.Disks)
}

// checkNew says what is wrong with a member that is to be a new one.
func (d *Document) checkNew(m Member) error {
	if old, known := d.Member(m.ID); known {
		return refuse(object.CodeBadRequest, "node %v is there twice, as %q and as %q", m.ID, old.Name, m.Name)
	}
	return d.checkMember(m)
}

// checkMember says what is wrong with a member, the others given.
func (d *Document) checkMember(m Member) error {
	if err := m.Node().Validate(); err != nil {
		return refused(err)
	}
	if err := m.checkShape(); err != nil {
		return err
	}
	if other, taken := d.MemberNamed(m.Name); taken && other.ID != m.ID {
		return refuse(object.CodeConflict, "the name %q is that of node %v, at %s: give node %v another name, or remove the other first", m.Name, other.ID, other.Address, m.ID)
	}
	for _, other := range d.Members {
		if other.ID == m.ID {
			continue
		}
		for _, disk := range m.Disks {
			if other.Uses(disk) || other.Lacks(disk) {
				return refuse(object.CodeConflict, "disk %x of node %q is one of node %q: it was copied or moved; remove its data and start again", disk, m.Name, other.Name)
			}
		}
	}
	return nil
}

// checkShape says what is wrong with disks and address.
func (m Member) checkShape() error {
	switch {
	case len(m.Disks) == 0 || len(m.Disks) > MaxDisks:
		return refuse(object.CodeBadRequest, "node %q has %d disks, want 1 to %d", m.Name, len(m.Disks), MaxDisks)
	case slices.Contains(m.Disks, DiskID{}):
		return refuse(object.CodeBadRequest, "node %q has a disk without an id", m.Name)
	case m.Address == "" || !text(m.Address, MaxAddressBytes):
		return refuse(object.CodeBadRequest, "node %q has the address %.40q, want host:port in at most %d bytes", m.Name, m.Address, MaxAddressBytes)
	}
	return nil
}

func compareDisks(a, b DiskID) int { return bytes.Compare(a[:], b[:]) }

func checkName(what, name string) error {
	if name == "" || !text(name, MaxNameBytes) {
		return refuse(object.CodeBadRequest, "%s is %.40q, want 1 to %d bytes of UTF-8 without control characters", what, name, MaxNameBytes)
	}
	return nil
}

// text reports whether s is UTF-8 without control characters that fits.
func text(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !slices.ContainsFunc([]rune(s), unicode.IsControl)
}
