package bitcask

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A segmentCheck checks one segment and its hint.
type segmentCheck struct {
	*checker
	id      segID
	p       Partition
	name    string
	size    int64
	hasHint bool
	said    segRecord // by the manifest
	listed  bool      // in the manifest
	mayTear bool      // the machine has stopped since the manifest was written

	hint    *hintHeader
	entries []location // of the hint, by offset
	sums    minutes    // of the hint
	found   minutes    // of the listed records
	newest  int64      // of the listed records, seconds
	tombs   int64      // bytes of listed tombstones
	before  int64      // findings of damage in this segment so far
}

func (s *segmentCheck) check(manifestLost, dropped bool) {
	defer s.progress(s.size)
	s.totals.Segments++
	if dropped {
		s.note(s.name, 0, s.size, "below the drop horizon: it is about to be removed")
		return
	}
	if s.said.state == segBuried {
		s.note(s.name, 0, s.size, "merged into other segments, or wholly expired: it is about to be removed")
		return
	}
	f, err := s.fs.Open(s.name)
	if err != nil {
		s.damage(s.name, 0, s.size, "cannot be opened: %v", err)
		return
	}
	defer f.Close()
	switch {
	case s.listed || manifestLost || s.size <= segHeaderMax:
	case s.id.slot == plainSlot && s.hasHint:
		s.note(s.name, 0, s.size, "a crash came before the manifest listed the segment, which a merge made: it is taken into use")
	default:
		s.damage(s.name, 0, s.size, "the manifest does not list the segment")
	}
	if s.hasHint {
		s.readHint()
	}
	s.before = s.totals.Damage
	s.compareLengths()
	s.scan(f)
}

// readHint loads the hint, if it is usable.
func (s *segmentCheck) readHint() {
	name := hintName(s.name)
	f, err := s.fs.Open(name)
	if err != nil {
		s.damage(name, 0, 0, "cannot be opened: %v", err)
		return
	}
	defer f.Close()
	h, err := readHintHeader(f)
	if err != nil {
		s.faulty(name, err)
		return
	}
	s.totals.Hints++
	s.progress(h.size())
	if h.segID != s.id || h.partition != s.p {
		s.damage(name, 0, 0, "the hint is another segment's")
		return
	}
	entries, err := loadHint(f, &h)
	if err != nil {
		s.faulty(name, err)
		return
	}
	if !slices.IsSortedFunc(entries, func(a, b location) int { return int(int64(a.hash) - int64(b.hash)) }) {
		s.damage(name, hintHeaderSize, 0, "the entries are not in the order of their hashes")
	}
	sums, err := readHintMinutes(f, &h)
	if err != nil {
		s.faulty(name, err)
		return
	}
	slices.SortFunc(entries, func(a, b location) int { return int(int64(a.offset8) - int64(b.offset8)) })
	s.hint, s.entries, s.sums = &h, entries, sums
	s.totals.Sealed++
}

// compareLengths holds what manifest and hint say against the file.
func (s *segmentCheck) compareLengths() {
	sealed := int64(0)
	if s.listed && s.said.state == segSealed {
		sealed = s.said.length
		if !s.hasHint {
			s.damage(hintName(s.name), 0, 0, "the hint is missing: the manifest says that the segment is sealed")
		}
	}
	if s.hint != nil {
		if sealed != 0 && sealed != s.hint.sealedLength {
			s.damage(hintName(s.name), 40, 8, "the hint was made at %d bytes, the manifest says %d", s.hint.sealedLength, sealed)
		}
		sealed = s.hint.sealedLength
	}
	switch {
	case sealed == 0 && s.size < s.said.length:
		s.damage(s.name, s.size, s.said.length-s.size, "the segment has %d bytes, %d when it was last synced", s.size, s.said.length)
	case sealed == 0:
	case s.size < sealed:
		s.damage(s.name, s.size, sealed-s.size, "the segment has %d bytes, %d when it was sealed", s.size, sealed)
	case s.size > sealed:
		s.note(s.name, sealed, s.size-sealed, "bytes behind the end of the sealed segment: they are not used")
		s.size = sealed
	}
}

