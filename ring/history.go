package ring

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
)

// MaxRings bounds the rings of a history. Trim makes room: rings of slots that
// have expired are of no use.
const MaxRings = 1024

// A History is the rings of a cluster, each counting from a slot on until the
// next one does, and their amendments. For a timed object the ring of its slot
// counts, as amended for that slot; for a plain one the newest ring, as it was
// made. It is immutable.
//
// Invariants: slotSeconds >= 1; 1 to MaxRings rings; from strictly ascending;
// amendments are valid, and none is from before the first ring.
type History struct {
	version     Version
	slotSeconds int64
	entries     []entry
	amendments  []*Amendment // in the order of their agreement
	plain       handover     // of plain data, to the newest ring's owners

	spans []span // made of entries and amendments
}

type entry struct {
	from int64 // the first slot the ring counts for
	ring *Ring
}

// A span is slots with the same owners: from its own first to the next span's.
type span struct {
	from    int64
	ring    *Ring // as amended
	sources map[uint32][]NodeID
	entry   int // the index of the ring it is of
}

// NewHistory returns the history of a new cluster: one ring that counts for
// all slots of this length, which never changes again. Errors wrap ErrRing.
func NewHistory(v Version, slotSeconds int64, first *Ring) (*History, error) {
	return newHistory(&History{version: v, slotSeconds: slotSeconds, entries: []entry{{0, first}}})
}

// newHistory checks all invariants of h, which is new, and makes its spans.
func newHistory(h *History) (*History, error) {
	switch {
	case h.slotSeconds < 1:
		return nil, fmt.Errorf("history: slots of %d seconds: %w", h.slotSeconds, ErrRing)
	case len(h.entries) == 0 || len(h.entries) > MaxRings:
		return nil, fmt.Errorf("history: %d rings, want 1 to %d: %w", len(h.entries), MaxRings, ErrRing)
	case len(h.amendments) > MaxAmendments:
		return nil, fmt.Errorf("history: %d amendments, want at most %d: %w", len(h.amendments), MaxAmendments, ErrRing)
	}
	for i := 1; i < len(h.entries); i++ {
		if before, from := h.entries[i-1].from, h.entries[i].from; from <= before {
			return nil, fmt.Errorf("history: a ring from slot %d after one from slot %d: %w", from, before, ErrRing)
		}
	}
	for i, a := range h.amendments {
		if err := a.validate(); err != nil {
			return nil, fmt.Errorf("history: amendment %d of %d: %w", i+1, len(h.amendments), err)
		}
		if a.From < h.entries[0].from {
			return nil, fmt.Errorf("history: amendment %d of %d is from slot %d, the first ring from slot %d: %w", i+1, len(h.amendments), a.From, h.entries[0].from, ErrRing)
		}
	}
	if err := h.plain.validate(h.entries); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if err := h.makeSpans(); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return h, nil
}

// makeSpans works out who owns what in which slots.
func (h *History) makeSpans() error {
	byEntry := make([][]*Amendment, len(h.entries))
	for _, a := range h.amendments {
		i := h.entryAt(a.From)
		byEntry[i] = append(byEntry[i], a)
	}
	left := int64(maxAmendedCost)
	for i, e := range h.entries {
		end := h.endOf(i)
		bounds := []int64{e.from}
		for _, a := range byEntry[i] {
			bounds = append(bounds, a.From, a.Until)
		}
		slices.Sort(bounds)
		for _, from := range slices.Compact(bounds) {
			if from >= end {
				break
			}
			var inForce []*Amendment
			for _, a := range byEntry[i] {
				if a.counts(from) {
					inForce = append(inForce, a)
				}
			}
			if len(inForce) == 0 {
				h.spans = append(h.spans, span{from, e.ring, nil, i})
				continue
			}
			r, sources, err := e.ring.amend(inForce, &left)
			if err != nil {
				return err
			}
			h.spans = append(h.spans, span{from, r, sources, i})
		}
	}
	return nil
}

// Version returns the version of the agreed state this history belongs to.
func (h *History) Version() Version { return h.version }

// SlotSeconds returns the length of the cluster's slots.
func (h *History) SlotSeconds() int64 { return h.slotSeconds }

// For returns the ring that counts for an object, as amended, and the object's
// partition in it. hash is its placement hash, epoch the second in its key if
// its bucket is timed; of an object in a plain bucket the epoch does not
// matter. It does not allocate.
func (h *History) For(timed bool, hash uint64, epoch int64) (*Ring, Partition) {
	r := h.Newest()
	if timed {
		r = h.At(h.SlotOf(epoch))
	}
	return r, r.PartitionOf(hash)
}

// SlotOf returns the slot of an epoch: the quotient, rounded down.
func (h *History) SlotOf(epoch int64) int64 { return slotOf(epoch, h.slotSeconds) }

// At returns the ring that counts for timed objects of the slot, as amended.
// For slots before the first ring's that is the first: what was there has
// expired, or never was.
func (h *History) At(slot int64) *Ring { return h.spans[h.spanAt(slot)].ring }

// Sources returns the nodes that are no owners of a partition in a slot and
// still hold what owners may lack, in the order in which they were replaced.
// The partition must be one of the ring At(slot). The slice must not be
// changed.
func (h *History) Sources(slot int64, p Partition) []NodeID {
	s := &h.spans[h.spanAt(slot)]
	if p.Bits != s.ring.bits {
		panic(fmt.Sprintf("ring: BUG: partition %v of a ring of 2^%d", p, s.ring.bits))
	}
	return s.sources[p.Prefix]
}

