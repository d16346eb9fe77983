package aggregate

import (
	"math/rand/v2"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
)

// A core decides everything an aggregator does: which builder an event goes to,
// when builders are sealed, what is sent and sent again, what is dropped, when a
// second's final may be said. It is a step function: each method is one event,
// takes the time as an argument and changes the state; work to be done outside
// is taken with takeJob, takeBatch and takeOp and handed back with sealed,
// batchDone and opDone. It knows no clock, socket or goroutine, and one caller
// at a time may use it.
//
// Wall time says which second an event belongs to and which seconds are over;
// waiting is measured by the monotonic part of the times given, if they have
// one, so that a clock that is set does not hold anything up.
//
// An event lives in a group, then its blob in jobs (being sealed), then in blobs
// (waiting) or in a batch (being sent), until it is acknowledged or dropped.
// Invariant: buffered is the sum of what these hold.
type core struct {
	o        Options // with defaults
	limits   expiry.Limits
	counters *Counters
	random   *rand.Rand // jitter

	scratch event.Scratch
	now     time.Time // of the datagram being parsed
	collect func(event.Envelope) error
	tally   tally

	groups   map[string]*group // those being collected, by their key
	open     []*group          // the same, in no particular but a deterministic order
	key      []byte            // of the group looked up
	lateOpen int               // of them, those of closed seconds
	openSize int64             // bytes of the groups
	buffered int64             // bytes of groups, jobs and blobs
	nextDue  time.Time         // no group is due earlier; zero = none
	stamp    int64             // microseconds: the last timestamp given
	builders builders

	dcs     []*dc
	left    map[string]int64 // dcs left a short while ago: the second of the goodbye
	seconds []*second        // whose final has not been queued
	closed  int64            // epoch of the last second that was closed

	jobs    []*group // to be sealed, in order
	sealing int      // jobs taken
	blobs   queue[*blob]
	ops     queue[*op]

	inFlight   int // batches and ops taken
	failures   int // calls in a row that failed as a whole
	pauseUntil time.Time

	stopping   bool
	lastSecond int64 // epoch of the goodbye: nothing of a later second bears the writer's name
	goodbyes   bool  // queued
	abandoned  bool

	drops [numReasons]int64 // events dropped and not yet told to OnDrop
}

// newCore returns the core of an aggregator that starts at now. The options have
// defaults and an incarnation.
func newCore(o Options, counters *Counters, now time.Time) *core {
	c := &core{
		o: o, counters: counters, limits: o.limits(),
		random:   rand.New(rand.NewPCG(o.Incarnation, 1)),
		groups:   make(map[string]*group),
		left:     make(map[string]int64),
		closed:   now.Unix() - 1,
		builders: newBuilders(o.MaxBufferedBytes / 4),
	}
	c.collect = c.take
	c.addDC(o.DC)
	return c
}

// tick does what is due at now. It is called at the time wake gives, or at any
// other.
func (c *core) tick(now time.Time) {
	if over := c.lastOver(now); over > c.closed && !c.stopping {
		c.closeThrough(now, over)
	}
	if !c.nextDue.IsZero() && !now.Before(c.nextDue) {
		c.sealIf(now, func(g *group) bool { return !g.due.After(now) })
	}
	c.giveUpFinals(now)
	c.greetAgain(now)
	c.blobs.due(now)
	c.ops.due(now)
	c.gauges()
}

// lastOver is the epoch of the last second that is over at now, grace included.
func (c *core) lastOver(now time.Time) int64 {
	return now.Add(-c.o.Grace).Unix() - 1
}

// wake is when tick has to be called next, or a worker has to look again. It is
// after now.
func (c *core) wake(now time.Time) time.Time {
	at := now.Add(stopStep)
	if !c.stopping { // the close of the next second: found on the wall, added to the monotonic now
		at = now.Add(time.Unix(c.closed+2, 0).Add(c.o.Grace).Sub(now))
	}
	earlier := func(t time.Time, ok bool) {
		if ok && t.Before(at) {
			at = t
		}
	}
	earlier(c.nextDue, !c.nextDue.IsZero())
	earlier(c.pauseUntil, c.failures > 0 && c.inFlight == 0)
	earlier(c.blobs.next())
	earlier(c.ops.next())
	earlier(time.Unix(now.Unix()+1, 0), !c.stopping && !c.ready(now) && c.dcs[0].standing.Holds(now.Unix()+1))
	if at.Sub(now) < minWake {
		return now.Add(minWake)
	}
	return at
}

const (
	minWake  = time.Millisecond       // keeps a driver from spinning
	stopStep = 100 * time.Millisecond // between two looks at a core that stops
)

// ready tells whether this is a second that the aggregator vouches for: readers
// expect it in it, since its hello was acknowledged in an earlier one.
func (c *core) ready(now time.Time) bool { return c.dcs[0].standing.Holds(now.Unix()) }

// stop ends taking events in: what was collected is sealed, all seconds are
// closed. The rest goes on until idle.
func (c *core) stop(now time.Time) {
	c.stopping = true
	c.sealIf(now, func(*group) bool { return true })
	c.lastSecond = c.lastNamed(now.Unix())
	c.ops.removeIf(func(o *op) bool { return o.kind == opHello })
	c.closeThrough(now, c.lastSecond)
	for _, s := range c.seconds {
		s.closed = true // those ahead of the clock too
	}
	c.finishSeconds()
	c.sayGoodbye()
	c.gauges()
}

// idle tells whether a stopped core has nothing left to do.
func (c *core) idle() bool {
	return c.stopping && !c.underWay() && c.ops.len() == 0 && (c.goodbyes || c.abandoned)
}

// underWay tells whether there are events or calls that have not come to an end.
func (c *core) underWay() bool {
	return len(c.open)+len(c.jobs)+c.sealing+c.blobs.len()+c.inFlight > 0
}

// abandon drops what has not been sent, as Stopped, and what is under way as
// soon as it is handed back without being acknowledged.
func (c *core) abandon() {
	c.abandoned = true
	for _, g := range c.jobs {
		c.drop(Stopped, int64(g.builder.Len()))
		c.buffered -= g.size
	}
	c.jobs = nil
	for {
		b, ok := c.blobs.pop()
		if !ok {
			break
		}
		c.discard(b, Stopped)
	}
	for _, d := range c.blobs.waiting {
		c.discard(d.item, Stopped)
	}
	c.blobs, c.ops, c.seconds = queue[*blob]{}, queue[*op]{}, nil
	c.gauges()
}

// drop counts n dropped events.
func (c *core) drop(r Reason, n int64) {
	c.counters.dropped[r].Add(n)
	c.drops[r] += n
}

// takeDrops is what was dropped since the last call.
func (c *core) takeDrops() (drops [numReasons]int64) {
	drops, c.drops = c.drops, drops
	return drops
}

func (c *core) gauges() {
	c.counters.BufferedBytes.Store(c.buffered)
	c.counters.OpenGroups.Store(int64(len(c.open)))
	c.counters.WaitingBlobs.Store(int64(c.blobs.len()))
}

// anyWork tells whether one of the take methods would give something at now.
func (c *core) anyWork(now time.Time) bool {
	if len(c.jobs) > 0 {
		return true
	}
	return !c.paused(now) && (c.blobs.any(now) || c.ops.any(now))
}
