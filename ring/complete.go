package ring

import "slices"

// A Completion says that a node has all of a partition: every record that the
// nodes whose place it took could have acknowledged.
type Completion struct {
	Node      NodeID
	Partition Partition // of any bits
	Plain     bool      // of plain data; else of timed data in slots
	From      int64     // the first slot
	Until     int64     // the first slot it says nothing of; Forever
}

// Complete returns a later history, of version v, without the sources that
// nobody needs any more. A completion counts for the replacements whose slots
// it spans, whole. h stays as it is. Errors wrap ErrRing.
func (h *History) Complete(v Version, completions ...Completion) (*History, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, err
	}
	settle := next.settler()
	for _, c := range completions {
		if c.Plain {
			next.plain = next.plain.completed(c.Node, c.Partition)
			continue
		}
		for i, a := range h.amendments {
			if c.From > a.From || c.Until < h.untilOf(a) {
				continue
			}
			width := h.entries[h.entryAt(a.From)].ring.bits
			for j, m := range a.Moves {
				if m.Pending && m.In == c.Node && (Partition{width, m.Prefix}).within(c.Partition) {
					settle(i, j)
				}
			}
		}
	}
	next.settleSucceeded(settle)
	return newHistory(next)
}

// settler returns what notes that the node of an amendment's move has all it must. h
// is new; its amendments are copied before they change.
func (h *History) settler() func(i, move int) {
	h.amendments = slices.Clone(h.amendments)
	owned := make([]bool, len(h.amendments)) // copies of ours
	return func(i, move int) {
		if !owned[i] {
			a := *h.amendments[i]
			a.Moves = slices.Clone(a.Moves)
			h.amendments[i], owned[i] = &a, true
		}
		h.amendments[i].Moves[move].Pending = false
	}
}

// settleSucceeded settles the moves of nodes that were replaced before they were
// complete, by others that are.
func (h *History) settleSucceeded(settle func(i, move int)) {
	for more := true; more; {
		more = false
		for i := range h.amendments {
			for j, m := range h.amendments[i].Moves {
				if m.Pending && h.succeeded(i, m) {
					settle(i, j)
					more = true
				}
			}
		}
	}
}

// untilOf returns the first slot an amendment does not count for, the end of
// its ring considered.
func (h *History) untilOf(a *Amendment) int64 { return min(a.Until, h.endOf(h.entryAt(a.From))) }

// succeeded reports whether others took the place of a move's node in all of
// its amendment's slots, and have all they must.
func (h *History) succeeded(i int, m Move) bool {
	a := h.amendments[i]
	slot, until := a.From, h.untilOf(a)
	for slot < until {
		next := slot
		for _, b := range h.amendments[i+1:] {
			if b.Out != m.In || !b.counts(slot) || h.entryAt(b.From) != h.entryAt(a.From) {
				continue
			}
			if k, found := b.move(m.Prefix); found && !b.Moves[k].Pending {
				next = max(next, h.untilOf(b))
			}
		}
		if next == slot {
			return false
		}
		slot = next
	}
	return true
}

// within reports whether p lies in q, whole.
func (p Partition) within(q Partition) bool { return q.Bits <= p.Bits && p.Overlaps(q) }

// Newcomers returns the owners of a partition in a slot that are not known yet
// to have all they must, in the order of the amendments. The partition must be
// one of the ring At(slot).
func (h *History) Newcomers(slot int64, p Partition) (nodes []NodeID) {
	owners := h.At(slot).Owners(p)
	entry := h.spans[h.spanAt(slot)].entry
	for _, a := range h.amendments {
		if !a.counts(slot) || h.entryAt(a.From) != entry {
			continue
		}
		for _, m := range a.Moves {
			if m.Prefix == p.Prefix && m.Pending && slices.Contains(owners, m.In) {
				nodes = append(nodes, m.In)
			}
		}
	}
	return nodes
}
