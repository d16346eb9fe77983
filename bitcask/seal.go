package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// cleanAfter is how long a slot must have taken nothing to be marked clean,
// seconds.
const cleanAfter = 60

// Seal seals a slot now: its records are synced, under every policy, its hint
// and manifest written. Later puts open a further segment. The slot is ignored
// in a plain bucket.
func (s *Store) Seal(b Bucket, slot expiry.Slot) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	l, err := s.lane(laneFor(b, slot), false)
	if l == nil || err != nil {
		return err
	}
	_, err = l.seal(true)
	return err
}

func laneFor(b Bucket, slot expiry.Slot) laneID {
	if !b.Timed {
		slot = plainSlot
	}
	return laneID{b.ID, slot}
}

// Sealed reports whether all of a slot's records are in sealed segments.
func (s *Store) Sealed(b Bucket, slot expiry.Slot) (bool, error) {
	if !s.disk.gate.enter() {
		return false, ErrStopping
	}
	defer s.disk.gate.leave()
	l, err := s.lane(laneFor(b, slot), false)
	if l == nil || err != nil {
		return false, err
	}
	if err := l.load(); err != nil {
		return false, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return allSealed(l.segs), nil
}

// SealDue seals what is due at now: slots whose end, and whose last put, are
// SealAfterSeconds ago, and segments that were full. It returns how many
// segments it sealed; one that fails is tried again next time.
func (s *Store) SealDue(now int64) (sealed int, err error) {
	if !s.disk.gate.enter() {
		return 0, ErrStopping
	}
	defer s.disk.gate.leave()
	faults := []error{s.relist()}
	lanes, err := s.unsealedLanes()
	faults = append(faults, err)
	for _, l := range lanes {
		n, err := l.sealIfDue(now)
		sealed += n
		faults = append(faults, err)
	}
	return sealed, errors.Join(faults...)
}

// relist opens every slot, once, if the manifest was lost, so that it lists
// again what there is.
func (s *Store) relist() error {
	if !s.evidence.lost || s.relisted.Load() {
		return nil
	}
	if err := s.listAll(); err != nil {
		return err
	}
	for _, l := range s.lanesWhere(anyLane) {
		if err := l.load(); err != nil {
			return err
		}
	}
	s.relisted.Store(true)
	return nil
}

// unsealedLanes returns the lanes with segments that are open, as the manifest
// says or the keydirs in memory show.
func (s *Store) unsealedLanes() ([]*lane, error) {
	var faults []error
	for _, id := range s.evidence.list(func(_ segID, r segRecord) bool { return r.state.open() }) {
		faults = append(faults, s.list(id.bucket))
	}
	listed := map[laneID]bool{}
	for _, id := range s.evidence.list(func(_ segID, r segRecord) bool { return r.state.open() }) {
		listed[id.laneID] = true
	}
	return s.lanesWhere(func(l *lane) bool { return listed[l.id] || l.hasKeydir() || l.isUnread() }), errors.Join(faults...)
}

func (l *lane) hasKeydir() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.loaded && !allSealed(l.segs)
}

func (l *lane) sealIfDue(now int64) (int, error) {
	due := l.timed && l.id.slot.End(l.store.disk.cfg.SlotSeconds)+l.store.disk.cfg.SealAfterSeconds <= now
	l.mu.RLock()
	due = due && l.lastPut+l.store.disk.cfg.SealAfterSeconds <= now
	l.mu.RUnlock()
	if !due && !l.hasKeydir() && !l.isUnread() {
		return 0, nil // not loaded, and not to be loaded before its time
	}
	l.readUnread(now)
	if err := l.rescanDue(now); l.unread.Load() && !l.isLoaded() {
		return 0, err // it cannot be at present
	}
	return l.seal(due)
}

// isUnread reports whether there is something that the disk failed to read.
func (l *lane) isUnread() bool { return l.unread.Load() || l.hasUnread.Load() }

// seal seals the lane's frozen segments, and freezes the active one first if
// asked to.
func (l *lane) seal(active bool) (sealed int, err error) {
	if err := l.load(); err != nil {
		return 0, err
	}
	l.sealing.Lock() // one sealing of a lane at a time; nothing else waits for it
	defer l.sealing.Unlock()
	var faults []error
	for _, seg := range l.freeze(active) {
		if err := l.sealSegment(seg); err != nil {
			l.store.disk.noteFull(err)
			faults = append(faults, diskError(object.NotDone, "sealing "+l.store.disk.fs.Path(seg.data.name), err))
			continue
		}
		sealed++
	}
	return sealed, errors.Join(faults...)
}

