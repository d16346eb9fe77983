package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

const (
	ordinaryLines = 2 // connections for what is small
	bulkLine      = 2 // index of the connection for what is large, or repair
	numLines      = 3
)

// A Config says who a peer is and how to reach it. Zero values of the optional
// fields mean their defaults.
type Config struct {
	// Node is who the peer must be; required. Whoever else answers at its address
	// is refused.
	Node ring.NodeID
	// Address returns the peer's host:port; required. It is called before each
	// attempt to connect.
	Address func() string
	// Hello introduces this node: Cluster and Node are required, Name is useful.
	Hello wire.Hello

	// Dial makes a connection, before ctx ends. Default: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// CatchUp makes the history v, which the peer has, known to this node, or
	// gives up by the deadline if that is not zero, and then calls then. It is
	// called when an answer shows a version newer than any before it. It must not
	// block; it may call then at once. Default: nothing is done.
	CatchUp func(v ring.Version, deadline time.Time, then func())
	// Logger is told, as a warning, that the node cannot be reached, again each
	// minute that this lasts, and that it can be again. Default: nothing is logged.
	Logger *slog.Logger

	MaxBytes    int64 // of records under way to the peer; one larger goes alone; default 64 MiB
	MaxRequests int   // under way; default 512
	BulkBytes   int   // from this size on a record takes the bulk connection; default 1 MiB

	Timeouts       wire.Timeouts // of the connections; default Idle and Ping 5 s, so that a vanished peer is noticed, others as of wire
	ConnectTimeout time.Duration // for one attempt, hellos included; default 2 s
	BackOffLeast   time.Duration // before the first attempt after a connection was lost; doubled at each failure; default 20 ms
	BackOffMost    time.Duration // default 5 s
}

// Validate reports all faults of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("peer: "+format, args...))
		}
	}
	fault(c.Node == (ring.NodeID{}), "no id of the node to reach")
	fault(c.Address == nil, "no address of the node to reach")
	fault(c.Hello.Node.IsZero(), "no id of this node")
	fault(c.Hello.Cluster.IsZero(), "no id of the cluster")
	fault(!c.Hello.Node.IsZero() && c.Hello.Node == wire.ID(c.Node), "the node to reach is this one")
	fault(c.MaxBytes < 0 || c.MaxRequests < 0 || c.BulkBytes < 0, "a bound is negative")
	fault(c.ConnectTimeout < 0 || c.BackOffLeast < 0 || c.BackOffMost < 0, "a time is negative")
	fault(c.BackOffMost > 0 && c.BackOffLeast > c.BackOffMost, "waiting %v at least and %v at most before connecting again", c.BackOffLeast, c.BackOffMost)
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}
	if c.CatchUp == nil {
		c.CatchUp = func(_ ring.Version, _ time.Time, then func()) { then() }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.MaxBytes, 64<<20)
	setDefault(&c.MaxRequests, 512)
	setDefault(&c.BulkBytes, 1<<20)
	setDefault(&c.Timeouts.Idle, 5*time.Second)
	setDefault(&c.Timeouts.Ping, 5*time.Second)
	setDefault(&c.ConnectTimeout, 2*time.Second)
	setDefault(&c.BackOffLeast, 20*time.Millisecond)
	setDefault(&c.BackOffMost, max(5*time.Second, c.BackOffLeast))
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A Peer is the replica that another node is. Its Put, Get and Row begin a
// request and return; the answer is called back, on the goroutine that reads the
// connection most often: what is called must be quick. Requests are answered
// exactly once, at their deadline at the latest. Any number of goroutines may
// use a Peer at once.
//
// Connections are made when they are first needed, and made again, at growing
// intervals, when they are lost. A request that finds none fails at once with
// CodeUnavailable; [Peer.Connect] is for those who would rather wait.
type Peer struct {
	cfg      Config
	lines    [numLines]*line
	counters counters
	turn     atomic.Uint32 // which ordinary connection is looked at first
	bytes    atomic.Int64  // of records under way
	requests atomic.Int64  // under way
	pool     sync.Pool     // of *request

	seen atomic.Pointer[ring.Version] // the newest history an answer showed

	ctx  context.Context // of the lines' goroutines
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	rise   chan struct{}  // closed, and replaced, when a line comes up
	up     int            // lines that are
	outage outage         // while none is
	wg     sync.WaitGroup // the lines' goroutines
}

