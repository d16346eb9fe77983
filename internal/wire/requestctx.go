package wire

import (
	"context"
	"sync"
	"time"
)

// A requestCtx is the context of one request. The channel and the timer of an
// ordinary context are made only for a handler that asks for them: a put that is
// answered in microseconds asks for neither.
type requestCtx struct {
	deadline time.Time // zero without one

	mu    sync.Mutex
	err   error
	done  chan struct{}     // made by Done
	timer *time.Timer       // made with done
	after map[*after]func() // to be called at the end, see AfterFunc
}

type after struct{ _ byte } // not empty, so that each has its own address

var _ context.Context = (*requestCtx)(nil)

func (c *requestCtx) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Value returns nil: what a request brings is in the Request.
func (c *requestCtx) Value(any) any { return nil }

func (c *requestCtx) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else {
			c.armLocked()
		}
	}
	return c.done
}

func (c *requestCtx) Err() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err == nil && c.late() {
		c.end(context.DeadlineExceeded)
		return context.DeadlineExceeded
	}
	return err
}

func (c *requestCtx) late() bool { return !c.deadline.IsZero() && !time.Now().Before(c.deadline) }

// AfterFunc lets package context derive contexts without a goroutine each. That
// package has called Done before.
func (c *requestCtx) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*after]func())
	}
	key := new(after)
	c.after[key] = f
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.after[key]
		delete(c.after, key)
		return waiting
	}
}

// armLocked sets the timer that ends the context at its deadline.
func (c *requestCtx) armLocked() {
	if c.timer == nil && !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
	}
}

// end ends the context with err, once.
func (c *requestCtx) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	calls := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range calls {
		go f()
	}
}
