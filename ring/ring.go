// Package ring says where objects live: the placement hash, the partitions it
// falls into, the ring that gives every partition its owners, and the history
// of rings, each counting from a slot of time on.
//
// It is pure: no clock, disk, network or goroutine. Rings and histories never
// change once made, so any number of goroutines may use one; a change makes a
// new one. Equal input gives equal rings, byte for byte, on every machine.
package ring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// DefaultBits makes rings of 64 partitions.
const DefaultBits = 6

// ErrRing is wrapped by every error about a ring's or a history's content.
var ErrRing = errors.New("not a valid ring")

// A Ring gives each of its 2^Bits partitions N owners. It is immutable.
//
// Invariants: 0 <= bits <= MaxBits; 1 <= n <= len(nodes); nodes are valid and
// ascending by id; a partition has n owners, in order of preference, all of
// them members and no two of them the same.
type Ring struct {
	bits   uint8
	n      int
	nodes  []Node
	blocks [][]NodeID // owners of 2^blockBits partitions behind one another, n of each
}

// Rings that differ in a few partitions share the blocks of all others.
const blockBits = 4

// newRing makes a ring from indexes into nodes, n a partition, and checks all
// of its invariants. It keeps nodes and copies the owners out of rows.
func newRing(bits uint8, n int, nodes []Node, rows []uint16) (*Ring, error) {
	if err := checkShape(bits, n, nodes); err != nil {
		return nil, err
	}
	if len(rows) != n<<bits {
		return nil, fmt.Errorf("%d owners for 2^%d partitions of %d: %w", len(rows), bits, n, ErrRing)
	}
	r := &Ring{bits: bits, n: n, nodes: nodes}
	owners := make([]NodeID, len(rows))
	for i, index := range rows {
		if int(index) >= len(nodes) {
			return nil, fmt.Errorf("partition %v: owner %d of %d nodes: %w", r.partition(i/n), index, len(nodes), ErrRing)
		}
		if slices.Contains(rows[i-i%n:i], index) {
			return nil, fmt.Errorf("partition %v: node %v owns it twice: %w", r.partition(i/n), nodes[index].ID, ErrRing)
		}
		owners[i] = nodes[index].ID
	}
	r.blocks = intoBlocks(owners, n)
	return r, nil
}

// intoBlocks cuts the owners of all partitions, n of each, into blocks.
func intoBlocks(owners []NodeID, n int) [][]NodeID {
	return slices.Collect(slices.Chunk(owners, n<<blockBits))
}

// checkShape checks everything of a ring but its owners.
func checkShape(bits uint8, n int, nodes []Node) error {
	switch {
	case bits > MaxBits:
		return fmt.Errorf("2^%d partitions, want at most 2^%d: %w", bits, MaxBits, ErrRing)
	case len(nodes) == 0 || len(nodes) > MaxNodes:
		return fmt.Errorf("%d nodes, want 1 to %d: %w", len(nodes), MaxNodes, ErrRing)
	case n < 1 || n > MaxN || n > len(nodes):
		return fmt.Errorf("%d owners a partition on %d nodes, want 1 to %d: %w", n, len(nodes), min(MaxN, len(nodes)), ErrRing)
	}
	for i, node := range nodes {
		if err := node.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrRing, err)
		}
		if i > 0 && nodes[i-1].ID.Compare(node.ID) >= 0 {
			return fmt.Errorf("node %v is there twice or out of order: %w", node.ID, ErrRing)
		}
	}
	return nil
}

// Bits returns the binary logarithm of the number of partitions.
func (r *Ring) Bits() uint8 { return r.bits }

// N returns how many owners each partition has: what was asked for, or the
// number of nodes where there are fewer. A bucket of a smaller n uses the
// first n.
func (r *Ring) N() int { return r.n }

// Nodes returns the members, ascending by id. The slice is the ring's: it must
// not be changed.
func (r *Ring) Nodes() []Node { return r.nodes }

// Node returns the member with this id.
func (r *Ring) Node(id NodeID) (Node, bool) {
	i, found := r.index(id)
	if !found {
		return Node{}, false
	}
	return r.nodes[i], true
}

// PartitionOf returns the ring's partition that holds the hash.
func (r *Ring) PartitionOf(hash uint64) Partition { return PartitionOf(hash, r.bits) }

// Partitions yields all partitions of the ring, ascending.
func (r *Ring) Partitions() iter.Seq[Partition] {
	return func(yield func(Partition) bool) {
		for i := range 1 << r.bits {
			if !yield(r.partition(i)) {
				return
			}
		}
	}
}

// Owners returns the partition's owners in order of preference. The partition
// must be one of this ring's. The slice is the ring's: it must not be changed.
func (r *Ring) Owners(p Partition) []NodeID {
	if p.Bits != r.bits || p.Prefix >= 1<<r.bits {
		panic(fmt.Sprintf("ring: BUG: partition %v of a ring of 2^%d", p, r.bits))
	}
	return r.row(p.Prefix)
}

// row returns the owners of the partition with this prefix.
func (r *Ring) row(prefix uint32) []NodeID {
	i := int(prefix&(1<<blockBits-1)) * r.n
	return r.blocks[prefix>>blockBits][i : i+r.n : i+r.n]
}

// Owns reports whether the node is an owner of the partition.
func (r *Ring) Owns(id NodeID, p Partition) bool {
	return slices.Contains(r.Owners(p), id)
}

// OwnedBy yields the partitions the node owns, ascending.
func (r *Ring) OwnedBy(id NodeID) iter.Seq[Partition] {
	return func(yield func(Partition) bool) {
		for p := range r.Partitions() {
			if r.Owns(id, p) && !yield(p) {
				return
			}
		}
	}
}

// StandIns yields the nodes that may keep copies of the partition for owners
// that are down, best first, all that are no owners: those of zones without an
// owner, then the others, each group in an order of its own for each
// partition, so that the load of a node that is down spreads over all.
func (r *Ring) StandIns(p Partition) iter.Seq[Node] {
	owners := r.Owners(p)
	return func(yield func(Node) bool) {
		for _, node := range r.standIns(p, owners) {
			if !yield(node) {
				return
			}
		}
	}
}

func (r *Ring) standIns(p Partition, owners []NodeID) []Node {
	var held []string // zones of the owners
	var rest []Node
	for _, node := range r.nodes {
		if slices.Contains(owners, node.ID) {
			held = append(held, node.Zone)
		} else {
			rest = append(rest, node)
		}
	}
	rank := func(n Node) (int, uint64) {
		inHeldZone := 0
		if slices.Contains(held, n.Zone) {
			inHeldZone = 1
		}
		return inHeldZone, affinity(p, n.ID)
	}
	slices.SortFunc(rest, func(a, b Node) int {
		zoneA, affinityA := rank(a)
		zoneB, affinityB := rank(b)
		return cmp.Or(cmp.Compare(zoneA, zoneB), cmp.Compare(affinityB, affinityA), a.ID.Compare(b.ID))
	})
	return rest
}

// index returns where in nodes the id is.
func (r *Ring) index(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(r.nodes, id, func(n Node, id NodeID) int { return n.ID.Compare(id) })
}

// partition returns the i-th partition of the ring.
func (r *Ring) partition(i int) Partition { return Partition{r.bits, uint32(i)} }
