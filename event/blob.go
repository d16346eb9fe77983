package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cespare/xxhash/v2"
)

// A blob holds one second's events of one dc, type and subtype, or a chunk of
// them. Integers are little-endian; the layout is format 1.
//
//	offset  size  field
//	0       4     magic "MFEB"
//	4       1     version: 1
//	5       1     codec of the payload: 0 none, 1 zstd
//	6       2     zero
//	8       4     events
//	12      4     raw bytes: size of the document, 1..MaxRawBytes
//	16      4     payload bytes
//	20      p     payload: the document, encoded
//	20+p    8     xxhash64, seed 0, of every byte before
//
// The document is one msgpack array of the events, each a map, nested at most
// MaxDepth deep together with the array. A zstd payload is exactly one frame,
// without a dictionary, that states its content size. A blob has at most
// MaxBlobBytes in all.
//
// The checksum stands last so that whoever reads the blob in the end can verify
// what whoever encoded it wrote.
const (
	blobMagic    = "MFEB"
	blobVersion  = 1
	headerBytes  = 20
	trailerBytes = 8

	// BlobOverhead is what a blob has beside its payload, bytes.
	BlobOverhead = headerBytes + trailerBytes

	MaxBlobBytes = 50 << 20  // of a blob as stored
	MaxRawBytes  = 256 << 20 // of its document
)

// What may be wrong with a blob. Nothing was done with it.
var (
	// ErrTorn: the blob is shorter than it says. It may be whole elsewhere.
	ErrTorn = errors.New("torn blob")
	// ErrCorrupt: the bytes are not those that were written. They may be intact
	// elsewhere.
	ErrCorrupt = errors.New("corrupt blob")
	// ErrVersion: a newer mayfly wrote the blob in a form this one cannot read.
	ErrVersion = errors.New("blob of an unknown format")
	// ErrTooLarge: the blob, or what is to be put into one, exceeds a bound.
	ErrTooLarge = errors.New("too large for a blob")
)

// A Codec says how a blob's payload encodes its document.
type Codec uint8

// The codecs of format 1.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
)

// String is "none", "zstd" or "codec <number>".
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecZstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// A Blob is a blob whose header and checksum have been verified. Its payload has
// not been decoded.
type Blob struct {
	Codec    Codec
	Count    int    // events
	RawBytes int    // of the document
	Payload  []byte // the encoded document; aliases what was parsed
	Checksum uint64 // the blob's own: xxhash64 of all of it but the last 8 bytes
}

// ParseBlob verifies the magic, version, sizes and checksum of b, which must be
// one whole blob, without decoding the payload. It allocates nothing unless it
// fails. The error is ErrTorn, ErrCorrupt, ErrVersion or ErrTooLarge.
func ParseBlob(b []byte) (Blob, error) {
	if n := min(len(b), len(blobMagic)); string(b[:n]) != blobMagic[:n] {
		return Blob{}, fmt.Errorf("no magic %q: %w", blobMagic, ErrCorrupt)
	}
	if len(b) > 4 && b[4] != blobVersion {
		return Blob{}, fmt.Errorf("blob version %d, this program reads version %d: upgrade it: %w", b[4], blobVersion, ErrVersion)
	}
	if len(b) < BlobOverhead {
		return Blob{}, fmt.Errorf("%d bytes, a blob has at least %d: %w", len(b), BlobOverhead, ErrTorn)
	}
	if len(b) > MaxBlobBytes {
		return Blob{}, fmt.Errorf("blob of %d bytes, at most %d are allowed: %w", len(b), MaxBlobBytes, ErrTooLarge)
	}
	size := uint64(binary.LittleEndian.Uint32(b[16:])) + BlobOverhead
	switch {
	case size > MaxBlobBytes:
		return Blob{}, fmt.Errorf("payload of %d bytes claimed, more than any blob has: %w", size-BlobOverhead, ErrCorrupt)
	case size > uint64(len(b)):
		return Blob{}, fmt.Errorf("%d bytes of %d: %w", len(b), size, ErrTorn)
	case size < uint64(len(b)):
		return Blob{}, fmt.Errorf("%d bytes follow its end: %w", uint64(len(b))-size, ErrCorrupt)
	}
	return parseWhole(b)
}

