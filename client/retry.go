package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
)

const (
	firstPause     = 20 * time.Millisecond // before the first repetition
	maxPause       = time.Second           // before a later one
	slowestBytes   = 4 << 20               // bytes a second that an attempt's time allows for
	bulkBytes      = 1 << 20               // what is larger goes over the bulk connection
	retryCost      = 10                    // in tenths: each call earns one
	expectedAnswer = 512 << 10             // bytes accounted for an answer whose size is not known
	maxReroutes    = 3                     // repetitions of a call that cost nothing because the ring had changed
)

// A retryBudget bounds repetitions to a share of the calls: when everything
// fails, clients that repeat everything make sure that nothing recovers.
type retryBudget struct {
	mu     sync.Mutex
	tokens int // tenths of a repetition
	most   int
}

func newRetryBudget(retries int) retryBudget {
	return retryBudget{tokens: retries * retryCost, most: retries * retryCost}
}

func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+1, b.most)
}

func (b *retryBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < retryCost {
		return false
	}
	b.tokens -= retryCost
	return true
}

// jitter returns a duration between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// A request is one operation as the loop of attempts sees it. Identical attempts
// do no harm: that is so of all operations that have no "once".
type request struct {
	what  string // "put", for messages
	plan  plan   // whom to ask
	reads bool   // it changes nothing: its failures are "not done"
	once  bool   // it is not repeated after an attempt that may have succeeded
	bytes int    // sent in one attempt
	cost  int64  // bytes in flight it is accounted for
	// latency is how long such questions take, of those that are put to a second
	// node if the first is slow; nil of others.
	latency *replication.Latency
	// ask puts the question. Errors are object.Errors. With latency it may run twice
	// at once, and once more after the call has ended.
	ask func(ctx context.Context, conn *wire.Conn) (wire.Reply, error)
	// take, if set, takes over the answer that counts, or says why it is none.
	take func(reply *wire.Reply) error
}

// do makes attempts until one is answered for good, the time or the budget runs
// out, or the Client is closed.
func (c *Client) do(ctx context.Context, r *request) error {
	c.stats.calls.Add(1)
	c.budget.earn()
	if r.cost > 0 {
		if !c.inFlight.TryAcquire(r.cost) && !c.inFlight.Acquire(r.cost, ctx.Done(), c.cfg.Timeout) {
			c.stats.failures.Add(1)
			return object.Errorf(object.CodeOverload, object.NotDone,
				"the %s waited too long for the %d bytes in flight of other calls: call less at once, or raise the bound", r.what, c.cfg.MaxInFlightBytes)
		}
		defer c.inFlight.Release(r.cost)
	}
	err := c.attempts(ctx, r)
	if e, ok := errors.AsType[*object.Error](err); ok && e.Code.Retryable() {
		c.stats.failures.Add(1)
	}
	return err
}

