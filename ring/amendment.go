package ring

import (
	"fmt"
	"math"
	"slices"
)

// Bounds of what amendments may make of a history.
const (
	MaxAmendments  = 4096      // of a history; Trim makes room
	maxAmendedCost = 512 << 20 // about the bytes that rings as amended take, and the time
)

// Forever, as the end of an amendment, is: as long as its ring counts.
const Forever = math.MaxInt64

// A Reason says why an owner was replaced.
type Reason uint8

// The reasons.
const (
	Down     Reason = iota + 1 // it does not answer; it owns again from a slot after its return on
	Leaving                    // it is leaving, and hands over what it has
	Lost                       // it will not come back
	Replaced                   // another node takes all of its places
	Filled                     // nobody was: the ring had fewer owners than are wanted
)

// String names the reason.
func (r Reason) String() string {
	switch r {
	case Down:
		return "down"
	case Leaving:
		return "leaving"
	case Lost:
		return "lost"
	case Replaced:
		return "replaced"
	case Filled:
		return "filled"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// MarshalText returns what String returns.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// An Amendment replaces one owner in some slots of a ring that already counts,
// or adds one to every partition. It belongs to the ring of slot From and ends
// with it. Amendments count in the order in which they were agreed, each upon
// what those before it made.
//
// Invariants: From < Until; no move is without its effect in any slot: Out owns
// the partition there, In does not; an amendment that adds owners (Out is zero)
// has a move for every partition.
type Amendment struct {
	From, Until int64 // slots: the first it counts for, the first it does not; Forever
	Reason      Reason
	Out         NodeID // zero: nobody's place is taken, a partition has one owner more
	OutLost     bool   // Out is not to be asked: it is no source
	Nodes       []Node // the successors, ascending by id
	Moves       []Move // ascending by prefix
}

// A Move makes In the owner of a partition in the place of another one.
type Move struct {
	Prefix  uint32 // of the partition; its bits are the ring's
	In      NodeID
	Pending bool // In is not known yet to have what it must: Out is a source until then
}

// validate checks what of an amendment does not depend on its ring.
func (a *Amendment) validate() error {
	switch {
	case a.From >= a.Until:
		return fmt.Errorf("from slot %d until slot %d: %w", a.From, a.Until, ErrRing)
	case a.Reason < Down || a.Reason > Filled:
		return fmt.Errorf("%v: %w", a.Reason, ErrRing)
	case (a.Reason == Filled) != a.Out.IsZero():
		return fmt.Errorf("%v, and %v is replaced: %w", a.Reason, a.Out, ErrRing)
	case a.OutLost && a.Out.IsZero():
		return fmt.Errorf("nobody is lost: %w", ErrRing)
	case len(a.Moves) == 0:
		return fmt.Errorf("no moves: %w", ErrRing)
	}
	used := make([]bool, len(a.Nodes))
	for i, node := range a.Nodes {
		if err := node.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrRing, err)
		}
		if i > 0 && a.Nodes[i-1].ID.Compare(node.ID) >= 0 {
			return fmt.Errorf("node %v is there twice or out of order: %w", node.ID, ErrRing)
		}
	}
	index := indexOf(a.Nodes)
	for i, m := range a.Moves {
		j, found := index[m.In]
		if !found {
			return fmt.Errorf("%v is no successor: %w", m.In, ErrRing)
		}
		used[j] = true
		if i > 0 && a.Moves[i-1].Prefix >= m.Prefix {
			return fmt.Errorf("prefix %x is there twice or out of order: %w", m.Prefix, ErrRing)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return fmt.Errorf("successor %v has no partition: %w", a.Nodes[i].ID, ErrRing)
	}
	return nil
}

// same reports whether two amendments are equal.
func (a *Amendment) same(b *Amendment) bool {
	return a == b || a.From == b.From && a.Until == b.Until && a.Reason == b.Reason && a.Out == b.Out && a.OutLost == b.OutLost &&
		slices.Equal(a.Nodes, b.Nodes) && slices.Equal(a.Moves, b.Moves)
}

// counts reports whether the amendment counts in a slot of its ring.
func (a *Amendment) counts(slot int64) bool { return a.From <= slot && slot < a.Until }

// during returns a copy that counts in other slots. It shares nodes and moves.
func (a *Amendment) during(from, until int64) *Amendment {
	b := *a
	b.From, b.Until = from, until
	return &b
}

// An amended is a ring with amendments in the making. It shares the blocks of
// the ring it began as that no move touches.
type amended struct {
	ring    Ring
	own     []bool         // blocks that are not shared any more
	count   map[NodeID]int // partitions of those nodes that came or went
	sources map[uint32][]NodeID
	left    *int64 // of maxAmendedCost
}

// amend returns r with these amendments, and for each partition the nodes that
// still hold what its owners may lack. What that takes goes off left. Errors
// wrap ErrRing.
func (r *Ring) amend(amendments []*Amendment, left *int64) (*Ring, map[uint32][]NodeID, error) {
	a := &amended{ring: *r, count: map[NodeID]int{}, left: left}
	a.ring.nodes, a.ring.blocks = slices.Clone(r.nodes), slices.Clone(r.blocks)
	a.own = make([]bool, len(r.blocks))
	*left -= int64(24*len(r.blocks) + 64*len(r.nodes))
	for _, x := range amendments {
		if err := a.apply(x); err != nil {
			return nil, nil, fmt.Errorf("amendment from slot %d, %v: %w", x.From, x.Reason, err)
		}
	}
	for prefix, nodes := range a.sources { // an owner is no source besides
		nodes = slices.DeleteFunc(nodes, func(id NodeID) bool { return slices.Contains(a.ring.row(prefix), id) })
		if a.sources[prefix] = nodes; len(nodes) == 0 {
			delete(a.sources, prefix)
		}
	}
	return &a.ring, a.sources, nil
}

func (a *amended) apply(x *Amendment) error {
	if *a.left -= int64(256 + a.ring.n<<a.ring.bits/4); *a.left < 0 {
		return errAmendedTooMuch
	}
	if last := x.Moves[len(x.Moves)-1].Prefix; last>>a.ring.bits != 0 {
		return fmt.Errorf("prefix %x of a ring of 2^%d: %w", last, a.ring.bits, ErrRing)
	}
	for _, node := range x.Nodes {
		if i, found := a.ring.index(node.ID); !found {
			a.ring.nodes = slices.Insert(a.ring.nodes, i, node)
		}
	}
	if x.Out.IsZero() {
		return a.widen(x)
	}
	if _, known := a.count[x.Out]; !known {
		a.count[x.Out] = a.ring.owned(x.Out)
	}
	for _, m := range x.Moves {
		row := a.writable(m.Prefix)
		if *a.left < 0 {
			return errAmendedTooMuch
		}
		i := slices.Index(row, x.Out)
		if i < 0 || slices.Contains(row, m.In) {
			return fmt.Errorf("partition %v: %v for %v, its owners are %v: %w", Partition{a.ring.bits, m.Prefix}, m.In, x.Out, row, ErrRing)
		}
		row[i] = m.In
		a.count[x.Out]--
		if _, known := a.count[m.In]; known {
			a.count[m.In]++
		}
		if m.Pending && !x.OutLost {
			a.source(m.Prefix, x.Out)
		}
	}
	if a.count[x.Out] == 0 { // and stands in for nobody
		a.ring.nodes = slices.DeleteFunc(a.ring.nodes, func(n Node) bool { return n.ID == x.Out })
	}
	return a.checkSize()
}

var errAmendedTooMuch = fmt.Errorf("amendments of more partitions in more slots than a history can hold, trim it: %w", ErrRing)

// writable returns the owners of a partition, which may be changed.
func (a *amended) writable(prefix uint32) []NodeID {
	if b := prefix >> blockBits; !a.own[b] {
		a.own[b] = true
		a.ring.blocks[b] = slices.Clone(a.ring.blocks[b])
		*a.left -= int64(16 * len(a.ring.blocks[b]))
	}
	return a.ring.row(prefix)
}

func (a *amended) source(prefix uint32, id NodeID) {
	if a.sources == nil {
		a.sources = map[uint32][]NodeID{}
	}
	if !slices.Contains(a.sources[prefix], id) {
		a.sources[prefix] = append(a.sources[prefix], id)
		*a.left -= 64
	}
}

// widen gives every partition one owner more.
func (a *amended) widen(x *Amendment) error {
	n, q := a.ring.n, 1<<a.ring.bits
	if len(x.Moves) != q || n == MaxN {
		return fmt.Errorf("%d owners more for %d partitions of %d: %w", len(x.Moves), q, n, ErrRing)
	}
	if *a.left -= int64(16 * q * (n + 1)); *a.left < 0 {
		return errAmendedTooMuch
	}
	owners := make([]NodeID, 0, q*(n+1))
	for i, m := range x.Moves {
		row := a.ring.row(uint32(i))
		if slices.Contains(row, m.In) {
			return fmt.Errorf("partition %v: %v, its owners are %v: %w", Partition{a.ring.bits, m.Prefix}, m.In, row, ErrRing)
		}
		if _, known := a.count[m.In]; known {
			a.count[m.In]++
		}
		owners = append(append(owners, row...), m.In)
	}
	a.ring.n++
	a.ring.blocks = intoBlocks(owners, a.ring.n)
	for i := range a.own {
		a.own[i] = true
	}
	return a.checkSize()
}

func (a *amended) checkSize() error {
	if len(a.ring.nodes) > MaxNodes {
		return fmt.Errorf("%d nodes, want at most %d: %w", len(a.ring.nodes), MaxNodes, ErrRing)
	}
	return nil
}

// owned returns how many partitions the node owns.
func (r *Ring) owned(id NodeID) (count int) {
	for _, block := range r.blocks {
		for _, owner := range block {
			if owner == id {
				count++
			}
		}
	}
	return count
}