// scan checks every byte of the segment.
func (s *segmentCheck) scan(f vfs.File) {
	sc := &scanner{f: f, end: s.size, values: !s.opt.SkipValues, padding: true}
	if s.hint == nil && s.listed && s.said.state == segDirty && !s.mayTear {
		sc.loose = max(s.size-maxAhead, segHeaderMin)
	}
	h, err := readSegHeader(f, s.size)
	switch {
	case err != nil && neverUsed(s.listed, s.size):
		s.note(s.name, 0, s.size, "a crash left the file: nothing was ever in it")
		return
	case err != nil:
		s.damage(s.name, 0, min(s.size, segHeaderMin), "the header cannot be used: %v", err)
	case h.id() != s.id || h.partition != s.p || h.cluster != s.identity.Cluster && s.identity.Cluster != ID{} || h.bucket.Timed && s.identity.SlotSeconds != 0 && h.slotSeconds != s.identity.SlotSeconds:
		s.damage(s.name, 0, int64(h.size()), "the header is another segment's")
		h = segHeader{}
	default:
		sc.pos, sc.generation, sc.typ, sc.name = int64(h.size()), h.generation, h.bucket.Type, h.bucket.Name
	}
	if s.hint != nil && sc.generation != 0 && sc.generation != s.hint.generation {
		s.damage(hintName(s.name), 12, 4, "the hint is of another generation of the segment")
	}
	for {
		st, ok := sc.next()
		if !ok || s.stopped {
			break
		}
		s.stretch(&st, st.offset+st.size >= s.size)
	}
	if s.hint != nil && s.totals.Damage == s.before && !s.stopped {
		s.compareHint()
	}
}

func (s *segmentCheck) stretch(st *stretch, last bool) {
	open := s.hint == nil && !(s.listed && s.said.state == segSealed)
	switch {
	case st.kind == wholeRecord:
		s.totals.Records++
		s.record(st)
	case st.kind == gapPart:
	case st.kind == holePart:
		s.note(s.name, st.offset, st.size, "a put that a killed process did not finish: it is marked as such when the slot is next used")
	case open && st.offset < s.said.length:
		s.damage(s.name, st.offset, st.size, "%s, where the segment had been synced", st.what)
	case open && st.kind == tornTail:
		s.note(s.name, st.offset, st.size, "an unfinished write: %s; it is cut off at the next start", st.what)
	case open && last && s.mayTear:
		s.note(s.name, st.offset, st.size, "the end was not synced when the machine stopped: %s; it is cut off at the next start", st.what)
	default:
		s.damage(s.name, st.offset, st.size, "%s", st.what)
	}
}

// record checks what a valid record claims against its place.
func (s *segmentCheck) record(st *stretch) {
	h := &st.header
	if s.id.slot != plainSlot {
		epoch, ok := epochOf(h.Key)
		if !ok || s.identity.SlotSeconds > 0 && laneOf(Bucket{ID: s.id.bucket, Timed: true}, epoch, s.identity.SlotSeconds) != s.id.laneID {
			s.damage(s.name, st.offset, st.size, "key %q is not of this slot", clip(h.Key))
		}
	}
	if s.opt.Hash == nil {
		return
	}
	hash := s.opt.Hash(h.Type, h.Bucket, h.Key)
	if !s.p.Holds(hash) {
		s.damage(s.name, st.offset, st.size, "key %q is not of this partition", clip(h.Key))
	}
	if s.hint == nil {
		return
	}
	i, listed := slices.BinarySearchFunc(s.entries, uint32(st.offset/align), func(l location, offset8 uint32) int { return int(int64(l.offset8) - int64(offset8)) })
	want := location{uint32(hash), uint32(st.offset / align), uint32(alignUp(st.size) / align), h.Version().Short()}
	switch {
	case listed && s.entries[i] != want:
		s.damage(hintName(s.name), 0, 0, "the entry of the record at offset %d of the segment is wrong", st.offset)
	case listed:
		epoch, _ := epochOf(h.Key)
		s.found.at(minuteOf(s.id.slot != plainSlot, epoch)).add(hash, h.Version())
		s.newest = max(s.newest, timestampEpoch(h))
		if h.Kind == object.Tombstone {
			s.tombs += want.size()
		}
	case !slices.ContainsFunc(s.entries, func(l location) bool { return l.hash == want.hash }):
		s.damage(hintName(s.name), 0, 0, "the record at offset %d of the segment is not listed", st.offset)
	}
}

// compareHint compares what was found with the hint's sums, in a segment
// without damage.
func (s *segmentCheck) compareHint() {
	name := hintName(s.name)
	if s.opt.Hash == nil {
		return
	}
	var found int64
	for _, d := range s.found {
		found += d.Count
	}
	if found != int64(len(s.entries)) {
		s.damage(name, hintHeaderSize, 0, "%d entries name no record", int64(len(s.entries))-found)
		return
	}
	if !slices.Equal(s.found, s.sums) {
		s.damage(name, s.hint.minutesOffset(), int64(s.hint.minutes)*hintMinuteSize, "the sums by minute are not those of the records")
	}
	if s.id.slot == plainSlot && s.hint.plain != (plainSummary{s.newest, s.tombs}) {
		s.damage(name, s.hint.minutesOffset()+int64(s.hint.minutes)*hintMinuteSize, hintPlainSize, "the newest time and the bytes of tombstones are not those of the records")
	}
}
