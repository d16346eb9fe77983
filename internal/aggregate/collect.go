package aggregate

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
)

const (
	maxGroupBytes    = 4 << 20  // of events in one builder; about a chunk when compressed
	sealWorthBytes   = 64 << 10 // when memory runs short, builders of less are sealed only if that is not enough
	groupOverhead    = 1 << 10  // bytes that a builder costs beside its events
	eventOverhead    = 4        // bytes likewise
	sealReserve      = 128      // one in so many bytes is kept free for headers that sealing adds
	lateGroupsPerAll = 4        // one of so many groups may be of a second that is closed
)

// A group is one blob being collected: the events of one second, dc, type and
// subtype.
type group struct {
	key     string // as appendGroupKey makes it; the names are parts of it
	epoch   int64
	dc      string
	typ     string
	subtype string
	builder usedBuilder
	size    int64     // bytes, overhead included
	due     time.Time // when to seal it at the latest
	second  *second   // nil if no final counts it: the second was closed before, or nobody expects this writer in it
	at      int       // index in core.open
	stamp   int64     // microseconds since the Unix epoch: timestamp of its blobs; set when sealed
}

// names is the group's key without the epoch.
func (g *group) names() string { return g.key[8:] }

// tally is what one datagram brought, so that counters are touched once.
type tally struct{ envelopes, events, bytes, unknown, late int64 }

// datagram takes a datagram's events in. b may be reused afterwards.
func (c *core) datagram(now time.Time, b []byte) {
	c.now, c.tally = now, tally{}
	err := event.ParseDatagram(b, &c.scratch, c.collect)
	if err != nil {
		c.refused(err)
	} else if c.tally.envelopes == 0 {
		c.drop(Empty, 1)
	}
	n := c.counters
	n.Datagrams.Add(1)
	n.DatagramBytes.Add(int64(len(b)))
	n.Events.Add(c.tally.events)
	n.EventBytes.Add(c.tally.bytes)
	n.UnknownMembers.Add(c.tally.unknown)
	n.LateEvents.Add(c.tally.late)
	n.BufferedBytes.Store(c.buffered)
}

// refused counts what a datagram had that were no envelopes.
func (c *core) refused(err error) {
	refused, ok := errors.AsType[*event.DatagramError](err)
	if !ok {
		panic("aggregate: BUG: a datagram was given up: " + err.Error())
	}
	reason := BadEnvelope
	switch {
	case errors.Is(refused, event.ErrMsgpack):
		reason = BadMsgpack
	case errors.Is(refused, event.ErrJSON):
		reason = BadJSON
	}
	c.drop(reason, int64(refused.Refused))
}

// take takes one event in, or drops it. It never fails.
func (c *core) take(env event.Envelope) error {
	c.tally.envelopes++
	g, reason, ok := c.groupFor(&env)
	if !ok {
		c.drop(reason, 1)
		return nil
	}
	if err := g.builder.Append(env.Event); err != nil {
		panic("aggregate: BUG: a parsed event was refused: " + err.Error())
	}
	size := int64(len(env.Event) + eventOverhead)
	g.size += size
	c.openSize += size
	c.buffered += size
	c.tally.events++
	c.tally.bytes += int64(len(env.Event))
	c.tally.unknown += int64(env.Unknown)
	if g.second == nil {
		c.tally.late++
	}
	switch {
	case g.size >= maxGroupBytes:
		c.counters.EarlySeals.Add(1)
		c.seal(g, c.now)
	case c.openSize > c.o.MaxBufferedBytes/2:
		c.sealEarly()
	}
	return nil
}

