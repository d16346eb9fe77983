package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Config says how a [Coordinator] works. Zero values of the optional fields
// mean their defaults.
type Config struct {
	// Self is this node: its replica is asked on the caller's goroutine. The zero
	// id, of one who is no member, means that all replicas are remote.
	Self ring.NodeID

	// History and Buckets return what is agreed at present; required. They are
	// called with every request: they must be quick.
	History func() *ring.History
	Buckets func() *bucket.Set

	// Replica returns a node's replica, nil if there is no way to it; required. It
	// must be quick.
	Replica func(ring.NodeID) Replica
	// Repair is the same for read repair, which is shed before other requests.
	// Default: Replica.
	Repair func(ring.NodeID) Replica

	// Admit is asked for the epoch of every put, delete and delta of a timed bucket
	// before anything is sent, and before the history is looked up; its error, of
	// *object.Error, is the answer. It must be quick. Default: all are admitted.
	Admit func(epoch int64) error

	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Manual starts no goroutine: the owner calls Tick. For simulations.
	Manual bool

	WriteTimeout time.Duration // an owner's time to take a copy, whatever the caller's is; default 10 s
	ReadTimeout  time.Duration // of a caller without a deadline, and at most; default 10 s
	HedgeLeast   time.Duration // least delay before one more owner is asked; default 2 ms
	HedgeMost    time.Duration // greatest such delay; default 200 ms

	PeerBytes   int64 // records under way to one node, bytes; default 64 MiB
	LingerBytes int64 // records whose writers have been answered, and some owners not, bytes; default 128 MiB
	RepairBytes int64 // records in read repair, bytes; default 16 MiB

	OwedKeys     int // keys remembered for sync; default 65536
	OwedKeyBytes int // bytes of them; default 8 MiB
	OwedPlaces   int // slots remembered for sync; default 16384
}

// Validate reports all faults of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("replication: "+format, args...))
		}
	}
	fault(c.History == nil, "no history of rings")
	fault(c.Buckets == nil, "no buckets")
	fault(c.Replica == nil, "no replicas")
	fault(c.WriteTimeout < 0 || c.ReadTimeout < 0, "a timeout is negative")
	fault(c.HedgeLeast < 0 || c.HedgeMost < 0 || c.HedgeMost > 0 && c.HedgeLeast > c.HedgeMost, "hedging after %v at least and %v at most", c.HedgeLeast, c.HedgeMost)
	fault(c.PeerBytes < 0 || c.LingerBytes < 0 || c.RepairBytes < 0, "a bound of bytes in flight is negative")
	fault(c.OwedKeys < 0 || c.OwedKeyBytes < 0 || c.OwedPlaces < 0, "a bound of what is owed is negative")
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	if c.Repair == nil {
		c.Repair = c.Replica
	}
	if c.Admit == nil {
		c.Admit = func(int64) error { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 10*time.Second)
	c.HedgeLeast = cmp.Or(c.HedgeLeast, 2*time.Millisecond)
	c.HedgeMost = max(cmp.Or(c.HedgeMost, 200*time.Millisecond), c.HedgeLeast)
	c.PeerBytes = cmp.Or(c.PeerBytes, 64<<20)
	c.LingerBytes = cmp.Or(c.LingerBytes, 128<<20)
	c.RepairBytes = cmp.Or(c.RepairBytes, 16<<20)
	c.OwedKeys = cmp.Or(c.OwedKeys, 1<<16)
	c.OwedKeyBytes = cmp.Or(c.OwedKeyBytes, 8<<20)
	c.OwedPlaces = cmp.Or(c.OwedPlaces, 1<<14)
	return c
}

// A Coordinator puts and gets objects through their owners. Any number of
// goroutines may use it at once.
//
// Errors of its methods are of type *object.Error.
type Coordinator struct {
	cfg      Config
	peers    peers
	rulebook rulebook
	owed     *Owed
	wheel    *wheel
	mender   mender
	counters counters
	delays   [3]Latency // by kind of read
	linger   atomic.Int64
	gate     gate

	writes, reads sync.Pool // of *writeOp and *readOp

	stop chan struct{}
	wg   sync.WaitGroup // the wheel's goroutine and the mender's
}

// New returns a Coordinator. Unless cfg.Manual is set it runs two goroutines,
// for deadlines and for read repair, until Close.
func New(cfg Config) (*Coordinator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Coordinator{
		cfg:      cfg,
		rulebook: rulebook{present: cfg.Buckets},
		owed:     NewOwed(cfg.OwedKeys, cfg.OwedKeyBytes, cfg.OwedPlaces),
		wheel:    newWheel(cfg.Now()),
		stop:     make(chan struct{}),
	}
	c.gate.idle = make(chan struct{})
	c.mender = mender{c: c, queue: make(chan mend, mendQueue)}
	c.writes.New = func() any { return newWriteOp(c) }
	c.reads.New = func() any { return newReadOp(c) }
	if !cfg.Manual {
		c.wg.Go(func() { c.wheel.run(cfg.Now, c.stop) })
		c.wg.Go(func() { c.mender.run(c.stop) })
	}
	return c, nil
}

// Tick rings the alarms that are due and does the read repair that is queued, on
// the caller's goroutine. It is for Manual coordinators; one goroutine calls it
// at a time.
func (c *Coordinator) Tick(now time.Time) {
	c.wheel.advance(now)
	c.mender.drain(c.mender.send)
}

// NextTick returns when Tick should be called for the next deadline; ok is false
// if none is set.
func (c *Coordinator) NextTick() (at time.Time, ok bool) { return c.wheel.next() }

// Owed returns the list of copies that replicas could not be given.
func (c *Coordinator) Owed() *Owed { return c.owed }

// Close refuses new requests, with CodeStopping, and returns when all others are
// over, the copies of acknowledged writes included; when ctx ends, it gives up
// what is still open. Replicas must stay until it has returned, and may answer
// after it.
func (c *Coordinator) Close(ctx context.Context) error {
	if !c.gate.close() {
		return nil
	}
	var err error
	select {
	case <-c.gate.idle:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	close(c.stop)
	c.wg.Wait()
	if err != nil {
		c.wheel.advance(c.wheel.start.Add(1 << 62)) // all deadlines are over
	}
	c.mender.closed.Store(true)
	c.mender.drain(c.mender.drop)
	return err
}

// A gate counts the requests that are not over and lets no more in when it is
// closed.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	idle   chan struct{} // closed when the gate is and nobody is inside
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.closed {
		close(g.idle)
	}
}

// close reports whether this is the first close.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if g.closed = true; g.inside == 0 {
		close(g.idle)
	}
	return true
}

var errStopping = &object.Error{Code: object.CodeStopping, Outcome: object.NotDone, Message: "this node is stopping: use another one"}

// plainError returns e as an error, nil for nil.
func plainError(e *object.Error) error {
	if e == nil {
		return nil
	}
	return e
}
