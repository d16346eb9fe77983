package bitcask

import (
	"sync"
	"time"
)

// A syncList holds the segments that are to be synced within the interval, in
// the order they became so.
type syncList struct {
	mu   sync.Mutex
	list []syncEntry
	tick int64
}

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
	y := &seg.syncer
	y.mu.Lock()
	queued := y.queued
	y.queued = true
	y.mu.Unlock()
	if queued {
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
	y := &e.seg.syncer
	y.mu.Lock()
	y.queued = false // from here on a put queues it anew
	y.mu.Unlock()
	if err := e.seg.sync(d, e.seg.end.Load()); err != nil {
		e.store.syncFailed(e.seg, err)
	}
}
