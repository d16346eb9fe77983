// Package expiry does the arithmetic of time that placement, storage and
// reading must agree on: slots, deadlines, admission, drop horizons, and
// whether a clock may be believed enough to unlink files by it.
//
// It is pure: time arrives as an argument, nothing is read, written or
// started. Its functions may be called from any goroutine; a *Trust belongs
// to one.
//
// Epochs, deadlines and "now" are whole seconds of Unix time, UTC. TTLs and
// slot lengths are seconds. Sums saturate instead of wrapping, so no epoch and
// no TTL, however absurd, turns a distant deadline into a past one.
package expiry

import (
	"fmt"
	"math"
)

// DefaultSlotSeconds is the length of a slot unless the cluster was created
// with another one.
const DefaultSlotSeconds = 3600

// A Slot numbers the fixed stretches of time of timed buckets: slot s of a
// cluster with slots of L seconds holds the epochs from s*L up to, but not
// including, (s+1)*L. The length is fixed when a cluster is created; every
// function here takes it as slotSeconds and panics if it is not positive.
type Slot int64

// SlotOf returns the slot that holds epoch.
func SlotOf(epoch, slotSeconds int64) Slot {
	checkLength(slotSeconds)
	slot := epoch / slotSeconds
	if epoch%slotSeconds < 0 {
		slot-- // division truncates towards zero; slots are floors
	}
	return Slot(slot)
}

// Start returns the first epoch of the slot.
func (s Slot) Start(slotSeconds int64) int64 {
	checkLength(slotSeconds)
	return mul(int64(s), slotSeconds)
}

// End returns the first epoch after the slot.
func (s Slot) End(slotSeconds int64) int64 {
	return add(s.Start(slotSeconds), slotSeconds)
}

func checkLength(slotSeconds int64) {
	if slotSeconds <= 0 {
		panic(fmt.Sprintf("expiry: BUG: a slot of %d seconds", slotSeconds))
	}
}

// add returns a+b, or the end of the range where that overflows.
func add(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}

// mul returns a*b for a positive b, or the end of the range where that
// overflows.
func mul(a, b int64) int64 {
	switch {
	case a > math.MaxInt64/b:
		return math.MaxInt64
	case a < math.MinInt64/b:
		return math.MinInt64
	}
	return a * b
}
