package node

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// catchUpTimeout bounds one attempt to get a newer history: who waits for it holds
// a request up.
const catchUpTimeout = 3 * time.Second

// A catcher brings newer histories to this node when others show that there are
// some. One question is under way at a time, for all who wait: a change of the
// history is heard of by every request at once.
type catcher struct {
	have  func() ring.Version                                               // what this node has adopted
	fetch func(ctx context.Context, v ring.Version, from ring.NodeID) error // gets v and adopts it

	mu     sync.Mutex
	closed bool
	flight *flight        // the question under way; nil: none
	wg     sync.WaitGroup // questions, and those who wait for themselves
	ctx    context.Context
	stop   context.CancelFunc
}

// A flight is one question.
type flight struct {
	done chan struct{} // closed when it is over, err being set
	err  error
}

func newCatcher(have func() ring.Version, fetch func(context.Context, ring.Version, ring.NodeID) error) *catcher {
	c := &catcher{have: have, fetch: fetch}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

var errStopping = &object.Error{Code: object.CodeStopping, Outcome: object.NotDone, Message: "this node is stopping: use another one"}

// await returns when this node has the history v, which that node has; the error
// says why it does not have it before ctx ends.
func (c *catcher) await(ctx context.Context, v ring.Version, from ring.NodeID) error {
	var err error
	for range 2 { // the question under way may have been for an older one, or put to another node
		if !c.have().Before(v) {
			return nil
		}
		f := c.join(v, from)
		if f == nil {
			return errStopping
		}
		select {
		case <-f.done:
			err = f.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !c.have().Before(v) {
		return nil
	}
	if err == nil {
		err = object.Errorf(object.CodeUnavailable, object.NotDone, "node %v was asked for version %v of the history and gave version %v", from, v, c.have())
	}
	return err
}

// join returns the question under way, which it begins if there is none; nil if
// this node is stopping.
func (c *catcher) join(v ring.Version, from ring.NodeID) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.flight != nil {
		return c.flight
	}
	f := &flight{done: make(chan struct{})}
	c.flight = f
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, catchUpTimeout)
		defer cancel()
		f.err = c.fetch(ctx, v, from)
		c.mu.Lock()
		c.flight = nil
		c.mu.Unlock()
		close(f.done)
	})
	return f
}

// later is await without waiting: then is called when it is over, at the deadline
// at the latest. There are no more of them than requests under way to peers, which
// are bounded.
func (c *catcher) later(v ring.Version, from ring.NodeID, deadline time.Time, then func()) {
	if !c.have().Before(v) || !c.enter() {
		then()
		return
	}
	go func() {
		defer c.wg.Done()
		defer then()
		ctx := c.ctx
		if !deadline.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
		_ = c.await(ctx, v, from) // whether it is there is seen by looking
	}()
}

// enter counts one who waits, unless this node is stopping.
func (c *catcher) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Add(1)
	}
	return !c.closed
}

// close ends what is under way, and returns when all who waited have been told.
func (c *catcher) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
}
