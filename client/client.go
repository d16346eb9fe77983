package client

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
)

// A Client makes calls to nodes. Any number of goroutines may use it at once. It
// connects when it is first needed, and anew when a connection is lost.
type Client struct {
	cfg        Config
	configured []*endpoint           // those of Config.Addrs
	table      atomic.Pointer[table] // whom to ask for what
	next       atomic.Uint32         // which endpoint the next call that any serves tries first
	budget     retryBudget
	inFlight   *wire.Budget
	lastStamp  atomic.Int64 // microseconds; the greatest timestamp given out
	stats      counters
	latencies  struct{ get, head, row replication.Latency }
	learner    learner
	dial       func(ctx context.Context, address string) (net.Conn, error)

	ctx     context.Context    // of what the Client does on its own
	cancel  context.CancelFunc // ends it
	closing atomic.Bool
	closed  chan struct{} // closed when all is over

	mu      sync.Mutex
	shut    bool                      // no goroutine and no endpoint is made any more
	learnt  map[ring.NodeID]*endpoint // members that are not configured
	leaving []*endpoint               // were members, and are still used
	wg      sync.WaitGroup            // the Client's own goroutines
}

// New returns a Client that has not connected yet. The error tells all that is
// wrong with cfg.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		cfg: cfg, ctx: ctx, cancel: cancel,
		budget:   newRetryBudget(cfg.RetryBudget),
		inFlight: wire.NewBudget(cfg.MaxInFlightBytes),
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		closed: make(chan struct{}),
	}
	for _, a := range cfg.Addrs {
		c.configured = append(c.configured, newEndpoint(c, a))
	}
	c.table.Store(newTable(nil, c.configured, nil, nil))
	c.next.Store(rand.Uint32())
	return c, nil
}

// Dial is New and a first connection: it fails, with a sentence for each
// address, if none of the nodes can be talked to. Who owns what is learnt
// meanwhile; no call waits for it.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, e := range c.configured {
		_, err := e.conn(ctx, false)
		if err == nil {
			c.learn(e, ring.Version{})
			return c, nil
		}
		faults = append(faults, err)
	}
	c.Close()
	return nil, unreachable(faults)
}

// Close ends all connections, and with them the calls and tails under way. It
// returns when the Client's goroutines have ended. A closed Client makes no
// calls.
func (c *Client) Close() error {
	if c.closing.Swap(true) {
		<-c.closed
		return nil
	}
	c.mu.Lock()
	c.shut = true
	c.mu.Unlock()
	c.cancel()
	for _, e := range c.configured {
		e.close()
	}
	for _, e := range c.learnt { // nobody changes these now
		e.close()
	}
	for _, e := range c.leaving {
		e.close()
	}
	c.wg.Wait()
	close(c.closed)
	return nil
}

// enter begins something that Close waits for, unless the Client is closed; leave
// ends it.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shut {
		c.wg.Add(1)
	}
	return !c.shut
}

func (c *Client) leave() { c.wg.Done() }

// errClosed is what calls of a closed Client get.
func errClosed() error {
	return object.Errorf(object.CodeStopping, object.NotDone, "the client is closed")
}

// stampMicros returns a timestamp for an object: the clock's, and greater than
// any given out before, so that of two puts by one client the later one wins.
func (c *Client) stampMicros() int64 {
	for {
		last := c.lastStamp.Load()
		stamp := max(c.cfg.Now().UnixMicro(), last+1)
		if c.lastStamp.CompareAndSwap(last, stamp) {
			return stamp
		}
	}
}

// Stats are a Client's counts since it was made.
type Stats struct {
	Calls         uint64 // operations asked for; a tail counts as one
	Failures      uint64 // of these, that returned an error which is not an answer (absent, expired, conflict, …)
	Retries       uint64 // repetitions made
	RetriesDenied uint64 // repetitions not made for want of budget
	Dials         uint64 // connections made
	DialFailures  uint64 // connections that could not be made
	Corrupt       uint64 // values whose checksum did not match
	TailResumes   uint64 // tails that went on after an interruption
	InFlightBytes int64  // now

	Routed          uint64 // questions put to an owner of what they are about, as far as was known
	Rerouted        uint64 // repetitions because a node said that another one owns it now
	Hedges          uint64 // second questions, put because the first was not answered soon
	HedgesWon       uint64 // of these, that were answered first
	HedgesDenied    uint64 // second questions not put for want of budget
	Histories       uint64 // times that nodes were asked who owns what
	HistoryFailures uint64 // of these, that did not tell, or not the newest
	Endpoints       int    // addresses that calls may go to, now
}

type counters struct {
	calls, failures, retries, denied, dials, dialFailures, corrupt, resumes       atomic.Uint64
	routed, rerouted, hedges, hedgesWon, hedgesDenied, histories, historyFailures atomic.Uint64
}

// Stats returns the Client's counts.
func (c *Client) Stats() Stats {
	return Stats{
		Calls: c.stats.calls.Load(), Failures: c.stats.failures.Load(),
		Retries: c.stats.retries.Load(), RetriesDenied: c.stats.denied.Load(),
		Dials: c.stats.dials.Load(), DialFailures: c.stats.dialFailures.Load(),
		Corrupt: c.stats.corrupt.Load(), TailResumes: c.stats.resumes.Load(),
		InFlightBytes: c.inFlight.InUse(),
		Routed:        c.stats.routed.Load(), Rerouted: c.stats.rerouted.Load(),
		Hedges: c.stats.hedges.Load(), HedgesWon: c.stats.hedgesWon.Load(), HedgesDenied: c.stats.hedgesDenied.Load(),
		Histories: c.stats.histories.Load(), HistoryFailures: c.stats.historyFailures.Load(),
		Endpoints: len(c.table.Load().all),
	}
}

// sleep waits for d, or until ctx ends or the Client is closed, which it reports.
func (c *Client) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return false
}
