package aggregate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStopped says that a datagram was not taken in because the aggregator is not
// running.
var ErrStopped = errors.New("the aggregator is not running")

// An Aggregator receives events and stores blobs of them in a Sink. Run is its
// life; the other methods may be called by any goroutine.
type Aggregator struct {
	o        Options
	sink     Sink
	log      *slog.Logger
	counters Counters
	sockets  []*socket
	ready    chan struct{} // closed when the first second has begun
	kick     chan struct{} // capacity 1: Run is to look at the core again
	chunk    atomic.Uint64 // number of the next chunk

	mu       sync.Mutex
	core     *core      // nil before Run
	work     *sync.Cond // of mu: there may be work for a worker
	armed    time.Time  // when Run looks at the core next
	finished bool       // workers are to end once they have nothing in hand
	failing  bool       // the last call to the sink failed as a whole
	warned   time.Time  // when that was logged last
}

// A socket is one address events are received at.
type socket struct {
	conn     *net.UDPConn
	receiver receiver
}

// Open checks the options and opens the sockets: what comes from then on waits
// in them for Run. The errors are sentences for whoever configured it. An
// Aggregator that is not run must be closed.
func Open(o Options, sink Sink) (*Aggregator, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if o.Incarnation == 0 {
		o.Incarnation = newIncarnation()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Aggregator{o: o, sink: sink, log: o.Log, ready: make(chan struct{}), kick: make(chan struct{}, 1)}
	a.work = sync.NewCond(&a.mu)
	for _, addr := range o.Listen {
		if err := a.listen(addr); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

// newIncarnation is random and not zero.
func newIncarnation() (n uint64) {
	var b [8]byte
	for n == 0 {
		_, _ = rand.Read(b[:]) // never fails
		n = binary.LittleEndian.Uint64(b[:])
	}
	return n
}

func (a *Aggregator) listen(addr string) error {
	conn, err := listen(addr)
	if err != nil {
		return err
	}
	buffer, err := growReceiveBuffer(conn, a.o.ReceiveBufferBytes)
	if err != nil {
		a.log.Warn("the socket keeps its default receive buffer", "addr", conn.LocalAddr(), "err", err)
	}
	r, err := newReceiver(conn)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot receive events at %s: %w", addr, err), conn.Close())
	}
	a.sockets = append(a.sockets, &socket{conn, r})
	a.counters.ReceiveBuffer.Add(int64(buffer))
	a.log.Info("receiving events", "addr", conn.LocalAddr().String(), "buffer_bytes", buffer, "asked_bytes", a.o.ReceiveBufferBytes)
	return nil
}

// Close closes the sockets. After Run there is nothing left to close.
func (a *Aggregator) Close() error {
	var errs []error
	for _, s := range a.sockets {
		if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Addrs are the addresses events are received at, in the order of
// Options.Listen.
func (a *Aggregator) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, s := range a.sockets {
		addrs = append(addrs, s.conn.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return addrs
}

// Incarnation is that of this start.
func (a *Aggregator) Incarnation() uint64 { return a.o.Incarnation }

// Counters returns the aggregator's counters.
func (a *Aggregator) Counters() *Counters { return &a.counters }

// MaxBufferedBytes is the bound of Counters.BufferedBytes.
func (a *Aggregator) MaxBufferedBytes() int64 { return a.o.MaxBufferedBytes }

// Ready is closed when the first second that the aggregator vouches for has
// begun: its hello was acknowledged before. Events that come earlier are stored
// too, but readers may have called their second complete by then.
func (a *Aggregator) Ready() <-chan struct{} { return a.ready }

// Offer takes a datagram in that came another way than over the sockets. It
// returns ErrStopped when Run is not running; what else is wrong with a datagram
// is counted. b may be reused afterwards.
func (a *Aggregator) Offer(b []byte) error {
	a.mu.Lock()
	if a.core == nil || a.core.stopping {
		a.mu.Unlock()
		return ErrStopped
	}
	now := time.Now()
	a.core.datagram(now, b)
	a.unlock(now)
	return nil
}

// Run aggregates until ctx ends. Then it takes in what the sockets hold, closes
// them, stores everything, says goodbye, and returns nil. If that takes longer
// than StopTimeout, what is left is dropped as Stopped, and the error says how
// much. Run is called once.
func (a *Aggregator) Run(ctx context.Context) error {
	a.mu.Lock()
	a.core = newCore(a.o, &a.counters, time.Now())
	a.mu.Unlock()

	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers, receivers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(a.seals)
	}
	for range a.o.Putters {
		workers.Go(func() { a.puts(calls) })
	}
	for range opWorkers {
		workers.Go(func() { a.appends(calls) })
	}
	for _, s := range a.sockets {
		receivers.Go(func() { a.receives(ctx, s) })
	}

	a.watch(ctx, func(*core) bool { return false })
	receivers.Wait()
	closed := a.Close()
	a.stop()
	limit, cancelLimit := context.WithTimeout(calls, a.o.StopTimeout)
	defer cancelLimit()
	inTime := a.watch(limit, (*core).idle)
	a.finish(!inTime)
	cancel()
	workers.Wait()
	a.mu.Lock()
	a.unlock(time.Now()) // tells of the last drops
	if inTime {
		return closed
	}
	return errors.Join(fmt.Errorf("stopped after %v with %d events not acknowledged: the store did not take them in time",
		a.o.StopTimeout, a.counters.Dropped(Stopped)), closed)
}

// watch calls the core's tick when it is due, until over says so (true) or ctx
// ends (false).
func (a *Aggregator) watch(ctx context.Context, over func(*core) bool) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	announced := false
	for {
		a.mu.Lock()
		now := time.Now()
		a.core.tick(now)
		if over(a.core) {
			a.unlock(now)
			return true
		}
		if !announced && !a.core.stopping && a.core.ready(now) {
			announced = true
			close(a.ready)
		}
		a.armed = a.core.wake(now)
		timer.Reset(a.armed.Sub(now))
		a.unlock(now)
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		case <-a.kick:
		}
	}
}

// stop makes the core end taking events in.
func (a *Aggregator) stop() {
	a.mu.Lock()
	now := time.Now()
	a.core.stop(now)
	a.unlock(now)
}

// finish tells the workers to end. With abandon, what they are at is given up.
func (a *Aggregator) finish(abandon bool) {
	a.mu.Lock()
	if abandon {
		a.core.abandon()
	}
	a.finished = true
	a.work.Broadcast()
	a.unlock(time.Now())
}

// unlock ends a step of the core: it wakes whom the step concerns, releases mu,
// and tells what was dropped.
func (a *Aggregator) unlock(now time.Time) {
	c := a.core
	if c.anyWork(now) {
		a.work.Broadcast()
	}
	if c.idle() || c.wake(now).Before(a.armed) {
		select {
		case a.kick <- struct{}{}:
		default: // Run has not yet looked since the last kick
		}
	}
	drops := c.takeDrops()
	a.mu.Unlock()
	if a.o.OnDrop == nil {
		return
	}
	for r, n := range drops {
		if n > 0 {
			a.o.OnDrop(Reason(r), int(n))
		}
	}
}
