package wire

import "sync"

// maxIdleHandlers bounds the goroutines that wait for a request: as many as a
// server is likely to have at work, each with the few KiB of stack that its
// last requests needed.
const maxIdleHandlers = 64

// handlers runs requests in goroutines that are used again. A new goroutine
// begins with a small stack, and to handle a request it must grow it several
// times, copying each time: for small requests that was a sixth of all
// processor time of a node. One that has handled a request has what it takes.
type handlers struct {
	mu     sync.Mutex
	idle   []*idleHandler // the last to become idle is the first to be used: its stack is still in the cache
	closed bool
}

// An idleHandler is a goroutine that waits for a request, or for nil, which ends
// it.
type idleHandler struct{ next chan *Request } // capacity 1: who gives it one does not wait

// start handles r in a goroutine of its own.
func (h *handlers) start(r *Request) {
	h.mu.Lock()
	last := len(h.idle) - 1
	if last < 0 {
		h.mu.Unlock()
		go h.run(r)
		return
	}
	w := h.idle[last]
	h.idle[last] = nil
	h.idle = h.idle[:last]
	h.mu.Unlock()
	w.next <- r
}

// run handles r, and then what else it is given.
func (h *handlers) run(r *Request) {
	w := &idleHandler{next: make(chan *Request, 1)}
	for {
		r.session.handle(r)
		if !h.wait(w) {
			return
		}
		if r = <-w.next; r == nil {
			return
		}
	}
}

// wait makes w idle, unless there are enough of its kind.
func (h *handlers) wait(w *idleHandler) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.idle) >= maxIdleHandlers {
		return false
	}
	h.idle = append(h.idle, w)
	return true
}

// close ends those that are idle, and makes the others end when they have
// handled what they have.
func (h *handlers) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, w := range h.idle {
		w.next <- nil
	}
	h.idle = nil
}
