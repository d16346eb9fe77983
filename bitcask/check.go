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
		case slices.Contains([]string{identityName, lockName, reserveName, "lost+found"}, e.Name), e.Name == nodeDir && e.IsDir:
		case e.Name == vnodeDir && e.IsDir:
			if err := c.surveyVnodes(); err != nil {
				return err
			}
		case isBucket && e.IsDir:
			if err := c.surveyBucket(e.Name); err != nil {
				return err
			}
		default:
			c.note(e.Name, 0, 0, "not a file of mayfly")
		}
	}
	return nil
}

func (c *checker) surveyVnodes() error {
	entries, err := c.fs.ReadDir(vnodeDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := parsePartition(e.Name); !ok || !e.Regular {
			c.note(vnodeDir+"/"+e.Name, 0, 0, "not a manifest: a file set aside, or the leaving of a crash")
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
			c.note(dir+"/"+e.Name, 0, 0, "not a file of mayfly")
			continue
		}
		files, err := c.fs.ReadDir(dir + "/" + e.Name)
		if err != nil {
			return err
		}
		for _, f := range files {
			info, err := c.fs.Stat(dir + "/" + e.Name + "/" + f.Name)
			if err != nil {
				return err
			}
			c.total += info.SizeBytes
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
		if !seen[id] && !c.dropped(m, id.laneID) && m.segments[id].state != segBuried {
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
			info, err := c.fs.Stat(dir + "/" + e.Name)
			if err != nil {
				return err
			}
			segs, seen[id], sizes[id] = append(segs, id), true, info.SizeBytes
		case ok && isHint && e.Regular:
			hints[id] = true
		case strings.HasSuffix(e.Name, vfs.TempSuffix):
			c.note(dir+"/"+e.Name, 0, 0, "an unfinished file: it is removed when it is next in the way")
		default:
			c.note(dir+"/"+e.Name, 0, 0, "not a file of mayfly")
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
