package index

import (
	"encoding/binary"

	"github.com/mayflydb/mayfly/internal/object"
)

// A row, and so a delta, is encoded as follows: the value of an object in the
// bucket "epochs", whose header guards it with a checksum. Integers are
// little-endian. This is format 1. Every row has exactly one encoding.
//
//	offset  size  field
//	0       1     format, 1
//	1       4     s, number of sections
//	5       …     the sections, ascending by (writer name, incarnation), each writer once
//
// A section:
//
//	0       1     n, length of the writer's name, bytes; 0: anonymous
//	1       1     marks: bit 0 hello, bit 1 goodbye, bit 2 final follows; others zero
//	2       2     number of writers it succeeds, 0..MaxSucceeds
//	4       4     number of entries
//	8       8     incarnation; 0 if anonymous
//	16      n     the writer's name
//	…       20    the final, if marked
//	…       …     the succeeded writers, ascending, each once
//	…       …     the entries, ascending by suffix, each suffix once
//
// A section says something: it has a mark, a succeeded writer or an entry. An
// anonymous one has entries and nothing else.
//
// A final:
//
//	0       4     number of blobs
//	4       8     digest, high half
//	12      8     digest, low half
//
// A succeeded writer, never anonymous and never the section's own:
//
//	0       1     n, length of its name, bytes, at least 1
//	1       8     incarnation
//	9       n     name
//
// An entry:
//
//	0       1     n, length of the suffix, bytes
//	1       1     flags: bit 0 erased, 1 late, 2 listed, 3 tombstone; others zero
//	2       4     value length, bytes
//	6       4     events in the blob
//	10      4     version: CRC of the record's header
//	14      8     version: timestamp, microseconds since the Unix epoch, UTC
//	22      8     xxhash64 of the value
//	30      n     suffix: type:subtype:chunk; in a late list epoch:type:subtype:chunk
//
// A tombstone is erased and its value length is zero. In a late list every
// entry is marked late and listed. No row mixes entries of both kinds.
const (
	rowFormat       = 1
	rowHeadSize     = 5  // bytes
	sectionHeadSize = 16 // bytes, up to the name
	finalSize       = 20 // bytes
	writerHeadSize  = 9  // bytes, up to the name
	entryHeadSize   = 30 // bytes, up to the suffix

	markHello   = 1 << 0
	markGoodbye = 1 << 1
	markFinal   = 1 << 2
	knownMarks  = markHello | markGoodbye | markFinal

	flagTombstone = 1 << 3 // in the encoding only: part of the version in memory

	// MaxRowBytes is the longest encoded row: it is an object's value. It is also
	// the most that ParseRow looks at.
	MaxRowBytes = object.MaxValueBytes
)

// Size returns the length of the encoded row, bytes.
func (r Row) Size() int {
	n := rowHeadSize
	for i := range r.Sections {
		n += r.Sections[i].size()
	}
	return n
}

func (s *Section) size() int {
	n := s.headSize()
	for i := range s.Entries {
		n += s.Entries[i].size()
	}
	return n
}

// headSize is the length of an encoded section without its entries.
func (s *Section) headSize() int {
	n := sectionHeadSize + len(s.Writer.Name)
	if s.Final != nil {
		n += finalSize
	}
	for _, w := range s.Succeeds {
		n += writerHeadSize + len(w.Name)
	}
	return n
}

func (e *Entry) size() int { return entryHeadSize + len(e.Suffix) }

// AppendRow appends the encoding of r to dst. It panics if r is not valid: what
// strangers send is checked when it is parsed.
func AppendRow(dst []byte, r Row) []byte {
	if err := r.Validate(); err != nil {
		panic("index: BUG: an unchecked row is encoded: " + err.Error())
	}
	dst = append(dst, rowFormat)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Sections)))
	for i := range r.Sections {
		dst = appendSection(dst, &r.Sections[i])
	}
	return dst
}

func appendSection(dst []byte, s *Section) []byte {
	dst = append(dst, byte(len(s.Writer.Name)), s.marks())
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(s.Succeeds)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.Entries)))
	dst = binary.LittleEndian.AppendUint64(dst, s.Writer.Incarnation)
	dst = append(dst, s.Writer.Name...)
	if s.Final != nil {
		dst = binary.LittleEndian.AppendUint32(dst, s.Final.Count)
		dst = binary.LittleEndian.AppendUint64(dst, s.Final.Digest.Hi)
		dst = binary.LittleEndian.AppendUint64(dst, s.Final.Digest.Lo)
	}
	for _, w := range s.Succeeds {
		dst = append(dst, byte(len(w.Name)))
		dst = binary.LittleEndian.AppendUint64(dst, w.Incarnation)
		dst = append(dst, w.Name...)
	}
	for i := range s.Entries {
		dst = appendEntry(dst, &s.Entries[i])
	}
	return dst
}

func (s *Section) marks() (marks byte) {
	if s.Hello {
		marks |= markHello
	}
	if s.Goodbye {
		marks |= markGoodbye
	}
	if s.Final != nil {
		marks |= markFinal
	}
	return marks
}

func appendEntry(dst []byte, e *Entry) []byte {
	flags := byte(e.Flags)
	if e.Version.Tombstone {
		flags |= flagTombstone
	}
	dst = append(dst, byte(len(e.Suffix)), flags)
	dst = binary.LittleEndian.AppendUint32(dst, e.Bytes)
	dst = binary.LittleEndian.AppendUint32(dst, e.Events)
	dst = binary.LittleEndian.AppendUint32(dst, e.Version.HeaderCRC)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Version.TimestampMicros))
	dst = binary.LittleEndian.AppendUint64(dst, e.Checksum)
	return append(dst, e.Suffix...)
}
