package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// errIdle ends a connection nobody uses.
var errIdle = errors.New("nothing came for too long")

// A session is the serving side of one connection. run reads; the writer
// writes; each request has a goroutine of the server's handlers while it runs.
type session struct {
	srv    *Server
	nc     net.Conn
	peer   Hello
	w      *writer
	r      *reader
	shared *Budget // of the users or of the nodes
	own    Budget
	done   chan struct{}  // closed when failed is set
	wg     sync.WaitGroup // requests

	mu       sync.Mutex
	requests map[uint64]*Request // running
	failed   error               // why nothing more is read or written
	draining bool                // no new requests
}

func newSession(srv *Server, nc net.Conn, peer Hello) *session {
	s := &session{
		srv: srv, nc: nc, peer: peer, shared: &srv.users,
		own:      Budget{limit: srv.cfg.ConnBytes},
		done:     make(chan struct{}),
		requests: make(map[uint64]*Request),
	}
	if peer.IsNode() {
		s.shared = &srv.nodes
	}
	t := srv.cfg.Timeouts
	s.w = newWriter(nc, t.Write, srv.cfg.QueueBytes, &srv.stats)
	s.r = newReader(nc, t.Idle, t.Frame, s.onIdle)
	return s
}

// onIdle ends a silent connection: a caller that is there pings.
func (s *session) onIdle() (time.Duration, error) { return 0, errIdle }

// run serves the connection until it ends, and then waits for its handlers. It
// returns why it ended if that is worth a line in the log.
func (s *session) run() error {
	var writing sync.WaitGroup
	writing.Go(func() { s.w.run(s.fail) })
	err := s.read()
	switch {
	case errors.Is(err, ErrFrame):
		s.srv.stats.protocol.Add(1)
		s.lastWords(err)
	case errors.Is(err, errInterrupted):
		s.wg.Wait()
		s.w.finish(err)
		linger(s.nc)
	}
	s.fail(err)
	s.wg.Wait()
	writing.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// fail ends the connection and the contexts of its requests, once.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.failed != nil {
		s.mu.Unlock()
		return
	}
	s.failed = err
	running := make([]*Request, 0, len(s.requests))
	for _, r := range s.requests {
		running = append(running, r)
	}
	s.mu.Unlock()
	close(s.done)
	s.w.fail(err)
	s.nc.Close()
	for _, r := range running {
		r.ctx.end(context.Canceled)
	}
}

// lastWords tells the peer why the connection ends.
func (s *session) lastWords(err error) {
	e := object.Errorf(object.CodeBadRequest, object.MaybeDone, "%w: the connection is closed", err)
	f := newFrame(Header{Class: Control, Flags: flagsError}, AppendError(nil, e))
	if s.w.enqueue(f, nil, urgently) == nil {
		s.w.finish(err)
		linger(s.nc)
	}
}

// read takes in frames until the connection ends, and returns why.
func (s *session) read() error {
	for {
		s.awaitWritten()
		h, err := s.r.header()
		if err != nil {
			return s.whyEnded(err)
		}
		s.srv.stats.framesIn.Add(1)
		s.srv.stats.bytesIn.Add(HeaderBytes + uint64(h.MetaBytes) + uint64(h.BodyBytes))
		if err := s.receive(&h); err != nil {
			return err
		}
	}
}

// whyEnded prefers the reason the connection was failed for over what the
// reader saw of it.
func (s *session) whyEnded(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	return err
}

// awaitWritten stops the reading while the peer does not read: who does not take
// answers is not asked for further requests.
func (s *session) awaitWritten() {
	if s.w.drained(s.done) {
		s.srv.stats.stalls.Add(1)
	}
}

// drain takes no new requests, tells the caller so, and ends the connection when
// those that are running have been answered.
func (s *session) drain() {
	e := object.Errorf(object.CodeStopping, object.NotDone, "this node is stopping: use another one")
	_ = s.w.enqueue(newFrame(Header{Class: Control, Flags: flagsError}, AppendError(nil, e)), nil, urgently) // a failed writer ends the connection itself
	s.mu.Lock()
	s.draining = true
	idle := len(s.requests) == 0
	s.mu.Unlock()
	if idle {
		s.r.interrupt()
	}
}

