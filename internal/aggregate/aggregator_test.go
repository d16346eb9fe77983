package aggregate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A sharedStore is a modelStore as a Sink.
type sharedStore struct {
	mu      sync.Mutex
	store   *modelStore
	takes   time.Duration // of one PutBatch
	most    int           // calls of PutBatch at once
	current int
	hang    atomic.Bool // calls wait for their context
}

func newSharedStore() *sharedStore { return &sharedStore{store: newModelStore()} }

func (s *sharedStore) PutBatch(ctx context.Context, records []object.Record) []error {
	s.mu.Lock()
	s.current++
	s.most = max(s.most, s.current)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.current--; s.mu.Unlock() }()
	if err := s.wait(ctx); err != nil {
		return slices.Repeat([]error{err}, len(records))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.put(time.Now(), records)
}

func (s *sharedStore) wait(ctx context.Context) error {
	if s.hang.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	pause(ctx, s.takes)
	return context.Cause(ctx)
}

func (s *sharedStore) AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error {
	if s.hang.Load() {
		return s.wait(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.append(time.Now(), key, delta)
}

// A witness remembers what an aggregator told.
type witness struct {
	mu    sync.Mutex
	acked map[string]uint64
	drops map[Reason]int
}

func (w *witness) watch(o *Options) {
	w.acked, w.drops = make(map[string]uint64), make(map[Reason]int)
	o.OnAck = func(key event.Key, _ int, checksum uint64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.acked[key.String()] = checksum
	}
	o.OnDrop = func(r Reason, n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.drops[r] += n
	}
}

// bubble runs an Aggregator without sockets in fake time, calls during, and ends it.
func bubble(t *testing.T, o Options, sink Sink, during func(a *Aggregator)) error {
	a, err := Open(o, sink)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	synctest.Wait()
	during(a)
	cancel()
	return <-done
}

// TestRun: through the driver, a second is stored half a second after its end,
// Ready is closed with the first second after the hello, and stopping stores the
// rest.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now() // the first instant of a second
		store := newSharedStore()
		var w witness
		o := testOptions()
		w.watch(&o)
		err := bubble(t, o, store, func(a *Aggregator) {
			<-a.Ready()
			if took := time.Since(start); took != time.Second {
				t.Errorf("ready after %v", took)
			}
			if err := a.Offer(envelope(0, 1)); err != nil {
				t.Error(err)
			}
			_ = a.Offer([]byte{0xc1})
			time.Sleep(1500*ms - time.Nanosecond)
			synctest.Wait()
			if n := a.Counters().Blobs.Load(); n != 0 {
				t.Errorf("%d blobs before the grace is over", n)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if n := a.Counters().BlobsAcknowledged.Load(); n != 1 {
				t.Errorf("%d blobs when the grace is over", n)
			}
			_ = a.Offer(envelope(0, 2))
		})
		if err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2500*ms {
			t.Errorf("stopped after %v, want at once", took)
		}
		epoch := start.Unix()
		for e, want := range map[int64]index.State{epoch + 1: index.Complete, epoch + 2: index.Complete, epoch + 3: index.NoWriters} {
			if v := store.store.verdict(e, "eu"); v.State != want {
				t.Errorf("second +%d is %v, want %v", e-epoch, v, want)
			}
		}
		if len(w.acked) != 2 || w.drops[BadEnvelope] != 1 || len(w.drops) != 1 {
			t.Errorf("told of %d blobs and %v", len(w.acked), w.drops)
		}
		for key, checksum := range w.acked {
			if object.Checksum(store.store.blobs[key]) != checksum {
				t.Errorf("%s was acknowledged with another checksum", key)
			}
		}
	})
}

// TestPutsAreParallelAndBounded: with a slow store, as many calls as allowed.
func TestPutsAreParallelAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSharedStore()
		store.takes = 900 * ms
		o := testOptions()
		o.Putters = 3
		err := bubble(t, o, store, func(a *Aggregator) {
			for i := range 10 * maxBatchBlobs {
				_ = a.Offer(envelopeOf(0, "", "A", "s"+strings.Repeat("x", i%60)+string(rune('A'+i/60)), 1))
			}
			time.Sleep(6 * time.Second)
		})
		if err != nil || store.most != 3 || len(store.store.blobs) != 10*maxBatchBlobs {
			t.Errorf("%v; %d calls at once, %d blobs stored", err, store.most, len(store.store.blobs))
		}
	})
}

