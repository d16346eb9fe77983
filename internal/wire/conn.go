package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// errQuit says that a wait was given up because the caller's context or the
// connection ended; it never leaves the package.
var errQuit = errors.New("given up")

// errClosed is why a Conn's requests fail after Close.
var errClosed = errors.New("closed by this side")

// lost marks the reason a connection ended, so that it is not taken for a
// server's answer. It never leaves the package.
type lost struct{ cause error }

func (l *lost) Error() string { return l.cause.Error() }
func (l *lost) Unwrap() error { return l.cause }

// Config configures a calling side. The zero Config works.
type Config struct {
	// Hello is how this side introduces itself: cluster, node, name, features.
	// The other fields are filled in.
	Hello    Hello
	Timeouts Timeouts
	// MaxRequests bounds the requests of one Conn; the server's own bound holds as
	// well. Calls beyond it wait. Default 1024.
	MaxRequests int
	// MaxQueueBytes bounds the bytes that wait to be written; calls beyond it
	// wait. Default 4 MiB.
	MaxQueueBytes int
	// StreamWindowBytes is how far a server may run ahead of the reader of a
	// stream. Default 1 MiB; one message more may be on its way.
	StreamWindowBytes int
}

func (c Config) withDefaults() Config {
	c.Timeouts = c.Timeouts.withDefaults(10 * time.Second)
	c.Hello = completeHello(c.Hello, 0)
	for _, d := range []struct {
		field *int
		value int
	}{{&c.MaxRequests, 1024}, {&c.MaxQueueBytes, 4 << 20}, {&c.StreamWindowBytes, 1 << 20}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return c
}

// A Conn is the calling side of one connection. Any number of goroutines may
// use it at once: their requests share the connection and are answered in any
// order. A lost connection fails everything that is on it; a Conn never
// reconnects.
//
// A Conn runs two goroutines, its reader and its writer, until Close or until
// the connection is lost. The reader never waits for a caller: the reader of a
// slow stream stops only that stream.
type Conn struct {
	nc    net.Conn
	cfg   Config
	peer  Hello
	w     *writer
	r     *reader
	slots chan struct{} // one element a running request
	stats counters
	wg    sync.WaitGroup // reader and writer

	draining atomic.Bool
	done     chan struct{} // closed when lost is set

	pinged bool // reader only: a ping is on its way and nothing came since

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]*pending
	free    []*pending // for reuse, no more than there are slots
	lost    *lost      // why the Conn is of no more use; nil while it is
	sweep   sweep
}

// pending is a request that waits for its answer. Whoever takes it out of the
// Conn's map completes it.
type pending struct {
	sending sending
	answer  chan struct{} // capacity 1: an answer, or the end of the connection, is in reply and err
	reply   Reply
	err     error
	stream  *Stream // nil for one answer
	later   later   // of a request made with Begin
}

// Dial connects to a server's address and introduces this side.
func Dial(ctx context.Context, address string, cfg Config) (*Conn, error) {
	var d net.Dialer
	ctxDial, cancel := context.WithTimeout(ctx, cfg.withDefaults().Timeouts.Hello)
	defer cancel()
	nc, err := d.DialContext(ctxDial, "tcp", address)
	if err != nil {
		return nil, object.Errorf(object.CodeUnavailable, object.NotDone, "connecting to %s: %w", address, err)
	}
	return NewConn(ctx, nc, cfg)
}

// NewConn introduces this side on nc, which it takes over and closes if that
// fails. Errors are object.Errors: CodeRefused if the server will not talk or is
// none, CodeUnavailable if it did not answer.
func NewConn(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	peer, err := introduce(ctx, nc, &cfg.Hello, cfg.Timeouts.Hello)
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := &Conn{
		nc: nc, cfg: cfg, peer: peer,
		slots:   make(chan struct{}, max(1, min(cfg.MaxRequests, int(peer.MaxRequests)))),
		done:    make(chan struct{}),
		pending: make(map[uint64]*pending),
	}
	c.w = newWriter(nc, cfg.Timeouts.Write, cfg.MaxQueueBytes, &c.stats)
	c.r = newReader(nc, cfg.Timeouts.Idle, cfg.Timeouts.Frame, c.onIdle)
	c.wg.Go(func() { c.w.run(c.fail) })
	c.wg.Go(func() { c.fail(c.read()) })
	return c, nil
}

// Peer returns how the server introduced itself.
func (c *Conn) Peer() Hello { return c.peer }

// RemoteAddr returns the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Done is closed when the Conn is of no more use; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the Conn is of no more use, nil while it is.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		return nil
	}
	return c.lost.cause
}

// Draining tells that the server will take no new requests on this connection:
// use another one.
func (c *Conn) Draining() bool { return c.draining.Load() }

// InFlight returns how many requests wait for an answer.
func (c *Conn) InFlight() int { return len(c.slots) }

// Stats returns the connection's counts; those of a server stay zero.
func (c *Conn) Stats() Stats { return c.stats.snapshot() }

