package ring

import (
	"fmt"
	"slices"
)

// A Constraint is something a claim tries to hold.
type Constraint uint8

// The constraints, in the order in which they win over one another.
const (
	Copies Constraint = iota + 1 // a partition has the n owners asked for
	Zones                        // its owners are in different zones
	Shares                       // each node owns its share by weight, to within one partition
)

// String names the constraint.
func (c Constraint) String() string {
	switch c {
	case Copies:
		return "copies"
	case Zones:
		return "zones"
	case Shares:
		return "shares"
	}
	return fmt.Sprintf("constraint %d", uint8(c))
}

// MarshalText returns what String returns.
func (c Constraint) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// A Shortfall says which constraint the nodes at hand do not allow a ring to
// hold, and why, in a sentence for the operator.
type Shortfall struct {
	Constraint Constraint `json:"constraint"`
	Why        string     `json:"why"`
}

// String returns the constraint and why.
func (s Shortfall) String() string { return s.Constraint.String() + ": " + s.Why }

// Claim makes a ring of 2^bits partitions with n owners each on these nodes,
// in any order, and lists what it could not hold.
//
//   - The owners of a partition are n different nodes; all nodes, if there are
//     fewer than n.
//   - They are in as many different zones as possible: all different if there
//     are n zones; else no zone has more of them than is needed.
//   - Each node owns its share: its part of all n*2^bits by weight, cut where
//     the rules above leave no choice (no node owns a partition twice, no zone
//     takes more of a partition than it may) and spread over the others.
//     Shares are rounded up or down, never further, so a node is always within
//     one partition of its share.
//   - Each node is the first owner of one nth of what it owns, likewise, if there
//     is no ring before; else as nearly as the last rule allows.
//   - Which nodes share partitions is as good as random, so that many help to
//     rebuild one.
//   - Few owners differ from prev, the ring before; nil if there is none.
//   - An owner that stays never comes forward: a bucket that lives on the first k
//     owners finds there only owners that were among the first k, and newcomers. It
//     keeps its place, unless a newcomer was put before the first, which moves those
//     before the vacated place one back. Newcomers are owners that were not among
//     the first n in prev.
//
// The same arguments give the same ring everywhere. Errors wrap ErrRing: the
// nodes, n or bits are out of bounds.
func Claim(nodes []Node, bits uint8, n int, prev *Ring) (*Ring, []Shortfall, error) {
	if n < 1 || n > MaxN {
		return nil, nil, fmt.Errorf("claim: %d owners a partition, want 1 to %d: %w", n, MaxN, ErrRing)
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return a.ID.Compare(b.ID) })
	copies := min(n, len(nodes))
	if err := checkShape(bits, max(1, copies), nodes); err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	places := previousPlaces(nodes, bits, prev)
	before := staying(places)
	s := newShares(nodes, bits, copies, counts(before, len(nodes)))
	a := newAssignment(s, bits, places)
	a.keep(before)
	kept := a.kept(before)
	a.fill()
	a.restore(before, kept)
	a.order()
	r, err := newRing(bits, copies, nodes, a.table())
	if err != nil {
		panic(fmt.Sprintf("ring: BUG: a claim made what is %v", err))
	}
	var short []Shortfall
	if copies < n {
		nodes := "nodes"
		if copies == 1 {
			nodes = "node"
		}
		short = append(short, Shortfall{Copies, fmt.Sprintf("%d %s cannot hold %d copies; add %d", copies, nodes, n, n-copies)})
	}
	return r, append(short, s.shortfalls()...), nil
}
