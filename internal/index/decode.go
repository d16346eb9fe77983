package index

import (
	"encoding/binary"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
)

// ParseRow decodes a row. It takes only what AppendRow writes, so that equal
// rows have equal bytes, and allocates in proportion to the bytes there are. The
// row does not alias b. The error is an ErrRow.
func ParseRow(b []byte) (Row, error) {
	if len(b) > MaxRowBytes {
		return Row{}, rowError("more than fits into an object")
	}
	if len(b) < rowHeadSize {
		return Row{}, rowError("shorter than its head")
	}
	if b[0] != rowFormat {
		return Row{}, fmt.Errorf("%w: format %d; this program reads format %d", ErrRow, b[0], rowFormat)
	}
	// One copy holds the strings of the whole row.
	d := decoder{bytes: b[rowHeadSize:], text: string(b[rowHeadSize:])}
	r := Row{d.sections(binary.LittleEndian.Uint32(b[1:]))}
	switch {
	case d.fault != "":
		return Row{}, rowError(d.fault)
	case len(d.bytes) > 0:
		return Row{}, rowError("bytes after its end")
	}
	if err := r.Validate(); err != nil {
		return Row{}, err
	}
	return r, nil
}

// A decoder takes fields off the front of a row. After a fault it returns zeros,
// and no more of them than the counts it has already admitted.
type decoder struct {
	bytes []byte // what is left
	text  string // the same bytes
	fault string // the first one
}

// take returns the next n bytes, nil after a fault.
func (d *decoder) take(n int) []byte {
	if d.fault != "" || n > len(d.bytes) {
		d.fail("it ends inside a field")
		return nil
	}
	field := d.bytes[:n]
	d.bytes, d.text = d.bytes[n:], d.text[n:]
	return field
}

func (d *decoder) string(n int) string {
	text := d.text
	if d.take(n) == nil {
		return ""
	}
	return text[:n]
}

func (d *decoder) fail(what string) {
	if d.fault == "" {
		d.fault = what
	}
	d.bytes, d.text = nil, ""
}

// count admits a count of elements of at least size bytes each, if so many can
// be left.
func (d *decoder) count(n uint32, size int) int {
	if uint64(n)*uint64(size) > uint64(len(d.bytes)) {
		d.fail("a count that its length denies")
		return 0
	}
	return int(n)
}

func (d *decoder) sections(count uint32) []Section {
	n := d.count(count, sectionHeadSize)
	if n == 0 {
		return nil
	}
	sections := make([]Section, n)
	for i := range sections {
		sections[i] = d.section()
	}
	return sections
}

func (d *decoder) section() (s Section) {
	head := d.take(sectionHeadSize)
	if head == nil {
		return s
	}
	marks := head[1]
	if marks&^knownMarks != 0 {
		d.fail("unknown marks of a writer")
	}
	s.Hello, s.Goodbye = marks&markHello != 0, marks&markGoodbye != 0
	s.Writer.Incarnation = binary.LittleEndian.Uint64(head[8:])
	s.Writer.Name = d.string(int(head[0]))
	if marks&markFinal != 0 {
		s.Final = d.final()
	}
	s.Succeeds = d.writers(uint32(binary.LittleEndian.Uint16(head[2:])))
	s.Entries = d.entries(binary.LittleEndian.Uint32(head[4:]))
	return s
}

func (d *decoder) final() *Final {
	b := d.take(finalSize)
	if b == nil {
		return nil
	}
	return &Final{
		Count:  binary.LittleEndian.Uint32(b),
		Digest: object.Digest{Hi: binary.LittleEndian.Uint64(b[4:]), Lo: binary.LittleEndian.Uint64(b[12:])},
	}
}

func (d *decoder) writers(count uint32) []Writer {
	n := d.count(count, writerHeadSize)
	if n == 0 {
		return nil
	}
	writers := make([]Writer, n)
	for i := range writers {
		if head := d.take(writerHeadSize); head != nil {
			writers[i] = Writer{Name: d.string(int(head[0])), Incarnation: binary.LittleEndian.Uint64(head[1:])}
		}
	}
	return writers
}

func (d *decoder) entries(count uint32) []Entry {
	n := d.count(count, entryHeadSize)
	if n == 0 {
		return nil
	}
	entries := make([]Entry, n)
	for i := range entries {
		d.entry(&entries[i])
	}
	return entries
}

func (d *decoder) entry(e *Entry) {
	head := d.take(entryHeadSize)
	if head == nil {
		return
	}
	flags := head[1]
	e.Flags = Flags(flags &^ flagTombstone)
	e.Version.Tombstone = flags&flagTombstone != 0
	e.Bytes = binary.LittleEndian.Uint32(head[2:])
	e.Events = binary.LittleEndian.Uint32(head[6:])
	e.Version.HeaderCRC = binary.LittleEndian.Uint32(head[10:])
	e.Version.TimestampMicros = int64(binary.LittleEndian.Uint64(head[14:]))
	e.Checksum = binary.LittleEndian.Uint64(head[22:])
	e.Suffix = d.string(int(head[0]))
}
