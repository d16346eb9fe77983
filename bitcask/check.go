package bitcask

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Severity says how bad a finding is.
type Severity uint8

const (
	// SeverityNote: nothing is lost that was promised: what a killed process
	// leaves, or a file that is not mayfly's.
	SeverityNote Severity = iota + 1
	// SeverityDamage: bytes are not what was written, or are missing.
	SeverityDamage
)

// String returns "note" or "damage".
func (s Severity) String() string {
	switch s {
	case SeverityNote:
		return "note"
	case SeverityDamage:
		return "damage"
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// A Finding is one thing that [Check] has to say.
type Finding struct {
	File     string // relative to the data directory
	Offset   int64  // bytes; of the stretch concerned
	Bytes    int64  // its length; 0 if that is not known
	Severity Severity
	What     string
}

// Totals are what [Check] has looked at.
type Totals struct {
	Partitions, Manifests, Segments, Sealed, Hints int64
	Records                                        int64 // valid ones
	Bytes                                          int64 // of segments and hints
	Damage, Notes                                  int64 // findings
}

// CheckOptions say how to check.
type CheckOptions struct {
	// Hash is Config.Hash. Without it neither the hints' hashes nor the
	// partitions of records are checked.
	Hash func(bucketType, bucket, key []byte) uint64

	// BootID is vfs.BootID(): after a stop of the machine a torn end of an open
	// segment is no damage.
	BootID string

	SkipValues bool // do not read values: only frames, headers and indexes

	// Progress, if set, is called now and then with the bytes checked so far and
	// those there are.
	Progress func(done, total int64)
}

// Check holds a data directory that is not in use against every promise of the
// format, and reports what it finds until report returns false. It changes
// nothing. It reads all files once (without the values if they are skipped). An
// error means that it could not check: the directory is not a data directory of
// this format, or is in use.
func Check(fsys vfs.FS, opt CheckOptions, report func(Finding) bool) (Totals, error) {
	c := &checker{fs: fsys, opt: opt, report: report}
	id, err := ReadIdentity(fsys)
	var fault *formatError
	switch {
	case err == nil:
	case errors.As(err, &fault):
		c.damage(identityName, fault.offset, 0, "%s", fault.what)
	default:
		return c.totals, err
	}
	lock, err := fsys.Lock(lockName)
	switch {
	case err == nil:
		defer lock.Close()
	case !vfs.IsReadOnly(err): // a read-only directory is changed by nobody
		return c.totals, lockFault(fsys, err)
	}
	c.identity = id
	return c.totals, c.run()
}

type checker struct {
	fs       vfs.FS
	opt      CheckOptions
	report   func(Finding) bool
	identity Identity
	totals   Totals
	stopped  bool
	done     int64 // bytes
	total    int64
}

func (c *checker) find(f Finding) {
	if f.Severity == SeverityDamage {
		c.totals.Damage++
	} else {
		c.totals.Notes++
	}
	if !c.stopped && !c.report(f) {
		c.stopped = true
	}
}

func (c *checker) damage(file string, offset, size int64, format string, args ...any) {
	c.find(Finding{file, offset, size, SeverityDamage, fmt.Sprintf(format, args...)})
}

func (c *checker) note(file string, offset, size int64, format string, args ...any) {
	c.find(Finding{file, offset, size, SeverityNote, fmt.Sprintf(format, args...)})
}

// faulty reports damage that an error of a parser describes.
func (c *checker) faulty(file string, err error) {
	var fault *formatError
	if errors.As(err, &fault) {
		c.damage(file, fault.offset, 0, "%s", fault.what)
		return
	}
	c.damage(file, 0, 0, "cannot be read: %v", err)
}

func (c *checker) progress(bytes int64) {
	c.done += bytes
	c.totals.Bytes += bytes
	if c.opt.Progress != nil {
		c.opt.Progress(c.done, c.total)
	}
}

func (c *checker) run() error {
	parts, err := partitionsOn(c.fs)
	if err != nil {
		return err
	}
	if err := c.survey(); err != nil {
		return err
	}
	for _, p := range parts {
		if err := c.partition(p); err != nil {
			return err
		}
		if c.stopped {
			return nil
		}
		c.totals.Partitions++
	}
	return nil
}

// survey adds up what there is to check, and notes what is not mayfly's.
func (c *checker) survey() error {
	root, err := c.fs.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range root {
		_, isBucket := parseBucketDir(e.Name)
		switch {
		case slices.Contains([]string{identityName, lockName, reserveName, "lost+found"}, e.Name), (e.Name == vnodeDir || e.Name == nodeDir) && e.IsDir:
		case isBucket && e.IsDir:
			if err := c.surveyBucket(e.Name); err != nil {
				return err
			}
		default:
			c.note(e.Name, 0, e.SizeBytes, "not a file of mayfly")
		}
	}
	return nil
}

func (c *checker) surveyBucket(dir string) error {
	entries, err := c.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := parsePartition(e.Name); !ok || !e.IsDir {
			c.note(dir+"/"+e.Name, 0, e.SizeBytes, "not a file of mayfly")
			continue
		}
		files, err := c.fs.ReadDir(dir + "/" + e.Name)
		if err != nil {
			return err
		}
		for _, f := range files {
			c.total += f.SizeBytes
		}
	}
	return nil
}

// partition checks one partition: its manifest, and its files against it.
func (c *checker) partition(p Partition) error {
	m, err := readManifest(c.fs, c.identity.Disk, p)
	lost := err != nil
	switch {
	case err == nil:
		c.totals.Manifests++
	case vfs.IsNotExist(err):
		m = newManifest(c.identity.Disk, p)
	default:
		c.faulty(manifestName(p), err)
		m = newManifest(c.identity.Disk, p)
	}
	buckets, err := bucketsOn(c.fs)
	if err != nil {
		return err
	}
	seen := map[segID]bool{}
	for _, b := range buckets {
		if err := c.lanes(b, p, m, lost, seen); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.segments), compareSegs) {
		if !seen[id] && !c.dropped(m, id.laneID) {
			c.damage(segName(id, p), 0, m.segments[id].length, "the segment is missing: the manifest lists it")
		}
	}
	return nil
}

