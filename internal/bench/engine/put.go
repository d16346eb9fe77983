package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mayflydb/mayfly/bitcask"
)

const putBits = 3 // 8 partitions, 8 files

// floorPuts and subjectPuts are the two sides of a comparison of puts, each in a
// directory of its own that is gone afterwards.
func (r *runner) floorPuts(bits uint8, always bool, writers int, ops int64, size int) (Sample, error) {
	dir := r.fresh()
	f, err := openFloor(dir, bits, always)
	if err != nil {
		return Sample{}, err
	}
	f.always = false
	err = warmUp(f)
	f.always = always
	var s Sample
	if err == nil {
		s, err = puts(f, writers, ops, size)
	}
	return s, errors.Join(err, f.close(), os.RemoveAll(dir))
}

func (r *runner) subjectPuts(bits uint8, policy bitcask.Sync, writers int, ops int64, size int) (Sample, error) {
	dir := r.fresh()
	e, err := openSubject(dir, bits, policy, nil, nil)
	if err != nil {
		return Sample{}, err
	}
	e.bucket.Sync = bitcask.SyncNone
	err = warmUp(e)
	e.bucket.Sync = policy
	var s Sample
	if err == nil {
		s, err = puts(e, writers, ops, size)
	}
	return s, errors.Join(err, e.close(), os.RemoveAll(dir))
}

// runPut compares appends that nobody waits to see on the disk.
func runPut(ctx context.Context, r *runner) error {
	cases := []struct {
		size, writers int
		ops           int64
		bar           float64
	}{
		{2 << 10, 1, 100_000, 0}, {2 << 10, 8, 100_000, 0.9},
		{100 << 10, 1, 3000, 0}, {100 << 10, 8, 3000, 0.95},
		{500 << 10, 1, 600, 0}, {500 << 10, 8, 600, 0},
	}
	cases = some(r, cases)
	r.steps(len(cases) * r.Pairs)
	r.touch(1 << 30)
	for _, c := range cases {
		ops := r.scale(c.ops)
		err := r.compare(ctx, fmt.Sprintf("%s, %s", sizeText(c.size), plural(c.writers, "writer")), c.bar,
			side{"plain append", func() (Sample, error) { return r.floorPuts(putBits, false, c.writers, ops, c.size) }},
			side{"put, none", func() (Sample, error) { return r.subjectPuts(putBits, bitcask.SyncNone, c.writers, ops, c.size) }})
		if err != nil {
			return err
		}
	}
	return nil
}

// runAlways compares puts that are durable when they return. The floor syncs as
// cleverly as it can: one fdatasync of a file serves all who wait for that file.
func runAlways(ctx context.Context, r *runner) error {
	cases := []struct {
		bits          uint8
		size, writers int
		ops           int64
		bar           float64
	}{
		{putBits, 2 << 10, 1, 1000, 0}, {putBits, 2 << 10, 8, 4000, 0.9}, {6, 2 << 10, 16, 6000, 0.9},
		{putBits, 100 << 10, 1, 600, 0}, {putBits, 100 << 10, 8, 2000, 0.9}, {6, 100 << 10, 16, 2000, 0.9},
	}
	cases = some(r, cases)
	r.steps(len(cases) * r.Pairs)
	r.touch(1 << 30)
	for _, c := range cases {
		ops := r.scale(c.ops)
		err := r.compare(ctx, fmt.Sprintf("%s, %s, %s", sizeText(c.size), plural(c.writers, "writer"), plural(1<<c.bits, "file")), c.bar,
			side{"append+fdatasync", func() (Sample, error) { return r.floorPuts(c.bits, true, c.writers, ops, c.size) }},
			side{"put, always", func() (Sample, error) { return r.subjectPuts(c.bits, bitcask.SyncAlways, c.writers, ops, c.size) }})
		if err != nil {
			return err
		}
	}
	return nil
}
