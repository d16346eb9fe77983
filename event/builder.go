package event

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// MaxBuilderBytes bounds the document of a Builder: whatever the events, the
// blob stays within MaxBlobBytes, because a document that does not compress is
// stored as it is.
const MaxBuilderBytes = MaxBlobBytes - BlobOverhead

// A BlobInfo describes a blob that was made.
type BlobInfo struct {
	Count       int    // events
	RawBytes    int    // of the document
	StoredBytes int    // of the blob
	Checksum    uint64 // Blob.Checksum
}

// A Builder collects events and makes blobs of them. The zero value is ready for
// use; it is used again after Reset. It copies each event once, allocates
// nothing per event once its buffer has grown, and is not safe for concurrent
// use.
type Builder struct {
	// buf is arrayHeaderBytes free bytes, then the events without a header
	// between: whichever of them are sealed together, the header they need is
	// written over what stands before the first.
	buf  []byte
	ends []uint32 // offset in buf of the end of each event
	// ratio is document bytes per stored byte, as the last Chunks had it; 0 before
	// the first.
	ratio float64
}

// arrayHeaderBytes is the most the header of a msgpack array has.
const arrayHeaderBytes = 5

// Append adds one event, a copy of doc, which must be a msgpack map as
// ValidateMap has it. The error is a *MsgpackError, or ErrTooLarge if the
// document would exceed MaxBuilderBytes; the event has then not been added, and
// the others are intact.
func (b *Builder) Append(doc []byte) error {
	if err := ValidateMap(doc); err != nil {
		return err
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, arrayHeaderBytes)...)
	}
	if len(b.buf)+len(doc) > MaxBuilderBytes {
		return fmt.Errorf("event of %d bytes after %d others of %d bytes, %d are allowed together: %w",
			len(doc), b.Len(), len(b.buf), MaxBuilderBytes, ErrTooLarge)
	}
	b.buf = append(b.buf, doc...)
	b.ends = append(b.ends, uint32(len(b.buf)))
	return nil
}

// Len is the number of events appended.
func (b *Builder) Len() int { return len(b.ends) }

// RawBytes is the size of the document the events make.
func (b *Builder) RawBytes() int {
	return max(0, len(b.buf)-arrayHeaderBytes) + headerSize(len(b.ends))
}

// Reset forgets the events. Buffers are kept, unless these events needed less
// than a quarter of them.
func (b *Builder) Reset() {
	const small = 1 << 20 // bytes; never released
	if cap(b.buf) > small && len(b.buf) < cap(b.buf)/4 {
		b.buf = nil
	}
	if 4*cap(b.ends) > small && len(b.ends) < cap(b.ends)/4 {
		b.ends = nil
	}
	b.buf, b.ends = b.buf[:0], b.ends[:0]
}

// Seal appends one blob of all the events to dst and returns it with its
// description. Without events the blob is valid and empty. The events stay until
// Reset.
func (b *Builder) Seal(dst []byte) ([]byte, BlobInfo) {
	return b.seal(dst, 0, len(b.ends))
}

// seal appends a blob of the events from up to, not including, to.
func (b *Builder) seal(dst []byte, from, to int) ([]byte, BlobInfo) {
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, arrayHeaderBytes)...)
	}
	first, end := b.start(from), b.start(to)
	count := to - from
	start := first - headerSize(count)

	// The header of the array takes the place of the end of the event before,
	// which is put back.
	var saved [arrayHeaderBytes]byte
	copy(saved[:], b.buf[start:first])
	putArrayHeader(b.buf[start:first], count)
	dst, info := appendBlob(dst, b.buf[start:end], count)
	copy(b.buf[start:first], saved[:])
	return dst, info
}

// start is the offset in buf of event i, or of the end of the last.
func (b *Builder) start(i int) int {
	if i == 0 {
		return arrayHeaderBytes
	}
	return int(b.ends[i-1])
}

// appendBlob appends the blob of a document of count events to dst.
func appendBlob(dst, doc []byte, count int) ([]byte, BlobInfo) {
	start := len(dst)
	dst = append(dst, blobMagic...)
	dst = append(dst, blobVersion, byte(CodecZstd), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(count))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(doc)))
	dst = append(dst, 0, 0, 0, 0) // payload bytes, filled in below
	dst = compress(dst, doc)
	if len(dst)-start-headerBytes >= len(doc) {
		dst = append(dst[:start+headerBytes], doc...)
		dst[start+5] = byte(CodecNone)
	}
	binary.LittleEndian.PutUint32(dst[start+16:], uint32(len(dst)-start-headerBytes))
	sum := xxhash.Sum64(dst[start:])
	dst = binary.LittleEndian.AppendUint64(dst, sum)
	return dst, BlobInfo{Count: count, RawBytes: len(doc), StoredBytes: len(dst) - start, Checksum: sum}
}

// headerSize is the size of the shortest header of a msgpack array.
func headerSize(count int) int {
	switch {
	case count < 16:
		return 1
	case count < 1<<16:
		return 3
	}
	return 5
}

// putArrayHeader writes the shortest header, which is len(dst) long.
func putArrayHeader(dst []byte, count int) {
	switch len(dst) {
	case 1:
		dst[0] = 0x90 | byte(count)
	case 3:
		dst[0] = 0xdc
		binary.BigEndian.PutUint16(dst[1:], uint16(count))
	case 5:
		dst[0] = 0xdd
		binary.BigEndian.PutUint32(dst[1:], uint32(count))
	default:
		panic(fmt.Sprintf("event: BUG: array header of %d bytes", len(dst)))
	}
}