// New returns a Peer, which is not connected yet.
func New(cfg Config) (*Peer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Peer{cfg: cfg.withDefaults(), rise: make(chan struct{})}
	p.outage.settle = p.cfg.BackOffMost
	p.pool.New = makeRequest
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.seen.Store(new(ring.Version))
	for i := range p.lines {
		p.lines[i] = &line{peer: p, bulk: i == bulkLine, heard: make(chan struct{}, 1)}
		p.lines[i].why.Store(errNotYet)
	}
	return p, nil
}

// Node returns who the peer is.
func (p *Peer) Node() ring.NodeID { return p.cfg.Node }

// Connected tells whether there is a connection at present.
func (p *Peer) Connected() bool {
	c, _ := p.pick(false, nil)
	return c != nil
}

// Connect begins to connect, and waits until there is a connection or ctx ends.
func (p *Peer) Connect(ctx context.Context) error {
	for {
		p.mu.Lock()
		rise, closed := p.rise, p.closed
		p.mu.Unlock()
		if closed {
			return errClosed
		}
		p.start(p.lines[bulkLine])
		c, why := p.pick(false, p.start)
		if c != nil {
			return nil
		}
		select {
		case <-rise:
		case <-p.ctx.Done():
			return errClosed
		case <-ctx.Done():
			return object.Errorf(object.CodeUnavailable, object.NotDone, "%s: %w", why.Message, context.Cause(ctx))
		}
	}
}

// Close ends the connections, and with them the requests under way: not done if
// they had not left, maybe done otherwise. All of them have been answered, and
// all goroutines have ended, when it returns; a request that waits in
// Config.CatchUp is answered after that. It must not be called from what is called
// back.
func (p *Peer) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
	return nil
}

// start starts a line's goroutine if it does not run yet.
func (p *Peer) start(l *line) {
	if l.started.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && l.started.CompareAndSwap(false, true) {
		p.wg.Go(l.run)
	}
}

// Heard tells that the node has shown itself to be alive, in a connection that it
// made to this one: lines that have none, and would rest for a while, try again
// now. It does not block, and may be called however often: see [backOff].
func (p *Peer) Heard() {
	for _, l := range p.lines {
		if l.started.Load() && l.conn.Load() == nil {
			select {
			case l.heard <- struct{}{}:
			default: // it knows already
			}
		}
	}
}

// risen notes that a line has come up, and tells who waits for that.
func (p *Peer) risen() {
	p.mu.Lock()
	close(p.rise)
	p.rise = make(chan struct{})
	var lasted time.Duration
	say := false
	if p.up++; p.up == 1 {
		lasted, say = p.outage.risen(time.Now())
	}
	p.mu.Unlock()
	if say {
		p.cfg.Logger.Info("a node can be reached again", "node", p.cfg.Node.String(), "after", lasted)
	}
}

// sunk notes that a line that was up is so no more.
func (p *Peer) sunk() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up--
}

// fallen notes that a line has no connection, and why.
func (p *Peer) fallen(why error) {
	p.mu.Lock()
	var failures int
	var began time.Time
	say := false
	if p.up == 0 {
		failures, began, say = p.outage.fallen(time.Now())
	}
	p.mu.Unlock()
	if say {
		p.cfg.Logger.Warn("a node cannot be reached; it is tried again and gets no copies meanwhile",
			"node", p.cfg.Node.String(), "reason", why, "since", began, "failures", failures)
		return
	}
	p.cfg.Logger.Debug("no connection to a node", "node", p.cfg.Node.String(), "reason", why)
}

// pick returns the connection for a request: of those of its kind that are up the
// one with fewest requests, else any. If there is none it says why. Lines that
// should be up are started with start.
func (p *Peer) pick(bulk bool, start func(*line)) (*wire.Conn, *object.Error) {
	first, n := int(p.turn.Add(1)%ordinaryLines), ordinaryLines
	if bulk {
		first, n = bulkLine, numLines
	}
	var best *wire.Conn
	for i := range n {
		l := p.lines[(first+i)%n]
		if start != nil {
			start(l)
		}
		c := l.current()
		switch {
		case c == nil:
		case bulk && l.bulk:
			return c, nil
		case best == nil || c.InFlight() < best.InFlight():
			best = c
		}
	}
	if best == nil && !bulk {
		best = p.lines[bulkLine].current()
	}
	switch {
	case best != nil:
		return best, nil
	case p.ctx.Err() != nil:
		return nil, errClosed
	}
	return nil, p.lines[first].reason()
}
