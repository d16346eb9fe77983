package object

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// A record is an object as it travels and as it is stored: header, then value.
// Integers are little-endian. This is format 1.
//
//	offset  size  field
//	0       1     format, 1
//	1       1     kind: 1 value, 2 tombstone, 3 index delta
//	2       2     flags: bit 0 erased; others zero
//	4       4     events in the value; 0 if it is not a blob
//	8       8     timestamp, microseconds since the Unix epoch, UTC; at least 1
//	16      4     value length, bytes, 0..MaxValueBytes
//	20      2     bucket type length, bytes, 1..MaxNameBytes
//	22      2     bucket length, bytes, 1..MaxNameBytes
//	24      2     key length, bytes, 1..MaxKeyBytes
//	26      2     writer length, bytes, 0..MaxNameBytes
//	28      4     metadata length, bytes, 0..MaxMetadataBytes
//	32      8     xxhash64 of the value
//	40      8     the writer's incarnation; 0 if there is no writer
//	48      …     bucket type, bucket, key, writer, metadata
//	…       4     CRC-32C of every byte before it
//	…       …     value
//
// The header is encoded once, by the client or the door that took the object;
// coordinators, replicas, sync and dump hand on the same bytes. The CRC covers
// the lengths: a damaged length reads as damage, never as another value. The
// value has its own checksum, so that a header can be read, sent and trusted
// without it.
const (
	headerFormat    = 1
	headerFixedSize = 48 // bytes, up to the names
	headerCRCSize   = 4  // bytes

	MaxNameBytes     = 255      // bucket type, bucket, writer
	MaxKeyBytes      = 4096     // a key
	MaxMetadataBytes = 64 << 10 // all metadata fields together
	MaxValueBytes    = 50 << 20 // a value; also the most a reader allocates on a bad length

	// MaxHeaderBytes is the longest possible header.
	MaxHeaderBytes = headerFixedSize + 3*MaxNameBytes + MaxKeyBytes + MaxMetadataBytes + headerCRCSize
	// MaxRecordBytes is the longest possible record.
	MaxRecordBytes = MaxHeaderBytes + MaxValueBytes
	// MinRecordBytes is the shortest: one-byte names, no value.
	MinRecordBytes = headerFixedSize + 3 + headerCRCSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Decoding errors. Both say only that the bytes cannot be used; neither
// changes what is stored.
var (
	// ErrTorn: the bytes end before the record does.
	ErrTorn = errors.New("the record is torn: it is shorter than it says")
	// ErrCorrupt: the bytes are not a valid record.
	ErrCorrupt = errors.New("the record is corrupt")
)

// A Kind says what a record is.
type Kind uint8

const (
	Value     Kind = 1 // an object
	Tombstone Kind = 2 // the mark of a deleted object; its value is empty
	Delta     Kind = 3 // an addition to an index row; all deltas of a key are kept
)

// Flags qualify a record.
type Flags uint16

// FlagErased marks a tombstone in a write-once bucket: the key was erased on
// purpose and never takes a value again.
const FlagErased Flags = 1 << 0

const knownFlags = FlagErased

// A Header describes one object. Its byte slices alias the buffer it was
// parsed from, or belong to the caller who built it.
type Header struct {
	Kind              Kind
	Flags             Flags
	EventCount        uint32
	TimestampMicros   int64 // microseconds since the Unix epoch, UTC
	ValueBytes        uint32
	Checksum          uint64 // xxhash64 of the value
	Incarnation       uint64 // of the writer
	Type, Bucket, Key []byte
	Writer            []byte
	Metadata          []byte // opaque here; see [Fields]
	CRC               uint32 // of the encoded header: set by ParseHeader and by AppendHeader
}

// Size returns the length of the encoded header, bytes.
func (h *Header) Size() int {
	return headerFixedSize + len(h.Type) + len(h.Bucket) + len(h.Key) + len(h.Writer) + len(h.Metadata) + headerCRCSize
}

// RecordSize returns the length of header and value, bytes.
func (h *Header) RecordSize() int { return h.Size() + int(h.ValueBytes) }

// Validate tells the first rule the header breaks. A header that passes can be
// encoded, and every decoded header passes.
func (h *Header) Validate() error {
	switch {
	case h.Kind < Value || h.Kind > Delta:
		return fmt.Errorf("%w: kind %d is not known", ErrCorrupt, h.Kind)
	case h.Flags&^knownFlags != 0:
		return fmt.Errorf("%w: flags %#x are not known", ErrCorrupt, uint16(h.Flags))
	case h.TimestampMicros < 1:
		return fmt.Errorf("%w: the timestamp %d is not positive", ErrCorrupt, h.TimestampMicros)
	case h.ValueBytes > MaxValueBytes:
		return fmt.Errorf("%w: a value of %d bytes; the bound is %d", ErrCorrupt, h.ValueBytes, MaxValueBytes)
	case h.Kind == Tombstone && h.ValueBytes != 0:
		return fmt.Errorf("%w: a tombstone with a value", ErrCorrupt)
	case len(h.Type) < 1 || len(h.Type) > MaxNameBytes:
		return fmt.Errorf("%w: a bucket type of %d bytes; 1 to %d are allowed", ErrCorrupt, len(h.Type), MaxNameBytes)
	case len(h.Bucket) < 1 || len(h.Bucket) > MaxNameBytes:
		return fmt.Errorf("%w: a bucket name of %d bytes; 1 to %d are allowed", ErrCorrupt, len(h.Bucket), MaxNameBytes)
	case len(h.Key) < 1 || len(h.Key) > MaxKeyBytes:
		return fmt.Errorf("%w: a key of %d bytes; 1 to %d are allowed", ErrCorrupt, len(h.Key), MaxKeyBytes)
	case len(h.Writer) > MaxNameBytes:
		return fmt.Errorf("%w: a writer name of %d bytes; the bound is %d", ErrCorrupt, len(h.Writer), MaxNameBytes)
	case len(h.Metadata) > MaxMetadataBytes:
		return fmt.Errorf("%w: metadata of %d bytes; the bound is %d", ErrCorrupt, len(h.Metadata), MaxMetadataBytes)
	}
	return nil
}

// AppendHeader appends the encoding of h to dst and sets h.CRC. The header must
// be valid: doors check what strangers send with [Header.Validate] first.
func AppendHeader(dst []byte, h *Header) []byte {
	if err := h.Validate(); err != nil {
		panic("object: BUG: an unchecked header is encoded: " + err.Error())
	}
	start := len(dst)
	dst = append(dst, headerFormat, byte(h.Kind))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Flags))
	dst = binary.LittleEndian.AppendUint32(dst, h.EventCount)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.TimestampMicros))
	dst = binary.LittleEndian.AppendUint32(dst, h.ValueBytes)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.Type)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.Bucket)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.Key)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.Writer)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.Metadata)))
	dst = binary.LittleEndian.AppendUint64(dst, h.Checksum)
	dst = binary.LittleEndian.AppendUint64(dst, h.Incarnation)
	dst = append(dst, h.Type...)
	dst = append(dst, h.Bucket...)
	dst = append(dst, h.Key...)
	dst = append(dst, h.Writer...)
	dst = append(dst, h.Metadata...)
	h.CRC = crc32.Checksum(dst[start:], castagnoli)
	return binary.LittleEndian.AppendUint32(dst, h.CRC)
}

