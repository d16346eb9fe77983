package bitcask

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A stretchKind says what a stretch of a segment is.
type stretchKind uint8

const (
	wholeRecord stretchKind = iota + 1 // a frame and its record
	damagedPart                        // bytes that are no record; valid ones may follow
	gapPart                            // a put that did not finish, marked as such
	holePart                           // one that is not marked yet; see gap.go
	tornTail                           // the file ends inside a record: its write was never finished
)

// A stretch is a part of a segment, as a scanner finds it.
type stretch struct {
	kind   stretchKind
	offset int64
	size   int64         // padding included
	header object.Header // of a record; valid until the next step
	hsize  int           // its encoded length
	what   string        // is wrong, unless it is a record
}

// A scanner walks a segment from front to back. Where bytes are no record it
// goes on at the next valid one: damage costs what it hits and nothing behind it.
type scanner struct {
	f          vfs.File
	end        int64  // where to stop: the file's length, or the sealed one
	generation uint32 // 0: not known; the first valid record's is taken
	typ, name  string // the bucket's; "": not known
	values     bool   // check values too
	padding    bool   // and the padding behind them
	strict     bool   // end at the first stretch the disk cannot read
	pos        int64
	loose      int64 // from this offset on puts may have left holes; 0: nowhere

	window     []byte // bytes of the file from at on
	at         int64
	unreadable int   // stretches in a row that could not be read
	fault      error // the first error of the disk itself: what it hides, a later scan may find
}

const (
	bigWindow     = 256 << 10 // bytes; read ahead where records are small
	smallWindow   = 4 << 10   // bytes; enough for the header of one after a big value
	badSector     = 4 << 10   // bytes given up where the disk cannot read
	maxUnreadable = 64        // bad sectors in a row, after which the rest of the file is given up
)

// next returns the next stretch; ok is false at the end. What the disk cannot
// read is a damaged part like others, unless the scanner is strict.
func (s *scanner) next() (st stretch, ok bool) {
	if s.pos >= s.end {
		return stretch{}, false
	}
	st, err := s.recordAt(s.pos)
	if err == nil && st.kind == damagedPart && st.size == 0 { // nothing says how long it is
		var until int64
		until, err = s.resync(s.pos + align)
		st.size = until - s.pos
	}
	if err == nil && st.kind == damagedPart && s.mayBeHole(st.offset) {
		var is bool
		if is, err = s.isHole(st.offset, st.offset+st.size); is {
			st.kind, st.what = holePart, "a put that did not finish"
		}
	}
	if err != nil {
		s.failed(err)
		if s.strict && s.fault != nil {
			return stretch{}, false
		}
		st = s.giveUp(err)
	} else {
		s.unreadable = 0
	}
	s.pos += st.size
	return st, true
}

// failed remembers that the disk did not give what it may give later. A file that
// is shorter than it should be is not such a case.
func (s *scanner) failed(err error) {
	if s.fault == nil && err != io.ErrUnexpectedEOF {
		s.fault = err
	}
}

// giveUp returns the stretch at pos that the disk could not read.
func (s *scanner) giveUp(err error) stretch {
	s.unreadable++
	until := s.pos/badSector*badSector + badSector
	if s.unreadable >= maxUnreadable {
		until = s.end
	}
	until = min(until, s.end)
	return stretch{kind: damagedPart, offset: s.pos, size: until - s.pos, what: "cannot be read: " + err.Error()}
}

// recordAt decides what is at an offset. A damaged part's size is 0 if it is not known.
func (s *scanner) recordAt(off int64) (stretch, error) {
	left := s.end - off
	if left < frameSize {
		return stretch{kind: tornTail, offset: off, size: left, what: "the file ends inside a frame"}, nil
	}
	b, err := s.read(off, frameSize)
	if err != nil {
		return stretch{}, err
	}
	damaged := func(size int64, format string, args ...any) (stretch, error) {
		return stretch{kind: damagedPart, offset: off, size: size, what: fmt.Sprintf(format, args...)}, nil
	}
	fr, ok := parseFrame(b)
	if !ok || s.generation != 0 && fr.generation != s.generation {
		return damaged(0, "no valid frame")
	}
	size := framedSize(fr.recordBytes)
	if frameSize+int64(fr.recordBytes) > left {
		return stretch{kind: tornTail, offset: off, size: left, what: fmt.Sprintf("the file ends inside a record of %d bytes", fr.recordBytes)}, nil
	}
	if fr.gap {
		return stretch{kind: gapPart, offset: off, size: size, what: "a put that did not finish, marked as such"}, nil
	}
	size = min(size, left) // the last one's padding may be cut off
	h, n, err := s.header(off+frameSize, fr.recordBytes)
	switch {
	case err == errBadRecord:
		return damaged(size, "the record's header is damaged")
	case err != nil:
		return stretch{}, err
	case h.CRC != fr.headerCRC || n+int(h.ValueBytes) != fr.recordBytes:
		return damaged(size, "the frame belongs to another record")
	case s.typ != "" && (string(h.Type) != s.typ || string(h.Bucket) != s.name):
		return damaged(size, "a record of bucket %q %q", h.Type, h.Bucket)
	}
	if s.generation == 0 {
		s.generation = fr.generation
	}
	st := stretch{kind: wholeRecord, offset: off, size: size, header: h, hsize: n}
	check := s.values
	if !check && s.mayBeHole(off) {
		if check, err = s.endsInZero(off + frameSize + int64(fr.recordBytes)); err != nil {
			return stretch{}, err
		}
	}
	if check {
		return s.checked(st)
	}
	return st, nil
}

