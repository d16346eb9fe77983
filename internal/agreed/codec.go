package agreed

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/ring"
)

// What is encoded begins with a magic of four bytes and the format's number,
// and ends with the xxhash64 of all before it. Integers are little-endian;
// texts and lists begin with their length.
const (
	format   = 1
	sumBytes = 8
)

// An encoder appends fields to b. Once something does not fit its field it has
// failed.
type encoder struct {
	b      []byte
	failed error
}

func newEncoder(magic string) *encoder { return &encoder{b: append([]byte(magic), format)} }

func (e *encoder) u8(v uint8)             { e.b = append(e.b, v) }
func (e *encoder) u32(v uint32)           { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)           { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) i64(v int64)            { e.u64(uint64(v)) }
func (e *encoder) id(v [16]byte)          { e.b = append(e.b, v[:]...) }
func (e *encoder) version(v ring.Version) { e.u32(v.Era); e.u64(v.Index) }

// u16 appends the length of a list or a text.
func (e *encoder) u16(v int) {
	if v > math.MaxUint16 {
		e.fail("a list or a text of %d is too long", v)
	}
	e.b = binary.LittleEndian.AppendUint16(e.b, uint16(v))
}

func (e *encoder) partition(p ring.Partition) {
	if p.Bits > ring.MaxBits || p.Prefix>>p.Bits != 0 {
		e.fail("a partition of %d bits with prefix %x is none", p.Bits, p.Prefix)
	}
	e.u8(p.Bits)
	e.u32(p.Prefix)
}

func (e *encoder) fail(format string, args ...any) {
	if e.failed == nil {
		e.failed = fmt.Errorf("agreed: "+format, args...)
	}
}

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

// text appends a text of less than 64 KiB.
func (e *encoder) text(s string) {
	e.u16(len(s))
	e.b = append(e.b, s...)
}

func (e *encoder) ids(ids []ring.NodeID) {
	e.u16(len(ids))
	for _, id := range ids {
		e.id(id)
	}
}

// part appends what something else has encoded.
func (e *encoder) part(b []byte) {
	e.u32(uint32(len(b)))
	e.b = append(e.b, b...)
}

// done returns all of it, with its sum, if it is not too long.
func (e *encoder) done(most int) ([]byte, error) {
	if e.failed != nil {
		return nil, e.failed
	}
	if len(e.b)+sumBytes > most {
		return nil, fmt.Errorf("agreed: %d bytes to encode, want at most %d", len(e.b)+sumBytes, most)
	}
	return binary.LittleEndian.AppendUint64(e.b, xxhash.Sum64(e.b)), nil
}

// A decoder takes fields off the front of rest. Once one is missing or wrong it
// has failed, and all later ones are zero.
type decoder struct {
	rest   []byte
	failed bool
}

// newDecoder checks magic, format, sum and length, and returns what is between.
func newDecoder(b []byte, magic string, most int) (*decoder, error) {
	if len(b) > len(magic) && string(b[:len(magic)]) == magic && b[len(magic)] != format {
		return nil, fmt.Errorf("format %d, this program knows format %d: %w", b[len(magic)], format, ErrFormat)
	}
	if len(b) < len(magic)+1+sumBytes || len(b) > most || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%d bytes without their beginning: %w", len(b), ErrCorrupt)
	}
	body, sum := b[:len(b)-sumBytes], b[len(b)-sumBytes:]
	if xxhash.Sum64(body) != binary.LittleEndian.Uint64(sum) {
		return nil, fmt.Errorf("checksum does not match: %w", ErrCorrupt)
	}
	return &decoder{rest: body[len(magic)+1:]}, nil
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.fail()
	}
	if d.failed {
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) fail() { d.failed, d.rest = true, nil }

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() int {
	if b := d.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) i64() int64 { return int64(d.u64()) }

func (d *decoder) id() (v [16]byte) {
	copy(v[:], d.take(len(v)))
	return v
}

func (d *decoder) version() ring.Version { return ring.Version{Era: d.u32(), Index: d.u64()} }

func (d *decoder) partition() ring.Partition {
	p := ring.Partition{Bits: d.u8(), Prefix: d.u32()}
	if p.Bits > ring.MaxBits || p.Prefix>>p.Bits != 0 {
		d.fail()
		return ring.Partition{}
	}
	return p
}

func (d *decoder) bool() bool {
	v := d.u8()
	if v > 1 {
		d.fail()
	}
	return v == 1
}

func (d *decoder) text() string { return string(d.take(d.u16())) }

// count takes the length of a list, each of whose elements has at least so many
// bytes: there can be no more than there are bytes for.
func (d *decoder) count(n, least int) int {
	if n > len(d.rest)/least {
		d.fail()
		return 0
	}
	return n
}

func (d *decoder) ids() (ids []ring.NodeID) {
	for range d.count(d.u16(), 16) {
		ids = append(ids, d.id())
	}
	return ids
}

func (d *decoder) part() []byte { return d.take(int(d.u32())) }

// done reports what is wrong, if anything is, or is left.
func (d *decoder) done() error {
	if d.failed || len(d.rest) != 0 {
		return fmt.Errorf("lengths do not add up: %w", ErrCorrupt)
	}
	return nil
}
