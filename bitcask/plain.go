package bitcask

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
)

// Plain buckets: keys are overwritten and deleted, so that the segments of a
// lane come to hold records that greater versions have replaced. Where those of
// a timed lane are looked up in hints, the records of all segments of a plain
// lane are in memory, loaded from the hints when the lane is first used. What
// mostly dead segments still hold is merged into new ones, see merge.go.

// A plainSummary is what a hint says of a plain segment besides its records.
type plainSummary struct {
	newest         int64 // time of the newest record, seconds, rounded up; not before 1970
	tombstoneBytes int64 // of listed ones
}

// A plainSegment is what a segment of a plain bucket has besides. Fields without
// a remark are guarded by the lane's mu.
type plainSegment struct {
	resident []location // of a sealed one: its records, by hash; not modified once set
	sum      plainSummary
	dead     int64 // bytes of records that a greater version has replaced, as far as that is known
	surveyAt int   // of resident: those before have been looked at for that

	stuck bool // some record cannot be read: not merged until the Disk is opened anew
	held  bool // what tombstones it has may not go yet

	walks  atomic.Int32 // walks that still read it
	buried atomic.Bool  // merged into others, or wholly expired: about to be unlinked
}

// maxPlainSegment bounds the segments of plain buckets, so that their merging
// proceeds in parts, and the active one does not hold too much that is dead.
const maxPlainSegment = 256 << 20 // bytes

// maxBytes returns how long a segment of the lane may grow.
func (l *lane) maxBytes() int64 {
	if l.timed {
		return l.store.disk.cfg.MaxSegmentBytes
	}
	return min(l.store.disk.cfg.MaxSegmentBytes, maxPlainSegment)
}

// findResident returns the entries with that hash; they alias entries.
func findResident(entries []location, hash uint32) []location {
	i, found := slices.BinarySearchFunc(entries, hash, func(l location, hash uint32) int { return cmp.Compare(l.hash, hash) })
	if !found {
		return nil
	}
	n := i
	for n < len(entries) && entries[n].hash == hash {
		n++
	}
	return entries[i:n:n]
}

// account notes what a record that was just listed means for what a plain lane's
// segments hold. The caller holds mu, or has the segment to itself.
func (l *lane) account(op *putOp, replaced bool) {
	p := &op.seg.plain
	p.sum.newest = max(p.sum.newest, op.epoch)
	if op.next.Kind == object.Tombstone {
		p.sum.tombstoneBytes += op.size
	}
	if op.old.seg == nil || op.version.Compare(op.oldVersion) < 0 {
		return
	}
	old := &op.old.seg.plain
	if replaced && op.oldHeader.Kind == object.Tombstone {
		old.sum.tombstoneBytes -= op.old.size()
	}
	if old.surveyAt < len(old.resident) && old.resident[old.surveyAt].hash <= uint32(op.hash) {
		return // the survey will come to it
	}
	old.dead += op.old.size()
}

func (l *lane) summaryOf(seg *segment) plainSummary {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return seg.plain.sum
}

// loadResident loads the hint of a sealed segment. It returns the bucket as the
// segment's header says it; none if the header is damaged.
func (l *lane) loadResident(seg *segment, hint *sealedHint) (Bucket, error) {
	d := l.store.disk
	f, err := d.handles.acquire(&hint.file)
	if err != nil {
		return Bucket{}, err
	}
	defer d.handles.release(&hint.file)
	entries, err := loadHint(f, &hint.hintHeader)
	if err != nil {
		return Bucket{}, err
	}
	sums, err := readHintMinutes(f, &hint.hintHeader)
	if err != nil {
		return Bucket{}, err
	}
	if !slices.IsSortedFunc(entries, func(a, b location) int { return cmp.Compare(a.hash, b.hash) }) {
		return Bucket{}, badFormat(hintHeaderSize, "the entries are not in the order of their hashes")
	}
	seg.sums = sums
	seg.plain.resident, seg.plain.sum = entries, hint.plain
	h, err := readHeaderOf(d.fs, seg.data.name)
	if err != nil || h.id() != seg.id {
		h = segHeader{}
	}
	seg.plain.dead = hint.sealedLength - int64(h.size())
	for _, loc := range entries {
		seg.plain.dead -= loc.size()
	}
	seg.plain.dead = max(0, seg.plain.dead)
	return h.bucket, nil
}

