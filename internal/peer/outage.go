package peer

import "time"

// retell is how long nothing more is said of a peer that stays unreachable, or
// that comes and goes.
const retell = time.Minute

// An outage decides what is logged of a peer's connections: that there is none any
// more, each retell that there still is none, and that there is one again. What
// each line tries meanwhile is not worth a line of log. It knows no clock.
//
// A peer that comes and goes faster than settle counts as one that is still away.
type outage struct {
	settle time.Duration // how long a connection lasts that ends an outage

	began    time.Time // of the outage; zero while there is a connection
	up       time.Time // since when there is one; zero if there never was
	told     time.Time // when was last said that the peer is unreachable; zero if never
	open     bool      // that is the last that was said
	failures int       // attempts, and connections lost, since the last time it was said
}

// fallen tells that an attempt failed, or a connection was lost, and no other is
// up. If it is to be said, it returns how many failures there were since the
// last time, this one included, and since when there is no connection.
func (o *outage) fallen(now time.Time) (failures int, began time.Time, say bool) {
	fresh := o.told.IsZero()
	if o.began.IsZero() {
		o.began = now
		fresh = fresh || !o.up.IsZero() && now.Sub(o.up) > o.settle
	}
	o.failures++
	if !fresh && now.Sub(o.told) < retell {
		return 0, time.Time{}, false
	}
	failures, o.failures, o.told, o.open = o.failures, 0, now, true
	return failures, o.began, true
}

// risen tells that a connection came up while there was none. It reports whether
// that is to be said, and how long there was none.
func (o *outage) risen(now time.Time) (lasted time.Duration, say bool) {
	if !o.began.IsZero() {
		lasted = now.Sub(o.began)
	}
	say, o.open = o.open, false
	o.began, o.up = time.Time{}, now
	return lasted, say
}
