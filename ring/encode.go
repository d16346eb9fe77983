package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A ring as bytes: in the agreed state, on the wire, on disk. Integers are
// little-endian; the layout is format 1. Equal rings have equal bytes.
//
//	offset  size  field
//	0       4     magic "MFRG"
//	4       1     format, 1
//	5       1     bits: the ring has Q = 2^bits partitions, 0..16
//	6       1     n, owners a partition, 1..16
//	7       1     zero
//	8       2     m, number of nodes, n..4096
//	10      2     zero
//	12      …     m nodes, ascending by id:
//	                16  id, not all zero
//	                 4  weight, at least 1
//	                 1  a, length of the name, 1..255
//	                 a  name, UTF-8 without control characters
//	                 1  b, length of the zone
//	                 b  zone, UTF-8 without control characters
//	…       2Qn   owners: for each partition, ascending, n indexes into the
//	              nodes, all different, in order of preference
//	…       8     xxhash64 of all before
//
// Nothing may follow. A decoder accepts exactly what an encoder can write.
const (
	ringMagic      = "MFRG"
	ringFormat     = 1
	ringHeaderSize = 12
	sumSize        = 8 // bytes of the checksum behind a ring or a history
)

var (
	// ErrCorrupt says the bytes are cut short, damaged, or were never a ring or
	// a history.
	ErrCorrupt = errors.New("corrupt ring")

	// ErrFormat says the bytes are of a format this program does not know.
	ErrFormat = errors.New("unknown ring format")
)

// AppendBinary appends the ring's bytes to dst. The error is always nil.
func (r *Ring) AppendBinary(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, ringMagic...)
	dst = append(dst, ringFormat, r.bits, byte(r.n), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.nodes)))
	dst = append(dst, 0, 0)
	for _, node := range r.nodes {
		dst = appendNode(dst, node)
	}
	dst = slices.Grow(dst, 2*r.n<<r.bits+sumSize)
	index := indexOf(r.nodes)
	for _, block := range r.blocks {
		for _, id := range block {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(index[id]))
		}
	}
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[start:])), nil
}

func appendNode(dst []byte, n Node) []byte {
	dst = append(dst, n.ID[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, n.Weight)
	dst = append(dst, byte(len(n.Name)))
	dst = append(dst, n.Name...)
	dst = append(dst, byte(len(n.Zone)))
	return append(dst, n.Zone...)
}

// MarshalBinary returns the ring's bytes. The error is always nil.
func (r *Ring) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// UnmarshalRing returns the ring whose bytes b is, whole. It keeps nothing of
// b. Errors wrap ErrCorrupt, ErrFormat or ErrRing.
func UnmarshalRing(b []byte) (*Ring, error) {
	body, err := openDocument(b, ringMagic, ringFormat, ringHeaderSize)
	if err != nil {
		return nil, fmt.Errorf("ring: %w", err)
	}
	d := decoder{rest: body}
	bits, n := d.uint8(), int(d.uint8())
	d.zeroes(1)
	count := int(d.uint16())
	d.zeroes(2)
	if bits > MaxBits || count > MaxNodes { // before anything is allocated by them
		return nil, fmt.Errorf("ring: 2^%d partitions, %d nodes: %w", bits, count, ErrRing)
	}
	var nodes []Node
	for i := 0; i < count && !d.failed; i++ {
		nodes = append(nodes, d.node())
	}
	if d.failed || len(d.rest) != 2*n<<bits {
		return nil, fmt.Errorf("ring: lengths do not add up: %w", ErrCorrupt)
	}
	rows := make([]uint16, n<<bits)
	for i := range rows {
		rows[i] = d.uint16()
	}
	r, err := newRing(bits, n, nodes, rows)
	if err != nil {
		return nil, fmt.Errorf("ring: %w", err)
	}
	return r, nil
}

// openDocument checks magic, format and checksum and returns what is between
// the format and the checksum: at least headerSize-5 bytes.
func openDocument(b []byte, magic string, format byte, headerSize int) ([]byte, error) {
	if len(b) >= 5 && string(b[:4]) == magic && b[4] != format {
		return nil, fmt.Errorf("format %d, this program knows format %d: %w", b[4], format, ErrFormat)
	}
	if len(b) < headerSize+sumSize || string(b[:4]) != magic {
		return nil, fmt.Errorf("%d bytes without its beginning: %w", len(b), ErrCorrupt)
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if xxhash.Sum64(body) != binary.LittleEndian.Uint64(sum) {
		return nil, fmt.Errorf("checksum does not match: %w", ErrCorrupt)
	}
	return body[5:], nil
}

// A decoder takes fields off the front of rest. Once one is missing or wrong
// it has failed, and all later ones are zero.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.failed, d.rest = true, nil
	}
	if d.failed {
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) zeroes(n int) {
	for _, b := range d.take(n) {
		if b != 0 {
			d.failed = true
		}
	}
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// node takes a node; its content is checked by whoever makes the ring.
func (d *decoder) node() Node {
	var n Node
	copy(n.ID[:], d.take(16))
	n.Weight = d.uint32()
	n.Name = string(d.take(int(d.uint8())))
	n.Zone = string(d.take(int(d.uint8())))
	return n
}
