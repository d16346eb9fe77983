package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// The first put of a slot in a partition would have to wait for its segment: a
// file made and synced, its directory synced, the manifest published, seven
// system calls that wait for the disk, in every partition at once at the top of
// the hour. So, unless Config.MakeLate is set, Maintain makes segments before their
// slot begins, in every timed bucket that has taken something in the slot before;
// the partitions of a disk take turns. A put that finds none makes its own, as ever.
//
// A segment made ahead is listed as dirty where puts into the slot before it are
// acknowledged unsynced. A machine that stops between the making and the first put
// therefore doubts a slot that is empty, which costs replicas a comparison of
// nothing. Until its first record the slot does not show in Store.Slots; where
// none ever comes, sealing removes the file.

const maxPrepareLead = 120 // seconds

// prepareAt returns when the segments of a slot that begins at start are made,
// seconds: in the last two minutes before it, or the last quarter of a shorter
// slot's length, but not at its very end, partition after partition.
func prepareAt(p Partition, start, slotSeconds int64) int64 {
	lead := min(maxPrepareLead, slotSeconds/4)
	return start - lead + lead*3/4*int64(p.Prefix)>>p.Bits
}

// prepare makes the segments of the next slot, if it is time.
func (s *Store) prepare(now int64) error {
	length := s.disk.cfg.SlotSeconds
	slot := expiry.SlotOf(now, length)
	next := slot.End(length)
	if s.disk.cfg.MakeLate || now < prepareAt(s.partition, next, length) || s.disk.space.low.Load() {
		return nil
	}
	type ahead struct {
		l        *lane
		seg      *segment
		careless bool
	}
	var made []ahead
	var faults []error
	for _, l := range s.lanesWhere(func(l *lane) bool { return l.id.slot == slot && l.takesPuts() }) {
		b, careless := l.habits()
		after, err := s.lane(laneID{l.id.bucket, expiry.SlotOf(next, length)}, true)
		if err == nil {
			err = after.load()
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if !after.reserve(b) {
			continue
		}
		seg, err := after.make(careless, now)
		if err != nil {
			after.unreserve(nil, false, 0)
			faults = append(faults, err)
			continue
		}
		made = append(made, ahead{after, seg, careless})
	}
	if len(made) == 0 {
		return errors.Join(faults...)
	}
	err := s.publish("listing segments made ahead") // one for all of them
	for _, m := range made {
		if err != nil {
			m.l.keepSpare(m.seg)
			m.seg = nil
		}
		m.l.unreserve(m.seg, m.careless, next)
	}
	return errors.Join(append(faults, err)...)
}

// takesPuts reports whether the lane has taken puts and would take more.
func (l *lane) takesPuts() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.timed && l.active != nil && (len(l.segs) > 1 || !l.active.unused())
}

// unused reports whether nothing was ever appended to an open segment. The caller
// holds the lane's mu.
func (seg *segment) unused() bool {
	return seg.keydir != nil && seg.keydir.len() == 0 && seg.rescan == nil && seg.headerEnd > 0 && seg.end.Load() == seg.headerEnd
}

// habits returns the lane's bucket and whether its puts are acknowledged unsynced.
func (l *lane) habits() (b Bucket, careless bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRoleLocked()
	defer l.releaseRoleLocked()
	return l.bucket, l.careless
}

// reserve takes the role of a lane that has no segment and nobody's attention;
// unreserve must follow. It reports whether it could.
func (l *lane) reserve(b Bucket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.waiting > 0 || !l.flight.empty() || l.dropped || !l.loaded || len(l.segs) > 0 || l.adoptBucketLocked(b) != nil {
		return false
	}
	l.busy = true
	return true
}

// unreserve gives the role up and, unless it is nil, a segment to the puts. The
// slot counts as idle from its beginning on at the earliest.
func (l *lane) unreserve(seg *segment, careless bool, begins int64) {
	if seg != nil {
		l.setActive(seg)
		l.store.disk.stats.segmentsAhead.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if seg != nil {
		l.dirty = careless
		l.lastPut = max(l.lastPut, begins)
	}
	l.releaseRoleLocked()
}

// empty reports whether the lane's files hold nothing: they were made ahead.
func (l *lane) empty() bool {
	l.mu.RLock()
	if l.loaded {
		defer l.mu.RUnlock()
		return (len(l.segs) > 0 || l.spare != nil) && !slices.ContainsFunc(l.segs, func(s *segment) bool { return !s.unused() })
	}
	found := l.found
	l.mu.RUnlock()
	for _, id := range found {
		if !l.store.unusedFile(id) {
			return false
		}
	}
	return len(found) > 0
}

// unusedFile reports whether a segment that is not in use is nothing but a header.
// Of one that the manifest says to be sealed the file is not looked at.
func (s *Store) unusedFile(id segID) bool {
	if said, listed := s.evidence.segment(id); !listed || said.state == segSealed {
		return false
	}
	name := segName(id, s.partition)
	size, err := s.disk.fileSize(name)
	if err != nil || size > segHeaderMax {
		return false
	}
	h, err := readHeaderOf(s.disk.fs, name)
	return err == nil && h.id() == id && int64(h.size()) == size
}

// discard removes a segment that was made ahead and never used. The caller seals.
func (l *lane) discard(seg *segment) error {
	s := l.store
	s.evidence.removeLater(seg.id)
	if err := s.publish("forgetting a segment made ahead"); err != nil {
		return err
	}
	l.mu.Lock()
	l.segs = slices.DeleteFunc(slices.Clone(l.segs), func(other *segment) bool { return other == seg })
	l.mu.Unlock()
	s.disk.handles.drop(&seg.data)
	if err := s.disk.fs.Remove(seg.data.name); err != nil {
		l.mu.Lock()
		l.unused = append(l.unused, seg.id) // it goes with its slot
		l.mu.Unlock()
		return diskError(object.NotDone, "removing "+s.disk.fs.Path(seg.data.name), err)
	}
	return nil
}
