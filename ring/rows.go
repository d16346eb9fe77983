package ring

import (
	"cmp"
	"maps"
	"slices"
)

// A Row is owners of a partition under which something may have been
// acknowledged that owners who came after them lack. A row without nodes cannot
// be told any more: nothing that was acknowledged under it can be proved absent.
type Row struct {
	Nodes []NodeID // in order of preference
	Whole []NodeID // others, each of which has all that was acknowledged under the row
}

// Rows returns the rows of a partition in a slot: those before the present one
// that newcomers have not made up for yet, oldest first, and last the owners as
// amended. It returns nil if there is no newcomer, which is nearly always so.
// The partition must be one of the ring At(slot).
//
// A newcomer that is complete has what those before it in its place could have
// acknowledged: it stands for them in all rows. One that took nobody's place has
// all that the rows before acknowledged.
func (h *History) Rows(slot int64, p Partition) (rows []Row) {
	s := &h.spans[h.spanAt(slot)]
	if s.ring == h.entries[s.entry].ring {
		return nil // it is not amended
	}
	present := slices.Clone(h.entries[s.entry].ring.row(p.Prefix))
	for _, a := range h.amendments {
		if !a.counts(slot) || h.entryAt(a.From) != s.entry {
			continue
		}
		j, found := a.move(p.Prefix)
		if !found {
			continue
		}
		m := a.Moves[j]
		if m.Pending {
			rows = append(rows, Row{Nodes: slices.Clone(present)})
		}
		if a.Out.IsZero() {
			present = append(present, m.In)
			for i := range rows {
				if !m.Pending {
					rows[i].Whole = append(rows[i].Whole, m.In)
				}
			}
			continue
		}
		place := slices.Index(present, a.Out)
		present[place] = m.In
		for _, row := range rows {
			if !m.Pending && place < len(row.Nodes) {
				row.Nodes[place] = m.In
			}
		}
	}
	return settled(append(rows, Row{Nodes: present}))
}

// PlainRows is Rows of plain data: of the newest ring and those before it, back
// to the last one before the partition had newcomers. The partition must be one of
// the newest ring.
func (h *History) PlainRows(p Partition) []Row {
	from, found := h.plain.first(p)
	if !found {
		return nil
	}
	owners, newcomers := h.Newest().Owners(p), h.PlainNewcomers(p)
	first := h.entryAt(from)
	var rows []Row
	for i, e := range h.entries[first:] {
		if e.ring.bits != p.Bits { // partitions of other sizes are handed over otherwise
			rows = append(rows, Row{})
			continue
		}
		row := Row{Nodes: slices.Clone(e.ring.row(p.Prefix))}
		for _, id := range owners {
			if !slices.Contains(newcomers, id) && !h.ownsPlain(first+i, id, p) {
				row.Whole = append(row.Whole, id)
			}
		}
		rows = append(rows, row)
	}
	return settled(rows)
}

// ownsPlain reports whether a node owns a partition in a ring as it was made.
func (h *History) ownsPlain(entry int, id NodeID, p Partition) bool {
	r := h.entries[entry].ring
	return r.bits == p.Bits && slices.Contains(r.row(p.Prefix), id)
}

// settled leaves out rows that the next one repeats, and all if one is left.
func settled(rows []Row) []Row {
	rows = slices.CompactFunc(rows, func(a, b Row) bool {
		return slices.Equal(a.Nodes, b.Nodes) && slices.Equal(a.Whole, b.Whole)
	})
	if len(rows) == 1 && len(rows[0].Nodes) > 0 {
		return nil
	}
	return rows
}

// A Stretch is slots in which a node owns a partition, or is a source of it.
type Stretch struct {
	From, Until int64 // the first slot, the first it does not count for; Forever
	Owner       bool
}

