package ring

import (
	"fmt"
	"iter"
	"slices"
)

// MaxRings bounds the rings of a history. Trim makes room: rings of slots that
// have expired are of no use.
const MaxRings = 1024

// A History is the rings of a cluster, each counting from a slot on until the
// next one does. For a timed object the ring of its slot counts, for a plain
// one the newest. It is immutable.
//
// Invariants: slotSeconds >= 1; 1 to MaxRings rings; from strictly ascending.
type History struct {
	version     Version
	slotSeconds int64
	entries     []entry
}

type entry struct {
	from int64 // the first slot the ring counts for
	ring *Ring
}

// NewHistory returns the history of a new cluster: one ring that counts for
// all slots of this length, which never changes again. Errors wrap ErrRing.
func NewHistory(v Version, slotSeconds int64, first *Ring) (*History, error) {
	return newHistory(v, slotSeconds, []entry{{0, first}})
}

func newHistory(v Version, slotSeconds int64, entries []entry) (*History, error) {
	switch {
	case slotSeconds < 1:
		return nil, fmt.Errorf("history: slots of %d seconds: %w", slotSeconds, ErrRing)
	case len(entries) == 0 || len(entries) > MaxRings:
		return nil, fmt.Errorf("history: %d rings, want 1 to %d: %w", len(entries), MaxRings, ErrRing)
	}
	for i := 1; i < len(entries); i++ {
		if before, from := entries[i-1].from, entries[i].from; from <= before {
			return nil, fmt.Errorf("history: a ring from slot %d after one from slot %d: %w", from, before, ErrRing)
		}
	}
	return &History{v, slotSeconds, entries}, nil
}

// Version returns the version of the agreed state this history belongs to.
func (h *History) Version() Version { return h.version }

// SlotSeconds returns the length of the cluster's slots.
func (h *History) SlotSeconds() int64 { return h.slotSeconds }

// For returns the ring that counts for an object, and the object's partition
// in it. hash is its placement hash, epoch the second in its key if its bucket
// is timed; of an object in a plain bucket the epoch does not matter.
func (h *History) For(timed bool, hash uint64, epoch int64) (*Ring, Partition) {
	r := h.Newest()
	if timed {
		r = h.At(h.SlotOf(epoch))
	}
	return r, r.PartitionOf(hash)
}

// SlotOf returns the slot of an epoch: the quotient, rounded down.
func (h *History) SlotOf(epoch int64) int64 {
	slot := epoch / h.slotSeconds
	if epoch%h.slotSeconds < 0 {
		slot--
	}
	return slot
}

// At returns the ring that counts for timed objects of the slot. For slots
// before the first ring's that is the first: what was there has expired, or
// never was.
func (h *History) At(slot int64) *Ring { return h.entries[h.at(slot)].ring }

// at returns the index of the last entry that starts at or before the slot.
func (h *History) at(slot int64) int {
	i, found := slices.BinarySearchFunc(h.entries, slot, func(e entry, slot int64) int {
		if e.from < slot {
			return -1
		}
		if e.from > slot {
			return 1
		}
		return 0
	})
	if found {
		return i
	}
	return max(0, i-1)
}

// Newest returns the ring that counts for plain objects.
func (h *History) Newest() *Ring { return h.entries[len(h.entries)-1].ring }

// Len returns the number of rings.
func (h *History) Len() int { return len(h.entries) }

// All yields each ring with the first slot it counts for, oldest first.
func (h *History) All() iter.Seq2[int64, *Ring] {
	return func(yield func(int64, *Ring) bool) {
		for _, e := range h.entries {
			if !yield(e.from, e.ring) {
				return
			}
		}
	}
}

// Append returns a later history, of version v, in which r counts from a slot
// on that is after the last ring's. h stays as it is. Errors wrap ErrRing.
func (h *History) Append(v Version, from int64, r *Ring) (*History, error) {
	if err := h.checkSuccessor(v); err != nil {
		return nil, err
	}
	return newHistory(v, h.slotSeconds, append(slices.Clone(h.entries), entry{from, r}))
}

// Trim returns a later history, of version v, without the rings that count for
// no slot from oldest on. The newest ring stays in any case. h stays as it is.
// Errors wrap ErrRing.
func (h *History) Trim(v Version, oldest int64) (*History, error) {
	if err := h.checkSuccessor(v); err != nil {
		return nil, err
	}
	return newHistory(v, h.slotSeconds, slices.Clone(h.entries[h.at(oldest):]))
}

func (h *History) checkSuccessor(v Version) error {
	if !h.version.Before(v) {
		return fmt.Errorf("history: version %v after %v: %w", v, h.version, ErrRing)
	}
	return nil
}
