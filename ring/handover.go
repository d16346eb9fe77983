package ring

import (
	"fmt"
	"maps"
	"slices"
)

// A handover is what is still to be copied of plain data, which belongs to the
// newest ring from the moment it is agreed. Partitions of rings with different
// bits nest, so it counts in pieces of the finest of them.
//
// Invariants: newcomers own a partition of the newest ring, and sources do
// not; where there is a source, there is a newcomer. Both are ascending by
// node; bits is 0 if there are none. A piece with newcomers has one beginning,
// others have none; beginnings are ascending, each at a ring of the history
// before the newest.
type handover struct {
	bits       uint8
	newcomers  []holding // may lack something
	sources    []holding // no owners any more; kept until there is no newcomer
	beginnings []beginning
}

// A holding is the pieces in which a node is a newcomer or a source.
type holding struct {
	node     NodeID
	prefixes []uint32 // ascending, at least one
}

// A beginning is the pieces in which the first ring whose owners may have
// acknowledged what newcomers lack is the one that counts from a slot on: the last
// one before there were newcomers.
type beginning struct {
	from     int64
	prefixes []uint32 // ascending, at least one
}

// to returns the handover once next has taken the place of prev, which counts from
// a slot on. Who owns in next and did not in prev is a newcomer; who owned and does
// not any more is a source. Where owners become fewer, all that stay are newcomers:
// an acknowledged put need not be on as many of them as fewer owners are asked.
func (h handover) to(from int64, prev, next *Ring) handover {
	bits := max(h.bits, prev.bits, next.bits)
	if h.empty() {
		bits = max(prev.bits, next.bits)
	}
	newcomers, sources, begun := perPiece(h.newcomers, h.bits, bits), perPiece(h.sources, h.bits, bits), h.begun(bits)
	for piece := range uint32(1) << bits {
		before, after := prev.row(piece>>(bits-prev.bits)), next.row(piece>>(bits-next.bits))
		var lacking, holding []NodeID
		for _, id := range after {
			if !slices.Contains(before, id) || slices.Contains(newcomers[piece], id) {
				lacking = append(lacking, id)
			}
		}
		for _, id := range append(sources[piece], before...) {
			if !slices.Contains(after, id) && !slices.Contains(holding, id) {
				holding = append(holding, id)
			}
		}
		if len(holding) > 0 && (len(lacking) == 0 || len(after) < len(before)) {
			lacking = after
		}
		newcomers[piece], sources[piece] = lacking, holding
		if _, earlier := begun[piece]; !earlier {
			begun[piece] = from
		}
	}
	return newHandover(bits, newcomers, sources, begun)
}

// completed returns the handover once the node has all of the partition.
func (h handover) completed(node NodeID, p Partition) handover {
	newcomers, sources := perPiece(h.newcomers, h.bits, h.bits), perPiece(h.sources, h.bits, h.bits)
	for piece := range newcomers {
		if h.inside(piece, p) {
			newcomers[piece] = slices.DeleteFunc(newcomers[piece], func(id NodeID) bool { return id == node })
		}
		if len(newcomers[piece]) == 0 {
			delete(sources, piece)
		}
	}
	return newHandover(h.bits, newcomers, sources, h.begun(h.bits))
}

// lost returns the handover once nothing can be had of the node any more.
func (h handover) lost(node NodeID) handover {
	h.sources = slices.DeleteFunc(slices.Clone(h.sources), func(s holding) bool { return s.node == node })
	if h.empty() {
		return handover{}
	}
	return h
}

// same reports whether two handovers are equal.
func (h handover) same(other handover) bool {
	equal := func(a, b holding) bool { return a.node == b.node && slices.Equal(a.prefixes, b.prefixes) }
	begun := func(a, b beginning) bool { return a.from == b.from && slices.Equal(a.prefixes, b.prefixes) }
	return h.bits == other.bits && slices.EqualFunc(h.newcomers, other.newcomers, equal) && slices.EqualFunc(h.sources, other.sources, equal) &&
		slices.EqualFunc(h.beginnings, other.beginnings, begun)
}

func (h handover) empty() bool { return len(h.newcomers) == 0 && len(h.sources) == 0 }

// inside reports whether a piece lies in the partition, whole.
func (h handover) inside(piece uint32, p Partition) bool {
	return p.Bits <= h.bits && piece>>(h.bits-p.Bits) == p.Prefix
}

// overlapping returns the nodes that hold any piece that overlaps p.
func (h handover) overlapping(holdings []holding, p Partition) (nodes []NodeID) {
	for _, held := range holdings {
		if slices.ContainsFunc(held.prefixes, func(piece uint32) bool { return Partition{h.bits, piece}.Overlaps(p) }) {
			nodes = append(nodes, held.node)
		}
	}
	return nodes
}

// begun returns the beginning of each piece that has one, in pieces of finer bits.
func (h handover) begun(to uint8) map[uint32]int64 {
	begun := map[uint32]int64{}
	for _, b := range h.beginnings {
		for _, prefix := range b.prefixes {
			for i := range uint32(1) << (to - h.bits) {
				begun[prefix<<(to-h.bits)|i] = b.from
			}
		}
	}
	return begun
}

