package bitcask

import (
	"errors"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A disk that fails to read may read the same bytes a moment later, so nothing is
// concluded from it: a call that meets it fails, the slot is doubted, and no hint
// is thrown away or written on the strength of it. Only what was read and is wrong
// is damage.
//
// A segment that had to be scanned and could not be read whole is used with what was
// found, for it may never be read whole, but not sealed: its hint would lose the
// rest. It, and a segment whose hint could not be used, is scanned again by
// maintenance. What such a scan finds is used only if it met no failure, until that
// has lasted for too long, see unread.go.
//
// Who asks for all that a lane has, to compare it with other replicas, is told of
// the failure instead: a part would be taken for all that is left.

// A rescan is how a segment is to be scanned again. It is not modified.
type rescan struct {
	size  int64
	trust trust
	hint  *sealedHint // the one that could not be read; nil if there was none, or it is damaged
	spell unreadSpell // how long it has failed
}

// How long a lane's segments wait for the next scan, seconds: at first, and when it is
// not waited for any more.
const (
	rescanEvery  = 10
	rescanRarely = 240
)

// partlyRead returns an error of CodeDisk if a segment is used with what the disk could
// read of it, unless that has lasted for so long that it counts as damage: then the
// lane was doubted for it. When no segment is so used, none comes to be.
func (l *lane) partlyRead() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, seg := range l.segs {
		if seg.rescan != nil && seg.keydir != nil && !seg.rescan.spell.isOver() {
			return object.Errorf(object.CodeDisk, object.NotDone, "part of %s cannot be read: it is tried again every %d seconds; look at the kernel's log",
				l.store.disk.fs.Path(seg.data.name), rescanEvery)
		}
	}
	return nil
}

// unreadable reports whether the disk failed, rather than what it gave being wrong.
func unreadable(err error) bool {
	if err == nil || errors.Is(err, errGone) || vfs.IsNotExist(err) || err == errShortHeader {
		return false
	}
	_, wrong := errors.AsType[*formatError](err)
	return !wrong
}

// doubtUnread notes that the disk failed to read a file of a segment's, each time.
func (s *Store) doubtUnread(seg *segment, err error) {
	s.noteDamage(Damage{File: seg.data.name, What: "the disk failed to read it: " + err.Error()}, seg.id.laneID, 0)
	s.evidence.doubtLater(seg.id.laneID, ReasonDamage)
}

// hintFailed deals with a hint that could not be used: nil means that the segment
// has a keydir again, or another hint.
func (l *lane) hintFailed(seg *segment, hint *sealedHint, cause error) error {
	if !unreadable(cause) {
		return l.unseal(seg, hint, cause)
	}
	s := l.store
	s.disk.stats.badReads.Add(1)
	s.doubtUnread(seg, cause)
	l.mu.Lock()
	if seg.sealed.Load() == hint && seg.keydir == nil && seg.rescan == nil {
		seg.rescan = &rescan{size: seg.end.Load(), trust: trustSealed, hint: hint}
		l.unread.Store(true)
	}
	l.mu.Unlock()
	return diskError(object.NotDone, "reading "+s.disk.fs.Path(hint.file.name), cause)
}

// unseal goes back to a keydir, for a segment whose hint is damaged. The segment is
// sealed again with a new hint in time. Where it cannot be read whole, the hint is
// kept, as what is good of it is of use, and maintenance tries again.
func (l *lane) unseal(seg *segment, hint *sealedHint, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRoleLocked()
	defer l.releaseRoleLocked()
	if seg.keydir != nil || l.dropped || seg.sealed.Load() != hint {
		return nil
	}
	if seg.rescan != nil {
		return diskError(object.NotDone, "reading "+l.store.disk.fs.Path(seg.data.name), cause)
	}
	l.mu.Unlock()
	l.store.noteDamage(Damage{File: hint.file.name, What: cause.Error()}, l.id, 0)
	l.mu.Lock()
	r := rescan{size: seg.end.Load(), trust: trustSealed}
	err := l.scanAgainLocked(seg, r, true)
	if err != nil {
		l.store.doubtUnread(seg, err)
		seg.rescan = &r
		l.unread.Store(true)
	}
	return err
}

