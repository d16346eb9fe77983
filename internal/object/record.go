package object

import "fmt"

// A Record is an encoded object with its parsed header. Its bytes, and the
// slices of its header, belong to Buf if that is set, and live as long as it;
// otherwise to whoever owns the slice it was parsed from.
type Record struct {
	Header
	Buf *Buffer // may be nil

	raw        []byte // header and value
	headerSize int    // or headOnly
}

// headOnly is the headerSize of a Record that is a header alone: raw is all of it.
const headOnly = -1

// ParseRecord reads b as one whole record: header, value and nothing else. The
// header's CRC is checked; the value's checksum is not, see [Record.Verify].
// The Record aliases b.
func ParseRecord(b []byte) (Record, error) {
	h, n, err := ParseHeader(b)
	if err != nil {
		return Record{}, err
	}
	switch want := n + int(h.ValueBytes); {
	case len(b) < want:
		return Record{}, ErrTorn
	case len(b) > want:
		return Record{}, fmt.Errorf("%w: %d bytes follow its value", ErrCorrupt, len(b)-want)
	}
	return Record{Header: h, raw: b, headerSize: n}, nil
}

// ParseBuffer is ParseRecord for bytes in a Buffer: on success the Record has
// taken over the caller's use of buf.
func ParseBuffer(buf *Buffer) (Record, error) {
	r, err := ParseRecord(buf.Bytes())
	if err != nil {
		return Record{}, err
	}
	r.Buf = buf
	return r, nil
}

// HeadRecord returns what is read of an object without its value: h, which was
// parsed from raw, a whole encoded header in buf. The Record takes over a use of
// buf. It has a RawHeader; its Raw and its Value are empty.
func HeadRecord(h Header, raw []byte, buf *Buffer) Record {
	return Record{Header: h, Buf: buf, raw: raw, headerSize: headOnly}
}

// Encode builds the record of h and value in a fresh Buffer of its own: it sets
// h's value length, checksum and CRC. It is the one copy a value makes on its
// way in. What strangers sent is refused with the header's fault.
func Encode(h Header, value []byte) (Record, error) {
	if len(value) > MaxValueBytes {
		return Record{}, Errorf(CodeTooLarge, NotDone, "the value has %d bytes; at most %d are stored: split it", len(value), MaxValueBytes)
	}
	h.ValueBytes, h.Checksum = uint32(len(value)), Checksum(value)
	if err := h.Validate(); err != nil {
		return Record{}, Errorf(CodeBadRequest, NotDone, "%w", err)
	}
	buf := NewBuffer(h.RecordSize())
	b := AppendHeader(buf.Bytes()[:0], &h)
	b = append(b, value...)
	if len(b) != len(buf.Bytes()) {
		panic("object: BUG: a record's size was miscounted")
	}
	return ParseBuffer(buf)
}

// Raw returns the whole record, header and value.
func (r *Record) Raw() []byte {
	if r.headerSize == headOnly {
		return nil
	}
	return r.raw
}

// RawHeader returns the encoded header.
func (r *Record) RawHeader() []byte {
	if r.headerSize == headOnly {
		return r.raw
	}
	return r.raw[:r.headerSize]
}

// Value returns the value's bytes.
func (r *Record) Value() []byte {
	if r.headerSize == headOnly {
		return nil
	}
	return r.raw[r.headerSize:]
}

// Verify checks the value against its checksum.
func (r *Record) Verify() error {
	if got := Checksum(r.Value()); got != r.Checksum {
		return fmt.Errorf("%w: the value of %q has checksum %016x, its header says %016x", ErrCorrupt, r.Key, got, r.Header.Checksum)
	}
	return nil
}

// Retain adds a user to the record's buffer, if it has one, and returns r.
func (r Record) Retain() Record {
	if r.Buf != nil {
		r.Buf.Retain()
	}
	return r
}

// Release ends one use of the record. Its slices must not be touched after it.
func (r *Record) Release() {
	if r.Buf != nil {
		r.Buf.Release()
	}
}