// Close ends the connection. Requests on it fail, as not done if they had not
// left and as maybe done otherwise. It returns when the Conn's goroutines have
// ended.
func (c *Conn) Close() error {
	c.fail(errClosed)
	c.wg.Wait()
	return nil
}

// fail ends the connection for the reason err, once.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return
	}
	why := &lost{err}
	c.lost = why
	waiting := c.pending
	c.pending = nil
	c.mu.Unlock()
	close(c.done)
	c.w.fail(why)
	c.nc.Close()
	for _, p := range waiting {
		p.complete(Reply{}, why)
	}
}

// complete hands the answer to the caller. The pending was taken out of the map
// by the one that calls it.
func (p *pending) complete(r Reply, err error) {
	if p.stream != nil {
		p.stream.end(r, err)
		return
	}
	p.reply, p.err = r, err
	if p.later.done != nil {
		p.meet()
		return
	}
	p.answer <- struct{}{}
}

// register gives the request an id under which answers find it: a stream, or,
// if that is nil, one for a single answer.
func (c *Conn) register(s *Stream) (*pending, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return nil, 0, c.lost
	}
	var p *pending
	switch n := len(c.free); {
	case s != nil:
		p = &pending{stream: s}
	case n > 0:
		p, c.free = c.free[n-1], c.free[:n-1]
	default:
		p = &pending{answer: make(chan struct{}, 1)}
	}
	c.nextID++
	c.pending[c.nextID] = p
	return p, c.nextID, nil
}

// recycle ends a pending that is in no map and whose frame is in no queue.
func (c *Conn) recycle(p *pending) {
	if p.stream != nil {
		return
	}
	p.sending, p.reply, p.err = sending{}, Reply{}, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, p)
}

// unregister takes a pending out, unless the reader has, or the Conn failed.
func (c *Conn) unregister(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pending[id]
	delete(c.pending, id)
	return ok
}

func (c *Conn) lookup(id uint64) *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[id]
}

// read takes in answers until the connection ends, and returns why.
func (c *Conn) read() error {
	for {
		h, err := c.r.header()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server closed it")
			}
			return err
		}
		c.pinged = false
		c.stats.framesIn.Add(1)
		c.stats.bytesIn.Add(HeaderBytes + uint64(h.MetaBytes) + uint64(h.BodyBytes))
		if err := c.receive(&h); err != nil {
			return err
		}
	}
}

// receive handles one frame. An error ends the connection.
func (c *Conn) receive(h *Header) error {
	if h.Flags&FlagResponse == 0 {
		return fmt.Errorf("%w: the server sent a request", ErrFrame)
	}
	if h.BodyBytes > c.cfg.Hello.MaxBodyBytes {
		return fmt.Errorf("%w: an answer of %d bytes; this side takes %d", ErrFrame, h.BodyBytes, c.cfg.Hello.MaxBodyBytes)
	}
	p := c.lookup(h.ID)
	if p == nil && h.ID != 0 {
		return c.r.discard(h) // the caller has given up
	}
	buf, err := c.r.payload(h)
	if err != nil {
		return err
	}
	reply := newReply(h, buf)
	if h.Flags&FlagError != 0 {
		return c.receiveError(h.ID, reply)
	}
	if h.Flags&FlagMore != 0 {
		if p.stream == nil {
			reply.Release()
			return fmt.Errorf("%w: several answers to a request that has one", ErrFrame)
		}
		return p.stream.push(reply)
	}
	if !c.unregister(h.ID) {
		reply.Release()
		return nil
	}
	p.complete(reply, nil)
	return nil
}

// receiveError handles an error frame: about a request, or about the connection.
func (c *Conn) receiveError(id uint64, reply Reply) error {
	e, rest, err := ParseError(reply.Meta)
	reply.Release()
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes follow an error", ErrFrame, len(rest))
	}
	if err != nil {
		return err
	}
	if id == 0 {
		if e.Code != object.CodeStopping {
			return e
		}
		c.draining.Store(true)
		return nil
	}
	c.mu.Lock()
	p := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if p != nil {
		p.complete(Reply{History: reply.History}, e)
	}
	return nil
}

// onIdle runs in the reader when nothing has come for a while: it asks for a sign
// of life, and gives up if that was asked already.
func (c *Conn) onIdle() (time.Duration, error) {
	if c.pinged {
		return 0, fmt.Errorf("nothing came for %v, not even the answer to a ping", c.cfg.Timeouts.Idle+c.cfg.Timeouts.Ping)
	}
	c.pinged = true
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.mu.Unlock()
	_ = c.w.enqueue(newFrame(Header{Op: OpPing, Class: Control, ID: id}, nil), nil, urgently) // a failed writer ends the reader itself
	return c.cfg.Timeouts.Ping, nil
}

// notify tells the server something about a request that has left.
func (c *Conn) notify(flags Flags, class Class, id uint64, meta []byte, when turn) {
	_ = c.w.enqueue(newFrame(Header{Class: class, Flags: flags, ID: id}, meta), nil, when) // a failed writer ends the request itself
}