// receive handles one frame. An error ends the connection.
func (s *session) receive(h *Header) error {
	switch {
	case h.Flags == FlagCancel:
		s.cancel(h.ID)
		return nil
	case h.Flags == FlagCredit:
		return s.receiveCredit(h)
	case h.Flags != flagsRequest:
		return fmt.Errorf("%w: a caller sent an answer", ErrFrame)
	case h.Op == OpPing:
		return s.receivePing(h)
	}
	return s.receiveRequest(h)
}

func (s *session) receiveCredit(h *Header) error {
	buf, err := s.r.payload(h)
	if err != nil {
		return err
	}
	s.pay(h.ID, binary.LittleEndian.Uint32(buf.Bytes()))
	buf.Release()
	return nil
}

// receivePing answers a ping, whatever it carries, with nothing.
func (s *session) receivePing(h *Header) error {
	if err := s.r.discard(h); err != nil {
		return err
	}
	s.srv.stats.pings.Add(1)
	_ = s.w.enqueue(newFrame(Header{Op: OpPing, Class: Control, Flags: flagsLast, ID: h.ID}, nil), nil, urgently) // a failed writer ends the reader itself
	return nil
}

// receiveRequest reads one request and starts its handler, or answers it with
// the reason why not.
func (s *session) receiveRequest(h *Header) error {
	r := &Request{Op: h.Op, Class: h.Class, History: h.History, Trace: h.Trace, id: h.ID, session: s}
	if h.RemainingMillis > 0 {
		r.ctx.deadline = time.Now().Add(time.Duration(h.RemainingMillis) * time.Millisecond)
	}
	if err := s.admit(h); err != nil {
		if errors.Is(err, ErrFrame) {
			return err
		}
		return s.turnAway(h, r, err)
	}
	if !s.hold(r, int64(h.MetaBytes)+int64(h.BodyBytes)) {
		s.srv.stats.overloads[h.Class].Add(1)
		s.srv.stats.running.Add(-1)
		return s.turnAway(h, r, object.Errorf(object.CodeOverload, object.NotDone,
			"too many bytes are in flight: send again a little later, or elsewhere"))
	}
	buf, err := s.r.payload(h)
	if err != nil {
		s.letGo(r)
		s.srv.stats.running.Add(-1)
		return err
	}
	r.Buf = buf
	if buf != nil {
		b := buf.Bytes()
		r.Meta, r.Body = b[:h.MetaBytes:h.MetaBytes], b[h.MetaBytes:]
	}
	s.begin(r)
	return nil
}

// admit decides, from its header, whether a request is taken in, and counts it
// as running if it is. An ErrFrame ends the connection; other errors are the
// answer.
func (s *session) admit(h *Header) error {
	if !h.Class.Known() {
		return object.Errorf(object.CodeUnsupported, object.NotDone, "this node knows no request of %v: run the same release everywhere", h.Class)
	}
	if h.BodyBytes > rules[h.Class].maxBody {
		return object.Errorf(object.CodeTooLarge, object.NotDone, "a body of %d bytes; a request of class %v has at most %d", h.BodyBytes, h.Class, rules[h.Class].maxBody)
	}
	s.mu.Lock()
	running, draining, inUse := len(s.requests), s.draining, s.requests[h.ID] != nil
	s.mu.Unlock()
	switch {
	case inUse:
		return fmt.Errorf("%w: request id %d is in use", ErrFrame, h.ID)
	case draining:
		return object.Errorf(object.CodeStopping, object.NotDone, "this node is stopping: use another one")
	case running >= s.srv.cfg.MaxRequestsPerConn:
		s.srv.stats.overloads[h.Class].Add(1)
		return object.Errorf(object.CodeOverload, object.NotDone,
			"%d requests are running on this connection, as many as it takes: wait for answers", running)
	}
	// Counted before it is compared, so that connections cannot pass the bound together.
	if n := s.srv.stats.running.Add(1); n > int64(h.Class.share(s.srv.cfg.MaxRequests)) && h.Class != Control {
		s.srv.stats.running.Add(-1)
		s.srv.stats.overloads[h.Class].Add(1)
		return object.Errorf(object.CodeOverload, object.NotDone,
			"%d requests are running, too many for one of class %v: send again a little later, or elsewhere", n-1, h.Class)
	}
	return nil
}