// lookupAmong is lookup in some of the lane's segments. Condemned records are
// among what it finds.
func (l *lane) lookupAmong(dst []place, segs []*segment, hash uint32) ([]place, error) {
	for _, seg := range segs {
		l.mu.RLock()
		switch {
		case seg.keydir != nil:
			for loc := range seg.keydir.find(hash) {
				dst = append(dst, place{seg, loc})
			}
			l.mu.RUnlock()
		case seg.plain.resident != nil:
			for _, loc := range findResident(seg.plain.resident, hash) {
				dst = append(dst, place{seg, loc})
			}
			l.mu.RUnlock()
		default:
			l.mu.RUnlock()
			var err error
			if dst, err = l.lookupSealed(l.store.disk.stripes.first(), dst, seg, hash); err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}

// pin returns the lane's segments as they are now, which are not unlinked by a
// merge until unpin is called.
func (l *lane) pin() (segs []*segment, unpin func()) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	segs = l.segs
	if l.timed {
		return segs, func() {}
	}
	for _, seg := range segs {
		seg.plain.walks.Add(1)
	}
	return segs, func() {
		for _, seg := range segs {
			seg.plain.walks.Add(-1)
		}
	}
}

// isCondemned reports whether a record's value is known to be bad.
func (l *lane) isCondemned(at place) bool {
	if !l.hasCondemned.Load() {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return at.seg.condemned[at.offset8]
}

// withoutReplaced takes out of a plain lane's sums those records that greater
// versions in other segments have replaced: two replicas that show the same have
// the same sum, however often what they show was overwritten.
func (l *lane) withoutReplaced(segs []*segment, sums minutes) (minutes, error) {
	d := l.store.disk
	op := d.newOp()
	defer d.freeOp(op)
	for i, seg := range segs {
		entries, err := l.locations(seg)
		if err != nil {
			return nil, err
		}
		for _, loc := range entries {
			earlier, err := l.lookupAmong(op.places[:0], segs[:i], loc.hash)
			if err != nil {
				return nil, err
			}
			if op.places = earlier; len(earlier) > 0 {
				continue // it was looked at there
			}
			if op.places, err = l.lookupAmong(op.places, segs[i:], loc.hash); err != nil {
				return nil, err
			}
			if len(op.places) > 1 && !slices.ContainsFunc(op.places[1:], func(p place) bool { return p.seg != seg }) {
				continue // other keys with the same hash
			}
			if len(op.places) > 1 && op.places[0].location == loc {
				if err := l.removeReplaced(op, &sums); err != nil {
					return nil, err
				}
			}
		}
	}
	return sums, nil
}

// removeReplaced takes all but the greatest version of each key at op.places, of
// one hash, out of the sums. An error says that the disk failed to read one.
func (l *lane) removeReplaced(op *putOp, sums *minutes) error {
	type kept struct {
		version object.Version
		hash    uint64
	}
	greatest := map[string]kept{}
	for _, at := range op.places {
		h, _, err := l.store.readHead(at, &op.scratch)
		if errors.Is(err, object.CodeDisk) && !l.isCondemned(at) {
			return err
		}
		if err != nil {
			continue // damage, which the slot is doubted for
		}
		v := h.Version()
		have, known := greatest[string(h.Key)]
		if !known {
			greatest[string(h.Key)] = kept{v, l.store.disk.cfg.Hash(h.Type, h.Bucket, h.Key)}
			continue
		}
		lesser := v
		if v.Compare(have.version) > 0 {
			lesser = have.version
			greatest[string(h.Key)] = kept{v, have.hash}
		}
		sums.at(0).remove(have.hash, lesser)
	}
	return nil
}
