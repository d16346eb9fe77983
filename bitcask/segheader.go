package bitcask

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// The header that opens a segment. Integers are little-endian; this is format 1.
//
//	offset  size  field
//	0       8     magic "MAYFLYSG"
//	8       4     format, 1
//	12      4     header length, bytes, a multiple of 8
//	16      16    cluster id
//	32      16    node id
//	48      8     bucket id
//	56      8     the slot's first epoch, seconds; -1 in a plain bucket
//	64      8     slot length, seconds; 0 in a plain bucket
//	72      4     partition: bits
//	76      4     partition: prefix; both name the range of placement hashes
//	80      4     generation, not zero
//	84      4     sequence number within the slot
//	88      8     created, seconds since the Unix epoch, UTC
//	96      2     flags: bit 0 timed, bit 1 all records of a key are kept
//	98      1     bucket type length, bytes
//	99      1     bucket length, bytes
//	100     …     bucket type, bucket, zeros
//	len-4   4     CRC-32C of every byte before it
const (
	segMagic      = "MAYFLYSG"
	segFormat     = 1
	segFixedSize  = 100 // bytes, up to the names
	segHeaderMax  = (segFixedSize + 2*object.MaxNameBytes + 4 + align - 1) / align * align
	segHeaderMin  = (segFixedSize + 2 + 4 + align - 1) / align * align
	segFlagTimed  = 1 << 0
	segFlagKeep   = 1 << 1
	segKnownFlags = segFlagTimed | segFlagKeep
)

// A segHeader says what a segment holds.
type segHeader struct {
	cluster, node ID
	bucket        Bucket // without its sync policy
	slot          expiry.Slot
	slotSeconds   int64 // 0 in a plain bucket
	partition     Partition
	generation    uint32
	seq           uint32
	created       int64 // seconds since the Unix epoch, UTC
}

func (h *segHeader) size() int {
	return int(alignUp(int64(segFixedSize + len(h.bucket.Type) + len(h.bucket.Name) + 4)))
}

func (h *segHeader) id() segID { return segID{laneID{h.bucket.ID, h.slot}, h.seq} }

func appendSegHeader(dst []byte, h *segHeader) []byte {
	start, flags, first := len(dst), uint16(0), int64(-1)
	if h.bucket.Timed {
		flags |= segFlagTimed
		first = h.slot.Start(h.slotSeconds)
	}
	if h.bucket.KeepAll {
		flags |= segFlagKeep
	}
	dst = append(dst, segMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, segFormat)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.size()))
	dst = append(dst, h.cluster[:]...)
	dst = append(dst, h.node[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, h.bucket.ID)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(first))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.slotSeconds))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.partition.Bits))
	dst = binary.LittleEndian.AppendUint32(dst, h.partition.Prefix)
	dst = binary.LittleEndian.AppendUint32(dst, h.generation)
	dst = binary.LittleEndian.AppendUint32(dst, h.seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.created))
	dst = binary.LittleEndian.AppendUint16(dst, flags)
	dst = append(dst, byte(len(h.bucket.Type)), byte(len(h.bucket.Name)))
	dst = append(dst, h.bucket.Type...)
	dst = append(dst, h.bucket.Name...)
	dst = append(dst, make([]byte, start+h.size()-4-len(dst))...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

var errShortHeader = errors.New("the segment ends inside its header")

// parseSegHeader decodes the header that begins b, which may hold more.
func parseSegHeader(b []byte) (segHeader, error) {
	le := binary.LittleEndian
	if len(b) < segHeaderMin {
		return segHeader{}, errShortHeader
	}
	if string(b[:8]) != segMagic {
		return segHeader{}, badFormat(0, "not a segment of mayfly")
	}
	if f := le.Uint32(b[8:]); f != segFormat {
		return segHeader{}, badFormat(8, "format %d; this program reads format %d", f, segFormat)
	}
	n := le.Uint32(b[12:])
	if n < segHeaderMin || n > segHeaderMax || n%align != 0 {
		return segHeader{}, badFormat(12, "a header of %d bytes", n)
	}
	if len(b) < int(n) {
		return segHeader{}, errShortHeader
	}
	b = b[:n]
	if crc32.Checksum(b[:n-4], castagnoli) != le.Uint32(b[n-4:]) {
		return segHeader{}, badFormat(0, "the header's CRC does not match")
	}
	return decodeSegHeader(b)
}

// decodeSegHeader reads the fields of a header whose CRC is right, and holds
// them against each other.
func decodeSegHeader(b []byte) (segHeader, error) {
	le := binary.LittleEndian
	flags, typeLen, nameLen := le.Uint16(b[96:]), int(b[98]), int(b[99])
	bits, first := le.Uint32(b[72:]), int64(le.Uint64(b[56:]))
	h := segHeader{
		cluster: ID(b[16:32]), node: ID(b[32:48]),
		bucket:      Bucket{ID: le.Uint64(b[48:]), Timed: flags&segFlagTimed != 0, KeepAll: flags&segFlagKeep != 0},
		slot:        plainSlot,
		slotSeconds: int64(le.Uint64(b[64:])),
		partition:   Partition{uint8(bits), le.Uint32(b[76:])},
		generation:  le.Uint32(b[80:]),
		seq:         le.Uint32(b[84:]),
		created:     int64(le.Uint64(b[88:])),
	}
	end := segFixedSize + typeLen + nameLen
	switch {
	case flags&^segKnownFlags != 0:
		return segHeader{}, badFormat(96, "flags %#x are not known", flags)
	case bits > 32 || !h.partition.valid():
		return segHeader{}, badFormat(72, "partition %d-%x is not possible", bits, h.partition.Prefix)
	case h.generation == 0:
		return segHeader{}, badFormat(80, "the generation is zero")
	case typeLen == 0 || nameLen == 0 || int(alignUp(int64(end+4))) != len(b):
		return segHeader{}, badFormat(98, "names of %d and %d bytes in a header of %d", typeLen, nameLen, len(b))
	case strings.Trim(string(b[end:len(b)-4]), "\x00") != "":
		return segHeader{}, badFormat(int64(end), "the names are not followed by zeros")
	}
	h.bucket.Type, h.bucket.Name = string(b[segFixedSize:segFixedSize+typeLen]), string(b[segFixedSize+typeLen:end])
	if !h.bucket.Timed {
		if first != -1 || h.slotSeconds != 0 {
			return segHeader{}, badFormat(56, "a plain bucket's segment with a slot")
		}
		return h, nil
	}
	if h.slotSeconds <= 0 || first < 0 || first%h.slotSeconds != 0 {
		return segHeader{}, badFormat(56, "a slot of %d seconds that begins at %d", h.slotSeconds, first)
	}
	h.slot = expiry.SlotOf(first, h.slotSeconds)
	return h, nil
}
