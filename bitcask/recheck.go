package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
)

// Recheck reads all records of a key and verifies their values; those that fail are
// set aside: they are listed as damage, their slot is doubted, and they are
// neither served nor found by puts, so that the object can be put again. It is
// for a reader whose [object.Record.Verify] failed, and returns how many records
// it set aside. The setting aside lasts until the Disk is closed; the doubt, and
// a record put anew, last longer.
//
// copied is the version of a whole record of the key that the caller has at hand, zero if
// he has none. One of the same version that the disk fails to read is set aside as
// well: others are for as long as they may be read yet.
func (s *Store) Recheck(b Bucket, hash uint64, epoch, now int64, key []byte, copied object.Version) (setAside int, err error) {
	d := s.disk
	if !d.gate.enter() {
		return 0, ErrStopping
	}
	defer d.gate.leave()
	op := d.newOp()
	defer d.freeOp(op)
	if err := s.find(b, hash, epoch, now, op); err != nil {
		if errors.Is(err, object.CodeAbsent) {
			err = nil
		}
		return 0, err
	}
	l, err := s.lane(laneOf(b, epoch, d.cfg.SlotSeconds), false)
	if l == nil || err != nil {
		return 0, err
	}
	for _, at := range op.places {
		if fault := s.verify(at, key, copied, op); fault != nil {
			l.setAside(at, fault)
			setAside++
		}
	}
	return setAside, nil
}

// verify reads a record and returns what is wrong with it, if it is the key's, and is to
// be set aside.
func (s *Store) verify(at place, key []byte, copied object.Version, op *putOp) (fault error) {
	rec, err := s.readRecord(at)
	if err == nil {
		defer rec.Release()
		if string(rec.Key) != string(key) {
			return nil
		}
		return rec.Verify()
	}
	if !errors.Is(err, object.CodeDisk) || err == error(errMerged) {
		return nil // told of as damage already, or dropped meanwhile
	}
	h, _, unread := s.readHead(at, &op.scratch)
	if unread != nil || string(h.Key) != string(key) || h.Version() != copied {
		return nil
	}
	return err
}

// setAside has a record no longer found, for that reason, and its slot doubted first.
func (l *lane) setAside(at place, fault error) {
	l.store.noteUnreadable(at, fault)
	l.store.evidence.doubtLater(l.id, ReasonDamage) // also if the damage was met before
	l.condemn(at)
}

// condemn has a record no longer found.
func (l *lane) condemn(at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.seg.condemned == nil {
		at.seg.condemned = map[uint32]bool{}
	}
	at.seg.condemned[at.offset8] = true
	l.hasCondemned.Store(true)
	l.forgetUnreadLocked(at)
}

// dropCondemned removes the places of condemned records.
func (l *lane) dropCondemned(places []place) []place {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(places, func(p place) bool { return p.seg.condemned[p.offset8] })
}

// withoutCondemned removes the condemned from a segment's entries.
func (l *lane) withoutCondemned(seg *segment, all []location) []location {
	if !l.hasCondemned.Load() {
		return all
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(all, func(loc location) bool { return seg.condemned[loc.offset8] })
}
