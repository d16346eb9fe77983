package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Call is a request as its caller makes it.
type Call struct {
	Op      uint8
	Class   Class
	History History
	Trace   Trace
	Meta    []byte // copied; at most MaxMetaBytes
	// Body is sent by reference: the Conn takes uses of the Buffers of its own, and
	// the caller's remain the caller's. In all at most what the server's hello says.
	Body []Piece
}

// A Reply is an answer, or one message of a stream. Meta and Body alias Buf.
// The receiver calls Release once; a record parsed from Body lives as long as
// Buf, and may take the use over.
type Reply struct {
	History History
	Meta    []byte
	Body    []byte
	Buf     *object.Buffer // nil if the answer is empty
}

func newReply(h *Header, buf *object.Buffer) Reply {
	r := Reply{History: h.History, Buf: buf}
	if buf != nil {
		b := buf.Bytes()
		r.Meta, r.Body = b[:h.MetaBytes:h.MetaBytes], b[h.MetaBytes:]
	}
	return r
}

// Release ends the receiver's use of the answer's bytes.
func (r *Reply) Release() {
	if r.Buf != nil {
		r.Buf.Release()
	}
}

// Call sends a request and waits for its one answer, or until ctx ends. The
// deadline of ctx travels with the request: the server does not begin what
// nobody waits for any more.
//
// Every error is an object.Error. Those of the server come as it sent them, with
// the History of their frame. A request that had not left when ctx ended or the connection was lost is not
// done; one that had is maybe done.
func (c *Conn) Call(ctx context.Context, call *Call) (Reply, error) {
	if err := c.admit(ctx, call); err != nil {
		return Reply{}, err
	}
	defer func() { <-c.slots }()
	p, id, err := c.send(ctx, call, nil)
	if err != nil {
		return Reply{}, err
	}
	select {
	case <-p.answer:
	case <-ctx.Done():
		if c.unregister(id) {
			taken := c.w.withdraw(&p.sending)
			if taken {
				c.notify(FlagCancel, call.Class, id, nil, urgently)
			}
			c.recycle(p)
			return Reply{}, c.gaveUp(ctx, taken)
		}
		<-p.answer // whoever took it out of the map is about to answer
	}
	taken := c.w.withdraw(&p.sending)
	reply, err := p.reply, p.err
	c.recycle(p)
	if err != nil {
		return Reply{History: reply.History}, c.explain(err, taken)
	}
	return reply, nil
}

// admit checks the request and takes a slot for it.
func (c *Conn) admit(ctx context.Context, call *Call) error {
	if !call.Class.Known() || call.Op <= OpPing {
		panic(fmt.Sprintf("wire: BUG: a call with operation %d and class %d", call.Op, call.Class))
	}
	body := 0
	for _, p := range call.Body {
		body += len(p.Bytes)
	}
	switch limit := min(c.peer.MaxBodyBytes, rules[call.Class].maxBody); {
	case len(call.Meta) > MaxMetaBytes || uint64(body) > uint64(limit):
		return object.Errorf(object.CodeTooLarge, object.NotDone,
			"a request of %d bytes and %d of arguments; %s takes %d and %d: send less at once",
			body, len(call.Meta), c.peer.who(), limit, MaxMetaBytes)
	case c.Draining():
		return object.Errorf(object.CodeStopping, object.NotDone, "%s is stopping: use another node", c.peer.who())
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-c.done:
		return c.explain(&lost{c.Err()}, false)
	case <-ctx.Done():
		return c.gaveUp(ctx, false)
	}
}

// send registers and queues the request. After an error nothing of it will be
// sent.
func (c *Conn) send(ctx context.Context, call *Call, s *Stream) (*pending, uint64, error) {
	p, id, err := c.register(s)
	if err != nil {
		return nil, 0, c.explain(err, false)
	}
	f := newFrame(Header{Op: call.Op, Class: call.Class, ID: id, History: call.History, Trace: call.Trace}, call.Meta)
	f.deadline, _ = ctx.Deadline()
	f.owner = &p.sending
	for _, piece := range call.Body {
		if piece.Buf != nil {
			piece.Buf.Retain()
		}
		f.add(piece.own())
	}
	err = c.w.enqueue(f, ctx.Done(), inTurn)
	if err == nil {
		return p, id, nil
	}
	if !c.unregister(id) && s == nil {
		<-p.answer
	}
	c.recycle(p)
	if errors.Is(err, errQuit) {
		return nil, 0, c.gaveUp(ctx, false)
	}
	return nil, 0, c.explain(err, false)
}

// explain makes of why a request failed what its caller is told: an answer of
// the server as it came, the end of the connection with what that means for
// this request.
func (c *Conn) explain(err error, taken bool) error {
	l, isLost := errors.AsType[*lost](err)
	e, said := errors.AsType[*object.Error](err)
	switch {
	case said && !isLost:
		return e
	case said:
		return &object.Error{Code: e.Code, Outcome: outcome(taken), Message: e.Message, Cause: e}
	case isLost:
		err = l.cause
	}
	when := "the request was sent"
	if taken {
		when = "the answer came"
	}
	return object.Errorf(object.CodeUnavailable, outcome(taken), "the connection to %s at %s was lost before %s: %w",
		c.peer.who(), c.nc.RemoteAddr(), when, err)
}

// gaveUp is the error of a caller whose context ended.
func (c *Conn) gaveUp(ctx context.Context, taken bool) error {
	what := "was not sent in time"
	if taken {
		what = "was not answered in time"
	}
	return object.Errorf(object.CodeDeadline, outcome(taken), "the request to %s at %s %s: %w",
		c.peer.who(), c.nc.RemoteAddr(), what, context.Cause(ctx))
}

func outcome(taken bool) object.Outcome {
	if taken {
		return object.MaybeDone
	}
	return object.NotDone
}
