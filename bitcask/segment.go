package bitcask

import (
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A segment is one file of records. Its states, in order:
//
//	active   its lane appends to it; its keydir is in memory
//	frozen   nothing is appended any more; its keydir is still in memory
//	sealed   synced, its hint is on disk; no keydir
//
// A sealed segment whose hint turns out to be damaged is scanned and is frozen
// again. One that the disk could not read whole, see rescan.go, is not sealed
// before it could.
type segment struct {
	// What every put changes, in the 64 bytes of a cache line, up to data's flags.
	written   atomic.Uint64 // writes that have ended
	end       atomic.Int64  // bytes appended, or about to be; a multiple of 8; the sealed length at last
	keydir    *keydir       // nil when sealed; guarded by the lane's mu
	data      handle
	allocated int64 // up to where blocks were asked for, by this process; guarded as wantBlocks says

	syncer     segSyncer
	sums       minutes // when not sealed, without the newest, which the keydir has; guarded by the lane's mu
	id         segID
	generation uint32
	retired    bool // the appender's: nothing more is appended, as the header is damaged or a write failed
	rewritten  bool // its sync has failed, and what it holds is elsewhere; guarded by the lane's sealing

	sealed atomic.Pointer[sealedHint] // set before keydir becomes nil; another one after each sealing

	plain    plainSegment // of a plain bucket
	buriedAt int64        // seconds; of a plain bucket, see lane.bury

	rescan *rescan // it is to be scanned again; nil mostly

	condemned map[uint32]bool // by offset8: records whose values are known to be bad; nil mostly

	holes []hole // the appender's, and the scan's: where puts did not finish, until they are marked

	headerEnd int64 // bytes; 0 of one that had been sealed when it was opened, or has no good header

	durable int64 // bytes that the manifest said were synced when it was opened: what is missing of them is damage

	_ [8]byte // or the allocator would begin every other one in the middle of a cache line
}

// A sealedHint is the hint of one sealing.
type sealedHint struct {
	hintHeader
	number uint64 // of its pages in the hintCache
	file   handle
}

// A segSyncer makes a segment's appended bytes durable. Whoever comes first
// calls the kernel; those who come meanwhile are served by the next call
// together: group commit.
type segSyncer struct {
	broken atomic.Bool // failed is set
	queued atomic.Bool // in the disk's list of segments to sync
	told   atomic.Bool

	mu      sync.Mutex
	done    sync.Cond
	synced  uint64 // writes known to be durable
	running bool
	failed  error // once a sync has failed, nothing unsynced can be trusted
}

// wrote counts a write that has ended, and returns its number for syncUpTo.
func (s *segment) wrote() uint64 { return s.written.Add(1) }

func newSegment(id segID, p Partition) *segment {
	name := segName(id, p)
	s := &segment{id: id}
	s.data = handle{name: name, write: true}
	s.syncer.done.L = &s.syncer.mu
	return s
}

// sync returns when everything is durable whose writing has ended.
func (s *segment) sync(d *Disk) error { return s.syncUpTo(d, s.written.Load()) }

// syncUpTo returns when the write with that number, and those before it, are durable.
func (s *segment) syncUpTo(d *Disk, upTo uint64) error {
	y := &s.syncer
	y.mu.Lock()
	defer y.mu.Unlock()
	for y.synced < upTo {
		if y.failed != nil {
			return y.failed
		}
		if y.running {
			y.done.Wait()
			continue
		}
		y.running = true
		covers := s.written.Load()
		y.mu.Unlock()
		err := d.syncFile(&s.data)
		y.mu.Lock()
		y.running = false
		if err != nil {
			y.failed = err
			y.broken.Store(true)
		} else {
			y.synced = max(y.synced, covers)
		}
		y.done.Broadcast()
	}
	return nil
}

// allSums returns a copy of the sums of a segment that is not sealed. The caller holds
// the lane's mu, or nothing is appended any more.
func (s *segment) allSums() minutes {
	all := slices.Clone(s.sums)
	if s.keydir != nil && s.keydir.n > 0 {
		*all.at(s.keydir.newest.Minute) = s.keydir.newest
	}
	return all
}

// wholeEnd returns up to where the segment has no hole. The caller has the role.
func (s *segment) wholeEnd() int64 {
	end := s.end.Load()
	for _, h := range s.holes {
		end = min(end, h.offset)
	}
	return end
}

// syncFailed reports whether a sync of the segment has failed.
func (s *segment) syncFailed() bool { return s.syncer.broken.Load() }

// A place is a record in a segment.
type place struct {
	seg *segment
	location
}

// corruptError reports a record that cannot be used.
func corruptError(d *Disk, at place, what string) *object.Error {
	return object.Errorf(object.CodeCorrupt, object.NotDone,
		"%s: the record at offset %d is damaged (%s): it is to be fetched from another replica", d.fs.Path(at.seg.data.name), at.offset(), what)
}

// readRecord reads a whole record with one pread. Its header is checked, its
// value is not. A failure is told of as damage.
func (s *Store) readRecord(at place) (object.Record, error) {
	rec, err := s.disk.readRecord(at)
	if err != nil {
		s.noteUnreadable(at, err)
	}
	return rec, err
}

func (d *Disk) readRecord(at place) (object.Record, error) {
	f, err := d.handles.acquire(&at.seg.data)
	if err != nil {
		return object.Record{}, readError(d, at, err)
	}
	buf := object.NewBuffer(int(at.size()))
	n, err := f.ReadAt(buf.Bytes(), at.offset())
	d.handles.release(&at.seg.data)
	if err != nil && (err != io.EOF || n < frameSize) {
		buf.Release()
		return object.Record{}, readError(d, at, err)
	}
	rec, err := cutRecord(buf.Bytes()[:n])
	if err != nil {
		buf.Release()
		return object.Record{}, corruptError(d, at, err.Error())
	}
	rec.Buf = buf
	return rec, nil
}

// cutRecord parses the record in b, which holds its frame and at most its
// padding besides. The frame need not be right: the header says the same, with
// a CRC of its own.
func cutRecord(b []byte) (object.Record, error) {
	fr, ok := parseFrame(b)
	b = b[frameSize:]
	size := fr.recordBytes
	if !ok || fr.gap {
		h, n, err := object.ParseHeader(b)
		if err != nil {
			return object.Record{}, err
		}
		size = n + int(h.ValueBytes)
	}
	if size > len(b) || len(b)-size >= align {
		return object.Record{}, errSizeMismatch
	}
	return object.ParseRecord(b[:size])
}

var errSizeMismatch = errors.New("its length is not what the index says")

// headRead is how much is read of a record to get its header: nearly all are
// shorter than that.
const headRead = 512

// readHead reads a record's header into scratch, behind its frame; scratch grows
// if it must. The header aliases it. A failure is told of as damage.
func (s *Store) readHead(at place, scratch *[]byte) (object.Header, int, error) {
	h, n, err := s.disk.readHead(at, scratch)
	if err != nil {
		s.noteUnreadable(at, err)
	}
	return h, n, err
}

func (d *Disk) readHead(at place, scratch *[]byte) (object.Header, int, error) {
	f, err := d.handles.acquire(&at.seg.data)
	if err != nil {
		return object.Header{}, 0, readError(d, at, err)
	}
	defer d.handles.release(&at.seg.data)
	b, err := readPart(f, at, scratch, headRead)
	if err != nil {
		return object.Header{}, 0, readError(d, at, err)
	}
	n, err := object.HeaderSize(b)
	if err == nil && n > len(b) && frameSize+int64(n) <= at.size() {
		if b, err = readPart(f, at, scratch, frameSize+n); err != nil {
			return object.Header{}, 0, readError(d, at, err)
		}
	}
	h, n, err := object.ParseHeader(b)
	if err != nil {
		return object.Header{}, 0, corruptError(d, at, err.Error())
	}
	if framedSize(h.RecordSize()) != at.size() {
		return object.Header{}, 0, corruptError(d, at, errSizeMismatch.Error())
	}
	return h, n, nil
}

// readPart reads up to n bytes of a framed record and returns them without the frame.
func readPart(f vfs.File, at place, scratch *[]byte, n int) ([]byte, error) {
	n = int(min(int64(n), at.size()))
	if cap(*scratch) < n {
		*scratch = make([]byte, max(n, headRead))
	}
	b := (*scratch)[:n]
	got, err := f.ReadAt(b, at.offset())
	if err != nil && (err != io.EOF || got < frameSize) {
		return nil, err
	}
	return b[frameSize:got], nil
}

// readError turns a failure to read a record into the caller's error.
func readError(d *Disk, at place, err error) error {
	switch {
	case errors.Is(err, errGone) && at.seg.plain.buried.Load():
		return errMerged
	case errors.Is(err, errGone):
		return ErrExpired
	case err == io.EOF || vfs.IsNotExist(err):
		return corruptError(d, at, "the file is shorter, or missing")
	}
	return diskError(object.NotDone, "reading "+d.fs.Path(at.seg.data.name), err)
}
