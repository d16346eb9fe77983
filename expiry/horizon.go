package expiry

import "iter"

// A Horizon is a bucket's drop horizon on one vnode: every epoch before it is
// expired for good, whatever the TTL becomes later. Its zero value covers no
// epoch a key can have (those begin at 1).
//
// The order that keeps the promise: compute NextHorizon under a trusted clock,
// Raise, make the raised value durable, and only then unlink what Dead yields
// for it. From the moment it is raised, reads and writes below it are answered
// "expired".
type Horizon int64

// Covers reports whether the epoch lies below the horizon.
func (h Horizon) Covers(epoch int64) bool { return epoch < int64(h) }

// Raise moves the horizon up to to and reports whether it moved. A horizon
// never goes down: a lower or equal to changes nothing.
func (h *Horizon) Raise(to Horizon) bool {
	if to <= *h {
		return false
	}
	*h = to
	return true
}

// NextHorizon returns the greatest horizon that may be persisted at now: the
// start of the first slot that still holds, or may yet hold, a readable epoch.
// It is 0 where nothing is dead, as with a TTL of zero. Raise takes care of a
// value below the present horizon, as after the TTL was lengthened.
//
// For every slot: SlotDead(slot, …) holds exactly when the slot's end is at or
// below NextHorizon(…), from slot 0 on.
func NextHorizon(now, ttlSeconds, slotSeconds int64) Horizon {
	if ttlSeconds <= 0 {
		checkLength(slotSeconds)
		return 0
	}
	oldest := add(add(now, -ttlSeconds), 1) // the oldest epoch still readable
	return max(0, Horizon(SlotOf(oldest, slotSeconds).Start(slotSeconds)))
}

// Dead yields, in the order they come, the files whose whole slot lies below
// the horizon: those that may be unlinked once the horizon is durable. slot
// says which slot a file holds; plain files do not belong in the sequence.
func Dead[F any](files iter.Seq[F], slot func(F) Slot, slotSeconds int64, durable Horizon) iter.Seq[F] {
	return func(yield func(F) bool) {
		for file := range files {
			if slot(file).End(slotSeconds) <= int64(durable) && !yield(file) {
				return
			}
		}
	}
}
