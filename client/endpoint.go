package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

const (
	firstDialPause = 50 * time.Millisecond // after an address could not be connected to
	maxDialPause   = 2 * time.Second       // the same, after many failures in a row
	tailWindow     = 4 << 20               // how far a node may run ahead of the reader of a tail, bytes
	doubtFor       = time.Second           // how long a node that could not do what it was asked is asked last
	movedAfter     = 3                     // failures to connect in a row after which nobody is thought to be there
)

// An endpoint is one address and the connections to it.
type endpoint struct {
	c       *Client
	address string
	expects ring.NodeID // of an address that was learnt: the member it is of
	cluster wire.ID     // the same: its cluster
	data    []*slot
	bulk    *slot // for what is large: small calls do not wait behind it

	users   atomic.Int64 // questions and tails that use it
	retired atomic.Bool  // to be closed when nobody uses it
	doubted atomic.Int64 // until then it is asked last; nanoseconds since the Unix epoch
	beaten  atomic.Int32 // how often in a row another node answered before it
	probing atomic.Bool  // somebody is seeing whether it is back
	limit   atomic.Int32 // requests that it takes on a connection; 0 before there was one

	mu       sync.Mutex
	node     ring.NodeID // who answered there last; zero if nobody did
	failures int         // connections in a row that could not be made
	rested   time.Time   // not to be tried before
	why      error       // of the latest failure
	closed   bool
	open     map[*wire.Conn]struct{} // all connections not known to have ended
}

// A slot is the place of one connection of a pool.
type slot struct {
	lock chan struct{} // capacity 1: held by the one that connects
	mu   sync.Mutex
	conn *wire.Conn // nil if there is none
}

func newEndpoint(c *Client, address string) *endpoint {
	e := &endpoint{c: c, address: address, bulk: newSlot(), open: make(map[*wire.Conn]struct{})}
	for range c.cfg.Conns {
		e.data = append(e.data, newSlot())
	}
	return e
}

func newSlot() *slot { return &slot{lock: make(chan struct{}, 1)} }

// current returns the slot's connection if it is of use.
func (s *slot) current() *wire.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.conn.Draining() || ended(s.conn) {
		return nil
	}
	return s.conn
}

func ended(conn *wire.Conn) bool {
	select {
	case <-conn.Done():
		return true
	default:
		return false
	}
}

// conn returns a connection for a call, making one if need be. Of several it
// takes the one with the fewest calls on it.
func (e *endpoint) conn(ctx context.Context, bulk bool) (*wire.Conn, error) {
	if bulk {
		return e.fill(ctx, e.bulk)
	}
	var best *wire.Conn
	var empty *slot
	for _, s := range e.data {
		switch conn := s.current(); {
		case conn == nil:
			empty = s
		case best == nil || conn.InFlight() < best.InFlight():
			best = conn
		}
	}
	// A further connection is made only when those there are have work, and not
	// while the node refuses more.
	if best != nil && (empty == nil || best.InFlight() == 0 || e.rests(time.Now()) > 0) {
		return best, nil
	}
	conn, err := e.fill(ctx, empty)
	if err != nil && best != nil && !ended(best) {
		return best, nil
	}
	return conn, err
}

// anyConn is conn for questions of the Client's own, for which no further
// connection is made.
func (e *endpoint) anyConn(ctx context.Context) (*wire.Conn, error) {
	for _, s := range e.data {
		if conn := s.current(); conn != nil {
			return conn, nil
		}
	}
	return e.fill(ctx, e.data[0])
}

// usable tells whether a call can be made now without connecting.
func (e *endpoint) usable() bool {
	usable, _ := e.room()
	return usable
}

// room tells whether there is a connection, and whether a call need not wait
// for its turn on one.
func (e *endpoint) room() (usable, room bool) {
	limit := int(e.limit.Load())
	for _, s := range e.data {
		conn := s.current()
		usable = usable || conn != nil
		room = room || conn == nil || conn.InFlight() < limit
	}
	return usable, room
}

// A health says how good it is to ask a node.
type health int

const (
	well     health = iota
	poorly          // it failed lately, or has as much to do as it takes
	unproven        // it could not be connected to, and may be tried again
	resting         // it could not be connected to, and is not to be tried yet
)

// health tells how good it is to ask the node, and how long it rests.
func (e *endpoint) health(now time.Time) (health, time.Duration) {
	usable, room := e.room()
	if !usable {
		e.mu.Lock()
		failures, rests := e.failures, e.rested.Sub(now)
		e.mu.Unlock()
		switch {
		case failures > 0 && rests > 0:
			return resting, rests
		case failures > 0:
			return unproven, 0
		}
	}
	if !room || e.doubted.Load() > now.UnixNano() {
		return poorly, 0
	}
	return well, 0
}

// doubt has the node asked last for a while.
func (e *endpoint) doubt(now time.Time) { e.doubted.Store(now.Add(doubtFor).UnixNano()) }

