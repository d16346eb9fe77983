package ring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A LastCopyError says that a plan would lose the last copy of something: no
// node would be left that has it whole.
type LastCopyError struct {
	Nodes           []string `json:"nodes"`            // those that are given up, by name
	Slots           int64    `json:"slots"`            // of timed data that would be lost, in part
	FirstSlot       int64    `json:"first_slot"`       // of these
	LastSlot        int64    `json:"last_slot"`        // of these
	TimedPartitions int      `json:"timed_partitions"` // each counted once for all slots
	TimedBytes      uint64   `json:"timed_bytes"`      // of one copy, as far as known
	PlainPartitions int      `json:"plain_partitions"` // of the finest ring concerned
	PlainBytes      uint64   `json:"plain_bytes"`      // of one copy, as far as known
}

// Error says what would be lost, and what to do instead.
func (e *LastCopyError) Error() string {
	var lost []string
	if e.Slots > 0 {
		lost = append(lost, fmt.Sprintf("timed data in %d partitions, of %d slots between slot %d and slot %d (%d bytes known)", e.TimedPartitions, e.Slots, e.FirstSlot, e.LastSlot, e.TimedBytes))
	}
	if e.PlainPartitions > 0 {
		lost = append(lost, fmt.Sprintf("plain data in %d partitions (%d bytes known)", e.PlainPartitions, e.PlainBytes))
	}
	return fmt.Sprintf("without %s nobody has a complete copy of %s: bring it back, let the others complete theirs first, or accept the loss",
		strings.Join(e.Nodes, ", "), strings.Join(lost, " and of "))
}

// lastCopies says what h has no complete copy of any more, if it was made of
// before by a plan for what is wanted. A node that leaves counts as long as it
// is a source; where nobody can take its place it does not. What had no
// complete copy before is not lost by the plan.
func (h *History) lastCopies(before *History, w Wanted, d Data) *LastCopyError {
	members := indexOf(w.Nodes)
	e := &LastCopyError{}
	bounds := []int64{d.Oldest, w.From}
	for _, g := range d.Gaps {
		bounds = append(bounds, g.From, g.Until)
	}
	for _, s := range h.spans {
		bounds = append(bounds, s.from)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	places := map[Partition]bool{}
	blame := map[NodeID]bool{}
	for i, from := range bounds {
		if from < d.Oldest || from >= w.From {
			continue
		}
		lost := h.lostIn(from, members, d)
		if len(lost) > 0 {
			was := before.lostIn(from, nil, d)
			maps.DeleteFunc(lost, func(piece uint32, _ bool) bool { return was[piece] })
		}
		if len(lost) == 0 {
			continue
		}
		for piece := range lost {
			for _, id := range h.At(from).row(piece) {
				if _, member := members[id]; !member {
					blame[id] = true
				}
			}
		}
		until := bounds[i+1] // w.From is one
		if e.Slots == 0 {
			e.FirstSlot = from
		}
		e.Slots, e.LastSlot = e.Slots+until-from, until-1
		width := h.At(from).bits
		for piece := range lost {
			places[Partition{width, piece}] = true
		}
		for _, b := range d.Timed {
			if from <= b.Slot && b.Slot < until {
				b.each(width, func(piece uint32, bytes uint64) {
					if lost[piece] {
						e.TimedBytes += bytes
					}
				})
			}
		}
	}
	e.TimedPartitions = len(places)
	lost := h.lostPlain(before, d)
	e.PlainPartitions = len(lost)
	for _, b := range d.Plain {
		b.each(max(h.plain.bits, h.Newest().bits, before.plain.bits, before.Newest().bits), func(piece uint32, bytes uint64) {
			if lost[piece] {
				e.PlainBytes += bytes
			}
		})
	}
	if e.Slots == 0 && e.PlainPartitions == 0 {
		return nil
	}
	for id := range blame {
		e.Nodes = append(e.Nodes, h.nameOf(id))
	}
	for _, id := range w.Lost {
		if !blame[id] {
			e.Nodes = append(e.Nodes, h.nameOf(id))
		}
	}
	if len(e.Nodes) == 0 {
		e.Nodes = []string{"what some nodes lack"}
	}
	slices.Sort(e.Nodes)
	return e
}

// lostIn returns the partitions of a slot of which nobody has all: no owner
// that is one of members, if these are given, and no source.
func (h *History) lostIn(slot int64, members map[NodeID]int, d Data) map[uint32]bool {
	s := h.spans[h.spanAt(slot)]
	pending := map[uint32][]NodeID{}
	for _, a := range h.amendments {
		if a.counts(slot) && h.entryAt(a.From) == s.entry {
			for _, m := range a.Moves {
				if m.Pending {
					pending[m.Prefix] = append(pending[m.Prefix], m.In)
				}
			}
		}
	}
	gaps := map[NodeID][]Partition{} // that count in this slot
	for _, g := range d.Gaps {
		if !g.Plain && g.From <= slot && slot < g.Until {
			gaps[g.Node] = append(gaps[g.Node], g.Partition)
		}
	}
	lost := map[uint32]bool{}
	for piece := range uint32(1) << s.ring.bits {
		p := Partition{s.ring.bits, piece}
		whole := func(id NodeID) bool {
			return !slices.Contains(pending[piece], id) &&
				!slices.ContainsFunc(gaps[id], func(lacking Partition) bool { return lacking.Overlaps(p) })
		}
		owns := func(id NodeID) bool {
			_, member := members[id]
			return (member || members == nil) && whole(id)
		}
		if !slices.ContainsFunc(s.ring.row(piece), owns) && !slices.ContainsFunc(s.sources[piece], whole) {
			lost[piece] = true
		}
	}
	return lost
}

// lostPlain returns the pieces of plain data of which nobody has all, and
// somebody had before.
func (h *History) lostPlain(before *History, d Data) map[uint32]bool {
	r, was := h.Newest(), before.Newest()
	width := max(h.plain.bits, r.bits, before.plain.bits, was.bits)
	newcomers, sources := perPiece(h.plain.newcomers, h.plain.bits, width), perPiece(h.plain.sources, h.plain.bits, width)
	wereNew, wereSources := perPiece(before.plain.newcomers, before.plain.bits, width), perPiece(before.plain.sources, before.plain.bits, width)
	lost := map[uint32]bool{}
	for piece := range uint32(1) << width {
		p := Partition{width, piece}
		lacks := func(id NodeID) bool {
			return slices.ContainsFunc(d.Gaps, func(g Gap) bool { return g.Plain && g.Node == id && g.Partition.Overlaps(p) })
		}
		had := func(id NodeID) bool { return !slices.Contains(wereNew[piece], id) && !lacks(id) }
		owned := was.row(piece >> (width - was.bits))
		// Where a partition has fewer owners now, those that stay count as newcomers.
		has := func(id NodeID) bool {
			return !slices.Contains(newcomers[piece], id) && !lacks(id) || slices.Contains(owned, id) && had(id)
		}
		if !slices.ContainsFunc(r.row(piece>>(width-r.bits)), has) && !slices.ContainsFunc(sources[piece], has) &&
			(slices.ContainsFunc(owned, had) || slices.ContainsFunc(wereSources[piece], had)) {
			lost[piece] = true
		}
	}
	return lost
}