// groupFor finds or begins the group an event belongs to; if it may not be taken
// in, it says why.
func (c *core) groupFor(env *event.Envelope) (g *group, reason Reason, ok bool) {
	second := c.now.Unix()
	epoch := env.Epoch
	if epoch == 0 {
		epoch = second
	}
	if expiry.Hidden(epoch, second, c.limits) {
		return nil, TooOld, false
	}
	if epoch > c.limits.LastAdmissible(second) {
		return nil, TooFarAhead, false
	}
	if c.buffered+int64(len(env.Event))+groupOverhead > c.o.MaxBufferedBytes-c.o.MaxBufferedBytes/sealReserve {
		return nil, Overload, false
	}
	d, ok := c.dcOf(env.DC)
	if !ok {
		return nil, TooManyDCs, false
	}
	d.lastEvent = second
	c.key = appendGroupKey(c.key[:0], epoch, d.name, env.Type, env.Subtype)
	if g = c.groups[string(c.key)]; g != nil {
		return g, 0, true
	}
	if len(c.open) >= c.o.MaxGroups || epoch <= c.closed && c.lateOpen >= max(1, c.o.MaxGroups/lateGroupsPerAll) {
		return nil, TooManyGroups, false
	}
	return c.begin(epoch, d), 0, true
}

// appendGroupKey appends what tells groups apart: the epoch, 8 bytes, and the
// names, the first two behind their lengths, 1 byte each.
func appendGroupKey[S ~string | ~[]byte](dst []byte, epoch int64, dc string, typ, subtype S) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = append(append(dst, byte(len(dc))), dc...)
	dst = append(append(dst, byte(len(typ))), typ...)
	return append(dst, subtype...)
}

// begin begins the group that c.key names.
func (c *core) begin(epoch int64, d *dc) *group {
	key := string(c.key)
	rest := key[8+1+len(d.name):]
	typ := int(rest[0])
	g := &group{
		key: key, epoch: epoch, dc: d.name, typ: rest[1 : 1+typ], subtype: rest[1+typ:],
		builder: c.builders.get(key[8:]),
		size:    groupOverhead,
		due:     c.now.Add(c.o.Grace),
		at:      len(c.open),
	}
	if epoch > c.closed {
		g.second = c.secondOf(epoch, d)
		g.second.pending++
		g.due = c.now.Add(time.Unix(epoch+1, 0).Add(c.o.Grace).Sub(c.now))
	} else {
		c.lateOpen++
	}
	c.groups[key] = g
	c.open = append(c.open, g)
	c.openSize += g.size
	c.buffered += g.size
	if c.nextDue.IsZero() || g.due.Before(c.nextDue) {
		c.nextDue = g.due
	}
	return g
}

// sealEarly makes room when half the memory is full of events: it seals the
// larger groups, and all of them if that leaves much.
func (c *core) sealEarly() {
	before := len(c.open)
	c.sealIf(c.now, func(g *group) bool { return g.size >= sealWorthBytes })
	if c.openSize > c.o.MaxBufferedBytes/4 {
		c.sealIf(c.now, func(*group) bool { return true })
	}
	c.counters.EarlySeals.Add(int64(before - len(c.open)))
}

// sealIf seals the groups that want it, and finds when the next one is due.
func (c *core) sealIf(now time.Time, want func(*group) bool) {
	c.nextDue = time.Time{}
	for i := 0; i < len(c.open); {
		g := c.open[i]
		if want(g) {
			c.seal(g, now) // puts another one in its place
			continue
		}
		if c.nextDue.IsZero() || g.due.Before(c.nextDue) {
			c.nextDue = g.due
		}
		i++
	}
}

// seal ends collecting g. Timestamps ascend from seal to seal: a final counts the
// first blobs of a second by timestamp, so what is sealed later cannot be taken
// for one of them. Only a clock that was set back by more than a second resets
// them: nodes refuse timestamps far ahead of their own clock.
func (c *core) seal(g *group, now time.Time) {
	last := len(c.open) - 1
	c.open[g.at] = c.open[last]
	c.open[g.at].at = g.at
	c.open[last] = nil
	c.open = c.open[:last]
	delete(c.groups, g.key)
	c.openSize -= g.size
	if g.second == nil {
		c.lateOpen--
	} else if s := g.second; !s.dc.standing.Holds(s.epoch) {
		g.second = nil
		c.settle(s)
	}

	stamp := now.UnixMicro()
	if ahead := c.stamp - stamp; ahead >= 0 && ahead < int64(time.Second/time.Microsecond) {
		stamp = c.stamp + 1
	}
	c.stamp, g.stamp = stamp, stamp
	c.jobs = append(c.jobs, g)
}
