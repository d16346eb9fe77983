package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/object"
)

// A readSet is the same records in a floor's files and in the engine's.
type readSet struct {
	dirs    []string
	floor   *floor
	subject *subject
	size    int
	keys    [][]byte
	hashes  []uint64
	offsets []int64 // in the floor's files
	framed  int64
}

func (r *runner) newReadSet(n int64, size int) (*readSet, error) {
	set := &readSet{dirs: []string{r.fresh(), r.fresh()}, size: size}
	var err error
	if set.floor, err = openFloor(set.dirs[0], putBits, false); err != nil {
		return nil, err
	}
	if set.subject, err = openSubject(set.dirs[1], putBits, bitcask.SyncNone, nil, nil); err != nil {
		return nil, err
	}
	for i := range n {
		key := appendKey(nil, firstEpoch, 1_000_000+i) // keys of one length
		hash, rec, err := encode(firstEpoch, key, valueOf(i, size))
		if err != nil {
			return nil, err
		}
		at, errFloor := set.floor.file(hash).append(&rec)
		err = errors.Join(errFloor, set.subject.put(hash, &rec))
		set.framed = framed(len(rec.Raw()))
		rec.Release()
		if err != nil {
			return nil, err
		}
		set.keys, set.hashes, set.offsets = append(set.keys, key), append(set.hashes, hash), append(set.offsets, at)
	}
	return set, nil
}

func (set *readSet) close() error {
	err := errors.Join(set.floor.close(), set.subject.close())
	for _, dir := range set.dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// pread reads record i of the floor into a pooled buffer: it knows where it is.
func (set *readSet) pread(i int64) error {
	buf := object.NewBuffer(int(set.framed))
	defer buf.Release()
	n, err := unix.Pread(int(set.floor.file(set.hashes[i]).f.Fd()), buf.Bytes(), set.offsets[i])
	if err == nil && n < int(set.framed)-8 {
		err = fmt.Errorf("%d of %d bytes were read", n, set.framed)
	}
	return err
}

func (set *readSet) get(i int64, verify bool) error {
	return set.subject.get(set.hashes[i], set.keys[i], verify)
}

// random measures reads in random order by some readers.
func (set *readSet) random(readers int, ops int64, one func(i int64) error) (Sample, error) {
	rngs := make([]*rand.Rand, readers)
	for g := range rngs {
		rngs[g] = rand.New(rand.NewPCG(uint64(g), 7))
	}
	return measure(readers, ops, int64(set.size), func(g int, _ int64) error { return one(rngs[g].Int64N(int64(len(set.keys)))) })
}

// runGet compares warm gets with preads of the same bytes from known places.
func runGet(ctx context.Context, r *runner) error {
	cases := []struct {
		size, readers int
		keys, ops     int64
		bar           float64
	}{
		{2 << 10, 1, 50_000, 100_000, 0}, {2 << 10, 8, 50_000, 100_000, 0},
		{100 << 10, 1, 4000, 10_000, 0.9}, {100 << 10, 8, 4000, 10_000, 0.9},
		{500 << 10, 1, 800, 2000, 0.9}, {500 << 10, 8, 800, 2000, 0.9},
	}
	cases = some(r, cases)
	r.steps(len(cases) * 3 * r.Pairs)
	r.touch(2 << 30)
	for _, c := range cases {
		set, err := r.newReadSet(r.scale(c.keys), c.size)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s, %s", sizeText(c.size), plural(c.readers, "reader"))
		run := func(subject string, bar float64, verify bool) error {
			return r.compare(ctx, name, bar,
				side{"pread", func() (Sample, error) { return set.random(c.readers, r.scale(c.ops), set.pread) }},
				side{subject, func() (Sample, error) {
					return set.random(c.readers, r.scale(c.ops), func(i int64) error { return set.get(i, verify) })
				}})
		}
		err = run("get, open slot", c.bar, false)
		if err == nil {
			err = set.subject.seal(firstEpoch)
		}
		if err == nil {
			err = run("get, sealed slot", c.bar, false)
		}
		if err == nil {
			err = run("get, sealed, value checked", 0, true)
		}
		if err = errors.Join(err, set.close()); err != nil {
			return err
		}
	}
	return nil
}

// runCold compares gets of what the page cache has been told to forget. The host
// below a guest may still have it.
func runCold(ctx context.Context, r *runner) error {
	cases := []struct {
		size      int
		keys, ops int64
	}{{2 << 10, 50_000, 1000}, {100 << 10, 4000, 400}, {500 << 10, 800, 200}}
	cases = some(r, cases)
	r.steps(len(cases) * r.Pairs)
	for _, c := range cases {
		set, err := r.newReadSet(r.scale(c.keys), c.size)
		if err != nil {
			return err
		}
		err = set.subject.seal(firstEpoch)
		for _, ff := range set.floor.files {
			err = errors.Join(err, ff.f.Sync())
		}
		if err == nil {
			ops := r.scale(c.ops)
			err = r.compare(ctx, sizeText(c.size)+", 1 reader", 0,
				side{"pread", func() (Sample, error) {
					return forgetThen(set.dirs[0], func() (Sample, error) { return set.random(1, ops, set.pread) })
				}},
				side{"get, sealed slot", func() (Sample, error) {
					return forgetThen(set.dirs[1], func() (Sample, error) {
						return set.random(1, ops, func(i int64) error { return set.get(i, false) })
					})
				}})
		}
		if err = errors.Join(err, set.close()); err != nil {
			return err
		}
	}
	return nil
}

// forgetThen has the page cache forget all files below dir, then runs.
func forgetThen(dir string, run func() (Sample, error)) (Sample, error) {
	if err := forget(dir); err != nil {
		return Sample{}, err
	}
	return run()
}
