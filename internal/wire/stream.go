package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// A Stream is an answer of many messages. The server may run ahead of the reader
// by the Conn's stream window and one message; then it waits, and nothing else
// on the connection does. One goroutine calls Next; any may call Close.
type Stream struct {
	c     *Conn
	p     *pending
	class Class
	id    uint64
	ready chan struct{} // capacity 1: items or over have changed
	slot  sync.Once     // gives the Conn's slot back

	mu     sync.Mutex
	items  []Reply // arrived, not yet taken by Next
	credit int     // bytes the server may still send
	unpaid int     // bytes taken by Next for which the server has no new credit yet
	over   error   // io.EOF or why it ended; given out after the items
	closed bool
}

// Stream sends a request whose answer is a stream. ctx bounds the sending and
// its deadline travels with the request; the stream itself lasts until the
// server ends it, the connection is lost or Close is called.
func (c *Conn) Stream(ctx context.Context, call *Call) (*Stream, error) {
	if err := c.admit(ctx, call); err != nil {
		return nil, err
	}
	s := &Stream{c: c, class: call.Class, ready: make(chan struct{}, 1), credit: c.cfg.StreamWindowBytes}
	p, id, err := c.send(ctx, call, s)
	if err != nil {
		s.leave()
		return nil, err
	}
	s.p, s.id = p, id
	s.grant(c.cfg.StreamWindowBytes, inTurnAtOnce) // not before the request
	return s, nil
}

// Next returns the next message, which the caller must release. io.EOF ends a
// complete stream; any other error is an object.Error, after which the stream
// has ended too, unless it is ctx that ended.
func (s *Stream) Next(ctx context.Context) (Reply, error) {
	for {
		r, grant, err, ok := s.take()
		if grant > 0 {
			s.grant(grant, urgently)
		}
		if ok {
			return r, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Reply{}, s.c.gaveUp(ctx, true)
		}
	}
}

// take returns what Next gives out, if there is anything, and the credit that
// is due to the server.
func (s *Stream) take() (r Reply, grant int, err error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) == 0 {
		return Reply{}, 0, s.over, s.over != nil
	}
	r = s.items[0]
	s.items[0] = Reply{}
	s.items = s.items[1:]
	s.unpaid += r.size()
	if s.over == nil && s.unpaid >= s.c.cfg.StreamWindowBytes/2 {
		grant, s.unpaid = s.unpaid, 0
		s.credit += grant
	}
	return r, grant, nil, true
}

// size is what a message counts for in credit.
func (r *Reply) size() int { return HeaderBytes + len(r.Meta) + len(r.Body) }

func (s *Stream) grant(bytes int, when turn) {
	s.c.notify(FlagCredit, s.class, s.id, binary.LittleEndian.AppendUint32(nil, uint32(bytes)), when)
}

// push takes in a message from the connection's reader. A server that sends
// more than it was given credit for ends the connection.
func (s *Stream) push(r Reply) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit <= 0 {
		r.Release()
		return fmt.Errorf("%w: a stream sent more than it had credit for", ErrFrame)
	}
	s.credit -= r.size()
	if s.closed {
		r.Release()
		return nil
	}
	s.items = append(s.items, r)
	s.signal()
	return nil
}

// end is told once by the connection that nothing more comes. An answer that
// is not empty is the last message.
func (s *Stream) end(r Reply, err error) {
	if err != nil {
		err = s.c.explain(err, true)
	} else {
		err = io.EOF
	}
	s.leave() // before the reader can see the end: then InFlight has come down
	s.mu.Lock()
	if s.over == nil {
		s.over = err
	}
	if r.Buf != nil && !s.closed {
		s.items = append(s.items, r)
	} else {
		r.Release()
	}
	s.signal()
	s.mu.Unlock()
}

// leave makes room for another request on the connection.
func (s *Stream) leave() { s.slot.Do(func() { <-s.c.slots }) }

func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close ends the stream. Messages not yet taken are dropped; Next returns
// io.ErrClosedPipe unless the stream had ended by itself.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for i := range s.items {
		s.items[i].Release()
	}
	s.items = nil
	if s.over == nil {
		s.over = io.ErrClosedPipe
	}
	s.signal()
	s.mu.Unlock()
	if s.c.unregister(s.id) && s.c.w.withdraw(&s.p.sending) {
		s.c.notify(FlagCancel, s.class, s.id, nil, urgently)
	}
	s.leave()
	return nil
}
