package tail

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// ErrClosed ends the subscriptions of a hub that is closed, and of one's own that
// are: it has object.CodeStopping. What was delivered was; resume with the cursor.
var ErrClosed error = object.Errorf(object.CodeStopping, object.Done, "the tail is closed: resume it with its cursor, here or on another node")

// A Hub serves the tails of one node. Its methods may be called by many goroutines
// at once.
type Hub struct {
	source Source
	cfg    Config
	log    *slog.Logger
	time   Runtime
	manual bool // the owner calls Step

	stop   context.CancelFunc
	closed context.Context // ends with Close
	wake   chan struct{}   // capacity 1: the window has something to do
	wg     sync.WaitGroup  // the window's goroutine and its reads

	mu    sync.Mutex
	core  *core
	subs  map[*Subscription]struct{}
	reads int // under way
}

// New returns a hub that reads from source. Its goroutine, unless cfg has a Runtime,
// runs until [Hub.Close]. cfg must be valid.
func New(source Source, cfg Config, log *slog.Logger) *Hub {
	if err := cfg.Validate(); err != nil {
		panic("tail: BUG: an unchecked configuration: " + err.Error())
	}
	h := &Hub{source: source, cfg: cfg, log: log, wake: make(chan struct{}, 1), core: newCore(cfg), subs: make(map[*Subscription]struct{})}
	h.closed, h.stop = context.WithCancel(context.Background())
	if h.time, h.manual = cfg.Runtime, cfg.Runtime != nil; !h.manual {
		h.time = realTime{&h.wg}
		h.wg.Go(h.run)
	}
	return h
}

// Close ends all subscriptions, whose readers get ErrClosed, and waits for the
// hub's goroutines. What is published afterwards is ignored.
func (h *Hub) Close() {
	h.stop()
	h.wg.Wait()
	h.mu.Lock()
	subs := make([]*Subscription, 0, len(h.subs))
	for s := range h.subs {
		subs = append(subs, s)
	}
	h.mu.Unlock()
	for _, s := range subs {
		s.Close()
	}
}

// Publish hands on a delta that is as durable as was asked, with the bodies at
// hand. It does no input or output and waits for no reader; what a reader cannot
// take, it finds in the index. The hub keeps nothing of u but strings, entries and
// the bodies it retains.
func (h *Hub) Publish(u Update) {
	now := h.time.Now().UnixMilli()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.core.publish(now, &u)
}

// Subscribe begins a tail. The error says what to change in the options, or, with
// object.CodeOverload, that there are too many. The caller closes the
// subscription.
func (h *Hub) Subscribe(o Options) (*Subscription, error) {
	filter, at, err := o.parse()
	if err != nil {
		return nil, err
	}
	now := h.time.Now()
	if at, err = o.begin(at, now); err != nil {
		return nil, err
	}
	s := newSubscription(h, newFeed(&h.cfg, filter, at, o.WithoutBodies))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Err() != nil {
		return nil, ErrClosed
	}
	if !h.core.subscribe(now.UnixMilli(), s.feed) {
		return nil, object.Errorf(object.CodeOverload, object.NotDone,
			"this node already serves %d tails: try another node, or close some", h.cfg.Subscriptions)
	}
	h.subs[s] = struct{}{}
	h.poke()
	return s, nil
}

// Counters returns the hub's figures.
func (h *Hub) Counters() Counters {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.core.counters(h.time.Now().UnixMilli())
}

// poke has the window's goroutine look now.
func (h *Hub) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run moves the window with the clock.
func (h *Hub) run() {
	for {
		now := time.Now()
		timer := time.NewTimer(now.Truncate(time.Second).Add(time.Second).Sub(now))
		select {
		case <-h.closed.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-h.wake:
			timer.Stop()
		}
		h.Step()
	}
}

// Step moves the window with the time and begins the reads that are due. The
// owner of a hub with a Runtime calls it every second, others never.
func (h *Hub) Step() {
	h.mu.Lock()
	idle := len(h.subs) == 0
	h.mu.Unlock()
	if idle {
		return
	}
	dcs := h.source.DCs()
	now := h.time.Now().UnixMilli()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.core.step(now, dcs)
	h.readDueLocked()
}

// readDueLocked starts the reads that are due, as many as may be under way.
func (h *Hub) readDueLocked() {
	if h.closed.Err() != nil {
		return
	}
	for _, key := range h.core.reads(h.cfg.Reads - h.reads) {
		h.reads++
		h.time.Go(func() { h.read(key) })
	}
}

// read reads a row for the window. It goes on with others that are due, so that
// the clock need not come round for them.
func (h *Hub) read(key event.IndexKey) {
	started := h.time.Now().UnixMilli()
	row, certain, err := h.row(h.closed, key)
	if errors.Is(err, object.CodeExpired) {
		certain = true // nothing of it can be had any more
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads--
	if h.closed.Err() != nil {
		return
	}
	now := h.time.Now().UnixMilli()
	if err != nil && !certain {
		h.log.Debug("an index row could not be read for the tails", "row", key.String(), "error", err)
	}
	h.core.answered(now, started, key, row, certain)
	h.readDueLocked()
}

// row reads a row within the time allowed. After an error the row is empty and not
// certain.
func (h *Hub) row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	if !h.manual {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.cfg.ReadTimeout, errReadTimeout)
		defer cancel()
	}
	row, certain, err := h.source.Row(ctx, key)
	if err != nil {
		return index.Row{}, false, err
	}
	return row, certain, nil
}

var errReadTimeout = object.Errorf(object.CodeDeadline, object.NotDone, "the index row took too long to read")
