package bitcask

import (
	"encoding/binary"
	"hash/crc32"
	"log/slog"
)

// A gap is where a put did not finish, in front of records that others finished. It
// begins with a frame of its own kind; what is behind that means nothing.
//
//	offset  size  field
//	0       4     bytes that follow this frame, a multiple of 8, plus 1 << 31
//	4       4     generation
//	8       4     zero
//	12      4     CRC-32C of the 12 bytes before it
//	16      …     anything
const gapBit = 1 << 31

// appendGap appends the frame of a gap of size bytes in all.
func appendGap(dst []byte, size int64, generation uint32) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, gapBit|uint32(size-frameSize))
	dst = binary.LittleEndian.AppendUint32(dst, generation)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// What a killed process leaves of a put in the middle of a segment is a hole: the
// kernel writes from front to back, and when a process is killed it stops between
// pages. Behind the last page written are zeros, as nothing was ever there. So a
// scan takes for a hole, and not for damage, what
//
//   - lies in the last maxAhead bytes of a segment that took puts when its process
//     was killed, while the machine went on and the kernel has all that it was given;
//   - is nothing but zeros, or a frame and zeros from a page on to where the frame
//     says that the record ends, or less than a frame before such zeros.
//
// Everything else that is no record is damage, and its slot is doubted.

const filePage = 4096 // bytes; what kernels write at once is a multiple

// mayBeHole reports whether a put at off may be unfinished.
func (s *scanner) mayBeHole(off int64) bool { return s.loose > 0 && off >= s.loose }

// endsInZero reports whether the byte before end is zero, as it is if the put that
// was to write it did not finish. It leaves the window as it is.
func (s *scanner) endsInZero(end int64) (bool, error) {
	if at := end - 1 - s.at; at >= 0 && at < int64(len(s.window)) {
		return s.window[at] == 0, nil
	}
	var b [1]byte
	err := readFull(s.f, b[:], end-1)
	return b[0] == 0, err
}

// isHole reports whether what lies between two offsets, and is no record, is what
// unfinished puts leave.
func (s *scanner) isHole(off, end int64) (bool, error) {
	for off < end {
		size, err := s.framedAt(off, end)
		switch {
		case err != nil:
			return false, err
		case off+size > s.end:
			return true, nil // the file ends inside it
		case off+size > end:
			return false, nil // a record begins inside it
		}
		until := off + size
		if size == 0 {
			until = min(off+frameSize, end)
		}
		zeros, err := s.zerosBefore(off, until)
		if err != nil || zeros == until {
			return false, err
		}
		if size == 0 { // nothing says how long it is: until the next one's frame
			if until, err = s.zerosUntil(zeros, end); err != nil {
				return false, err
			}
		}
		off = alignUp(until)
	}
	return true, nil
}

// framedAt returns the length of a frame and its record without padding; 0 if there
// is no frame.
func (s *scanner) framedAt(off, end int64) (int64, error) {
	if end-off < frameSize {
		return 0, nil
	}
	b, err := s.read(off, frameSize)
	if err != nil {
		return 0, err
	}
	if fr, ok := parseFrame(b); ok && !fr.gap && (s.generation == 0 || fr.generation == s.generation) {
		return frameSize + int64(fr.recordBytes), nil
	}
	return 0, nil
}

// zerosBefore returns from where on everything up to end is zero: off, if all is, or the
// start of a page, or end.
func (s *scanner) zerosBefore(off, end int64) (int64, error) {
	from := off
	for at := off; at < end; {
		b, err := s.read(at, int(min(bigWindow, end-at)))
		if err != nil {
			return 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != 0 {
				from = min((at+int64(i))/filePage*filePage+filePage, end)
				break
			}
		}
		at += int64(len(b))
	}
	return from, nil
}

// zerosUntil returns up to where everything from off on is zero, rounded down to
// where a put may begin.
func (s *scanner) zerosUntil(off, end int64) (int64, error) {
	for at := off; at < end; {
		b, err := s.read(at, int(min(bigWindow, end-at)))
		if err != nil {
			return 0, err
		}
		for i, c := range b {
			if c != 0 {
				return max(off, (at+int64(i))&^(align-1)), nil
			}
		}
		at += int64(len(b))
	}
	return end, nil
}

// noteHole tells of a put that a killed process did not finish.
func (s *Store) noteHole(seg *segment, st stretch) {
	s.disk.stats.holes.Add(1)
	s.disk.cfg.Log.Info("an unfinished put in a segment is marked as a gap",
		slog.String("file", s.disk.fs.Path(seg.data.name)), slog.Int64("offset", st.offset), slog.Int64("bytes", st.size))
}
