package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A blocks says what a file's blocks were before the first append.
type blocks uint8

const (
	freshBlocks     blocks = iota + 1 // there are none: each append allocates
	allocatedBlocks                   // fallocated, and never written
	recycledBlocks                    // written before, as an expired segment's are
)

func (f *floor) prepare(b blocks, perFile int64) error {
	for _, ff := range f.files {
		fd := int(ff.f.Fd())
		switch b {
		case allocatedBlocks:
			if err := unix.Fallocate(fd, 0, 0, perFile); err != nil {
				return err
			}
		case recycledBlocks:
			for at := int64(0); at < perFile; at += 1 << 20 {
				if _, err := unix.Pwrite(fd, pool()[:1<<20], at); err != nil {
					return err
				}
			}
		default:
			continue
		}
		err := unix.Fsync(fd)
		if err == nil {
			err = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) // an old segment is not in the cache
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) blockPuts(b blocks, always bool, ops int64, size int) (Sample, error) {
	dir := r.fresh()
	f, err := openFloor(dir, putBits, always)
	if err != nil {
		return Sample{}, err
	}
	err = f.prepare(b, ops*int64(size+256)/(1<<putBits)*5/4+1<<20) // hashes spread the records evenly, nearly
	var s Sample
	if err == nil {
		s, err = puts(f, 8, ops, size)
	}
	return s, errors.Join(err, f.close(), os.RemoveAll(dir))
}

// runRecycled compares appends to fresh files with those over blocks that are
// there already.
func runRecycled(ctx context.Context, r *runner) error {
	cases := []struct {
		always bool
		size   int
		ops    int64
	}{{true, 2 << 10, 4000}, {true, 100 << 10, 2000}, {false, 2 << 10, 60_000}, {false, 100 << 10, 3000}}
	cases = some(r, cases)
	r.steps(len(cases) * 2 * r.Pairs)
	r.touch(1 << 30)
	for _, c := range cases {
		policy := "none"
		if c.always {
			policy = "always"
		}
		ops := r.scale(c.ops)
		for _, b := range []struct {
			name string
			blocks
		}{{"allocated", allocatedBlocks}, {"recycled", recycledBlocks}} {
			err := r.compare(ctx, fmt.Sprintf("%s, %s, 8 writers, 8 files", policy, sizeText(c.size)), 0,
				side{"fresh", func() (Sample, error) { return r.blockPuts(freshBlocks, c.always, ops, c.size) }},
				side{b.name, func() (Sample, error) { return r.blockPuts(b.blocks, c.always, ops, c.size) }})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
