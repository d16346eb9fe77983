package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

const expiryTTL = 10 * slotSeconds

// runExpiry fills a slot, has it expire while puts into a later one go on, and
// counts what was written for all of it.
func runExpiry(ctx context.Context, r *runner) (err error) {
	const size = 100 << 10
	r.steps(4)
	want := r.SlotBytes
	if want == 0 {
		want = defaultSlotBytes
	}
	want = r.scale(want)
	note := ""
	if free := freeBytes(r.dir); want > free/3 {
		want, note = free/3, "all that fits"
	}
	r.touch(want * r.part)
	dir := r.fresh()
	var wrote atomic.Int64
	e, err := openSubject(dir, putBits, bitcask.SyncNone, func(f vfs.FS) vfs.FS { return counted{f, &wrote} },
		func(c *bitcask.Config) { c.TTL = func(uint64) int64 { return expiryTTL } })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close(), os.RemoveAll(dir)) }()

	records := want / size
	var bytes atomic.Int64
	put := func(epoch, now, i int64) error {
		hash, rec, err := encode(epoch, appendKey(nil, epoch, i), valueOf(i, size))
		if err != nil {
			return err
		}
		bytes.Add(int64(len(rec.Raw())))
		err = e.putAt(hash, epoch, now, &rec)
		rec.Release()
		return err
	}
	_, err = measure(4, records, size, func(_ int, i int64) error { return put(firstEpoch, firstEpoch, i) })
	if err == nil {
		err = e.seal(firstEpoch)
	}
	if err != nil {
		return err
	}
	r.figure("slot that expires", float64(bytes.Load())/(1<<30), "GiB", 0, note)
	r.figure("write amplification of put and seal", float64(wrote.Load())/float64(bytes.Load()), "x", 1.01, "bytes given to files / bytes of records")
	r.step()

	// The time jumps to where the slot is dead; a later one takes the puts.
	dead := firstEpoch + slotSeconds + expiryTTL
	later := dead - dead%slotSeconds
	for i := range int64(256) { // its segments are made
		if err := put(later, later, -1-i); err != nil {
			return err
		}
	}
	quiet, err := pacedPuts(ctx, e, later, dead, 1_000_000, time.Duration(r.scale(int64(6*time.Second))))
	if err != nil {
		return err
	}
	r.step()
	wroteBefore := wrote.Load()
	var wg sync.WaitGroup
	var expired bitcask.Expired
	var took time.Duration
	var expireErr error
	wg.Go(func() { expired, took, expireErr = expireAll(e, dead) })
	time.Sleep(10 * time.Millisecond)
	readErr := e.gone(firstEpoch, dead)
	busy, err := pacedPuts(ctx, e, later, dead, 2_000_000, time.Duration(r.scale(int64(6*time.Second))))
	wg.Wait()
	if err = errors.Join(err, expireErr, readErr); err != nil {
		return err
	}
	r.step()
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	r.figure("files unlinked", float64(expired.Files), "files", 0, fmt.Sprintf("%.1f GiB in %.1f s", float64(expired.Bytes)/(1<<30), took.Seconds()))
	r.figure("written while it expired, but for the puts", float64(wrote.Load()-wroteBefore-busy.Bytes)/float64(max(expired.Bytes, 1)), "bytes a byte freed", 0.001, "")
	r.figure("put p50 before / while", ms(busy.P50), "ms", 0, fmt.Sprintf("before: %.3f", ms(quiet.P50)))
	r.figure("put p99 while it expires", ms(busy.P99), "ms", 0, fmt.Sprintf("before: %.2f", ms(quiet.P99)))
	r.figure("put p99.9 while it expires", ms(busy.P999), "ms", 0, fmt.Sprintf("before: %.2f", ms(quiet.P999)))
	r.figure("put p99.9: delay by expiry", max(ms(busy.P999)-ms(quiet.P999), 0), "ms", 5, "")
	r.step()
	return nil
}

// gone checks that a record of a dead slot is said to be expired.
func (e *subject) gone(epoch, now int64) error {
	key := appendKey(nil, epoch, 1)
	hash := ring.HashBytes(typeName, bucketName, key)
	rec, err := e.store(hash).Get(e.bucket, hash, epoch, now, key)
	if err == nil {
		rec.Release()
	}
	if !errors.Is(err, object.CodeExpired) {
		return fmt.Errorf("a get of a dead slot says %w, not expired", err)
	}
	return nil
}

// expireAll drops what is dead as a node does, but without pausing between rounds.
func expireAll(e *subject, now int64) (all bitcask.Expired, took time.Duration, err error) {
	start := time.Now()
	for more := true; more; {
		done, err := e.disk.Maintain(now, true)
		if err != nil {
			return all, 0, err
		}
		all.Files += done.Expired.Files
		all.Bytes += done.Expired.Bytes
		more = done.Expired.More
	}
	return all, time.Since(start), nil
}

// pacedPuts puts 2 KB records for that long, two writers of 1000 a second each: few
// enough that a put waits for nothing but what delays it. Its sample's Bytes are
// those of the records.
func pacedPuts(ctx context.Context, e *subject, epoch, now, from int64, long time.Duration) (Sample, error) {
	const size, writers, pause = 2 << 10, 2, time.Millisecond
	var (
		mu    sync.Mutex
		all   []time.Duration
		bytes int64
		fault error
		wg    sync.WaitGroup
	)
	start := time.Now()
	for g := range int64(writers) {
		wg.Go(func() {
			var took []time.Duration
			var sum int64
			var err error
			for i := int64(0); time.Since(start) < long && err == nil; i++ {
				var hash uint64
				var rec object.Record
				hash, rec, err = encode(epoch, appendKey(nil, epoch, from+i*writers+g), valueOf(i, size))
				if err != nil {
					break
				}
				at := time.Now()
				err = e.putAt(hash, epoch, now, &rec)
				took = append(took, time.Since(at))
				sum += framed(len(rec.Raw()))
				rec.Release()
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				time.Sleep(pause)
			}
			mu.Lock()
			defer mu.Unlock()
			all, bytes, fault = append(all, took...), bytes+sum, errors.Join(fault, err)
		})
	}
	wg.Wait()
	s := Sample{Seconds: time.Since(start).Seconds(), Ops: int64(len(all)), Bytes: bytes}
	s.latencies(all)
	return s, fault
}

func freeBytes(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