// attempts is the loop of do.
func (c *Client) attempts(ctx context.Context, r *request) error {
	give := time.Now().Add(c.cfg.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(give) {
		give = d
	}
	var first, last, said *object.Error // of attempts: first that may have been done, the latest, the latest that a node said
	pause, reroutes := firstPause, 0
	r.plan.turn = c.next.Add(1)
	for n := 1; ; n++ {
		err := c.attempt(ctx, r, give)
		if err == nil {
			return nil
		}
		last = object.AsError(err)
		if last.Cause == nil { // causes do not travel
			said = last
		}
		if first == nil && last.Outcome != object.NotDone {
			first = last
		}
		if !last.Code.Retryable() || c.closing.Load() || ctx.Err() != nil || r.once && first != nil {
			break
		}
		if last.Code == object.CodeWrongOwner && reroutes < maxReroutes && c.relearn(ctx, r.plan.last(), time.Until(give)) {
			reroutes++
			c.stats.rerouted.Add(1)
			continue
		}
		wait := jitter(pause)
		pause = min(2*pause, maxPause)
		if unreached(last) {
			// Nobody was troubled: it costs nothing, and with another address to try,
			// no wait either.
			if n < len(r.plan.t.all) {
				wait = 0
			}
		} else if !c.budget.spend() {
			c.stats.denied.Add(1)
			break
		}
		if time.Until(give) <= wait || !c.sleep(ctx, wait) {
			break
		}
		c.stats.retries.Add(1)
	}
	if unreached(last) && said != nil {
		last = said // what is wrong, rather than who else is away
	}
	return r.settle(first, last)
}

// attempt makes one attempt at one of the nodes, or two.
func (c *Client) attempt(parent context.Context, r *request, give time.Time) error {
	allowed := c.cfg.AttemptTimeout + time.Duration(r.bytes)*time.Second/slowestBytes
	deadline := time.Now().Add(allowed)
	if give.Before(deadline) || r.once { // nobody else is asked afterwards
		deadline = give
	}
	ctx, cancel := context.WithDeadline(parent, deadline)
	defer cancel()
	e, err := c.choose(ctx, &r.plan)
	if err != nil {
		return err
	}
	var reply wire.Reply
	if r.latency == nil || len(r.plan.t.all) == 1 {
		reply, err = c.ask(ctx, r, e)
	} else {
		reply, err = c.hedged(parent, ctx, deadline, cancel, r, e)
	}
	switch {
	case err != nil:
		return err
	case r.take != nil:
		return r.take(&reply)
	}
	reply.Release()
	return nil
}

// ask puts the question to one node. It may be called for one request by two
// goroutines at once.
func (c *Client) ask(ctx context.Context, r *request, e *endpoint) (wire.Reply, error) {
	e.hold()
	defer e.drop()
	conn, err := e.conn(ctx, r.bytes > bulkBytes)
	if err != nil {
		return wire.Reply{}, err
	}
	reply, err := r.ask(ctx, conn)
	c.heard(e, reply.History)
	e.judge(ctx, err)
	return reply, err
}

// choose returns whom to ask next. If nobody can be connected to it waits for the
// first that has rested.
func (c *Client) choose(ctx context.Context, p *plan) (*endpoint, error) {
	for {
		if c.closing.Load() {
			return nil, errClosed()
		}
		p.use(c.table.Load())
		e, soonest := p.next(time.Now())
		if e != nil {
			if p.due != nil && p.due != e {
				c.probe(p.due)
			}
			if p.owns(e) {
				c.stats.routed.Add(1)
			}
			return e, nil
		}
		if !c.sleep(ctx, soonest) && ctx.Err() != nil {
			return nil, c.unreachable()
		}
	}
}

// chooseAny is choose for what any node is asked.
func (c *Client) chooseAny(ctx context.Context, turn uint32) (*endpoint, error) {
	return c.choose(ctx, &plan{turn: turn})
}

// unreachable says, for each address, why nobody can be asked there.
func (c *Client) unreachable() error {
	var why []error
	for _, e := range c.table.Load().all {
		if err := e.lastFailure(); err != nil {
			why = append(why, err)
		}
	}
	return unreachable(why)
}

func unreachable(why []error) error {
	if len(why) == 1 {
		return why[0]
	}
	var said []string
	for _, err := range why {
		said = append(said, err.Error())
	}
	return &object.Error{
		Code: object.AsError(why[0]).Code, Outcome: object.NotDone, Cause: errors.Join(why...),
		Message: "no node can be talked to: " + strings.Join(said, "; "),
	}
}

// unreached tells whether an attempt failed before any node was asked.
func unreached(e *object.Error) bool {
	return e.Outcome == object.NotDone && (e.Code == object.CodeUnavailable || e.Code == object.CodeStopping)
}

// settle makes the error of the whole call from those of its attempts: maybe
// is the first after which it may have been done, last the latest.
func (r *request) settle(maybe, last *object.Error) error {
	switch {
	case r.reads && last.Outcome != object.NotDone:
		e := *last
		e.Outcome = object.NotDone
		return &e
	case r.reads || maybe == nil || last.Outcome != object.NotDone:
		return last
	}
	e := *last
	e.Outcome = object.MaybeDone
	e.Message = fmt.Sprintf("%s; an earlier attempt may have succeeded: %s", last.Message, maybe.Message)
	return &e
}
