package wire

import (
	"context"
	"net"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Request is what a Handler serves. It belongs to the handler until ServeWire
// returns; Meta and Body alias Buf, which a handler that keeps bytes retains.
type Request struct {
	Op      uint8
	Class   Class
	History History
	Trace   Trace
	Meta    []byte
	Body    []byte
	Buf     *object.Buffer // nil if both are empty

	id      uint64
	session *session
	ctx     requestCtx
	held    int64 // bytes taken from the budgets

	// Guarded by session.mu.
	credit    int           // bytes the caller still takes of a stream; may be overdrawn by one message
	paid      chan struct{} // if not nil, Send waits for credit: closed when there is some
	cancelled bool          // the caller does not want the answer
}

// Peer returns how the caller introduced itself.
func (r *Request) Peer() *Hello { return &r.session.peer }

// RemoteAddr returns the caller's address.
func (r *Request) RemoteAddr() net.Addr { return r.session.nc.RemoteAddr() }

// Send sends one message of an answer that has many. It waits until the caller
// takes more; a slow caller so stops only this request. It takes over the body's
// use of its Buffer, in case of an error too. After an error, which is that of
// the request's context or of the connection, nobody listens: the handler
// returns. One goroutine calls Send at a time.
func (r *Request) Send(meta []byte, body Piece) error {
	size := HeaderBytes + len(meta) + len(body.Bytes)
	if err := r.session.awaitCredit(r, size); err != nil {
		body.Release()
		return err
	}
	f := newFrame(r.session.header(r, flagsMore), meta)
	f.add(body.own())
	return r.session.w.enqueue(f, r.ctx.Done(), inTurn)
}

// awaitCredit waits until the caller of r takes bytes, and takes size of them.
func (s *session) awaitCredit(r *Request, size int) error {
	for {
		s.mu.Lock()
		if r.credit > 0 {
			r.credit -= size
			s.mu.Unlock()
			return r.ctx.Err()
		}
		if r.paid == nil {
			r.paid = make(chan struct{})
		}
		paid := r.paid
		s.mu.Unlock()
		select {
		case <-paid:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

// pay gives the request with that id credit. One that has ended is forgotten:
// the grant crossed its last message. What a caller that grants too much makes
// the server hold is bounded by the writer's queue.
func (s *session) pay(id uint64, bytes uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	if r == nil {
		return
	}
	r.credit += int(bytes)
	if r.credit > 0 && r.paid != nil {
		close(r.paid)
		r.paid = nil
	}
}

// cancel ends the context of the request with that id.
func (s *session) cancel(id uint64) {
	s.mu.Lock()
	r := s.requests[id]
	if r != nil {
		r.cancelled = true
	}
	s.mu.Unlock()
	if r != nil {
		s.srv.stats.cancelled.Add(1)
		r.ctx.end(context.Canceled)
	}
}
