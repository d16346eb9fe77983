package bitcask

import (
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A listing is how far a bucket's directory has been read.
type listing uint8

const (
	listingNow listing = iota + 1
	listingDone
)

// list reads a bucket's directory, once: its lanes are then known by their files.
func (s *Store) list(bucket uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.listed[bucket] == listingNow {
		s.changed.Wait()
	}
	if s.listed[bucket] == listingDone {
		return nil
	}
	s.listed[bucket] = listingNow
	s.mu.Unlock()
	ids, err := s.segmentsOnDisk(bucket)
	s.mu.Lock()
	defer s.changed.Broadcast()
	if err != nil {
		delete(s.listed, bucket)
		return err
	}
	s.listed[bucket] = listingDone
	for _, id := range s.evidence.list(func(id segID, r segRecord) bool { return id.bucket == bucket && r.state == segBuried }) {
		if s.lanes[id.laneID] == nil {
			s.lanes[id.laneID] = newLane(s, id.laneID)
		}
		seg := newSegment(id, s.partition)
		seg.plain.buried.Store(true)
		s.lanes[id.laneID].buried = append(s.lanes[id.laneID].buried, seg)
	}
	for _, id := range ids {
		if said, _ := s.evidence.segment(id); said.state == segBuried {
			continue // it is unlinked in time, and never opened
		}
		if s.lanes[id.laneID] == nil {
			s.lanes[id.laneID] = newLane(s, id.laneID)
		}
		l := s.lanes[id.laneID]
		l.found = append(l.found, id)
	}
	for _, id := range s.evidence.list(func(id segID, _ segRecord) bool { return id.bucket == bucket }) {
		if s.lanes[id.laneID] == nil { // its files are missing: it is found out when it is loaded
			s.lanes[id.laneID] = newLane(s, id.laneID)
		}
	}
	return nil
}

// segmentsOnDisk returns a bucket's segments in ascending order. What an earlier
// crash left behind is cleared away; names that are not the engine's are left alone.
func (s *Store) segmentsOnDisk(bucket uint64) ([]segID, error) {
	dir := laneDir(bucket, s.partition)
	entries, err := s.disk.fs.ReadDir(dir)
	if vfs.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError(object.NotDone, "reading directory "+s.disk.fs.Path(dir), err)
	}
	var ids []segID
	horizon := s.evidence.horizon(bucket)
	for _, e := range entries {
		if stem, ok := strings.CutSuffix(e.Name, segSuffix); ok && e.Regular {
			if slot, seq, ok := parseStem(stem); ok {
				ids = append(ids, segID{laneID{bucket, slot}, seq})
			}
		}
		if s.leftBehind(bucket, e, entries, horizon) {
			if err := s.disk.fs.Remove(dir + "/" + e.Name); err != nil && !vfs.IsNotExist(err) {
				s.disk.cfg.Log.Warn("the leaving of a crash could not be removed", "file", s.disk.fs.Path(dir+"/"+e.Name), "error", err)
			}
		}
	}
	slices.SortFunc(ids, compareSegs)
	return ids, nil
}

// leftBehind reports whether a file is of no more use: an unfinished
// publication, or the hint of a segment that was dropped, or never made.
func (s *Store) leftBehind(bucket uint64, e vfs.Entry, all []vfs.Entry, horizon expiry.Horizon) bool {
	for _, suffix := range []string{hintSuffix + vfs.TempSuffix, segSuffix + vfs.TempSuffix} {
		if stem, ok := strings.CutSuffix(e.Name, suffix); ok {
			_, _, ok = parseStem(stem)
			return ok && e.Regular
		}
	}
	stem, ok := strings.CutSuffix(e.Name, hintSuffix)
	if !ok || !e.Regular {
		return false
	}
	slot, seq, ok := parseStem(stem)
	_, hasSegment := slices.BinarySearchFunc(all, stem+segSuffix, func(e vfs.Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok || hasSegment {
		return false
	}
	if slot == plainSlot { // a merge had got so far
		_, listed := s.evidence.segment(segID{laneID{bucket, plainSlot}, seq})
		return !listed
	}
	return slot.End(s.disk.cfg.SlotSeconds) <= int64(horizon)
}

// listAll reads the directories of all buckets with data in the partition, once.
func (s *Store) listAll() error {
	if s.allListed.Load() {
		return nil
	}
	buckets, err := s.disk.bucketsOf(s.partition)
	if err != nil {
		return err
	}
	for _, id := range s.evidence.list(func(segID, segRecord) bool { return true }) {
		buckets = append(buckets, id.bucket)
	}
	slices.Sort(buckets)
	for _, bucket := range slices.Compact(buckets) {
		if err := s.list(bucket); err != nil {
			return err
		}
	}
	s.allListed.Store(true) // a bucket that comes later comes by a put
	return nil
}