// Stretches returns where a node is an owner or a source, by partition, each
// partition's ascending: of slots from oldest on, and besides, with no stretch
// of their own, the partitions of plain data. The history's last word on each
// slot counts: a node that was replaced and is no source has nothing to do with
// it any more.
func (h *History) Stretches(node NodeID, oldest int64) map[Partition][]Stretch {
	all := map[Partition][]Stretch{}
	for i, s := range h.spans {
		until := int64(Forever)
		if i+1 < len(h.spans) {
			until = h.spans[i+1].from
		}
		if until <= oldest {
			continue
		}
		from := s.from
		if i == 0 {
			from = min(from, 0) // slots before the first ring's are its as well
		}
		for p := range s.ring.Partitions() {
			owner := s.ring.Owns(node, p)
			if !owner && !slices.Contains(s.sources[p.Prefix], node) {
				continue
			}
			list := all[p]
			if n := len(list); n > 0 && list[n-1].Until == from && list[n-1].Owner == owner {
				list[n-1].Until = until
				continue
			}
			all[p] = append(list, Stretch{from, until, owner})
		}
	}
	newest := h.Newest()
	for p := range newest.Partitions() {
		if _, known := all[p]; !known && (newest.Owns(node, p) || slices.Contains(h.PlainSources(p), node)) {
			all[p] = nil
		}
	}
	return all
}

// SpanEnd returns the first slot after the given one that has other owners, or may
// have; Forever if there is none.
func (h *History) SpanEnd(slot int64) int64 {
	if i := h.spanAt(slot); i+1 < len(h.spans) {
		return h.spans[i+1].from
	}
	return Forever
}

// HeldBy returns the partitions that a node owns in some slot, or of plain data,
// or is a source of, in the order of their names.
func (h *History) HeldBy(node NodeID) []Partition {
	return slices.SortedFunc(maps.Keys(h.Stretches(node, h.entries[0].from)), Partition.Compare)
}

// Holds reports whether a node owns a partition in some slot, or of plain data,
// or is a source of it.
func (h *History) Holds(node NodeID, p Partition) bool {
	for _, s := range h.spans {
		if s.ring.bits == p.Bits && p.Prefix>>p.Bits == 0 && (s.ring.Owns(node, p) || slices.Contains(s.sources[p.Prefix], node)) {
			return true
		}
	}
	newest := h.Newest()
	return p.Bits == newest.bits && p.Prefix>>p.Bits == 0 && (newest.Owns(node, p) || slices.Contains(h.PlainSources(p), node))
}

// Duties returns what a node is a newcomer of: what it must have everything of
// before it can be reported [History.Complete] for it. The newest slots come
// first, plain data last.
func (h *History) Duties(node NodeID) (duties []Completion) {
	for _, a := range h.amendments {
		entry := h.entryAt(a.From)
		until := h.untilOf(a)
		if a.From >= until {
			continue
		}
		for _, m := range a.Moves {
			c := Completion{Node: node, Partition: h.entries[entry].ring.partition(int(m.Prefix)), From: a.From, Until: until}
			if m.Pending && m.In == node && !slices.Contains(duties, c) && h.ownsIn(node, c) {
				duties = append(duties, c)
			}
		}
	}
	slices.SortStableFunc(duties, func(a, b Completion) int {
		return cmp.Or(cmp.Compare(b.Until, a.Until), cmp.Compare(b.From, a.From), a.Partition.Compare(b.Partition))
	})
	if h.plain.empty() {
		return duties
	}
	for p := range h.Newest().OwnedBy(node) {
		if slices.Contains(h.PlainNewcomers(p), node) {
			duties = append(duties, Completion{Node: node, Partition: p, Plain: true})
		}
	}
	return duties
}

// ownsIn reports whether a node still is an owner in some of a completion's
// slots. If not, those that took its place make up for those before it.
func (h *History) ownsIn(node NodeID, c Completion) bool {
	for i := h.spanAt(c.From); i < len(h.spans) && h.spans[i].from < c.Until; i++ {
		if r := h.spans[i].ring; r.bits == c.Partition.Bits && r.Owns(node, c.Partition) {
			return true
		}
	}
	return false
}
