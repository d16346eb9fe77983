package wire

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestRequestCtx holds a request's context against what package context promises
// of its own.
func TestRequestCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &requestCtx{deadline: time.Now().Add(time.Second)}
		if d, ok := c.Deadline(); !ok || time.Until(d) != time.Second {
			t.Errorf("deadline %v, %v", d, ok)
		}
		if c.Err() != nil || c.Value("x") != nil {
			t.Error("it ended before its time")
		}
		start := time.Now()
		<-c.Done()
		if !errors.Is(c.Err(), context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", c.Err(), time.Since(start))
		}
		c.end(context.Canceled)
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("it ended twice: %v", c.Err())
		}

		late := &requestCtx{deadline: time.Now()}
		if !errors.Is(late.Err(), context.DeadlineExceeded) {
			t.Errorf("past its deadline, without a timer: %v", late.Err())
		}
		<-late.Done()

		endless := &requestCtx{}
		if _, ok := endless.Deadline(); ok {
			t.Error("a deadline from nowhere")
		}
		endless.end(context.Canceled)
		<-endless.Done()
	})
}

// TestDerivedContexts: contexts derived from a request's end with it, and cost no
// goroutine each.
func TestDerivedContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &requestCtx{deadline: time.Now().Add(time.Minute)}
		before := runtime.NumGoroutine()
		var children []context.Context
		for range 100 {
			child, cancel := context.WithTimeout(c, time.Hour)
			defer cancel()
			children = append(children, child)
		}
		gone, cancel := context.WithCancel(c)
		cancel()
		if n := runtime.NumGoroutine(); n > before+1 {
			t.Errorf("%d goroutines for 101 contexts", n-before)
		}
		c.mu.Lock()
		if len(c.after) != 100 {
			t.Errorf("%d are waiting, want 100: a cancelled one is forgotten", len(c.after))
		}
		c.mu.Unlock()
		start := time.Now()
		for _, child := range children {
			<-child.Done()
			if !errors.Is(child.Err(), context.DeadlineExceeded) {
				t.Errorf("a child ended with %v", child.Err())
			}
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the children ended after %v, want 1m", took)
		}
		<-gone.Done()
		afterEnd, cancel := context.WithCancel(c)
		defer cancel()
		<-afterEnd.Done()
	})
}
