package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bench"
	"github.com/mayflydb/mayfly/ring"
)

// nodeBits is how a ring of a node that holds all 64 partitions is cut; tests have
// fewer.
func (r *runner) nodeBits() uint8 {
	if r.part > 1000 {
		return 2
	}
	return 6
}

// heapNow returns the live heap after a collection.
func heapNow() (liveBytes, objects int64) {
	runtime.GC()
	runtime.GC() // finishes what the first has left to sweep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.HeapObjects)
}

// runMemory fills a slot of 64 partitions with keys and looks at the heap, the
// collector and the hints.
func runMemory(ctx context.Context, r *runner) (err error) {
	keys := r.scale(r.keys())
	const looks = 10
	r.steps(looks + 2)
	if err := r.runCollections(ctx, keys); err != nil {
		return err
	}
	r.step()
	dir := r.fresh()
	e, err := openSubject(dir, r.nodeBits(), bitcask.SyncNone, unsynced, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close(), os.RemoveAll(dir)) }()
	before, _ := heapNow()
	worst, done := 0.0, int64(0)
	for look := range int64(looks) {
		// From half of the keys to all of them: tables grow in steps, and the worst
		// moment is just after one.
		until := keys/2 + keys/2*(look+1)/looks
		if err := e.fill(ctx, done, until, keys); err != nil {
			return err
		}
		done = until
		live, _ := heapNow()
		worst = max(worst, float64(live-before)/float64(done))
		r.step()
	}
	live, objects := heapNow()
	st := e.disk.Stats()
	r.figure("open slots: heap a key, all in", float64(live-before)/float64(done), "bytes", 26, "")
	r.figure("open slots: the same, worst of 10 looks", worst, "bytes", 26, "from half of the keys on")
	r.figure("open slots: tables alone", float64(st.KeydirBytes)/float64(st.OpenKeys), "bytes a key", 0, "")
	r.figure("open slots: objects on the heap", float64(objects), "objects", 0, "")
	if err := e.seal(firstEpoch); err != nil {
		return err
	}
	if err := r.readEach(e, keys, 20_000); err != nil { // hints in use
		return err
	}
	live, _ = heapNow()
	hints, files, err := sizesBelow(dir, ".hint")
	if err != nil {
		return err
	}
	r.figure("sealed: on disk", float64(hints)/float64(done), "bytes a key", 16, plural(int(files), "hint"))
	r.figure("sealed: heap a key", float64(live-before)/float64(done), "bytes", 1, fmt.Sprintf("after gets in every partition; %d KiB of it are kept pages, a fixed budget", e.disk.Stats().HintCacheBytes>>10))
	r.step()
	return nil
}

func (r *runner) keys() int64 {
	if r.Keys == 0 {
		return defaultKeys
	}
	return r.Keys
}

// readEach gets some of the keys that runMemory puts.
func (r *runner) readEach(e *subject, keys, some int64) error {
	var key []byte
	for i := int64(0); i < keys; i += max(keys/some, 1) {
		epoch := firstEpoch + i*slotSeconds/keys
		key = appendKey(key[:0], epoch, i)
		hash := ring.HashBytes(typeName, bucketName, key)
		rec, err := e.store(hash).Get(e.bucket, hash, epoch, firstEpoch, key)
		if err != nil {
			return err
		}
		rec.Release()
	}
	return nil
}

// runReopen makes a disk with as many segments as ten days have on a node of 64
// partitions, and times the way from opening it to the first get.
func runReopen(ctx context.Context, r *runner) error {
	bits := r.nodeBits()
	segments := max(r.scale(15_360)>>bits, 1) << bits
	keys := max(r.keys()/segments, 10)
	if r.Quick {
		keys = 20
	}
	var first [2]float64
	for i, perSegment := range []int64{keys / 10, keys} {
		r.steps(2)
		ms, err := r.reopen(ctx, bits, segments>>bits, perSegment)
		if err != nil {
			return err
		}
		first[i] = ms
	}
	r.figure("first get: ten times the keys over one", first[1]/first[0], "x", 0, "")
	return nil
}

