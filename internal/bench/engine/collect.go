package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bench"
)

// Collections is what garbage collections cost a process that has a disk open with some
// keys in open slots, and does nothing else: seconds.
type Collections struct {
	Keys    int64   `json:"keys"`
	Elapsed float64 `json:"elapsed"` // of a forced one, which also sweeps and waits for it: median
	Mark    float64 `json:"mark"`    // CPU of marking, on workers and by the program: mean
	Pause   float64 `json:"pause"`   // the longest the world stood still
	HeapMiB float64 `json:"heap_mib"`
}

// Collect makes a disk in a new directory dir, puts that many keys, and measures
// collections.
func Collect(ctx context.Context, dir string, keys int64) (c Collections, err error) {
	r := &runner{part: 1}
	e, err := openSubject(dir, r.nodeBits(), bitcask.SyncNone, unsynced, nil)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, e.close(), os.RemoveAll(dir)) }()
	if err := e.fill(ctx, 0, keys, keys); err != nil {
		return c, err
	}
	for range 5 {
		runtime.GC()
	}
	const collections = 50
	var elapsed []float64
	before := readCollector()
	for range collections {
		start := time.Now()
		runtime.GC()
		elapsed = append(elapsed, time.Since(start).Seconds())
	}
	after := readCollector()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Collections{
		Keys: keys, Elapsed: bench.QuartilesOf(elapsed).Median, Mark: (after.mark - before.mark) / collections,
		Pause: longestPause(before.pauses, after.pauses), HeapMiB: float64(m.HeapAlloc) / (1 << 20),
	}, nil
}

// fill puts the keys of a slot from one number up to another, of that many in all.
func (s *subject) fill(ctx context.Context, from, to, all int64) error {
	var key []byte
	for i := from; i < to; i++ {
		if i%10_000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		epoch := firstEpoch + i*slotSeconds/all
		key = appendKey(key[:0], epoch, i)
		hash, rec, err := encode(epoch, key, nil)
		if err == nil {
			err = s.putAt(hash, epoch, firstEpoch, &rec)
			rec.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// collector is what the runtime has counted since the start.
type collector struct {
	mark   float64 // CPU seconds; not of workers that had nothing else to do
	pauses *metrics.Float64Histogram
}

func readCollector() collector {
	samples := []metrics.Sample{
		{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}, {Name: "/sched/pauses/total/gc:seconds"},
	}
	metrics.Read(samples)
	return collector{
		mark:   samples[0].Value.Float64() + samples[1].Value.Float64() + samples[2].Value.Float64(),
		pauses: samples[3].Value.Float64Histogram(),
	}
}

// longestPause returns the upper end of the highest bucket that has grown.
func longestPause(before, after *metrics.Float64Histogram) float64 {
	for i := len(after.Counts) - 1; i >= 0; i-- {
		if after.Counts[i] > before.Counts[i] {
			return min(after.Buckets[i+1], 1)
		}
	}
	return 0
}

// collections measures in a process of its own, where nothing but the engine has a
// heap; without a program to run, in this one.
func (r *runner) collections(ctx context.Context, keys int64) (c Collections, err error) {
	if r.Collector == nil {
		return Collect(ctx, r.fresh(), keys)
	}
	var out []byte
	if out, err = exec.CommandContext(ctx, r.Collector[0], append(r.Collector[1:], "--dir", r.fresh(), "--keys", fmt.Sprint(keys))...).Output(); err == nil {
		err = json.Unmarshal(out, &c)
	}
	if err != nil {
		return c, fmt.Errorf("measuring collections in a process of its own: %w", err)
	}
	return c, nil
}

// runCollections compares the collections of a process with keys with those of one
// without.
func (r *runner) runCollections(ctx context.Context, keys int64) error {
	none, err := r.collections(ctx, 0)
	if err != nil {
		return err
	}
	some, err := r.collections(ctx, keys)
	if err != nil {
		return err
	}
	ms := func(what string, with, without, bound float64) {
		r.figure("collection with open slots, a process of its own: "+what, with*1e3, "ms", bound, fmt.Sprintf("%.4g without keys", without*1e3))
	}
	ms("forced, from beginning to end, median", some.Elapsed, none.Elapsed, 1)
	ms("CPU of marking", some.Mark, none.Mark, 1)
	ms("longest pause of 50", some.Pause, none.Pause, 0)
	return nil
}
