package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bench"
	"github.com/mayflydb/mayfly/internal/object"
)

const newest = 100 // keys that readers of a mix choose from

// A written is a record that readers may ask for.
type written struct {
	hash   uint64
	key    []byte
	offset int64
	size   int64
}

// A feed is the ring of the newest records written.
type feed struct {
	slots [newest]atomic.Pointer[written]
}

func (f *feed) add(i int64, w *written) { f.slots[i%newest].Store(w) }

// mixed measures ops puts by writers while readers read from the newest until
// the last put has returned. It returns the writers' sample and the reads a second.
func mixed(writers, readers int, ops int64, size int, put func(hash uint64, rec *object.Record) (offset int64, err error), get func(w *written) error) (Sample, float64, error) {
	var (
		newestKeys feed
		stop       = make(chan struct{})
		reads      atomic.Int64
		fault      atomic.Pointer[error]
		wg         sync.WaitGroup
	)
	for g := range readers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				w := newestKeys.slots[rng.IntN(newest)].Load()
				if w == nil {
					continue
				}
				if err := get(w); err != nil {
					fault.Store(&err)
					return
				}
				reads.Add(1)
			}
		})
	}
	s, err := measure(writers, ops, int64(size), func(_ int, i int64) error {
		key := appendKey(nil, firstEpoch, i)
		hash, rec, err := encode(firstEpoch, key, valueOf(i, size))
		if err != nil {
			return err
		}
		at, err := put(hash, &rec)
		newestKeys.add(i, &written{hash, key, at, framed(len(rec.Raw()))})
		rec.Release()
		return err
	})
	close(stop)
	wg.Wait()
	if p := fault.Load(); p != nil {
		err = errors.Join(err, *p)
	}
	return s, float64(reads.Load()) / s.Seconds, err
}

// runMix compares writers that share the machine with readers of what was just
// written. The readers of both sides do the same; the writers are compared.
func runMix(ctx context.Context, r *runner) error {
	cases := []struct {
		size int
		ops  int64
	}{{2 << 10, 60_000}, {100 << 10, 3000}}
	cases = some(r, cases)
	r.steps(len(cases) * r.Pairs)
	r.touch(1 << 30)
	for _, c := range cases {
		ops := r.scale(c.ops)
		var readsFloor, readsSubject []float64
		err := r.compare(ctx, fmt.Sprintf("%s, 4 writers, 4 readers", sizeText(c.size)), 0.9,
			side{"plain, same mix", func() (Sample, error) {
				s, reads, err := r.floorMix(ops, c.size)
				readsFloor = append(readsFloor, reads)
				return s, err
			}},
			side{"puts beside gets", func() (Sample, error) {
				s, reads, err := r.subjectMix(ops, c.size)
				readsSubject = append(readsSubject, reads)
				return s, err
			}})
		if err != nil {
			return err
		}
		ratio := bench.Median(bench.Ratios(readsSubject, readsFloor))
		r.figure(sizeText(c.size)+": readers beside, over the floor's", ratio, "x", 0, "")
	}
	return nil
}

func (r *runner) floorMix(ops int64, size int) (Sample, float64, error) {
	dir := r.fresh()
	f, err := openFloor(dir, putBits, false)
	if err != nil {
		return Sample{}, 0, err
	}
	s, reads, err := mixed(4, 4, ops, size,
		func(hash uint64, rec *object.Record) (int64, error) { return f.file(hash).append(rec) },
		func(w *written) error {
			buf := object.NewBuffer(int(w.size))
			defer buf.Release()
			_, err := unix.Pread(int(f.file(w.hash).f.Fd()), buf.Bytes(), w.offset)
			return err
		})
	return s, reads, errors.Join(err, f.close(), os.RemoveAll(dir))
}

func (r *runner) subjectMix(ops int64, size int) (Sample, float64, error) {
	dir := r.fresh()
	e, err := openSubject(dir, putBits, bitcask.SyncNone, nil, nil)
	if err != nil {
		return Sample{}, 0, err
	}
	if err = warmUp(e); err != nil {
		return Sample{}, 0, errors.Join(err, e.close())
	}
	s, reads, err := mixed(4, 4, ops, size,
		func(hash uint64, rec *object.Record) (int64, error) { return 0, e.put(hash, rec) },
		func(w *written) error { return e.get(w.hash, w.key, false) })
	return s, reads, errors.Join(err, e.close(), os.RemoveAll(dir))
}
