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
func (s *Store) Recheck(b Bucket, hash uint64, epoch, now int64, key []byte) (setAside int, err error) {
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
		rec, err := s.readRecord(at)
		if err != nil {
			continue // told of as damage already
		}
		if string(rec.Key) == string(key) {
			if fault := rec.Verify(); fault != nil {
				s.noteUnreadable(at, fault)
				l.condemn(at)
				setAside++
			}
		}
		rec.Release()
	}
	return setAside, nil
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
