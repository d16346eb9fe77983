package bitcask

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A syncList holds the segments that are to be synced within the interval, in
// the order they became so.
type syncList struct {
	mu        sync.Mutex
	list      []syncEntry
	inherited []inheritance
	tick      int64
}

// An inheritance is a segment with appends that a process of this machine's start
// did not sync before it was killed. The kernel has them; a power cut would take
// them, long after the interval.
type inheritance struct {
	store *Store
	id    segID
}

// inheritedAtOnce is how many of these one tick syncs at the most.
const inheritedAtOnce = 256

type syncEntry struct {
	store *Store
	seg   *segment
	tick  int64 // when it was added
}

// syncSteps is into how many steps an interval is divided: the segments of a
// disk are synced in turn, not all at once.
const syncSteps = 8

// syncLater has a segment synced within the interval.
func (d *Disk) syncLater(s *Store, seg *segment) {
	if seg.syncer.queued.Load() || seg.syncer.queued.Swap(true) {
		return
	}
	d.syncs.mu.Lock()
	d.syncs.list = append(d.syncs.list, syncEntry{s, seg, d.syncs.tick})
	d.syncs.mu.Unlock()
}

// TickInterval is how often Tick is to be called on a Manual Disk.
func (d *Disk) TickInterval() time.Duration {
	return max(d.cfg.SyncInterval/syncSteps, time.Millisecond)
}

// Tick syncs what is due and now and then looks at the free space: one step of
// what a Disk that is not Manual does by itself. One goroutine calls it at a time,
// and none after Close.
func (d *Disk) Tick() {
	for _, i := range d.dueInherited() {
		i.sync()
	}
	for _, e := range d.dueSyncs() {
		d.syncNow(e)
	}
	if d.syncs.tick%syncSteps == 0 {
		d.space.refresh(d)
	}
}

// syncLoop is the Disk's goroutine: it ticks until stop is closed.
func (d *Disk) syncLoop() {
	ticker := time.NewTicker(d.TickInterval())
	defer ticker.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
		d.Tick()
	}
}

// inherit has what the process before this one left unsynced in a store synced with
// the next ticks. It stays marked as dirty until it is synced or sealed by those
// who append to it: that errs on the safe side.
func (d *Disk) inherit(s *Store) {
	ids := s.evidence.list(func(_ segID, r segRecord) bool { return r.state == segDirty && !r.suspect })
	d.syncs.mu.Lock()
	defer d.syncs.mu.Unlock()
	for _, id := range ids {
		d.syncs.inherited = append(d.syncs.inherited, inheritance{s, id})
	}
}

func (d *Disk) dueInherited() []inheritance {
	y := &d.syncs
	y.mu.Lock()
	defer y.mu.Unlock()
	n := min(len(y.inherited), inheritedAtOnce)
	due := y.inherited[:n:n]
	if y.inherited = y.inherited[n:]; len(y.inherited) == 0 {
		y.inherited = nil
	}
	return due
}

func (i inheritance) sync() {
	d, name := i.store.disk, segName(i.id, i.store.partition)
	f, err := d.fs.OpenReadWrite(name)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	switch {
	case err == nil:
		d.stats.syncs.Add(1)
	case !vfs.IsNotExist(err): // else it was dropped, or is found missing
		d.stats.syncErrors.Add(1)
		i.store.noteDamage(Damage{File: name, What: fmt.Sprintf("syncing failed: %v", err)}, i.id.laneID, ReasonSyncFailed)
		i.store.giveUpSyncs(i.id)
	}
}

// dueSyncs takes the segments of one step from the list: an eighth of them, and
// all that have waited for nearly an interval.
func (d *Disk) dueSyncs() []syncEntry {
	y := &d.syncs
	y.mu.Lock()
	defer y.mu.Unlock()
	y.tick++
	n := (len(y.list) + syncSteps - 1) / syncSteps
	for n < len(y.list) && y.list[n].tick <= y.tick-syncSteps+1 {
		n++
	}
	due := append([]syncEntry(nil), y.list[:n]...)
	clear(y.list[:n])
	y.list = y.list[n:]
	return due
}

func (d *Disk) syncNow(e syncEntry) {
	e.seg.syncer.queued.Store(false) // from here on a put queues it anew
	if err := e.seg.sync(d); err != nil {
		e.store.syncFailed(e.seg, err)
	}
}
