package client

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

const (
	firstDialPause = 50 * time.Millisecond // after an address could not be connected to
	maxDialPause   = 2 * time.Second       // the same, after many failures in a row
	tailWindow     = 4 << 20               // how far a node may run ahead of the reader of a tail, bytes
)

// An endpoint is one address and the connections to it.
type endpoint struct {
	c       *Client
	address string
	data    []*slot
	bulk    *slot // for what is large: small calls do not wait behind it

	mu       sync.Mutex
	failures int       // connections in a row that could not be made
	rested   time.Time // not to be tried before
	why      error     // of the latest failure
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
	if best != nil && (empty == nil || best.InFlight() == 0 || e.resting(time.Now()) > 0) {
		return best, nil
	}
	conn, err := e.fill(ctx, empty)
	if err != nil && best != nil && !ended(best) {
		return best, nil
	}
	return conn, err
}

// usable tells whether a call can be made now without connecting.
func (e *endpoint) usable() bool {
	for _, s := range e.data {
		if s.current() != nil {
			return true
		}
	}
	return false
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
	ctx, cancel := context.WithTimeout(ctx, e.c.cfg.DialTimeout)
	defer cancel()
	nc, err := e.c.dial(ctx, e.address)
	if err != nil {
		err = object.Errorf(object.CodeUnavailable, object.NotDone, "connecting to %s: %w", e.address, err)
	}
	var conn *wire.Conn
	if err == nil {
		conn, err = wire.NewConn(ctx, nc, e.wireConfig(window))
	}
	e.note(err)
	if err != nil {
		return nil, err
	}
	if !e.keep(conn) {
		conn.Close()
		return nil, errClosed()
	}
	return conn, nil
}

func (e *endpoint) wireConfig(window int) wire.Config {
	return wire.Config{
		Hello:             wire.Hello{Cluster: e.c.cfg.Cluster, Name: e.c.cfg.User},
		Timeouts:          wire.Timeouts{Hello: e.c.cfg.DialTimeout},
		StreamWindowBytes: window,
	}
}

// note counts an attempt to connect. After failures the address rests, longer
// each time.
func (e *endpoint) note(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.failures, e.rested = 0, time.Time{}
		e.c.stats.dials.Add(1)
		return
	}
	e.c.stats.dialFailures.Add(1)
	e.why = err
	e.rested = time.Now().Add(jitter(min(firstDialPause<<min(e.failures, 10), maxDialPause)))
	e.failures++
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

// rests tells how long the address is not to be tried.
func (e *endpoint) rests(now time.Time) time.Duration {
	if d := e.resting(now); d > 0 && !e.usable() {
		return d
	}
	return 0
}

// resting tells how long nobody is to connect to the address.
func (e *endpoint) resting(now time.Time) time.Duration {
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