// parseWhole parses a blob whose length has been found right.
func parseWhole(b []byte) (Blob, error) {
	end := len(b) - trailerBytes
	blob := Blob{
		Codec:    Codec(b[5]),
		Count:    int(binary.LittleEndian.Uint32(b[8:])),
		RawBytes: int(binary.LittleEndian.Uint32(b[12:])),
		Payload:  b[headerBytes:end:end],
		Checksum: binary.LittleEndian.Uint64(b[end:]),
	}
	if sum := xxhash.Sum64(b[:end]); sum != blob.Checksum {
		return Blob{}, fmt.Errorf("checksum %016x, its bytes have %016x: %w", blob.Checksum, sum, ErrCorrupt)
	}
	switch {
	case b[6] != 0 || b[7] != 0:
		return Blob{}, fmt.Errorf("reserved bytes are not zero: %w", ErrCorrupt)
	case blob.Codec != CodecNone && blob.Codec != CodecZstd:
		return Blob{}, fmt.Errorf("%v is not known to this program: upgrade it: %w", blob.Codec, ErrVersion)
	case blob.RawBytes > MaxRawBytes:
		return Blob{}, fmt.Errorf("document of %d bytes, at most %d are allowed: %w", blob.RawBytes, MaxRawBytes, ErrTooLarge)
	case blob.Count >= blob.RawBytes: // the header and one byte an event at least
		return Blob{}, fmt.Errorf("%d events cannot be in %d bytes: %w", blob.Count, blob.RawBytes, ErrCorrupt)
	case blob.Codec == CodecNone && blob.RawBytes != len(blob.Payload):
		return Blob{}, fmt.Errorf("document of %d bytes in a payload of %d: %w", blob.RawBytes, len(blob.Payload), ErrCorrupt)
	}
	return blob, nil
}

// Info is what Builder said of the blob when it was made.
func (b Blob) Info() BlobInfo {
	return BlobInfo{Count: b.Count, RawBytes: b.RawBytes, StoredBytes: len(b.Payload) + BlobOverhead, Checksum: b.Checksum}
}

// Events decodes the payload, checks the document and that it is what the header
// says, and returns its events. It uses the capacity of buf if that suffices;
// otherwise it allocates the document's size, after the payload has shown that
// it can hold as much. For CodecNone the events alias the blob and buf is not
// used. The error is ErrCorrupt.
func (b Blob) Events(buf []byte) (Events, error) {
	doc := b.Payload
	if b.Codec == CodecZstd {
		var err error
		if doc, err = decompress(buf[:0], b.Payload, b.RawBytes); err != nil {
			return Events{}, err
		}
	}
	count, at, ok := arrayHeader(doc)
	if !ok || count != b.Count {
		return Events{}, fmt.Errorf("the document is not an array of %d events: %w", b.Count, ErrCorrupt)
	}
	first := at
	for i := range count {
		n, reason := walk(doc[at:], MaxDepth-1)
		if reason == "" && !isMap(doc[at]) {
			n, reason = 0, reasonMap
		}
		if reason != "" {
			return Events{}, fmt.Errorf("event %d, byte %d of the document: %s: %w", i, at+n, reason, ErrCorrupt)
		}
		at += n
	}
	if at != len(doc) {
		return Events{}, fmt.Errorf("%d bytes follow the last event: %w", len(doc)-at, ErrCorrupt)
	}
	return Events{doc: doc, first: first, count: count}, nil
}

// Events are the events of a decoded blob.
type Events struct {
	doc   []byte // validated: an array of count maps
	first int    // offset of the first
	count int
}

// Len is the number of events.
func (e Events) Len() int { return e.count }

// Document is the msgpack array of all events: a valid document of its own. It
// aliases the buffer given to Blob.Events, or the blob.
func (e Events) Document() []byte { return e.doc }

// All yields the events, numbered from 0, in the order they were appended. Each
// is a well-formed msgpack map and aliases the document.
func (e Events) All() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		at := e.first
		for i := range e.count {
			n, reason := walk(e.doc[at:], MaxDepth-1)
			if reason != "" {
				panic("event: BUG: a validated document has changed: " + reason)
			}
			if !yield(i, e.doc[at:at+n:at+n]) {
				return
			}
			at += n
		}
	}
}
