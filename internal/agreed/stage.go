package agreed

import (
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// excludes reports whether two things cannot be staged together: there is one
// fate for a node, one weight and one zone, and one of each of the others; and a
// node that replaces another has nothing else before it.
func (x Staged) excludes(y Staged) bool {
	return x.Node == y.Node && x.Kind.class() == y.Kind.class() || y.concerns(x.New) || x.concerns(y.New)
}

// class gathers kinds of which there is one for a node.
func (k StageKind) class() StageKind {
	if k <= StageLose {
		return StageJoin
	}
	return k
}

// concerns reports whether what is staged is about the node.
func (x Staged) concerns(id ring.NodeID) bool { return !id.IsZero() && (x.Node == id || x.New == id) }

// staging returns what is staged with x among it, in the place of what it excludes.
func staging(staged []Staged, x Staged) []Staged {
	return append(slices.DeleteFunc(slices.Clone(staged), func(y Staged) bool { return y.excludes(x) }), x)
}

func (s *step) stageOf(x Staged) error {
	if err := s.d.checkStaged(x); err != nil {
		return err
	}
	m, _ := s.d.Member(x.Node)
	if m.State == Joining && s.d.Pending.concerns(x.Node) {
		return refuse(object.CodeConflict, "node %q is part of the change that is pending: wait until it is fixed, or cancel it", m.Name)
	}
	switch {
	case m.State == Joining && (x.Kind == StageLeave || x.Kind == StageLose):
		s.forget(x.Node) // no ring ever had it
		return nil
	case m.State == Joining && x.Kind == StageWeight:
		m.Weight = x.Weight
		s.change(m)
		return nil
	case m.State == Joining && x.Kind == StageZone:
		m.Zone = x.Zone
		s.change(m)
		return nil
	}
	if !slices.Contains(s.d.Staged, x) {
		s.d.Staged = staging(s.d.Staged, x)
	}
	return nil
}

// concerns reports whether the pending change is about the node.
func (p *Pending) concerns(id ring.NodeID) bool {
	return p != nil && (slices.Contains(p.Returning, id) || slices.ContainsFunc(p.Staged, func(x Staged) bool { return x.concerns(id) }))
}

// checkStaged says why this cannot be asked for, members being as they are.
func (d *Document) checkStaged(x Staged) error {
	bare := Staged{Kind: x.Kind, Node: x.Node}
	switch x.Kind {
	case StageReplace:
		bare.New = x.New
	case StageLose:
		bare.New = x.New
	case StageWeight:
		bare.Weight = x.Weight
	case StageZone:
		bare.Zone = x.Zone
	case StagePartitions:
		bare.Bits = x.Bits
	}
	if x != bare || x.Kind < StageJoin || x.Kind > StagePartitions {
		return refuse(object.CodeBadRequest, "stage %v: it has fields that do not belong to it", x.Kind)
	}
	if x.Kind == StageFill || x.Kind == StagePartitions {
		if !x.Node.IsZero() {
			return refuse(object.CodeBadRequest, "stage %v: it is about no node", x.Kind)
		}
		if x.Kind == StagePartitions && x.Bits != d.History.Newest().Bits() {
			return refuse(object.CodeUnsupported, "the number of partitions stays 2^%d as it was when the cluster was founded: files of plain buckets are by partition, and cannot be split yet", d.History.Newest().Bits())
		}
		return nil
	}
	m, known := d.Member(x.Node)
	if !known {
		return refuse(object.CodeBadRequest, "node %v is no member: see the list of members", x.Node)
	}
	is := func(states ...MemberState) error {
		if slices.Contains(states, m.State) {
			return nil
		}
		return refuse(object.CodeConflict, "node %q is %v: it cannot be asked to %v", m.Name, m.State, x.Kind)
	}
	switch x.Kind {
	case StageJoin:
		return is(Joining)
	case StageLeave:
		return is(Joining, Valid)
	case StageReplace:
		if err := is(Valid); err != nil {
			return err
		}
		return d.checkNewcomer(m, x.New)
	case StageLose:
		if err := is(Joining, Valid, Leaving); err != nil || x.New.IsZero() {
			return err
		}
		if m.State != Valid {
			return refuse(object.CodeConflict, "node %q is %v and has no places: remove it without a replacement", m.Name, m.State)
		}
		return d.checkNewcomer(m, x.New)
	case StageWeight, StageZone:
		if err := is(Joining, Valid); err != nil {
			return err
		}
		if x.Kind == StageWeight {
			m.Weight = x.Weight
		} else {
			m.Zone = x.Zone
		}
		if err := m.Node().Validate(); err != nil {
			return refused(err)
		}
	}
	return nil
}

func (d *Document) checkNewcomer(old Member, id ring.NodeID) error {
	m, known := d.Member(id)
	switch {
	case !known:
		return refuse(object.CodeBadRequest, "node %v, which is to replace node %q, is no member: let it join first", id, old.Name)
	case m.State != Joining:
		return refuse(object.CodeConflict, "node %q, which is to replace node %q, is %v and has places of its own: replace it by a node that has just joined", m.Name, old.Name, m.State)
	}
	return nil
}

// clear takes back what is staged for the node, or all of it.
func (s *step) clear(node ring.NodeID) error {
	left := slices.DeleteFunc(slices.Clone(s.d.Staged), func(x Staged) bool { return node.IsZero() || x.concerns(node) })
	if len(left) < len(s.d.Staged) {
		s.d.Staged = left
	}
	return nil
}

// forget removes a member that no ring has to do with.
func (s *step) forget(id ring.NodeID) {
	s.d.Members = slices.DeleteFunc(slices.Clone(s.d.Members), func(m Member) bool { return m.ID == id })
	_ = s.clear(id)
}

// StagedHash identifies what is staged, so that nobody commits what he has not
// seen.
func (d *Document) StagedHash() uint64 {
	var e encoder
	e.staged(d.Staged)
	return xxhash.Sum64(e.b)
}
