package bitcask

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// maxDamage bounds the list of damage; the count goes on.
const maxDamage = 1000

// A Damage is a stretch of a file that cannot be used. Its records are not
// served from here; those before and behind it are.
type Damage struct {
	File          string // relative to the data directory
	Offset, Bytes int64
	Bucket        uint64      // bucket id
	Slot          expiry.Slot // -1 in a plain bucket
	What          string
}

// Damage returns what was found damaged since the Disk was opened, oldest
// first and at most 1000 entries, and how much there was in all.
func (s *Store) Damage() ([]Damage, int64) {
	s.damageMu.Lock()
	defer s.damageMu.Unlock()
	return slices.Clone(s.damage), s.damageCount
}

// noteDamage lists damage and, if it may have cost records, doubts the slot.
func (s *Store) noteDamage(d Damage, id laneID, why Reason) {
	d.Bucket, d.Slot = id.bucket, id.slot
	s.damageMu.Lock()
	if slices.ContainsFunc(s.damage, func(old Damage) bool { return old.File == d.File && old.Offset == d.Offset && old.What == d.What }) {
		s.damageMu.Unlock()
		return // met again
	}
	s.damageCount++
	if len(s.damage) < maxDamage {
		s.damage = append(s.damage, d)
	}
	s.damageMu.Unlock()
	s.disk.stats.damage.Add(1)
	s.disk.cfg.Log.Warn("damage on the disk is set aside", "file", s.disk.fs.Path(d.File), "offset", d.Offset, "bytes", d.Bytes, "what", d.What)
	if why != 0 {
		s.evidence.doubtLater(id, why)
	}
}

// noteUnreadable notes a record that could not be read where it should be.
func (s *Store) noteUnreadable(at place, err error) {
	if err == error(ErrExpired) || err == error(errMerged) {
		return // dropped meanwhile
	}
	s.disk.stats.badReads.Add(1)
	s.noteDamage(Damage{File: at.seg.data.name, Offset: at.offset(), Bytes: at.size(), What: err.Error()}, at.seg.id.laneID, ReasonDamage)
	if errors.Is(err, object.CodeDisk) && s.readLater(at) {
		s.evidence.doubtLater(at.seg.id.laneID, ReasonDamage) // also if it failed before, and was read since
	}
}

// noteTorn tells of a tail that is cut off.
func (s *Store) noteTorn(seg *segment, st stretch) {
	s.disk.stats.tornTails.Add(1)
	s.disk.cfg.Log.Info("an unfinished write at the end of a segment is cut off", "file", s.disk.fs.Path(seg.data.name), "offset", st.offset, "bytes", st.size, "what", st.what)
}

// syncFailed tells of records whose durability cannot be had any more.
func (s *Store) syncFailed(seg *segment, err error) {
	if errors.Is(err, errGone) {
		return // dropped meanwhile, with its slot
	}
	if seg.syncer.told.Swap(true) {
		return
	}
	s.disk.stats.syncErrors.Add(1)
	s.noteDamage(Damage{File: seg.data.name, What: fmt.Sprintf("syncing failed: %v", err)}, seg.id.laneID, ReasonSyncFailed)
}
