package aggregate

import (
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// A dc is a data centre whose events come here. The first one is the own: it is
// there from the start. Others come with their first event, and are left, with a
// goodbye, when they were silent for idleDCSeconds.
type dc struct {
	name      string
	lastEvent int64 // second of the clock in which an event of it came last
	standing  index.Standing
	greeting  bool  // a hello waits or is under way
	greeted   int64 // the second of the last hello that was sent
}

// A second is what the final of one second of one dc waits for.
type second struct {
	epoch   int64
	dc      *dc
	closed  bool
	done    bool        // its final is queued, or it is too late for one
	pending int         // groups, jobs and blobs that the final counts and that have not come to an end
	final   index.Final // of the blobs acknowledged so far
}

// dcOf finds the dc of an event, and begins it if it is new. An empty name is
// the own.
func (c *core) dcOf(name []byte) (*dc, bool) {
	if len(name) == 0 {
		return c.dcs[0], true
	}
	for _, d := range c.dcs {
		if d.name == string(name) {
			return d, true
		}
	}
	if len(c.dcs) >= c.o.MaxDCs {
		return nil, false
	}
	return c.addDC(string(name)), true
}

// dcNamed returns the dc of that name, nil if it was left.
func (c *core) dcNamed(name string) *dc {
	i := slices.IndexFunc(c.dcs, func(d *dc) bool { return d.name == name })
	if i < 0 {
		return nil
	}
	return c.dcs[i]
}

func (c *core) addDC(name string) *dc {
	d := &dc{name: name}
	if at, ok := c.left[name]; ok {
		d.standing.Left(at)
	}
	c.dcs = append(c.dcs, d)
	c.greet(d)
	return d
}

// greet says hello to a dc.
func (c *core) greet(d *dc) {
	d.greeting = true
	c.ops.push(c.newOp(opHello, 0, d.name)) // its second is that of helloSecond when it is sent
}

// helloLead is how long a hello may take. Readers expect its writer from the second
// after its row on, for nothing if that has begun when the answer comes: then there
// is no name and no final in it.
const helloLead = 250 * time.Millisecond

// helloSecond is in whose row a hello goes that is sent now.
func helloSecond(now time.Time) int64 { return now.Add(helloLead).Unix() }

// greetAgain says hello where nobody will expect this writer in the next second:
// too little of what it said was acknowledged of late, as in an outage. While
// seconds come that are closed, because the clock was set back, it stays silent.
func (c *core) greetAgain(now time.Time) {
	at := helloSecond(now)
	if c.stopping || at < c.closed {
		return
	}
	for _, d := range c.dcs {
		if !d.greeting && d.standing.Lapses(at) {
			c.greet(d)
		}
	}
}

// leaveDCs says goodbye to foreign dcs that have long been silent. last is the
// last second that was closed.
func (c *core) leaveDCs(now, last int64) {
	maps.DeleteFunc(c.left, func(_ string, at int64) bool { return now > at+index.ExpectedSeconds })
	c.dcs = slices.DeleteFunc(c.dcs, func(d *dc) bool {
		if d == c.dcs[0] || now-d.lastEvent < idleDCSeconds {
			return false
		}
		c.ops.removeIf(func(o *op) bool { return o.kind == opHello && o.key.DC == d.name })
		at := c.later(now, last, d.greeted)
		c.ops.push(c.newOp(opGoodbye, at, d.name))
		c.left[d.name] = at
		return true
	})
}

// secondOf finds or begins a second that is not closed yet.
func (c *core) secondOf(epoch int64, d *dc) *second {
	for _, s := range c.seconds {
		if s.epoch == epoch && s.dc == d {
			return s
		}
	}
	s := &second{epoch: epoch, dc: d}
	c.seconds = append(c.seconds, s)
	return s
}

// closeThrough closes all seconds up to last: their groups are sealed, and each
// second in which this writer is expected gets a final, whether or not it had
// events. If the clock has jumped ahead, only seconds that are still open get one.
func (c *core) closeThrough(now time.Time, last int64) {
	c.sealIf(now, func(g *group) bool { return g.second != nil && g.epoch <= last })
	for epoch := max(c.closed+1, now.Unix()-c.o.OpenSeconds+1); epoch <= last; epoch++ {
		for _, d := range c.dcs {
			c.secondOf(epoch, d)
		}
	}
	c.closed = max(c.closed, last)
	c.builders.tick()
	for _, s := range c.seconds {
		s.closed = s.closed || s.epoch <= last
	}
	c.finishSeconds()
	if !c.stopping {
		c.leaveDCs(now.Unix(), last)
	}
}

// finishSeconds queues the finals of the seconds that have nothing pending, in
// order of time.
func (c *core) finishSeconds() {
	slices.SortStableFunc(c.seconds, func(a, b *second) int { return int(a.epoch - b.epoch) })
	c.seconds = slices.DeleteFunc(c.seconds, func(s *second) bool {
		if !s.closed || s.pending > 0 {
			return false
		}
		s.done = true
		if !s.dc.standing.Holds(s.epoch) {
			c.counters.Unexpected.Add(1)
			return true
		}
		o := c.newOp(opFinal, s.epoch, s.dc.name)
		o.delta.Sections[0].Final = new(s.final)
		c.ops.push(o)
		return true
	})
}

// settle notes that something a final waited for has come to an end.
func (c *core) settle(s *second) {
	if s == nil {
		return
	}
	s.pending--
	if s.closed && s.pending == 0 && !s.done {
		c.finishSeconds()
	}
}

// giveUpFinals drops the finals of seconds that owners have closed: they would
// refuse them.
func (c *core) giveUpFinals(now time.Time) {
	tooLate := func(epoch int64) bool { return now.Unix() >= epoch+c.o.OpenSeconds }
	c.seconds = slices.DeleteFunc(c.seconds, func(s *second) bool {
		if !s.closed || !tooLate(s.epoch) {
			return false
		}
		s.done = true
		if s.dc.standing.Holds(s.epoch) {
			c.counters.FinalsMissed.Add(1)
		} else {
			c.counters.Unexpected.Add(1)
		}
		return true
	})
	c.ops.removeIf(func(o *op) bool {
		if o.kind != opFinal || !tooLate(o.key.Epoch) {
			return false
		}
		c.counters.FinalsMissed.Add(1)
		return true
	})
}

// lastNamed returns the second of the goodbye of a core that stops in second now:
// blobs of seconds ahead of it may bear the writer's name, and nobody would wait
// for them if the goodbye came before; nor does it end what a hello after it says.
func (c *core) lastNamed(now int64) int64 {
	last := c.later(now, now, c.closed)
	for _, s := range c.seconds {
		if s.dc.standing.Holds(s.epoch) {
			last = c.later(now, last, s.epoch)
		}
	}
	for _, d := range c.dcs {
		last = c.later(now, last, d.greeted)
	}
	return last
}

// later returns the later of two seconds, but last if the other one is so far ahead
// of now, where a clock that was set back may have left it, that owners refuse it.
func (c *core) later(now, last, other int64) int64 {
	if other > c.limits.LastAdmissible(now) {
		return last
	}
	return max(last, other)
}

// sayGoodbye queues the goodbyes of a stopping core when all else is done.
func (c *core) sayGoodbye() {
	if !c.stopping || c.goodbyes || c.underWay() || c.ops.len() > 0 {
		return
	}
	c.goodbyes = true
	for _, d := range c.dcs {
		c.ops.push(c.newOp(opGoodbye, c.lastSecond, d.name))
	}
}

// An opKind says what an op tells the index.
type opKind uint8

const (
	opHello opKind = iota
	opFinal
	opGoodbye
)

// An op is one addition to the index.
type op struct {
	kind     opKind
	key      event.IndexKey
	delta    index.Row
	attempts int
}

func (c *core) newOp(kind opKind, epoch int64, dc string) *op {
	section := index.Section{Writer: c.o.self(), Hello: kind == opHello, Goodbye: kind == opGoodbye}
	if section.Hello {
		section.Succeeds = c.o.Succeeds
	}
	return &op{
		kind: kind, key: event.IndexKey{Epoch: epoch, DC: dc},
		delta: index.Row{Sections: []index.Section{section}},
	}
}