// first returns the first slot of the first ring that matters for any piece that
// overlaps p; false if there is no newcomer.
func (h handover) first(p Partition) (from int64, found bool) {
	for _, b := range h.beginnings {
		if slices.ContainsFunc(b.prefixes, func(piece uint32) bool { return Partition{h.bits, piece}.Overlaps(p) }) {
			return b.from, true
		}
	}
	return 0, false
}

// perPiece returns the nodes of each piece, in pieces of other, finer bits.
func perPiece(holdings []holding, from, to uint8) map[uint32][]NodeID {
	nodes := map[uint32][]NodeID{}
	for _, held := range holdings {
		for _, prefix := range held.prefixes {
			for i := range uint32(1) << (to - from) {
				piece := prefix<<(to-from) | i
				nodes[piece] = append(nodes[piece], held.node)
			}
		}
	}
	return nodes
}

// newHandover makes a handover of what is known of each piece. A beginning of one
// that has no newcomers is left out.
func newHandover(bits uint8, newcomers, sources map[uint32][]NodeID, begun map[uint32]int64) handover {
	h := handover{bits: bits, newcomers: perNode(newcomers), sources: perNode(sources)}
	if h.empty() {
		return handover{}
	}
	pieces := map[int64][]uint32{}
	for piece, from := range begun {
		if len(newcomers[piece]) > 0 {
			pieces[from] = append(pieces[from], piece)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(pieces)) {
		slices.Sort(pieces[from])
		h.beginnings = append(h.beginnings, beginning{from, pieces[from]})
	}
	return h
}

func perNode(nodes map[uint32][]NodeID) (holdings []holding) {
	pieces := map[NodeID][]uint32{}
	for piece, ids := range nodes {
		for _, id := range ids {
			pieces[id] = append(pieces[id], piece)
		}
	}
	for id, prefixes := range pieces {
		slices.Sort(prefixes)
		holdings = append(holdings, holding{id, prefixes})
	}
	slices.SortFunc(holdings, func(a, b holding) int { return a.node.Compare(b.node) })
	return holdings
}

// validate checks the invariants against the rings. Errors wrap ErrRing.
func (h handover) validate(rings []entry) error {
	newest := rings[len(rings)-1].ring
	switch {
	case h.bits > MaxBits || h.empty() && h.bits != 0:
		return fmt.Errorf("plain data handed over in 2^%d pieces: %w", h.bits, ErrRing)
	case h.empty() && len(h.beginnings) == 0:
		return nil
	case h.bits < newest.bits:
		return fmt.Errorf("plain data handed over in 2^%d pieces, the ring has 2^%d partitions: %w", h.bits, newest.bits, ErrRing)
	}
	lacking := map[uint32]bool{}
	for _, role := range []struct {
		holdings []holding
		owner    bool
	}{{h.newcomers, true}, {h.sources, false}} {
		for i, held := range role.holdings {
			if len(held.prefixes) == 0 || held.node.IsZero() || i > 0 && role.holdings[i-1].node.Compare(held.node) >= 0 {
				return fmt.Errorf("plain data handed over: node %v is there twice, out of order or for nothing: %w", held.node, ErrRing)
			}
			for j, piece := range held.prefixes {
				if piece>>h.bits != 0 || j > 0 && held.prefixes[j-1] >= piece {
					return fmt.Errorf("plain data handed over: prefix %x of 2^%d is out of order: %w", piece, h.bits, ErrRing)
				}
				owner := slices.Contains(newest.row(piece>>(h.bits-newest.bits)), held.node)
				if owner != role.owner || !owner && !lacking[piece] {
					return fmt.Errorf("plain data handed over: node %v has no such part in %v: %w", held.node, Partition{h.bits, piece}, ErrRing)
				}
				lacking[piece] = true
			}
		}
	}
	return h.validateBeginnings(rings[:len(rings)-1], lacking)
}

// validateBeginnings checks that each piece that lacks something has a beginning, at
// one of the rings before.
func (h handover) validateBeginnings(before []entry, lacking map[uint32]bool) error {
	for i, b := range h.beginnings {
		known := slices.ContainsFunc(before, func(e entry) bool { return e.from == b.from })
		if !known || len(b.prefixes) == 0 || i > 0 && h.beginnings[i-1].from >= b.from {
			return fmt.Errorf("plain data handed over: from slot %d on is out of order, for nothing or of no ring before: %w", b.from, ErrRing)
		}
		for j, piece := range b.prefixes {
			if j > 0 && b.prefixes[j-1] >= piece || !lacking[piece] {
				return fmt.Errorf("plain data handed over: %v from slot %d on is out of order, there twice or lacks nothing: %w", Partition{h.bits, piece}, b.from, ErrRing)
			}
			delete(lacking, piece)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("plain data handed over: since when %d pieces lack something is not told: %w", len(lacking), ErrRing)
	}
	return nil
}

// PlainSources returns the nodes that do not own the partition in the newest
// ring and still hold plain data of it that owners may lack, ascending. The
// partition may be of any bits.
func (h *History) PlainSources(p Partition) []NodeID {
	return h.plain.overlapping(h.plain.sources, p)
}

// PlainNewcomers returns the owners in the newest ring that are not known yet
// to have all plain data of the partition, ascending.
func (h *History) PlainNewcomers(p Partition) []NodeID {
	return h.plain.overlapping(h.plain.newcomers, p)
}
