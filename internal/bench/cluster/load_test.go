package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bench"
)

// A fakeWorker takes a millisecond for everything, and may be broken.
type fakeWorker struct {
	mu     *sync.Mutex
	all    map[string][]byte
	broken error // of put
	spoil  bool  // what get returns
}

func (w *fakeWorker) put(_ context.Context, key string, value []byte) error {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[key] = value
	return w.broken
}

func (w *fakeWorker) get(_ context.Context, key string) ([]byte, error) {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	got := append([]byte(nil), w.all[key]...)
	if w.spoil {
		got[len(got)-1]++
	}
	return got, nil
}

func (*fakeWorker) close() {}

func fakeLoad(maxBytes int64, workers ...*fakeWorker) *load {
	l := &load{b: &benchmark{o: Options{For: time.Second, MaxBytes: maxBytes, Workers: len(workers)}, pool: bench.NewPool(1<<16, 1)}, size: 100}
	var mu sync.Mutex
	all := map[string][]byte{}
	for _, w := range workers {
		w.mu, w.all = &mu, all
		l.workers = append(l.workers, w)
	}
	return l
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fakeLoad(1<<30, &fakeWorker{}, &fakeWorker{})
		start := time.Now()
		puts := l.work(t.Context(), Put)
		if took := time.Since(start); took != time.Second || puts.ops != 2000 || len(puts.stored) != 2000 || len(puts.failures) != 0 || puts.took.Millis(0.999) != 1 {
			t.Errorf("%d puts, %d noted, in %v: %v", puts.ops, len(puts.stored), took, puts.failures)
		}
		seen := map[string]bool{}
		for _, s := range puts.stored {
			k, err := event.ParseKey(s.key)
			if err != nil || seen[s.key] || k.Epoch < start.Unix() || k.Epoch > time.Now().Unix() {
				t.Fatalf("key %q, seen before: %v, %v", s.key, seen[s.key], err)
			}
			seen[s.key] = true
		}
		l.stored = puts.stored
		if gets := l.work(t.Context(), Get); gets.ops != 2000 || len(gets.failures) != 0 {
			t.Errorf("%d gets: %v", gets.ops, gets.failures)
		}
	})
}

func TestLoadEndsAtItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fakeLoad(1000, &fakeWorker{}, &fakeWorker{}, &fakeWorker{})
		if puts := l.work(t.Context(), Put); puts.ops != 10 {
			t.Errorf("%d puts of 100 bytes, want 10", puts.ops)
		}
	})
}

// Whatever is wrong ends its worker and is told.
func TestLoadTellsWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fakeLoad(1<<30, &fakeWorker{}, &fakeWorker{broken: errors.New("full"), spoil: true})
		puts := l.work(t.Context(), Put)
		if puts.ops != 1000 || len(puts.failures) != 1 || puts.failures[0].Error() != "full" {
			t.Errorf("%d puts: %v", puts.ops, puts.failures)
		}
		l.stored = puts.stored
		gets := l.work(t.Context(), Get)
		if len(gets.failures) != 1 || !errors.Is(gets.failures[0], errWrongBytes) || !strings.Contains(gets.failures[0].Error(), ":bench:BENCH:w") {
			t.Errorf("%d gets: %v", gets.ops, gets.failures)
		}
	})
}

// Who gives up has found nothing wrong.
func TestLoadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := fakeLoad(1<<30, &fakeWorker{}, &fakeWorker{broken: context.Canceled})
		cancel()
		if puts := l.work(ctx, Put); puts.ops != 0 || len(puts.failures) != 0 {
			t.Errorf("%d puts: %v", puts.ops, puts.failures)
		}
	})
}