// errBadRecord stands for whatever is wrong with a header.
var errBadRecord = fmt.Errorf("bitcask: damaged record")

// header reads the header of a record of recordBytes bytes at off.
func (s *scanner) header(off int64, recordBytes int) (object.Header, int, error) {
	b, err := s.read(off, min(recordBytes, 512))
	if err != nil {
		return object.Header{}, 0, err
	}
	n, err := object.HeaderSize(b)
	if err != nil || n > recordBytes {
		return object.Header{}, 0, errBadRecord
	}
	if n > len(b) {
		if b, err = s.read(off, n); err != nil {
			return object.Header{}, 0, err
		}
	}
	h, n, err := object.ParseHeader(b)
	if err != nil {
		return object.Header{}, 0, errBadRecord
	}
	return h, n, nil
}

// checked verifies a record's value and padding.
func (s *scanner) checked(st stretch) (stretch, error) {
	valueAt := st.offset + frameSize + int64(st.hsize)
	buf := object.NewBuffer(int(st.offset + st.size - valueAt))
	defer buf.Release()
	if err := readFull(s.f, buf.Bytes(), valueAt); err != nil {
		return stretch{}, err
	}
	value, pad := buf.Bytes()[:st.header.ValueBytes], buf.Bytes()[st.header.ValueBytes:]
	switch {
	case object.Checksum(value) != st.header.Checksum:
		st.kind, st.what = damagedPart, fmt.Sprintf("the value of key %q does not match its checksum", clip(st.header.Key))
	case s.padding && string(pad) != string(zeros[:len(pad)]):
		st.kind, st.what = damagedPart, "the padding is not zero"
	}
	return st, nil
}

// clip shortens a key for a message.
func clip(key []byte) []byte { return key[:min(len(key), 100)] }

// resync returns the offset of the first valid record from off on, or the end.
func (s *scanner) resync(off int64) (int64, error) {
	for ; off+frameSize <= s.end; off += align {
		b, err := s.read(off, int(min(bigWindow, s.end-off)))
		if err != nil {
			return 0, err
		}
		skip, found := s.frameIn(b)
		off += int64(skip)
		if !found {
			continue
		}
		switch st, err := s.recordAt(off); {
		case err != nil:
			return 0, err
		case st.kind == wholeRecord, st.kind == gapPart:
			return off, nil
		}
	}
	return s.end, nil
}

// frameIn returns the offset in b of the first valid frame, or of the last place
// where one had room.
func (s *scanner) frameIn(b []byte) (offset int, found bool) {
	last := (len(b) - frameSize) / align * align
	for i := 0; i <= last; i += align {
		if s.generation != 0 && binary.LittleEndian.Uint32(b[i+4:]) != s.generation {
			continue
		}
		if _, ok := parseFrame(b[i:]); ok {
			return i, true
		}
	}
	return last, false
}

// read returns n bytes at off, which lie before the end. They are valid until
// the next call.
func (s *scanner) read(off int64, n int) ([]byte, error) {
	if off >= s.at && off+int64(n) <= s.at+int64(len(s.window)) {
		return s.window[off-s.at:][:n], nil
	}
	ahead := smallWindow
	if gap := off - (s.at + int64(len(s.window))); gap < 2*smallWindow && gap > -bigWindow {
		ahead = bigWindow
	}
	want := int(min(int64(max(n, ahead)), s.end-off))
	if want < n {
		n = want // an optimistic request near the end
	}
	if cap(s.window) < want {
		s.window = make([]byte, want)
	}
	s.window, s.at = s.window[:want], off
	err := readFull(s.f, s.window, off)
	if err != nil && want > n { // not for a bad sector that was not asked for
		s.window = s.window[:n]
		err = readFull(s.f, s.window, off)
	}
	if err != nil {
		s.window = s.window[:0]
		return nil, err
	}
	return s.window[:n], nil
}

// readFull reads len(p) bytes that should be there.
func readFull(f vfs.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
