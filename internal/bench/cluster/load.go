package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bench"
)

// A stored is one acknowledged blob: its key, and which value of the pool.
type stored struct {
	key   string
	value uint64
}

// A load is what is done to one set of nodes.
type load struct {
	b       *benchmark
	system  system
	nodes   *nodes
	size    int
	workers []worker
	next    atomic.Uint64 // value
	bytes   atomic.Int64  // put in the part that runs
	stored  []stored
}

// open makes the workers and has the nodes make the files they need.
func (l *load) open(ctx context.Context) error {
	if err := l.system.open(l.nodes.addrs); err != nil {
		return err
	}
	for i := range l.b.o.Workers {
		l.workers = append(l.workers, l.system.worker(i))
	}
	return l.warmUp(ctx)
}

func (l *load) close() {
	for _, w := range l.workers {
		w.close()
	}
	l.system.close()
}

// What warms nodes up: small blobs under so many keys that every partition of
// the blobs and of their index gets some, as after a minute of work. A node of
// mayfly makes a file, and syncs it, for the first record of each.
const (
	warmUpDCs     = 40
	warmUpSeconds = 13 // from 3 before now to 9 after it: what is in time
	warmUpBytes   = 512
)

func (l *load) warmUp(ctx context.Context) error {
	var next atomic.Int64
	return l.each(func(w worker) error {
		for {
			n := int(next.Add(1) - 1)
			if n >= warmUpDCs*warmUpSeconds {
				return nil
			}
			key := event.Key{
				Epoch: time.Now().Unix() - 3 + int64(n%warmUpSeconds), DC: fmt.Sprint("warm", n/warmUpSeconds),
				Type: "WARM", Subtype: "up", Chunk: event.PlainChunk(uint64(n)),
			}
			if err := w.put(ctx, key.String(), l.b.pool.Value(uint64(n), warmUpBytes)); err != nil {
				return err
			}
		}
	})
}

// each runs f for all workers side by side and returns what went wrong first.
func (l *load) each(f func(w worker) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(l.workers))
	for i, w := range l.workers {
		wg.Go(func() { errs[i] = f(w) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A tally is what one worker, or all of them, did in a part.
type tally struct {
	took     bench.Latency
	ops      int64
	failures []error
	stored   []stored
}

// work has all workers do a part for the time it has, and joins their tallies.
func (l *load) work(ctx context.Context, part Part) *tally {
	end := time.Now().Add(l.b.o.For)
	all := &tally{}
	var mu sync.Mutex
	l.bytes.Store(0)
	var wg sync.WaitGroup
	for i, w := range l.workers {
		wg.Go(func() {
			t := &tally{}
			if part == Put {
				l.puts(ctx, w, i, end, t)
			} else {
				l.gets(ctx, w, i, end, t)
			}
			mu.Lock()
			defer mu.Unlock()
			all.took.Join(&t.took)
			all.ops += t.ops
			all.failures = append(all.failures, t.failures...)
			all.stored = append(all.stored, t.stored...)
		})
	}
	wg.Wait()
	return all
}

// puts stores blobs of the present second, one after the other.
func (l *load) puts(ctx context.Context, w worker, i int, end time.Time, t *tally) {
	subtype := fmt.Sprintf("w%d", i)
	for ctx.Err() == nil {
		start := time.Now()
		if !start.Before(end) || l.bytes.Add(int64(l.size)) > l.b.o.MaxBytes {
			return
		}
		n := l.next.Add(1)
		key := event.Key{Epoch: start.Unix(), DC: "bench", Type: "BENCH", Subtype: subtype, Chunk: event.Chunk(incarnation, n)}.String()
		if err := w.put(ctx, key, l.b.pool.Value(n, l.size)); err != nil {
			t.fail(ctx, err)
			return
		}
		t.took.Add(time.Since(start))
		t.ops++
		t.stored = append(t.stored, stored{key, n})
	}
}

// gets reads blobs at random and compares them with what was put.
func (l *load) gets(ctx context.Context, w worker, i int, end time.Time, t *tally) {
	random := rand.New(rand.NewPCG(uint64(i), 0))
	for ctx.Err() == nil && len(l.stored) > 0 {
		s := l.stored[random.IntN(len(l.stored))]
		start := time.Now()
		if !start.Before(end) {
			return
		}
		got, err := w.get(ctx, s.key)
		if err == nil && !bytes.Equal(got, l.b.pool.Value(s.value, l.size)) {
			err = fmt.Errorf("%s: %w", s.key, errWrongBytes)
		}
		if err != nil {
			t.fail(ctx, err)
			return
		}
		t.took.Add(time.Since(start))
		t.ops++
	}
}

var errWrongBytes = errors.New("a get returned other bytes than were put")

// fail notes what went wrong, unless the whole benchmark was given up.
func (t *tally) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.failures = append(t.failures, err)
	}
}
