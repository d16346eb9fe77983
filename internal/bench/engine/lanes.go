package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/internal/object"
)

// A syncWay is how appended records are made durable.
type syncWay uint8

const (
	syncEachFile  syncWay = iota + 1 // who waits for a file syncs it, for all who wait for it
	syncRounds                       // one at a time syncs all files somebody waits for, one after the other
	syncTogether                     // the same, after the kernel was told to write all of them out
	syncParallel                     // the same, each file by a goroutine of its own
	syncEverySoon                    // nobody waits: an eighth of the files each 125 ms
)

// prototypes are plain files that records of 64 partitions are appended to, one
// file each or fewer, and one way to sync them.
type prototypes struct {
	*floor
	way syncWay

	group
	dirtyMu sync.Mutex
	dirty   map[*floorFile]bool

	stop chan struct{}
	loop sync.WaitGroup
}

func openPrototypes(dir string, bits uint8, way syncWay) (*prototypes, error) {
	f, err := openFloor(dir, bits, false)
	if err != nil {
		return nil, err
	}
	p := &prototypes{floor: f, way: way, dirty: map[*floorFile]bool{}, stop: make(chan struct{})}
	p.changed.L = &p.group.mu
	if way == syncEverySoon {
		p.loop.Go(p.syncSoon)
	}
	return p, nil
}

func (p *prototypes) close() error {
	close(p.stop)
	p.loop.Wait()
	return p.floor.close()
}

func (p *prototypes) put(hash uint64, rec *object.Record) error {
	ff := p.file(hash)
	_, err := ff.append(rec)
	switch {
	case err != nil:
		return err
	case p.way == syncEachFile:
		return ff.sync(ff.fdatasync)
	}
	p.dirtyMu.Lock()
	p.dirty[ff] = true
	p.dirtyMu.Unlock()
	if p.way == syncEverySoon {
		return nil
	}
	return p.group.sync(p.round)
}

func (ff *floorFile) fdatasync() error { return unix.Fdatasync(int(ff.f.Fd())) }

// takeDirty empties the set of files to sync.
func (p *prototypes) takeDirty() []*floorFile {
	p.dirtyMu.Lock()
	defer p.dirtyMu.Unlock()
	var files []*floorFile
	for ff := range p.dirty {
		files = append(files, ff)
	}
	clear(p.dirty)
	return files
}

func (p *prototypes) round() error {
	files := p.takeDirty()
	faults := make([]error, len(files))
	switch p.way {
	case syncParallel:
		var wg sync.WaitGroup
		for i, ff := range files[1:] {
			wg.Go(func() { faults[i+1] = ff.fdatasync() })
		}
		faults[0] = files[0].fdatasync()
		wg.Wait()
		return errors.Join(faults...)
	case syncTogether:
		if len(files) > 1 {
			for i, ff := range files {
				faults[i] = unix.SyncFileRange(int(ff.f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			}
		}
	}
	for i, ff := range files {
		faults[i] = errors.Join(faults[i], ff.fdatasync())
	}
	return errors.Join(faults...)
}

func (p *prototypes) syncSoon() {
	ticker := time.NewTicker(125 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		files := p.takeDirty()
		keep := len(files) - (len(files)+7)/8
		for _, ff := range files[keep:] {
			_ = ff.fdatasync()
		}
		p.dirtyMu.Lock()
		for _, ff := range files[:keep] {
			p.dirty[ff] = true
		}
		p.dirtyMu.Unlock()
	}
}

func (r *runner) prototypePuts(bits uint8, way syncWay, writers int, ops int64, size int) (Sample, error) {
	dir := r.fresh()
	p, err := openPrototypes(dir, bits, way)
	if err != nil {
		return Sample{}, err
	}
	err = warmUp(p.floor)
	var s Sample
	if err == nil {
		s, err = puts(p, writers, ops, size)
	}
	return s, errors.Join(err, p.close(), os.RemoveAll(dir))
}

// runLanes compares ways to lay out and sync what a node of 64 partitions
// appends, 16 writers.
func runLanes(ctx context.Context, r *runner) error {
	type alternative struct {
		name string
		bits uint8
		way  syncWay
	}
	always := []alternative{
		{"64 files, rounds", 6, syncRounds},
		{"64 files, rounds, written out first", 6, syncTogether},
		{"64 files, rounds, in parallel", 6, syncParallel},
		{"1 file", 0, syncEachFile}, {"2 files", 1, syncEachFile}, {"4 files", 2, syncEachFile},
	}
	interval := []alternative{{"1 file", 0, syncEverySoon}, {"4 files", 2, syncEverySoon}}
	sizes := []struct {
		size        int
		always, ops int64
	}{{2 << 10, 6000, 60_000}, {100 << 10, 1500, 3000}}
	sizes, always, interval = some(r, sizes), some(r, always), some(r, interval)
	r.steps(len(sizes) * (len(always) + len(interval)) * r.Pairs)
	r.touch(1 << 30)
	const writers = 16
	for _, c := range sizes {
		for _, a := range always {
			ops := r.scale(c.always)
			err := r.compare(ctx, fmt.Sprintf("always, %s, 16 writers", sizeText(c.size)), 0,
				side{"64 files, each synced by who waits", func() (Sample, error) { return r.prototypePuts(6, syncEachFile, writers, ops, c.size) }},
				side{a.name, func() (Sample, error) { return r.prototypePuts(a.bits, a.way, writers, ops, c.size) }})
			if err != nil {
				return err
			}
		}
		for _, a := range interval {
			ops := r.scale(c.ops)
			err := r.compare(ctx, fmt.Sprintf("interval, %s, 16 writers", sizeText(c.size)), 0,
				side{"64 files", func() (Sample, error) { return r.prototypePuts(6, syncEverySoon, writers, ops, c.size) }},
				side{a.name, func() (Sample, error) { return r.prototypePuts(a.bits, a.way, writers, ops, c.size) }})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