// scanAgainLocked replaces a segment's keydir, if strict only if it can be read whole.
// The caller has the role and holds mu, which is released meanwhile.
func (l *lane) scanAgainLocked(seg *segment, r rescan, strict bool) error {
	s := l.store
	l.mu.Unlock()
	fresh := newSegment(seg.id, s.partition)
	_, err := l.recover(fresh, r.size, r.trust, strict)
	s.disk.handles.drop(&fresh.data)
	l.mu.Lock()
	if err != nil {
		return err
	}
	seg.keydir, seg.sums, seg.retired, seg.rescan = fresh.keydir, fresh.sums, true, fresh.rescan
	seg.generation, seg.headerEnd, seg.holes = fresh.generation, fresh.headerEnd, fresh.holes
	seg.wrote()
	seg.end.Store(fresh.end.Load())
	if !l.timed {
		seg.plain.sum, seg.plain.dead = fresh.plain.sum, max(seg.plain.dead, fresh.plain.dead)
	}
	return nil
}

// rescanDue scans those of the lane's segments again that the disk failed to read, or
// tries to load the lane if it could not be, unless it did so a moment ago. Failures
// are told of as damage. The error says that the lane cannot be loaded.
func (l *lane) rescanDue(now int64) error {
	if !l.unread.Load() {
		return nil
	}
	l.sealing.Lock() // it reads what a rescan replaces
	defer l.sealing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now < l.rescanAt && now > l.rescanAt-rescanRarely {
		return nil
	}
	l.unread.Store(false)
	wait := int64(rescanRarely)
	loading := l.loadAgainLocked()
	if loading != nil {
		wait = rescanEvery
		l.failedAgain(&l.loadSpell, now)
	}
	for _, seg := range l.segs {
		r := seg.rescan
		if r == nil || l.dropped {
			continue
		}
		l.takeRoleLocked()
		if l.tryAgainLocked(seg, r, now); seg.rescan != nil {
			l.unread.Store(true)
			if !seg.rescan.spell.isOver() {
				wait = rescanEvery
			}
		}
		l.releaseRoleLocked()
	}
	l.rescanAt = now + wait
	return loading
}

// loadAgainLocked loads the lane, if it could not be. mu, which the caller holds, is
// released meanwhile.
func (l *lane) loadAgainLocked() error {
	if l.loaded || l.dropped {
		return nil
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	return l.load()
}

// tryAgainLocked tries to use a segment's hint, or to read it whole. What neither tells
// for too long is given up. The caller has the role and holds mu, which is released
// meanwhile.
func (l *lane) tryAgainLocked(seg *segment, r *rescan, now int64) {
	if l.hintIsBackLocked(seg, r) {
		seg.rescan = nil
		return
	}
	if l.scanAgainLocked(seg, *r, true) == nil {
		return
	}
	failing := *r
	l.failedAgain(&failing.spell, now)
	if failing.spell.isOver() && seg.keydir == nil && l.scanAgainLocked(seg, failing, false) == nil && seg.rescan == nil {
		return
	}
	seg.rescan = &failing
}

// failedAgain notes that trying again has failed. Before that counts as damage the lane
// is doubted.
func (l *lane) failedAgain(spell *unreadSpell, now int64) {
	next := *spell
	if next.met(now); next.isOver() && !spell.isOver() {
		l.store.evidence.doubtLater(l.id, ReasonDamage)
	}
	*spell = next
}

// hintIsBackLocked reports whether a hint that could not be read can be, all of it.
// mu, which the caller holds, is released meanwhile.
func (l *lane) hintIsBackLocked(seg *segment, r *rescan) bool {
	if r.hint == nil || seg.keydir != nil {
		return false
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	d := l.store.disk
	f, err := d.handles.acquire(&r.hint.file)
	if err != nil {
		return false
	}
	defer d.handles.release(&r.hint.file)
	if _, err = loadHint(f, &r.hint.hintHeader); err == nil {
		header := r.hint.hintHeader // the footer sets some of it
		_, err = readHintMinutes(f, &header)
	}
	return err == nil
}