// dropped reports whether a slot lies below its bucket's horizon.
func (c *checker) dropped(m *manifest, id laneID) bool {
	return id.slot >= 0 && c.identity.SlotSeconds > 0 && id.slot.End(c.identity.SlotSeconds) <= int64(m.horizons[id.bucket])
}

// lanes checks the files of one bucket in a partition.
func (c *checker) lanes(bucket uint64, p Partition, m *manifest, lost bool, seen map[segID]bool) error {
	dir := laneDir(bucket, p)
	entries, err := c.fs.ReadDir(dir)
	if vfs.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	hints := map[segID]bool{}
	var segs []segID
	sizes := map[segID]int64{}
	for _, e := range entries {
		stem, isSeg := strings.CutSuffix(e.Name, segSuffix)
		stem, isHint := strings.CutSuffix(stem, hintSuffix)
		slot, seq, ok := parseStem(stem)
		id := segID{laneID{bucket, slot}, seq}
		switch {
		case ok && isSeg && e.Regular:
			segs, seen[id], sizes[id] = append(segs, id), true, e.SizeBytes
		case ok && isHint && e.Regular:
			hints[id] = true
		case strings.HasSuffix(e.Name, vfs.TempSuffix):
			c.note(dir+"/"+e.Name, 0, e.SizeBytes, "an unfinished file: it is removed when it is next in the way")
		default:
			c.note(dir+"/"+e.Name, 0, e.SizeBytes, "not a file of mayfly")
		}
	}
	slices.SortFunc(segs, compareSegs)
	for _, id := range segs {
		s := segmentCheck{checker: c, id: id, p: p, name: segName(id, p), size: sizes[id], hasHint: hints[id]}
		s.said, s.listed = m.segments[id]
		s.mayTear = s.said.suspect || !s.listed || m.bootID == "" || m.bootID != c.opt.BootID
		s.check(lost, c.dropped(m, id.laneID))
		delete(hints, id)
		if c.stopped {
			return nil
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(hints), compareSegs) {
		if !seen[id] && !c.dropped(m, id.laneID) {
			c.note(hintName(segName(id, p)), 0, 0, "a hint without its segment")
		}
	}
	return nil
}

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
	before  int64      // findings of damage in this segment so far
}

func (s *segmentCheck) check(manifestLost, dropped bool) {
	defer s.progress(s.size)
	s.totals.Segments++
	if dropped {
		s.note(s.name, 0, s.size, "below the drop horizon: it is about to be removed")
		return
	}
	f, err := s.fs.Open(s.name)
	if err != nil {
		s.damage(s.name, 0, s.size, "cannot be opened: %v", err)
		return
	}
	defer f.Close()
	if !s.listed && !manifestLost && s.size > segHeaderMax {
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
		s.found.add(minuteOf(s.id.slot != plainSlot, epoch), hash, h.Version())
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
}
