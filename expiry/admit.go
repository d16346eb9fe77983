package expiry

import (
	"errors"
	"fmt"
)

// DefaultAheadSeconds is how far ahead of the clock an epoch may be unless the
// cluster agreed otherwise.
const DefaultAheadSeconds = 10

var (
	// ErrExpired says the epoch is past its deadline or below the drop horizon.
	// The write was not done and never can be; a read finds nothing there, and
	// that is no sign that nothing was there.
	ErrExpired = errors.New("expired")

	// ErrTooFarAhead says the epoch is further ahead of the clock than allowed.
	// The write was not done; it may succeed when its time is nearer.
	ErrTooFarAhead = errors.New("too far ahead")
)

// Limits are what decides whether an epoch is taken in or shown. They are the
// bucket's and the vnode's present ones; no record carries any of them.
type Limits struct {
	TTLSeconds   int64   // the bucket's TTL; 0 = never expires
	AheadSeconds int64   // allowed lead over now; 0 = DefaultAheadSeconds, negative = none
	DropHorizon  Horizon // epochs below it are expired for good; 0 = none
}

// A RefusedError says which epoch was refused, when, and by which bound. It
// wraps ErrExpired or ErrTooFarAhead.
type RefusedError struct {
	Epoch, Now int64
	Bound      int64 // the deadline passed, the horizon, or the greatest admissible epoch
	Cause      error // ErrExpired or ErrTooFarAhead
	Horizon    bool  // ErrExpired because of the drop horizon, not of the TTL
}

// Error is one sentence with the numbers in it.
func (e *RefusedError) Error() string {
	switch {
	case e.Cause == ErrTooFarAhead:
		return fmt.Sprintf("epoch %d is %d s ahead of the clock (%d), %d s more than allowed: check the sender's clock: %v",
			e.Epoch, e.Epoch-e.Now, e.Now, e.Epoch-e.Bound, e.Cause)
	case e.Horizon:
		return fmt.Sprintf("epoch %d is before %d, where this bucket's data has been dropped: %v", e.Epoch, e.Bound, e.Cause)
	default:
		return fmt.Sprintf("epoch %d was readable until %d, now is %d: %v", e.Epoch, e.Bound, e.Now, e.Cause)
	}
}

// Unwrap returns ErrExpired or ErrTooFarAhead.
func (e *RefusedError) Unwrap() error { return e.Cause }

// Admit decides whether a write of this epoch may be taken in at now. Every
// way in asks it: doors, peers, sync, repair, dumps. The error is nil or a
// *RefusedError; nothing has been done.
func Admit(epoch, now int64, l Limits) error {
	if err := Readable(epoch, now, l); err != nil {
		return err
	}
	if last := l.LastAdmissible(now); epoch > last {
		return &RefusedError{Epoch: epoch, Now: now, Bound: last, Cause: ErrTooFarAhead}
	}
	return nil
}

// Readable decides whether an object of this epoch may be shown at now. The
// error is nil or a *RefusedError that wraps ErrExpired: the answer to give
// instead of "absent", whether or not a record is there.
func Readable(epoch, now int64, l Limits) error {
	if l.DropHorizon.Covers(epoch) {
		return &RefusedError{Epoch: epoch, Now: now, Bound: int64(l.DropHorizon), Cause: ErrExpired, Horizon: true}
	}
	if Expired(epoch, l.TTLSeconds, now) {
		return &RefusedError{Epoch: epoch, Now: now, Bound: Deadline(epoch, l.TTLSeconds), Cause: ErrExpired}
	}
	return nil
}

// Hidden is Readable for callers that need no reason: it allocates nothing.
func Hidden(epoch, now int64, l Limits) bool {
	return l.DropHorizon.Covers(epoch) || Expired(epoch, l.TTLSeconds, now)
}

// LastAdmissible returns the greatest epoch that Admit takes in at now.
func (l Limits) LastAdmissible(now int64) int64 {
	switch {
	case l.AheadSeconds == 0:
		return add(now, DefaultAheadSeconds)
	case l.AheadSeconds < 0:
		return now
	}
	return add(now, l.AheadSeconds)
}