// turnAway reads what belongs to a request that is not taken in, and answers it.
func (s *session) turnAway(h *Header, r *Request, why error) error {
	if err := s.r.discard(h); err != nil {
		return err
	}
	_ = s.w.enqueue(s.errorFrame(r, why), nil, urgently) // a failed writer ends the reader itself
	return nil
}

// hold takes the request's bytes from the connection's budget and the shared
// one, waiting for a while.
func (s *session) hold(r *Request, n int64) bool {
	if !s.acquire(&s.own, n) {
		return false
	}
	if !s.acquire(s.shared, n) {
		s.own.Release(n)
		return false
	}
	r.held = n
	return true
}

func (s *session) acquire(b *Budget, n int64) bool {
	if b.TryAcquire(n) {
		return true
	}
	s.srv.stats.stalls.Add(1)
	return b.Acquire(n, s.done, s.srv.cfg.StallTimeout)
}

func (s *session) letGo(r *Request) {
	s.shared.Release(r.held)
	s.own.Release(r.held)
	r.held = 0
}

// begin starts the handler of a request that is wholly here.
func (s *session) begin(r *Request) {
	s.srv.stats.requests[r.Class].Add(1)
	s.mu.Lock()
	if s.failed != nil {
		r.ctx.err = context.Canceled
	}
	s.requests[r.id] = r
	s.wg.Add(1)
	s.mu.Unlock()
	s.srv.handlers.start(r)
}

// handle runs the handler and answers. A request that is late or unwanted by
// now costs nothing more.
func (s *session) handle(r *Request) {
	defer s.wg.Done()
	var answer Answer
	err := r.ctx.Err()
	if err != nil {
		s.srv.stats.dead.Add(1)
		err = object.Errorf(object.CodeDeadline, object.NotDone, "the request's time had run out before it was begun: %w", err)
	} else {
		answer, err = s.srv.cfg.Handler.ServeWire(&r.ctx, r)
	}
	if r.Buf != nil {
		r.Buf.Release()
	}
	s.letGo(r)
	s.answer(r, answer, err)
	s.srv.stats.running.Add(-1)
	r.ctx.end(context.Canceled)
}

// answer sends the last frame of a request and forgets it.
func (s *session) answer(r *Request, a Answer, err error) {
	s.mu.Lock()
	wanted := !r.cancelled && s.failed == nil
	s.mu.Unlock()
	switch {
	case !wanted:
		a.Body.Release()
	case err != nil:
		a.Body.Release()
		_ = s.w.enqueue(s.errorFrame(r, err), s.done, inTurn) // a failed writer ends the reader itself
	default:
		f := newFrame(s.header(r, flagsLast), a.Meta)
		f.add(a.Body.own())
		_ = s.w.enqueue(f, s.done, inTurn)
	}
	s.mu.Lock()
	delete(s.requests, r.id)
	last := s.draining && len(s.requests) == 0
	s.mu.Unlock()
	if last {
		s.r.interrupt()
	}
}

func (s *session) header(r *Request, flags Flags) Header {
	h := Header{Op: r.Op, Class: r.Class, Flags: flags, ID: r.id}
	if s.srv.cfg.History != nil {
		h.History = s.srv.cfg.History()
	}
	return h
}

func (s *session) errorFrame(r *Request, err error) *outFrame {
	return newFrame(s.header(r, flagsError), AppendError(nil, object.AsError(err)))
}
