package wire

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// sweepGap is the least time between two looks for requests whose time has run
// out: what their callers may be told late, and what bounds the cost of looking.
const sweepGap = 5 * time.Millisecond

// later is what a pending has more if its answer is called back. It is set
// before the pending is in the Conn's map.
//
// Two things must have happened before done is called: Begin has let go of the
// request, and somebody has taken it out of the map. They happen in any order;
// whoever comes second, as halves tells, finishes the request.
type later struct {
	conn     *Conn
	done     func(Reply, error)
	id       uint64
	class    Class
	deadline time.Time // zero without one
	unsent   error     // why the request was not queued
	halves   atomic.Int32
}

// sweep is the one alarm of a Conn, for the earliest deadline. Guarded by the
// Conn's mutex.
type sweep struct {
	timer *time.Timer
	at    time.Time // when it rings; zero if it is not set
}

var (
	// errLate completes a request whose time has run out; it never leaves the package.
	errLate = errors.New("its time has run out")

	errBusy = &object.Error{Code: object.CodeOverload, Outcome: object.NotDone,
		Message: "too much is under way on the connection: send again a little later, or elsewhere"}

	// atOnce is the context of those who do not wait for anything.
	atOnce = func() context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}()
)

// Begin sends a request as Call does, but never waits: not for room on the
// connection, which gives CodeOverload, and not for the answer. done is called
// exactly once, perhaps before Begin returns, with the answer, which it releases,
// or with the error Call would give; an error of the server comes with the
// History of its frame. A request without an answer at its deadline ends with
// CodeDeadline, a few milliseconds later at most; the zero deadline is none. call
// is not used any more when done is called or Begin has returned.
//
// There is no goroutine, timer or context for the request. done runs on whatever
// goroutine ends it, most often the one that reads the connection, which it so
// holds up: it must be quick, may begin other requests, and must not close the
// Conn.
func (c *Conn) Begin(call *Call, deadline time.Time, done func(Reply, error)) {
	now := time.Now()
	if !deadline.IsZero() && !now.Before(deadline) {
		done(Reply{}, c.late(false))
		return
	}
	if err := c.admit(atOnce, call); err != nil {
		if errors.Is(err, object.CodeDeadline) { // it would have had to wait
			err = errBusy
		}
		done(Reply{}, err)
		return
	}
	p, err := c.registerLater(call.Class, now, deadline, done)
	if err != nil {
		<-c.slots
		done(Reply{}, c.explain(err, false))
		return
	}
	if err = c.enqueueLater(p, call); err != nil {
		p.later.unsent = err
		if c.unregister(p.later.id) {
			c.finish(p) // nobody else will
			return
		}
	}
	p.meet()
}

// registerLater is register for a request whose answer is called back.
func (c *Conn) registerLater(class Class, now, deadline time.Time, done func(Reply, error)) (*pending, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return nil, c.lost
	}
	var p *pending
	if n := len(c.free); n > 0 {
		p, c.free = c.free[n-1], c.free[:n-1]
	} else {
		p = &pending{answer: make(chan struct{}, 1)}
	}
	c.nextID++
	l := &p.later
	l.conn, l.done, l.id, l.class, l.deadline = c, done, c.nextID, class, deadline
	c.pending[l.id] = p
	if !deadline.IsZero() {
		c.armLocked(now, deadline)
	}
	return p, nil
}

// enqueueLater queues the request if there is room.
func (c *Conn) enqueueLater(p *pending, call *Call) error {
	l := &p.later
	f := newFrame(Header{Op: call.Op, Class: call.Class, ID: l.id, History: call.History, Trace: call.Trace}, call.Meta)
	f.deadline, f.owner = l.deadline, &p.sending
	for _, piece := range call.Body {
		if piece.Buf != nil {
			piece.Buf.Retain()
		}
		f.add(piece.own())
	}
	err := c.w.enqueue(f, atOnce.Done(), inTurn)
	if errors.Is(err, errQuit) {
		return errBusy
	}
	return err
}

// meet tells one of the two halves of a request. The second one finishes it.
func (p *pending) meet() {
	if p.later.halves.Add(1) == 2 {
		p.later.conn.finish(p)
	}
}

// finish tells the caller of a request, which is in no map any more, how it ended.
func (c *Conn) finish(p *pending) {
	taken := c.w.withdraw(&p.sending)
	l, reply, err := &p.later, p.reply, p.err
	done, id, class, unsent := l.done, l.id, l.class, l.unsent
	l.conn, l.done, l.unsent, l.deadline = nil, nil, nil, time.Time{}
	l.halves.Store(0)
	c.recycle(p)
	<-c.slots
	switch {
	case unsent != nil:
		reply.Release() // the server answered what it was never asked
		reply, err = Reply{}, c.explain(unsent, false)
	case errors.Is(err, errLate):
		if taken {
			c.notify(FlagCancel, class, id, nil, urgently)
		}
		err = c.late(taken)
	case err != nil:
		err = c.explain(err, taken)
	}
	done(reply, err)
}

// armLocked has sweepLate called at the deadline, or shortly after it.
func (c *Conn) armLocked(now, deadline time.Time) {
	at, s := deadline, &c.sweep
	if soonest := now.Add(sweepGap); at.Before(soonest) {
		at = soonest
	}
	if !s.at.IsZero() && !at.Before(s.at) {
		return
	}
	s.at = at
	if s.timer == nil {
		s.timer = time.AfterFunc(at.Sub(now), c.sweepLate)
	} else {
		s.timer.Reset(at.Sub(now))
	}
}

// sweepLate ends the requests whose time has run out. A steady stream of requests
// with the same time to live costs one look at all of them in that time.
func (c *Conn) sweepLate() {
	var over []*pending
	var next time.Time
	now := time.Now()
	c.mu.Lock()
	c.sweep.at = time.Time{}
	for id, p := range c.pending {
		switch d := p.later.deadline; {
		case d.IsZero():
		case !now.Before(d):
			delete(c.pending, id)
			over = append(over, p)
		case next.IsZero() || d.Before(next):
			next = d
		}
	}
	if !next.IsZero() {
		c.armLocked(now, next)
	}
	c.mu.Unlock()
	for _, p := range over {
		p.complete(Reply{}, errLate)
	}
}

// late is the error of a request whose time has run out.
func (c *Conn) late(taken bool) error {
	what := "was not sent in time"
	if taken {
		what = "was not answered in time"
	}
	return object.Errorf(object.CodeDeadline, outcome(taken), "the request to %s at %s %s", c.peer.who(), c.nc.RemoteAddr(), what)
}
