package ring

import (
	"fmt"
	"slices"
)

// Return returns a later history, of version v, in which a node that was down
// owns again what it owned, from a slot on that is ahead of every admissible
// epoch. What was amended upon its successors meanwhile is amended upon the
// node instead, or lapses. h stays as it is. Errors wrap ErrRing.
func (h *History) Return(v Version, node NodeID, from int64) (*History, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, err
	}
	next.amendments = nil
	var over []*Amendment // those that end now
	for _, a := range h.amendments {
		if a.Reason == Down && a.Out == node && a.Until > from {
			over = append(over, a)
			if a.From >= from {
				continue
			}
			a = a.during(a.From, from)
		}
		next.amendments = append(next.amendments, a)
	}
	simple := *next
	if done, err := newHistory(&simple); err == nil {
		return done, nil
	}
	next.amendments = h.rebase(next.amendments, over, from)
	return newHistory(next)
}

// Returning returns how many partitions Return would give back to the node, in
// slots from from on, and in how many of them more than most of the owners are
// stale: nodes that will not promise before. Where there are such, a return is
// not safe: they could acknowledge among themselves what the node does not know.
func (h *History) Returning(node NodeID, from int64, stale []NodeID, most int) (places, unsafe int) {
	for _, s := range h.stretches(from, Forever, from) {
		entry := h.entryAt(s.from)
		for _, a := range h.amendments {
			if a.Reason != Down || a.Out != node || !a.counts(s.from) || h.entryAt(a.From) != entry {
				continue
			}
			for _, m := range a.Moves {
				places++
				if s.tooStale(m.Prefix, stale, most) {
					unsafe++
				}
			}
		}
	}
	return places, unsafe
}

// rebase makes amendments hold, from a slot on, without those that are over:
// interval by interval, in their order. A move whose node is an owner now goes
// to the one that made way for it; a move that has no effect is left out.
func (h *History) rebase(amendments, over []*Amendment, from int64) (rebased []*Amendment) {
	bounds := []int64{from}
	for _, e := range h.entries {
		bounds = append(bounds, e.from)
	}
	for _, a := range amendments {
		if a.Until <= from {
			continue
		}
		bounds = append(bounds, a.From, a.Until)
	}
	for _, a := range over {
		bounds = append(bounds, a.From)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	for _, a := range amendments { // what ends before is as it was
		if a.From < from {
			rebased = append(rebased, a.during(a.From, min(a.Until, from)))
		}
	}
	for i, first := range bounds {
		if first < from || first == Forever {
			continue
		}
		until := int64(Forever)
		if i+1 < len(bounds) {
			until = bounds[i+1]
		}
		entry := h.entryAt(first)
		r, cost := h.entries[entry].ring, int64(maxAmendedCost)
		freed := map[uint32]NodeID{}
		nodes := map[NodeID]Node{}
		for _, a := range over {
			if a.counts(first) && h.entryAt(a.From) == entry {
				for _, m := range a.Moves {
					freed[m.Prefix] = m.In
				}
				for _, node := range a.Nodes {
					nodes[node.ID] = node
				}
			}
		}
		for _, a := range amendments {
			if !a.counts(first) || h.entryAt(a.From) != entry {
				continue
			}
			b := a.onto(r, freed, nodes)
			if b == nil {
				continue
			}
			b.From, b.Until = first, until
			amended, _, err := r.amend([]*Amendment{b}, &cost)
			if err != nil {
				panic(fmt.Sprintf("ring: BUG: an amendment made to fit does not: %v", err))
			}
			r, rebased = amended, append(rebased, b)
		}
	}
	return rebased
}

// onto returns a copy of the amendment with the moves that have an effect on
// r, nil if there are none.
func (a *Amendment) onto(r *Ring, freed map[uint32]NodeID, others map[NodeID]Node) *Amendment {
	var moves []Move
	for _, m := range a.Moves {
		row := r.row(m.Prefix)
		if !a.Out.IsZero() && !slices.Contains(row, a.Out) {
			continue
		}
		if other, found := freed[m.Prefix]; slices.Contains(row, m.In) && found {
			m.In = other
		}
		if !slices.Contains(row, m.In) {
			moves = append(moves, m)
		}
	}
	if a.Out.IsZero() && len(moves) < len(a.Moves) {
		return nil
	}
	nodes := slices.Clone(a.Nodes)
	for _, m := range moves {
		if !slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == m.In }) {
			nodes = append(nodes, others[m.In])
		}
	}
	b := newAmendment(a.From, a.Until, a.Reason, a.Out, sortedNodes(nodes), moves)
	if b != nil {
		b.OutLost = a.OutLost
	}
	return b
}
