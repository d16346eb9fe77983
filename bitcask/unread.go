package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
)

// A sector may never be read again. So maintenance reads again what the disk failed to
// read, and what has failed each time for ten minutes counts as damage: a record is set
// aside, so that it can be put anew; of a segment that had to be scanned the rest is
// all there is. The slot is doubted for it first. Until then whoever asks is told that
// the disk failed, and nothing is concluded from it.
//
// When it is asked for plays no part: what nobody asks for again is given up all the
// same, and merging with other replicas brings it back.

const (
	unreadPatience = 600 // seconds
	unreadPause    = 300 // seconds; failures further apart are not one

	unreadEvery = 10  // seconds until the records of a lane are read again
	unreadTries = 16  // of them at a time, as each may keep the disk busy for long
	maxUnread   = 256 // of a lane; the others are met again when these are done: each is read every 160 s
)

// An unreadSpell is when the disk failed to read something, as maintenance tried,
// seconds.
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

// An unreadRecord is a record that the disk failed to read, in part at least.
type unreadRecord struct {
	at    place
	spell unreadSpell
}

// readLater has maintenance read a record again that the disk failed to read. It
// reports whether that is news.
func (s *Store) readLater(at place) (news bool) {
	l, err := s.lane(at.seg.id.laneID, false)
	if l == nil || err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unreadRecords) >= maxUnread || l.unreadLocked(at) >= 0 || at.seg.condemned[at.offset8] || l.dropped {
		return false
	}
	l.unreadRecords = append(l.unreadRecords, unreadRecord{at: at})
	l.hasUnread.Store(true)
	return true
}

// unreadLocked returns the index of a record among those to be read again, or -1.
func (l *lane) unreadLocked(at place) int {
	return slices.IndexFunc(l.unreadRecords, func(r unreadRecord) bool { return r.at == at })
}

// forgetUnreadLocked has a record not read again; it reports whether it was to be.
func (l *lane) forgetUnreadLocked(at place) bool {
	i := l.unreadLocked(at)
	if i >= 0 {
		l.unreadRecords = slices.Delete(l.unreadRecords, i, i+1)
	}
	return i >= 0
}

// readUnread reads some of the records again that the disk failed to read, those first
// that wait longest.
func (l *lane) readUnread(now int64) {
	if !l.hasUnread.Load() {
		return
	}
	l.mu.Lock()
	if now < l.unreadAt && now > l.unreadAt-unreadEvery {
		l.mu.Unlock()
		return
	}
	l.unreadAt = now + unreadEvery
	some := slices.Clone(l.unreadRecords[:min(len(l.unreadRecords), unreadTries)])
	l.mu.Unlock()
	for _, r := range some {
		err := l.readUnreadOne(&r, now)
		l.mu.Lock()
		if l.forgetUnreadLocked(r.at) && errors.Is(err, object.CodeDisk) {
			l.unreadRecords = append(l.unreadRecords, r)
		}
		l.hasUnread.Store(len(l.unreadRecords) > 0)
		l.mu.Unlock()
	}
}

// readUnreadOne reads a record again. An error of CodeDisk says that it is not to be
// given up yet.
func (l *lane) readUnreadOne(r *unreadRecord, now int64) error {
	d := l.store.disk
	rec, err := d.readRecord(r.at)
	if err == nil {
		err = rec.Verify()
		rec.Release()
	}
	switch {
	case err == nil, err == error(ErrExpired), err == error(errMerged):
		return nil // it is there, or nobody needs it
	case errors.Is(err, object.CodeDisk):
		if r.spell.met(now); !r.spell.isOver() {
			return err
		}
		d.stats.givenUp.Add(1)
		err = object.Errorf(object.CodeCorrupt, object.NotDone, "it could not be read for %d minutes and counts as damaged: %v", unreadPatience/60, err)
	}
	l.setAside(r.at, err)
	return err
}

// hasCopy reports whether another record of the same version is whole: one that was put
// since, because this one was not.
func (l *lane) hasCopy(at place) bool {
	all, err := l.lookupAmong(nil, l.snapshot(), at.hash)
	if err != nil {
		return false
	}
	for _, p := range l.dropCondemned(all) {
		if p.digest != at.digest || p == at {
			continue
		}
		rec, err := l.store.disk.readRecord(p)
		if err != nil {
			continue
		}
		err = rec.Verify()
		rec.Release()
		if err == nil {
			return true
		}
	}
	return false
}

// hasCopy is lane.hasCopy.
func (s *Store) hasCopy(at place) bool {
	l, err := s.lane(at.seg.id.laneID, false)
	return l != nil && err == nil && l.hasCopy(at)
}

// readListed reads the header of a record for who asked for all of them. Of one that
// is damaged he is told once: then its slot is doubted. errCopied says that another
// one stands for it.
func (l *lane) readListed(at place, op *putOp) (object.Header, int, error) {
	h, n, err := l.store.readHead(at, &op.scratch)
	switch {
	case err == nil, err == error(ErrExpired), err == error(errMerged):
		return h, n, err
	case l.hasCopy(at):
		l.condemn(at)
		return h, n, errCopied
	case errors.Is(err, object.CodeCorrupt):
		l.condemn(at)
	}
	return h, n, err
}

// errCopied says that a record cannot be used, and that it does not matter.
var errCopied = errors.New("bitcask: the record was put anew")
