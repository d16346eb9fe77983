package bitcask

import (
	"errors"
	"maps"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Expired is what one call of Expire did.
type Expired struct {
	Files int   // unlinked, hints included
	Bytes int64 // freed
	More  bool  // files below the horizon are left for the next call
}

// expireStep is how much of a file is freed at once: a longer one is cut shorter
// first, so that freeing its blocks does not hold up the puts' journal for long.
const expireStep = 256 << 20 // bytes

// Expire drops what is dead at now: it raises the drop horizons of timed
// buckets as far as their present TTLs allow, makes them durable, and unlinks up
// to maxSteps files below them (a long file takes several steps). It works on a
// full disk. Call it only while the clock is trusted: what it drops does not
// come back.
func (s *Store) Expire(now int64, maxSteps int) (Expired, error) {
	var done Expired
	if !s.disk.gate.enter() {
		return done, ErrStopping
	}
	defer s.disk.gate.leave()
	if err := s.listAll(); err != nil {
		return done, err
	}
	if err := s.raiseHorizons(now); err != nil {
		return done, err
	}
	var faults []error
	for _, l := range s.deadLanes() {
		for !l.gone() {
			if maxSteps <= 0 {
				done.More = true
				return done, errors.Join(faults...)
			}
			maxSteps--
			if err := l.dropStep(&done); err != nil {
				faults = append(faults, err)
				break
			}
		}
		if l.gone() {
			s.forget(l)
		}
	}
	return done, errors.Join(faults...)
}

// raiseHorizons raises, durably, the horizons of the buckets in which something
// is dead.
func (s *Store) raiseHorizons(now int64) error {
	next := map[uint64]expiry.Horizon{}
	dead := s.lanesWhere(func(l *lane) bool {
		id := l.id.bucket
		if _, ok := next[id]; !ok {
			next[id] = expiry.NextHorizon(now, s.disk.cfg.TTL(id), s.disk.cfg.SlotSeconds)
		}
		return l.below(next[id])
	})
	for _, l := range dead {
		s.evidence.raiseLater(l.id.bucket, next[l.id.bucket])
	}
	return s.publish("raising the drop horizon")
}

// deadLanes returns the lanes wholly below their bucket's horizon.
func (s *Store) deadLanes() []*lane {
	return s.lanesWhere(func(l *lane) bool { return l.below(s.evidence.horizon(l.id.bucket)) })
}

// below reports whether all of the lane's epochs are before a horizon.
func (l *lane) below(h expiry.Horizon) bool {
	return l.timed && l.id.slot.End(l.store.disk.cfg.SlotSeconds) <= int64(h)
}

// gone reports whether all of the lane's files are unlinked.
func (l *lane) gone() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dropped && len(l.toDrop) == 0
}

// dropStep unlinks one file of a dead lane, or shortens it by a step. The hint
// goes before its segment, so that no hint is left without one.
func (l *lane) dropStep(done *Expired) error {
	s := l.store
	name := l.nextDrop()
	if name == "" {
		return nil
	}
	freed, more, err := s.disk.freeStep(name)
	done.Bytes += freed
	if err != nil {
		return err
	}
	if more {
		return nil
	}
	done.Files++
	s.disk.stats.filesExpired.Add(1)
	l.mu.Lock()
	l.toDrop = l.toDrop[1:]
	l.mu.Unlock()
	return nil
}

// nextDrop closes the lane for good, if that has not happened, and returns the
// next file to unlink.
func (l *lane) nextDrop() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dropped {
		for l.loading {
			l.changed.Wait()
		}
		l.takeRoleLocked()
		l.closeLocked()
		l.releaseRoleLocked()
	}
	if len(l.toDrop) == 0 {
		return ""
	}
	return l.toDrop[0]
}

// closeLocked drops the lane's segments from memory and lists their files. The
// caller has the role.
func (l *lane) closeLocked() {
	ids := slices.Concat(l.found, l.unused)
	handles := l.store.disk.handles
	segs := l.segs
	if l.spare != nil {
		segs = append(slices.Clone(segs), l.spare)
	}
	for _, seg := range segs {
		ids = append(ids, seg.id)
		handles.drop(&seg.data)
		if hint := seg.sealed.Load(); hint != nil {
			handles.drop(&hint.file)
		}
	}
	for _, id := range ids {
		name := segName(id, l.store.partition)
		l.toDrop = append(l.toDrop, hintName(name), name)
	}
	l.dropped, l.active, l.spare, l.segs, l.found = true, nil, nil, nil, nil
	l.showTargetLocked()
	l.changed.Broadcast()
}

// freeStep unlinks a file, or shortens it if it is long.
func (d *Disk) freeStep(name string) (freed int64, more bool, err error) {
	e, err := d.fs.Stat(name)
	if vfs.IsNotExist(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if e.SizeBytes > expireStep {
		return expireStep, true, shorten(d.fs, name, e.SizeBytes-expireStep)
	}
	if err := d.fs.Remove(name); err != nil && !vfs.IsNotExist(err) {
		return 0, false, err
	}
	d.stats.bytesExpired.Add(e.SizeBytes)
	return e.SizeBytes, false, nil
}

func shorten(fsys vfs.FS, name string, size int64) error {
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// forget removes a dropped lane from memory, and what the manifest says of it
// with the manifest's next publication.
func (s *Store) forget(l *lane) {
	s.evidence.forgetLater(l.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.lanes, func(_ laneID, other *lane) bool { return other == l })
	s.recent[l.id.recent()].CompareAndSwap(l.recent, nil)
}

// Maintained is what one round of Maintain did.
type Maintained struct {
	Sealed  int // segments
	Expired Expired
}

// expirePerRound bounds the files a store unlinks in one round.
const expirePerRound = 16

// Maintain does one round of what a disk needs from time to time, over the
// stores that are open: it seals what is due, makes the segments of a slot that is
// about to begin, marks idle slots clean, merges a slice of what is mostly dead in
// plain buckets, and, while the clock is trusted, drops a bounded number of expired
// files. Call it about once a second from one goroutine; puts and gets go on
// meanwhile. An error says what this round could not do; the next one tries again.
func (d *Disk) Maintain(now int64, clockTrusted bool) (Maintained, error) {
	var done Maintained
	if !d.gate.enter() {
		return done, ErrStopping
	}
	defer d.gate.leave()
	var faults []error
	for _, s := range d.openStores() {
		n, err := s.SealDue(now)
		done.Sealed += n
		faults = append(faults, err, s.prepare(now), s.CleanIdle(now), s.publish("keeping the evidence"))
		if !clockTrusted {
			continue
		}
		e, err := s.Expire(now, expirePerRound)
		done.Expired.Files += e.Files
		done.Expired.Bytes += e.Bytes
		done.Expired.More = done.Expired.More || e.More
		faults = append(faults, err)
	}
	faults = append(faults, d.mergeRound(now, clockTrusted))
	d.space.keepReserve(d)
	return done, errors.Join(faults...)
}
