package client

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

const (
	hedgeFirst   = 50 * time.Millisecond // the delay before there is anything to go by
	beatenInARow = 3                     // how often a node is beaten before it is asked last
)

// A hedge is one question that is put to a second node if the first is slow. The
// first is asked on the caller's goroutine, the second on its own, which the
// Client waits for when it is closed. The answer that comes first counts; the
// other question is given up, and what it brought is released.
type hedge struct {
	c       *Client
	r       *request
	parent  context.Context // the call's; its end ends both questions
	until   time.Time       // of both questions
	giveUp  context.CancelFunc
	elapsed time.Duration // set by the second question: how long it took

	mu      sync.Mutex
	over    bool               // nobody wants the second answer any more
	asking  bool               // the second question is being asked
	stop    context.CancelFunc // gives it up; nil before it was asked
	won     bool               // it was answered first
	reply   wire.Reply         // the answer if it won and has not been taken
	err     error              // the same
	settled chan struct{}      // made by the caller if it waits for the second question; closed when that has ended
}

// hedged asks e, and somebody else if e is slow. ctx ends at until, and giveUp
// ends it; parent is what it was made of.
func (c *Client) hedged(parent, ctx context.Context, until time.Time, giveUp context.CancelFunc, r *request, e *endpoint) (wire.Reply, error) {
	h := &hedge{c: c, r: r, parent: parent, until: until, giveUp: giveUp}
	begun := time.Now()
	timer := time.AfterFunc(r.latency.Delay(hedgeFirst, c.cfg.HedgeLeast, c.cfg.HedgeMost), h.askAnother)
	reply, err := c.ask(ctx, r, e)
	if !timer.Stop() {
		var second bool
		if reply, err, second = h.settle(reply, err); second {
			r.latency.Observe(h.elapsed)
			c.stats.hedgesWon.Add(1)
			c.beaten(e)
			return reply, err
		}
	}
	if answered(err) {
		e.beaten.Store(0)
		r.latency.Observe(time.Since(begun))
	}
	return reply, err
}

// answered tells whether a question was answered for good.
func answered(err error) bool { return err == nil || !object.AsError(err).Code.Retryable() }

// askAnother puts the question to a second node, if there is one and the budget
// allows.
func (h *hedge) askAnother() {
	if !h.c.enter() {
		return
	}
	defer h.c.leave()
	e, ctx := h.begin()
	if e == nil {
		return
	}
	defer h.c.inFlight.Release(h.r.cost)
	begun := time.Now()
	reply, err := h.c.ask(ctx, h.r, e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop()
	h.asking = false
	switch {
	case h.over:
		reply.Release()
	case answered(err):
		h.won, h.reply, h.err, h.elapsed = true, reply, err, time.Since(begun)
		h.giveUp()
	}
	if h.settled != nil {
		close(h.settled)
	}
}

// begin chooses the second node and takes what the question costs.
func (h *hedge) begin() (*endpoint, context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil, nil
	}
	e := h.r.plan.another(time.Now())
	if e == nil {
		return nil, nil
	}
	if !h.c.inFlight.TryAcquire(h.r.cost) {
		h.c.stats.hedgesDenied.Add(1)
		return nil, nil
	}
	if !h.c.budget.spend() {
		h.c.inFlight.Release(h.r.cost)
		h.c.stats.hedgesDenied.Add(1)
		return nil, nil
	}
	h.c.stats.hedges.Add(1)
	ctx, stop := context.WithDeadline(h.parent, h.until)
	h.asking, h.stop = true, stop
	return e, ctx
}

// settle decides which answer counts, given how the first question ended. If
// the first has none it waits for the second. It tells whether it is the second
// that counts.
func (h *hedge) settle(reply wire.Reply, err error) (wire.Reply, error, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !answered(err) && h.asking {
		h.settled = make(chan struct{})
		h.mu.Unlock()
		<-h.settled // it ends with its context at the latest
		h.mu.Lock()
	}
	h.over = true
	switch {
	case h.won && answered(err): // both at once
		h.reply.Release()
	case h.won:
		return h.reply, h.err, true
	case h.stop != nil:
		h.stop()
	}
	return reply, err, false
}

// beaten notes that another node answered before e. One that is beaten again and
// again is slow; one that could not even be connected to is tried apart.
func (c *Client) beaten(e *endpoint) {
	if e.beaten.Add(1) >= beatenInARow {
		e.beaten.Store(0)
		e.doubt(time.Now())
	}
	if !e.usable() {
		c.probe(e)
	}
}