// judge doubts a node that could not do what it was asked.
func (e *endpoint) judge(ctx context.Context, err error) {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	switch object.AsError(err).Code {
	case object.CodeUnavailable, object.CodeDeadline, object.CodeOverload, object.CodeStopping, object.CodeDisk, object.CodeLowSpace, object.CodeInternal:
		e.doubt(time.Now())
	}
}

// nodeID returns which node answered at the address, zero if none did yet.
func (e *endpoint) nodeID() ring.NodeID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.node
}

// hold keeps the endpoint open until drop.
func (e *endpoint) hold() { e.users.Add(1) }

func (e *endpoint) drop() {
	if e.users.Add(-1) == 0 && e.retired.Load() {
		e.close()
	}
}

// retire closes the endpoint as soon as nobody uses it, and tells whether that
// was at once.
func (e *endpoint) retire() bool {
	e.retired.Store(true)
	if e.users.Load() != 0 {
		return false
	}
	e.close()
	return true
}

func (e *endpoint) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// fill returns the slot's connection, made by this caller or by another one
// that is at it.
func (e *endpoint) fill(ctx context.Context, s *slot) (*wire.Conn, error) {
	if conn := s.current(); conn != nil {
		return conn, nil
	}
	select {
	case s.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, object.Errorf(object.CodeDeadline, object.NotDone, "connecting to %s: %w", e.address, context.Cause(ctx))
	}
	defer func() { <-s.lock }()
	if conn := s.current(); conn != nil {
		return conn, nil
	}
	conn, err := e.connect(ctx, 0)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	return conn, nil
}

// connect makes a connection that is closed with the Client. Every error is an
// object.Error, not done.
func (e *endpoint) connect(ctx context.Context, window int) (*wire.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, e.c.cfg.DialTimeout)
	defer cancel()
	nc, err := e.c.dial(dialing, e.address)
	if err != nil {
		err = object.Errorf(object.CodeUnavailable, object.NotDone, "connecting to %s: %w", e.address, err)
	}
	var conn *wire.Conn
	if err == nil {
		conn, err = wire.NewConn(dialing, nc, e.wireConfig(window))
	}
	if errors.Is(err, object.CodeRefused) && !e.expects.IsZero() {
		// Nobody gave this address to the Client: what is there now does not matter.
		err = object.Errorf(object.CodeUnavailable, object.NotDone, "%s is not the member it was: %w", e.address, err)
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // it may have been about to succeed
	}
	var answers ring.NodeID
	if err == nil {
		answers = ring.NodeID(conn.Peer().Node)
		e.limit.Store(int32(max(1, min(conn.Peer().MaxRequests, 1024))))
	}
	if e.note(answers, err) {
		e.c.remap()
	}
	if err != nil {
		return nil, err
	}
	if !e.keep(conn) {
		conn.Close()
		return nil, e.errClosed()
	}
	return conn, nil
}

func (e *endpoint) errClosed() error {
	if e.c.closing.Load() {
		return errClosed()
	}
	return object.Errorf(object.CodeStopping, object.NotDone, "the node at %s is not a member any more", e.address)
}

func (e *endpoint) wireConfig(window int) wire.Config {
	cluster := e.c.cfg.Cluster
	if !e.expects.IsZero() {
		cluster = e.cluster
	}
	return wire.Config{
		Hello:             wire.Hello{Cluster: cluster, Name: e.c.cfg.User},
		Timeouts:          wire.Timeouts{Hello: e.c.cfg.DialTimeout},
		StreamWindowBytes: window,
	}
}

// note counts an attempt to connect, which node answered or failed. After
// failures the address rests, longer each time. It tells whether the address is
// another node's now than was thought.
func (e *endpoint) note(answers ring.NodeID, err error) (moved bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		moved = e.node != answers
		e.node, e.failures, e.rested = answers, 0, time.Time{}
		e.c.stats.dials.Add(1)
		return moved
	}
	e.c.stats.dialFailures.Add(1)
	e.why = err
	e.rested = time.Now().Add(jitter(min(firstDialPause<<min(e.failures, 10), maxDialPause)))
	if e.failures++; e.failures == movedAfter && !e.node.IsZero() {
		e.node, moved = ring.NodeID{}, true
	}
	return moved
}

// lastFailure returns why the address could not be connected to.
func (e *endpoint) lastFailure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why
}

// keep notes a connection, so that close finds it, and forgets those that have
// ended.
func (e *endpoint) keep(conn *wire.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for old := range e.open {
		if ended(old) {
			delete(e.open, old)
		}
	}
	if !e.closed {
		e.open[conn] = struct{}{}
	}
	return !e.closed
}

// rests tells how long nobody is to connect to the address.
func (e *endpoint) rests(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rested.Sub(now)
}

func (e *endpoint) close() {
	e.mu.Lock()
	e.closed = true
	open := e.open
	e.open = nil
	e.mu.Unlock()
	for conn := range open {
		conn.Close()
	}
}
