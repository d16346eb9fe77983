package expiry

import "math"

// Never is the deadline of what does not expire.
const Never int64 = math.MaxInt64

// Deadline returns the first second at which an object of this epoch is no
// longer readable under this TTL: it is readable while now < Deadline. A TTL
// of zero (or less: the safe reading of a wrong one) means Never.
//
// For an object of a plain bucket the epoch is its timestamp rounded up to a
// second: nothing is hidden before its TTL has wholly passed.
func Deadline(epoch, ttlSeconds int64) int64 {
	if ttlSeconds <= 0 {
		return Never
	}
	return add(epoch, ttlSeconds)
}

// Expired reports whether an object of this epoch must no longer be read at
// now. It changes at one exact second, the same on every node whose clock says
// the same.
func Expired(epoch, ttlSeconds, now int64) bool {
	deadline := Deadline(epoch, ttlSeconds)
	return deadline != Never && now >= deadline
}

// SlotDead reports whether every object the slot can ever hold is expired at
// now, so that a file of this slot holds nothing readable. It is not yet leave
// to unlink the file: that takes a durable horizon (see Dead).
func SlotDead(slot Slot, slotSeconds, ttlSeconds, now int64) bool {
	return Expired(slot.End(slotSeconds)-1, ttlSeconds, now)
}
