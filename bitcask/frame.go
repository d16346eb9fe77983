package bitcask

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/mayflydb/mayfly/internal/object"
)

// A record in a segment: a frame, then the record as it travels (header and
// value, see internal/object), then zeros up to a multiple of 8 bytes. Integers
// are little-endian; this is format 1.
//
//	offset  size  field
//	0       4     record length: header and value, bytes
//	4       4     generation: the segment's, a random number
//	8       4     the record's header CRC
//	12      4     CRC-32C of the 12 bytes before it
//	16      …     record
//	…       0..7  zeros
//
// The generation tells a segment's own records from bytes that look like
// records: copies inside values, and what recycled blocks held before. The
// header CRC ties the frame to the one header it was written with, so that a
// new frame before an old record, which a loss of power can leave, is not
// believed.
//
// Where a put did not finish, a frame of another kind may stand; see gap.go.
const (
	frameSize = 16 // bytes
	align     = 8  // bytes; offsets and sizes are kept in these units
)

// zeros is what a record is padded with.
var zeros [align]byte

// alignUp rounds up to a multiple of align.
func alignUp(n int64) int64 { return (n + align - 1) &^ (align - 1) }

// framedSize returns the bytes that a record of n bytes takes in a segment.
func framedSize(n int) int64 { return alignUp(frameSize + int64(n)) }

func putFrame(dst *[frameSize]byte, recordBytes int, generation, headerCRC uint32) {
	binary.LittleEndian.PutUint32(dst[0:], uint32(recordBytes))
	binary.LittleEndian.PutUint32(dst[4:], generation)
	binary.LittleEndian.PutUint32(dst[8:], headerCRC)
	binary.LittleEndian.PutUint32(dst[12:], crc32.Checksum(dst[:12], castagnoli))
}

// A frame is the decoded form of a record's first 16 bytes.
type frame struct {
	recordBytes int // object.MinRecordBytes..object.MaxRecordBytes; of a gap 0..1<<31-8
	generation  uint32
	headerCRC   uint32
	gap         bool // no record follows, see gap.go
}

// parseFrame decodes the frame that begins b, which has at least frameSize
// bytes; ok is false if it is damaged, or no frame at all.
func parseFrame(b []byte) (f frame, ok bool) {
	if crc32.Checksum(b[:12], castagnoli) != binary.LittleEndian.Uint32(b[12:]) {
		return frame{}, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n&gapBit != 0 {
		f = frame{int(n &^ gapBit), binary.LittleEndian.Uint32(b[4:]), 0, true}
		return f, f.recordBytes%align == 0 && binary.LittleEndian.Uint32(b[8:]) == 0
	}
	if n < object.MinRecordBytes || n > object.MaxRecordBytes {
		return frame{}, false
	}
	return frame{int(n), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), false}, true
}
