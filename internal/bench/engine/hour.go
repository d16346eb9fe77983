package engine

import (
	"context"
	"errors"
	"os"

	"github.com/mayflydb/mayfly/bitcask"
)

// runHour compares the first puts of a slot, four in each of 64 partitions, where
// they make their segments themselves and where upkeep has made them before. Both
// sides are the engine.
func runHour(ctx context.Context, r *runner) error {
	r.steps(2 * r.Pairs)
	for _, policy := range []bitcask.Sync{bitcask.SyncInterval, bitcask.SyncAlways} {
		err := r.compare(ctx, "64 partitions, "+policy.String()+", 2 KB, 8 writers", 0,
			side{"made by the first put", func() (Sample, error) { return r.turn(policy, false) }},
			side{"segments made ahead", func() (Sample, error) { return r.turn(policy, true) }})
		if err != nil {
			return err
		}
	}
	return nil
}

// turn measures the first puts after a slot's end.
func (r *runner) turn(policy bitcask.Sync, ahead bool) (s Sample, err error) {
	dir := r.fresh()
	bits := r.nodeBits()
	e, err := openSubject(dir, bits, policy, nil, func(c *bitcask.Config) { c.MakeLate = !ahead })
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, e.close(), os.RemoveAll(dir)) }()
	const perPartition, size = 4, 2 << 10
	next := firstEpoch + slotSeconds
	putIn := func(epoch, i int64) error {
		prefix := uint64(i) & (1<<bits - 1)
		hash := prefix<<(64-bits) | uint64(i)*0x9e3779b97f4a7c15>>bits
		_, rec, err := encode(epoch, appendKey(nil, epoch, i), valueOf(i, size))
		if err != nil {
			return err
		}
		err = e.putAt(hash, epoch, epoch, &rec)
		rec.Release()
		return err
	}
	for i := range int64(1) << bits {
		if err := putIn(next-1, i); err != nil {
			return Sample{}, err
		}
	}
	for now := next - 120; ahead && now < next; now += 5 {
		if _, err := e.disk.Maintain(now, false); err != nil {
			return Sample{}, err
		}
	}
	return measure(8, perPartition<<bits, size, func(_ int, i int64) error { return putIn(next, i) })
}
