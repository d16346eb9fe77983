package peer

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A line is one connection to the peer and the goroutine that keeps it: run
// connects, waits until the connection is lost, and connects again.
type line struct {
	peer    *Peer
	bulk    bool
	started atomic.Bool   // run runs, or has run
	heard   chan struct{} // capacity 1: the peer was heard; see Peer.Heard
	conn    atomic.Pointer[wire.Conn]
	why     atomic.Pointer[object.Error] // why there is no connection
}

var (
	errNotYet   = &object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone, Message: "there is no connection to the node yet: send again a little later"}
	errDraining = &object.Error{Code: object.CodeStopping, Outcome: object.NotDone, Message: "the node is stopping: use another one"}
	errClosed   = &object.Error{Code: object.CodeStopping, Outcome: object.NotDone, Message: "this node is stopping: use another one"}
)

// lineRequests bounds the requests of one connection. A server takes 256 by
// default, and forgets one shortly after its answer is here: with as many here as
// there, some would be refused.
const lineRequests = 192

// current returns the connection if it takes requests.
func (l *line) current() *wire.Conn {
	c := l.conn.Load()
	if c == nil || c.Draining() {
		return nil
	}
	select {
	case <-c.Done():
		return nil
	default:
		return c
	}
}

// reason tells why there is no current connection.
func (l *line) reason() *object.Error {
	if c := l.conn.Load(); c != nil && c.Draining() {
		return errDraining
	}
	return l.why.Load()
}

// run keeps the line up until the Peer is closed.
func (l *line) run() {
	defer l.why.Store(errClosed)
	p := l.peer
	b := newBackOff(p.cfg.BackOffLeast, p.cfg.BackOffMost)
	for {
		began := time.Now()
		err := l.hold()
		if p.ctx.Err() != nil {
			return
		}
		p.fallen(err)
		if !l.rest(&b, began) {
			return
		}
	}
}

// rest waits until it is time for the next attempt, the last having begun at
// began, or tells that the Peer is closed. The pause is cut short if the peer is
// heard, or was while the last attempt failed.
func (l *line) rest(b *backOff, began time.Time) bool {
	pause := b.ended(time.Since(began))
	pause = pause/2 + rand.N(pause/2+1)
	until := time.Now().Add(pause)
	t := time.NewTimer(pause)
	defer t.Stop()
	heard := l.heard
	for {
		select {
		case <-t.C:
			return true
		case <-heard:
			heard = nil // once is enough: the next is kept for the next rest
			l.peer.counters.hurried.Add(1)
			t.Reset(b.heard(time.Until(until), time.Since(began)))
		case <-l.peer.ctx.Done():
			return false
		}
	}
}

// hold makes a connection and returns when it is lost, saying why.
func (l *line) hold() error {
	p := l.peer
	c, err := p.connect()
	if err != nil {
		p.counters.connectFailures.Add(1)
		l.why.Store(&object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone, Cause: err,
			Message: "there is no connection to node " + p.cfg.Node.String() + ": " + err.Error()})
		return err
	}
	p.counters.connects.Add(1)
	l.conn.Store(c)
	l.forgetHeard()
	p.risen()
	select {
	case <-c.Done():
		err = c.Err()
		l.why.Store(&object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone, Cause: err,
			Message: "the connection to node " + p.cfg.Node.String() + " was lost: " + err.Error()})
	case <-p.ctx.Done():
		l.why.Store(errClosed)
	}
	p.sunk()
	p.counters.retire(l, c)
	return err
}

// forgetHeard forgets what was heard before there was a connection.
func (l *line) forgetHeard() {
	select {
	case <-l.heard:
	default:
	}
}

// connect makes one attempt.
func (p *Peer) connect() (*wire.Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.ConnectTimeout)
	defer cancel()
	address := p.cfg.Address()
	nc, err := p.cfg.Dial(ctx, address)
	if err != nil {
		return nil, object.Errorf(object.CodeUnavailable, object.NotDone, "connecting to %s: %w", address, err)
	}
	c, err := wire.NewConn(ctx, nc, wire.Config{
		Hello: p.cfg.Hello, Timeouts: p.cfg.Timeouts,
		MaxRequests: min(p.cfg.MaxRequests, lineRequests), MaxQueueBytes: int(min(p.cfg.MaxBytes, 1<<30)),
	})
	if err != nil {
		return nil, err
	}
	if is := c.Peer().Node; is != wire.ID(p.cfg.Node) {
		c.Close()
		return nil, object.Errorf(object.CodeRefused, object.NotDone,
			"node %s was expected at %s and %s answers: correct the address, or the node's id", p.cfg.Node, address, whoIs(is))
	}
	return c, nil
}

func whoIs(id wire.ID) string {
	if id.IsZero() {
		return "one without an id"
	}
	return "node " + id.String()
}

// sleep waits, or tells that ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