// reopen returns the median milliseconds to the first get of a disk with some slots
// of a segment in each partition.
func (r *runner) reopen(ctx context.Context, bits uint8, slots, perSegment int64) (ms float64, err error) {
	dir := r.fresh()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := fillSlots(ctx, dir, bits, slots, perSegment); err != nil {
		return 0, err
	}
	r.step()
	what := countText(slots<<bits) + " segments, " + countText(slots<<bits*perSegment) + " keys: "
	var firsts, alls []float64
	for i := range int64(max(r.Pairs, 3)) {
		slot := i * 37 % slots
		first, all, err := timeReopen(dir, bits, slot, perSegment)
		if err != nil {
			return 0, err
		}
		firsts, alls = append(firsts, first.Seconds()*1e3), append(alls, all.Seconds()*1e3)
	}
	q := bench.QuartilesOf(firsts)
	r.figure(what+"first get, warm", q.Median, "ms", 100, "")
	r.figure(what+"first get, warm, third quartile", q.Q3, "ms", 0, "")
	r.figure(what+"a get in each partition, warm", bench.QuartilesOf(alls).Median, "ms", 0, plural(1<<bits, "get"))
	live, perKey, err := heapOfAll(dir, bits, slots, perSegment)
	if err != nil {
		return 0, err
	}
	r.figure(what+"heap after a get in every segment", perKey, "bytes a key", 0, countText(live>>10)+" KiB")
	r.step()
	return q.Median, nil
}

// slotKey is key i of a partition in a slot. Its hash is made up: of that partition,
// and spread within it.
func slotKey(dst []byte, bits uint8, slot int64, prefix uint32, i int64) (key []byte, epoch int64, hash uint64) {
	epoch = firstEpoch + slot*slotSeconds + i%slotSeconds
	key = appendKey(dst, epoch, int64(prefix)<<32|i)
	return key, epoch, ring.HashBytes(typeName, bucketName, key)>>bits | uint64(prefix)<<(64-bits)
}

// fillSlots makes the disk that is then reopened, without syncing anything.
func fillSlots(ctx context.Context, dir string, bits uint8, slots, perSegment int64) (err error) {
	e, err := openSubject(dir, bits, bitcask.SyncNone, unsynced, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	for slot := range slots {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var key []byte
		for prefix := range uint32(1) << bits {
			for i := range perSegment {
				var epoch int64
				var hash uint64
				key, epoch, hash = slotKey(key[:0], bits, slot, prefix, i)
				_, rec, err := encode(epoch, key, nil)
				if err != nil {
					return err
				}
				err = e.putAt(hash, epoch, epoch, &rec)
				rec.Release()
				if err != nil {
					return err
				}
			}
		}
		if err := e.seal(firstEpoch + slot*slotSeconds); err != nil {
			return err
		}
	}
	return nil
}

// timeReopen opens the disk and gets one record, then one of each partition.
func timeReopen(dir string, bits uint8, slot, perSegment int64) (first, all time.Duration, err error) {
	runtime.GC()
	start := time.Now()
	e, err := openSubject(dir, 0, bitcask.SyncNone, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	for i := range uint32(1) << bits {
		prefix := (i + uint32(slot)*11) & (1<<bits - 1)
		key, epoch, hash := slotKey(nil, bits, slot, prefix, perSegment/2)
		store, err := e.disk.Store(bitcask.Partition{Bits: bits, Prefix: prefix})
		if err != nil {
			return 0, 0, err
		}
		rec, err := store.Get(e.bucket, hash, epoch, epoch, key)
		if err != nil {
			return 0, 0, err
		}
		rec.Release()
		if i == 0 {
			first = time.Since(start)
		}
	}
	return first, time.Since(start), nil
}

// heapOfAll gets a record of every segment and looks at the heap.
func heapOfAll(dir string, bits uint8, slots, perSegment int64) (live int64, perKey float64, err error) {
	before, _ := heapNow()
	e, err := openSubject(dir, bits, bitcask.SyncNone, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	for slot := range slots {
		for prefix := range uint32(1) << bits {
			key, epoch, hash := slotKey(nil, bits, slot, prefix, perSegment/2)
			rec, err := e.stores[prefix].Get(e.bucket, hash, epoch, epoch, key)
			if err != nil {
				return 0, 0, err
			}
			rec.Release()
		}
	}
	after, _ := heapNow()
	return after - before, float64(after-before) / float64(slots<<bits*perSegment), nil
}
