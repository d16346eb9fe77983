package wire

import (
	"context"
	"sync/atomic"
	"testing"
)

// A goroutine that has handled a request handles the next.
func TestHandlersAreUsedAgain(t *testing.T) {
	srv := NewServer(testServerConfig(handlerFunc(func(context.Context, *Request) (Answer, error) { return Answer{}, nil })))
	c, err := Dial(t.Context(), overTCP(t, srv), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 1000 {
		reply, err := c.Call(t.Context(), &Call{Op: opSink, Class: Ingest})
		if err != nil {
			t.Fatal(err)
		}
		reply.Release()
	}
	srv.handlers.mu.Lock()
	defer srv.handlers.mu.Unlock()
	// The answer is there a moment before its handler is idle, so now and then a
	// second one is made.
	if n := len(srv.handlers.idle); n > 8 {
		t.Errorf("%d handlers were made for one request at a time", n)
	}
}

// However many requests there were at once, few handlers stay; and when the
// server is closed none does, which the package's goleak sees.
func TestFewHandlersStay(t *testing.T) {
	const many = 2 * maxIdleHandlers
	var running atomic.Int64
	all := make(chan struct{})
	srv := NewServer(testServerConfig(handlerFunc(func(context.Context, *Request) (Answer, error) {
		if running.Add(1) == many {
			close(all)
		}
		<-all
		return Answer{}, nil
	})))
	c, err := Dial(t.Context(), overTCP(t, srv), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	errs := make(chan error, many)
	for range many {
		go func() {
			reply, err := c.Call(t.Context(), &Call{Op: opSink, Class: Ingest})
			reply.Release()
			errs <- err
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	srv.Close()
	srv.handlers.mu.Lock()
	defer srv.handlers.mu.Unlock()
	if n := len(srv.handlers.idle); n != 0 || !srv.handlers.closed {
		t.Errorf("%d handlers wait at a closed server", n)
	}
}

// A handler that becomes idle keeps to the bound, and to the end of its server.
func TestHandlersWait(t *testing.T) {
	var h handlers
	for i := range maxIdleHandlers + 1 {
		w := &idleHandler{next: make(chan *Request, 1)}
		if got, want := h.wait(w), i < maxIdleHandlers; got != want {
			t.Fatalf("handler %d may wait: %v, want %v", i, got, want)
		}
	}
	idle := h.idle
	h.close()
	for i, w := range idle {
		if len(w.next) != 1 || <-w.next != nil {
			t.Fatalf("handler %d was not ended", i)
		}
	}
	if h.wait(&idleHandler{}) {
		t.Error("a handler waits at a closed server")
	}
}