// freeze returns the segments to seal; nothing is appended to them any more. A
// segment whose sync has failed is never sealed: nothing vouches for its bytes. One
// that could not be read whole is not sealed yet: its hint would lack records.
func (l *lane) freeze(active bool) []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if active && l.active != nil {
		l.takeRoleLocked()
		l.active = nil
		l.showTargetLocked()
		l.releaseRoleLocked()
	}
	var frozen []*segment
	for _, seg := range l.segs {
		if seg != l.active && seg.keydir != nil && seg.end.Load() >= segHeaderMin && !l.dropped && !seg.syncFailed() && seg.rescan == nil {
			frozen = append(frozen, seg)
		}
	}
	return frozen
}

// sealSegment makes a frozen segment durable, then its hint, then its mention
// in the manifest, and then forgets its keydir.
func (l *lane) sealSegment(seg *segment) error {
	s := l.store
	if seg.unused() {
		return l.discard(seg)
	}
	seg.retired = seg.cutHoles() || seg.retired
	if err := s.disk.markHoles(seg); err != nil {
		return err
	}
	end := seg.end.Load()
	if err := seg.sync(s.disk); err != nil {
		s.syncFailed(seg, err)
		return err
	}
	hint := &sealedHint{
		hintHeader: hintHeader{segID: seg.id, partition: s.partition, generation: seg.generation, records: seg.keydir.len(), sealedLength: end},
		number:     s.disk.hints.number(),
		file:       handle{name: hintName(seg.data.name)},
	}
	if !l.timed {
		hint.plain = l.summaryOf(seg)
	}
	sums := slices.DeleteFunc(seg.allSums(), func(d MinuteDigest) bool { return d.Count == 0 })
	hint.minutes = len(sums)
	sorted := slices.AppendSeq(make([]location, 0, seg.keydir.len()), seg.keydir.all())
	if err := vfs.Publish(s.disk.fs, hint.file.name, func(f vfs.File) error { return writeHint(f, &hint.hintHeader, sorted, sums) }); err != nil {
		return err
	}
	// What follows was never acknowledged, and the sealed length says so too; blocks
	// that were allocated ahead, perhaps by a process before this one, are given back.
	_ = s.disk.truncate(seg, end)
	s.evidence.setLater(seg.id, segRecord{state: segSealed, length: end})
	if err := s.evidence.publish(); err != nil {
		return err
	}
	old := seg.sealed.Swap(hint)
	l.mu.Lock()
	if l.timed {
		seg.sums = nil
	} else {
		seg.sums, seg.plain.resident, seg.plain.surveyAt = sums, sorted, len(sorted)
	}
	seg.keydir = nil
	l.mu.Unlock()
	if old != nil {
		s.disk.handles.drop(&old.file)
	}
	s.disk.stats.sealed.Add(1)
	return nil
}

// CleanIdle marks slots clean that took nothing for a minute: they are synced,
// and a stop of the machine raises no doubt about them. The next put marks them
// anew.
func (s *Store) CleanIdle(now int64) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	idle := s.lanesWhere(func(l *lane) bool {
		l.mu.RLock()
		defer l.mu.RUnlock()
		return l.loaded && !l.busy && l.dirty && l.lastPut+cleanAfter <= now
	})
	if len(idle) == 0 {
		return nil
	}
	var faults []error
	for _, l := range idle {
		faults = append(faults, l.clean())
	}
	return errors.Join(append(faults, s.publish("marking slots clean"))...)
}

// clean syncs a lane's open segments and notes that they are; the caller
// publishes it.
func (l *lane) clean() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded {
		return nil
	}
	l.takeRoleLocked()
	defer l.releaseRoleLocked()
	var open []*segment
	for _, seg := range l.segs {
		if seg.keydir != nil && !l.dropped && !seg.syncFailed() {
			open = append(open, seg)
		}
	}
	l.mu.Unlock()
	var faults []error
	for _, seg := range open {
		if err := seg.sync(l.store.disk); err != nil {
			l.store.syncFailed(seg, err)
			faults = append(faults, diskError(object.MaybeDone, "syncing "+l.store.disk.fs.Path(seg.data.name), err))
			continue
		}
		l.store.evidence.cleanLater(seg.id, seg.wholeEnd())
	}
	l.mu.Lock()
	l.dirty = l.dirty && len(faults) > 0
	return errors.Join(faults...)
}
