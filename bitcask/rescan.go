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
// rest. It, and a segment whose hint could not be read, is scanned again by
// maintenance. What such a scan finds is used only if it met no failure.
//
// Who asks for all that a lane has, to compare it with other replicas, is told of
// the failure instead: a part would be taken for all that is left. But a sector
// may never be read again. What the disk has failed to read for ten minutes, whenever
// it was asked, counts as damage, and a record as absent, so that it can be put anew.

// A rescan is how a segment is to be scanned again. It is not modified.
type rescan struct {
	size  int64
	trust trust
	hint  *sealedHint // the one that could not be read; nil if there was none
}

// rescanEvery is how long a lane's segments wait for the next scan, seconds.
const rescanEvery = 10

// What the disk fails to read may be read yet, for unreadPatience. Failures further
// apart than unreadPause are not one.
const (
	unreadPatience = 600 // seconds
	unreadPause    = 300
)

// An unreadSpell is when the disk failed to read some of a lane, as those who asked
// for all of it met it, seconds.
type unreadSpell struct{ first, last int64 }

// met notes a failure at now.
func (u *unreadSpell) met(now int64) {
	if now < u.last || now > u.last+unreadPause {
		u.first = now
	}
	u.last = now
}

// isOver reports whether what the disk fails to read counts as damage.
func (u *unreadSpell) isOver() bool { return u.last-u.first >= unreadPatience }

// partlyRead returns an error of CodeDisk if a segment is used with what the disk could
// read of it. When none is, none comes to be.
func (l *lane) partlyRead() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, seg := range l.segs {
		if seg.rescan != nil && seg.keydir != nil {
			return object.Errorf(object.CodeDisk, object.NotDone, "part of %s cannot be read: it is tried again every %d seconds; look at the kernel's log",
				l.store.disk.fs.Path(seg.data.name), rescanEvery)
		}
	}
	return nil
}

// whole returns nil if all of the lane is known that is on the disk. Otherwise it
// returns an error of CodeDisk, or of CodeCorrupt after ten minutes of that.
func (l *lane) whole(now int64) error {
	err := l.partlyRead()
	if err != nil {
		err = l.unreadAt(now, err)
	}
	return err
}

// unreadAt notes that the disk failed to read some of the lane at now, and returns
// what is to be told of it.
func (l *lane) unreadAt(now int64, cause error) error {
	l.mu.Lock()
	l.spell.met(now)
	over := l.spell.isOver()
	l.mu.Unlock()
	if !over {
		return cause
	}
	return object.Errorf(object.CodeCorrupt, object.NotDone, "what could not be read for %d minutes counts as damaged: %v", unreadPatience/60, cause)
}

func (l *lane) spellIsOver() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.spell.isOver()
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
// kept: what is good of it is of use.
func (l *lane) unseal(seg *segment, hint *sealedHint, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRoleLocked()
	defer l.releaseRoleLocked()
	if seg.keydir != nil || l.dropped || seg.sealed.Load() != hint {
		return nil
	}
	l.mu.Unlock()
	l.store.noteDamage(Damage{File: hint.file.name, What: cause.Error()}, l.id, 0)
	l.mu.Lock()
	err := l.scanAgainLocked(seg, rescan{size: seg.end.Load(), trust: trustSealed})
	if err != nil {
		l.store.doubtUnread(seg, err)
	}
	return err
}

// scanAgainLocked replaces a segment's keydir, if it can be read whole. The caller has
// the role and holds mu, which is released meanwhile.
func (l *lane) scanAgainLocked(seg *segment, r rescan) error {
	s := l.store
	l.mu.Unlock()
	fresh := newSegment(seg.id, s.partition)
	_, err := l.recover(fresh, r.size, r.trust, true)
	s.disk.handles.drop(&fresh.data)
	l.mu.Lock()
	if err != nil {
		return err
	}
	seg.keydir, seg.sums, seg.retired, seg.rescan = fresh.keydir, fresh.sums, true, nil
	seg.generation, seg.headerEnd, seg.holes = fresh.generation, fresh.headerEnd, fresh.holes
	seg.wrote()
	seg.end.Store(fresh.end.Load())
	if !l.timed {
		seg.plain.sum, seg.plain.dead = fresh.plain.sum, max(seg.plain.dead, fresh.plain.dead)
	}
	return nil
}

// rescanDue scans those of the lane's segments again that the disk failed to read,
// unless it did so a moment ago. Failures are told of as damage.
func (l *lane) rescanDue(now int64) {
	if !l.unread.Load() {
		return
	}
	l.sealing.Lock() // it reads what a rescan replaces
	defer l.sealing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now < l.rescanAt && now > l.rescanAt-rescanEvery {
		return
	}
	l.rescanAt = now + rescanEvery
	l.unread.Store(false)
	for _, seg := range l.segs {
		r := seg.rescan
		if r == nil || l.dropped {
			continue
		}
		l.takeRoleLocked()
		if l.hintIsBackLocked(seg, r) {
			seg.rescan = nil
		} else if err := l.scanAgainLocked(seg, *r); err != nil {
			l.unread.Store(true)
		}
		l.releaseRoleLocked()
	}
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