// HeaderSize returns how long the header that begins b is, reading only its
// fixed part: what a reader needs before it knows how much to fetch. The
// answer is bounded by MaxHeaderBytes and is not yet trusted; ErrTorn means b is
// shorter than the fixed part.
func HeaderSize(b []byte) (int, error) {
	if len(b) < headerFixedSize {
		return 0, ErrTorn
	}
	if b[0] != headerFormat {
		return 0, fmt.Errorf("%w: format %d; this program reads format %d", ErrCorrupt, b[0], headerFormat)
	}
	n := headerFixedSize + headerCRCSize
	for _, at := range [...]int{20, 22, 24, 26} {
		n += int(binary.LittleEndian.Uint16(b[at:]))
	}
	meta := binary.LittleEndian.Uint32(b[28:])
	if meta > MaxMetadataBytes || n+int(meta) > MaxHeaderBytes {
		return 0, fmt.Errorf("%w: a header of over %d bytes", ErrCorrupt, MaxHeaderBytes)
	}
	return n + int(meta), nil
}

// ParseHeader decodes the header that begins b, checks it and its CRC, and
// returns it with its length in bytes. The header's slices alias b, which may
// hold more than the header.
func ParseHeader(b []byte) (Header, int, error) {
	n, err := HeaderSize(b)
	if err != nil {
		return Header{}, 0, err
	}
	if len(b) < n {
		return Header{}, 0, ErrTorn
	}
	crc := binary.LittleEndian.Uint32(b[n-headerCRCSize:])
	if crc32.Checksum(b[:n-headerCRCSize], castagnoli) != crc {
		return Header{}, 0, fmt.Errorf("%w: the header's CRC does not match", ErrCorrupt)
	}
	h := Header{
		Kind:            Kind(b[1]),
		Flags:           Flags(binary.LittleEndian.Uint16(b[2:])),
		EventCount:      binary.LittleEndian.Uint32(b[4:]),
		TimestampMicros: int64(binary.LittleEndian.Uint64(b[8:])),
		ValueBytes:      binary.LittleEndian.Uint32(b[16:]),
		Checksum:        binary.LittleEndian.Uint64(b[32:]),
		Incarnation:     binary.LittleEndian.Uint64(b[40:]),
		CRC:             crc,
	}
	rest := b[headerFixedSize : n-headerCRCSize : n-headerCRCSize]
	take := func(n int) []byte { f := rest[:n:n]; rest = rest[n:]; return f }
	h.Type = take(int(binary.LittleEndian.Uint16(b[20:])))
	h.Bucket = take(int(binary.LittleEndian.Uint16(b[22:])))
	h.Key = take(int(binary.LittleEndian.Uint16(b[24:])))
	h.Writer = take(int(binary.LittleEndian.Uint16(b[26:])))
	h.Metadata = rest
	if err := h.Validate(); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// In returns h, which was parsed from the like of b, with slices that alias b: a
// checked header can be copied without being checked again. b begins with the
// encoding of h.
func (h Header) In(b []byte) Header {
	n := h.Size() - headerCRCSize
	rest := b[headerFixedSize:n:n]
	for _, f := range [...]*[]byte{&h.Type, &h.Bucket, &h.Key, &h.Writer, &h.Metadata} {
		size := len(*f)
		*f, rest = rest[:size:size], rest[size:]
	}
	return h
}

// Checksum returns the checksum of a value: xxhash64.
func Checksum(value []byte) uint64 { return xxhash.Sum64(value) }