// TestStopIsBounded: a store that never answers costs the stop timeout, and the
// error says how many events are lost.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSharedStore()
		store.hang.Store(true)
		var w witness
		o := testOptions()
		o.CallTimeout, o.StopTimeout = time.Hour, 7*time.Second
		w.watch(&o)
		var stopped time.Time
		err := bubble(t, o, store, func(a *Aggregator) {
			for i := range 5 {
				_ = a.Offer(envelope(0, byte(i)))
				time.Sleep(time.Second)
			}
			stopped = time.Now()
		})
		if took := time.Since(stopped); took != o.StopTimeout {
			t.Errorf("stopping took %v, want %v", took, o.StopTimeout)
		}
		if err == nil || !strings.Contains(err.Error(), "5 events not acknowledged") {
			t.Errorf("error %v", err)
		}
		if w.drops[Stopped] != 5 || len(w.acked) != 0 {
			t.Errorf("told of %v and %d acknowledged", w.drops, len(w.acked))
		}
	})
}

// TestCallsHaveATimeout: a call that hangs is given up and made again.
func TestCallsHaveATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSharedStore()
		store.hang.Store(true)
		var log strings.Builder
		o := testOptions()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		err := bubble(t, o, store, func(a *Aggregator) {
			_ = a.Offer(envelope(0, 1))
			time.Sleep(30 * time.Second)
			store.hang.Store(false)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if n := a.Counters().EventsAcknowledged.Load(); n != 1 {
				t.Errorf("%d events acknowledged after the store came back", n)
			}
		})
		if err != nil {
			t.Error(err)
		}
		if text := log.String(); strings.Count(text, "the store takes nothing") != 1 || strings.Count(text, "takes blobs again") != 1 {
			t.Errorf("log:\n%s", text)
		}
	})
}

// TestIdle: without events every second gets its final all the same, the one of the
// hello apart.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Incarnation = 0
		err := bubble(t, o, newSharedStore(), func(a *Aggregator) {
			if a.Incarnation() == 0 {
				t.Error("no incarnation")
			}
			time.Sleep(time.Hour)
			if n := a.Counters().Finals.Load(); n != 3598 {
				t.Errorf("%d finals in an hour, want one for each second that was closed but the first", n)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestOfferNeedsRun(t *testing.T) {
	a, err := Open(testOptions(), newSharedStore())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Offer(envelope(0, 1)); !errors.Is(err, ErrStopped) {
		t.Errorf("before Run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := a.Offer(envelope(0, 1)); !errors.Is(err, ErrStopped) {
		t.Errorf("after Run: %v", err)
	}
	if a.Counters().Events.Load() != 0 {
		t.Error("an event was taken in")
	}
}

func TestValidate(t *testing.T) {
	good := testOptions()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Options{
		DC: "a:b", Grace: -1, OpenSeconds: -1, TTLSeconds: -1, MaxBufferedBytes: 1000, MaxGroups: -1, MaxDCs: -1,
		ReceiveBufferBytes: -1, Putters: -1, CallTimeout: -1, StopTimeout: -1, Succeeds: []index.Writer{{}},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`dc "a:b"`, `writer name ""`, "grace of -1ns", "-1 open seconds", "TTL of -1", "1000 bytes of memory", "-1 blobs", "-1 dcs",
		"buffer of -1", "-1 puts", "call timeout", "stop timeout", "succeeds anonymous",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not name %q: %v", want, err)
		}
	}
	if _, err := Open(bad, newSharedStore()); err == nil {
		t.Error("Open takes bad options")
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := make(map[string]Reason)
	for _, r := range Reasons() {
		seen[r.String()] = r
	}
	if len(seen) != numReasons || seen[""] != 0 {
		t.Errorf("names %v", slices.Sorted(maps.Keys(seen)))
	}
	if got := Reason(200).String(); got != "reason_200" {
		t.Errorf("an unknown reason is %q", got)
	}
}
