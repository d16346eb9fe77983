package peer

import "time"

// heardApart is how far apart two attempts of a line begin at least, if the
// second is made because the peer was heard. It is doubled at each such attempt.
const heardApart = 200 * time.Millisecond

// A backOff decides how long a line rests between attempts to connect. It knows
// no clock.
//
// A peer that is heard, because it has connected to this node, is tried at once:
// most likely it has just come back, and until the line is up it gets no copies.
// One that is heard again and again and cannot be held is not tried more often
// for that: both its pauses grow to most, so that what comes and goes, or only
// calls itself by the peer's name, causes an attempt each most in the end.
type backOff struct {
	least, most time.Duration
	pause       time.Duration // to the next attempt
	apart       time.Duration // from the beginning of the last attempt to the next, if the peer is heard
}

func newBackOff(least, most time.Duration) backOff {
	return backOff{least: least, most: most, pause: least, apart: min(heardApart, most)}
}

// ended tells that an attempt, and the connection it made if it made one, lasted
// so long. It returns how long to rest.
func (b *backOff) ended(lasted time.Duration) (pause time.Duration) {
	if lasted > b.most { // it was up for a while: this is something new
		*b = newBackOff(b.least, b.most)
	}
	pause = b.pause
	b.pause = min(2*pause, b.most)
	return pause
}

// heard tells that the peer was heard in a rest of which remaining is left, since
// after the last attempt began. It returns how long to rest yet.
func (b *backOff) heard(remaining, since time.Duration) time.Duration {
	rest := min(remaining, max(0, b.apart-since))
	b.apart = min(2*b.apart, b.most)
	return rest
}