// spanAt returns the index of the last span that starts at or before the slot:
// most often it is the last one.
func (h *History) spanAt(slot int64) int {
	low, high := 0, len(h.spans)-1
	if h.spans[high].from <= slot {
		return high
	}
	for low < high-1 { // spans[high] starts after the slot
		if middle := int(uint(low+high) / 2); h.spans[middle].from <= slot {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// entryAt returns the index of the last ring that starts at or before the slot.
func (h *History) entryAt(slot int64) int {
	i, found := slices.BinarySearchFunc(h.entries, slot, func(e entry, slot int64) int { return cmp.Compare(e.from, slot) })
	if found {
		return i
	}
	return max(0, i-1)
}

// endOf returns the first slot that a ring does not count for.
func (h *History) endOf(entry int) int64 {
	if entry+1 < len(h.entries) {
		return h.entries[entry+1].from
	}
	return Forever
}

// Newest returns the ring that counts for plain objects: the last one, without
// its amendments.
func (h *History) Newest() *Ring { return h.entries[len(h.entries)-1].ring }

// NewestFrom returns the first slot that the newest ring counts for.
func (h *History) NewestFrom() int64 { return h.entries[len(h.entries)-1].from }

// Len returns the number of rings, each counted once however it is amended.
func (h *History) Len() int { return len(h.entries) }

// All yields each ring with the first slot it counts for, oldest first; one
// that is amended as often as its owners change.
func (h *History) All() iter.Seq2[int64, *Ring] {
	return func(yield func(int64, *Ring) bool) {
		for _, s := range h.spans {
			if !yield(s.from, s.ring) {
				return
			}
		}
	}
}

// Amendments yields the amendments in the order of their agreement. They must
// not be changed.
func (h *History) Amendments() iter.Seq[*Amendment] { return slices.Values(h.amendments) }

// AmendmentCount returns the number of amendments, at most MaxAmendments.
func (h *History) AmendmentCount() int { return len(h.amendments) }

// Append returns a later history, of version v, in which r counts from a slot
// on that is after the last ring's. Owners of plain data that r leaves out
// become sources, those that are lost apart: whoever was declared lost and is an
// owner still, as nobody could take its place, has to be named. Amendments of
// the ring before end there: a node that is down owns in r, until it is replaced
// in it as well. h stays as it is. Errors wrap ErrRing.
func (h *History) Append(v Version, from int64, r *Ring, lost ...NodeID) (*History, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, err
	}
	next.plain = h.plain.to(h.NewestFrom(), h.Newest(), r)
	next.entries = append(slices.Clone(h.entries), entry{from, r})
	next.amendments = slices.DeleteFunc(slices.Clone(h.amendments), func(a *Amendment) bool { return a.From >= from })
	for _, node := range lost {
		next.declareLost(node)
	}
	return newHistory(next)
}

// Trim returns a later history, of version v, without the rings and amendments
// that count for no slot from oldest on. The newest ring stays in any case, and so
// do those under which plain data was acknowledged that newcomers may lack, with all
// after them: what is asked of whom depends on them ([History.PlainRows]). For
// earlier slots the owners may be others then. h stays as it is. Errors wrap
// ErrRing.
func (h *History) Trim(v Version, oldest int64) (*History, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, err
	}
	first := h.entryAt(oldest)
	counts := h.entries[first].from
	if len(h.plain.beginnings) > 0 {
		first = min(first, h.entryAt(h.plain.beginnings[0].from))
	}
	next.entries = slices.Clone(h.entries[first:])
	next.amendments = nil
	for _, a := range h.amendments {
		if a.Until <= oldest || a.From < counts {
			continue
		}
		if a.From < oldest { // it may build upon one that goes
			a = a.during(oldest, a.Until)
		}
		next.amendments = append(next.amendments, a)
	}
	next.settleSucceeded(next.settler()) // what kept them from it may have been in slots that go
	return newHistory(next)
}

// Versioned returns the same history as that of another version, for who makes
// several changes one.
func (h *History) Versioned(v Version) *History {
	same := *h
	same.version = v
	return &same
}

// Same reports whether two histories differ in nothing but their versions, one
// being made from the other: rings that were decoded apart count as different.
func (h *History) Same(other *History) bool {
	return h.slotSeconds == other.slotSeconds && slices.Equal(h.entries, other.entries) &&
		slices.EqualFunc(h.amendments, other.amendments, (*Amendment).same) && h.plain.same(other.plain)
}

// Serves reports whether anybody needs the node: it is a member of the newest
// ring, or an owner or a source of slots from oldest on, or a source of plain
// data.
func (h *History) Serves(node NodeID, oldest int64) bool {
	if _, member := h.Newest().Node(node); member {
		return true
	}
	if slices.ContainsFunc(h.plain.sources, func(s holding) bool { return s.node == node }) {
		return true
	}
	for i, s := range h.spans {
		if i+1 < len(h.spans) && h.spans[i+1].from <= oldest {
			continue
		}
		if s.ring.owned(node) > 0 {
			return true
		}
		for _, sources := range s.sources {
			if slices.Contains(sources, node) {
				return true
			}
		}
	}
	return false
}

// Names reports whether the history has to do with the node at all.
func (h *History) Names(node NodeID) bool {
	for _, e := range h.entries {
		if _, member := e.ring.Node(node); member {
			return true
		}
	}
	for _, a := range h.amendments {
		if a.Out == node || slices.ContainsFunc(a.Nodes, func(n Node) bool { return n.ID == node }) {
			return true
		}
	}
	return h.Serves(node, math.MinInt64)
}

// successor returns a copy of h of a later version, without its spans.
func (h *History) successor(v Version) (*History, error) {
	if !h.version.Before(v) {
		return nil, fmt.Errorf("history: version %v after %v: %w", v, h.version, ErrRing)
	}
	return &History{version: v, slotSeconds: h.slotSeconds, entries: h.entries, amendments: h.amendments, plain: h.plain}, nil
}
