package ring

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A history as bytes: the cluster's slot length, its rings, their amendments
// and the handover of plain data, in format 3. Equal histories have equal
// bytes.
//
//	offset  size  field
//	0       4     magic "MFRH"
//	4       1     format, 3
//	5       3     zero
//	8       4     era of the version
//	12      8     index of the version
//	20      8     length of a slot in seconds, 1..2^63-1
//	28      4     number of rings, 1..1024
//	32      4     number of amendments, 0..4096
//	36      …     the rings, ascending by slot:
//	                 8  first slot it counts for, signed
//	                 4  c, length of the ring
//	                 c  the ring, see encode.go
//	…       …     the amendments, in the order of their agreement:
//	                 8  first slot it counts for, signed
//	                 8  first slot it does not count for, signed; 2^63-1: none
//	                 1  reason: 1 down, 2 leaving, 3 lost, 4 replaced, 5 filled
//	                 1  1 if the node replaced is no source, else 0
//	                 2  s, number of successors, 1..4096
//	                 4  m, number of moves, 1..65536
//	                16  the node replaced; all zero if filled
//	                 …  s successors, as nodes of a ring, ascending by id
//	                8m  moves, ascending by prefix:
//	                       4  prefix of the partition
//	                       2  index into the successors
//	                       1  1 if the successor may lack something, else 0
//	                       1  zero
//	…       …     the handover of plain data:
//	                 1  bits of its pieces, 0..16
//	                 3  zero
//	                 …  newcomers, then sources, each:
//	                       4  number of nodes
//	                       …  the nodes, ascending:
//	                            16  id
//	                             4  k, number of pieces, 1..65536
//	                            4k  their prefixes, ascending
//	                 4  number of beginnings
//	                 …  the beginnings, ascending:
//	                       8  first slot of the first ring that matters, signed
//	                       4  k, number of pieces, 1..65536
//	                      4k  their prefixes, ascending
//	…       8     xxhash64 of all before
//
// Nothing may follow. Format 1 had neither amendments nor a handover, format 2 no
// beginnings.
const (
	historyMagic      = "MFRH"
	historyFormat     = 3
	historyHeaderSize = 36
)

// AppendBinary appends the history's bytes to dst. The error is always nil.
func (h *History) AppendBinary(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, historyMagic...)
	dst = append(dst, historyFormat, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.version.Era)
	dst = binary.LittleEndian.AppendUint64(dst, h.version.Index)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.slotSeconds))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.entries)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.amendments)))
	for _, e := range h.entries {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.from))
		dst = append(dst, 0, 0, 0, 0) // the length is filled in below
		ringStart := len(dst)
		dst, _ = e.ring.AppendBinary(dst)
		binary.LittleEndian.PutUint32(dst[ringStart-4:], uint32(len(dst)-ringStart))
	}
	for _, a := range h.amendments {
		dst = a.append(dst)
	}
	dst = append(dst, h.plain.bits, 0, 0, 0)
	dst = appendHoldings(dst, h.plain.newcomers)
	dst = appendHoldings(dst, h.plain.sources)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.plain.beginnings)))
	for _, b := range h.plain.beginnings {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(b.from))
		dst = appendPrefixes(dst, b.prefixes)
	}
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[start:])), nil
}

func (a *Amendment) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.From))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Until))
	dst = append(dst, byte(a.Reason), flag(a.OutLost))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(a.Nodes)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(a.Moves)))
	dst = append(dst, a.Out[:]...)
	for _, node := range a.Nodes {
		dst = appendNode(dst, node)
	}
	index := indexOf(a.Nodes)
	for _, m := range a.Moves {
		dst = binary.LittleEndian.AppendUint32(dst, m.Prefix)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(index[m.In]))
		dst = append(dst, flag(m.Pending), 0)
	}
	return dst
}

func appendHoldings(dst []byte, holdings []holding) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(holdings)))
	for _, held := range holdings {
		dst = append(dst, held.node[:]...)
		dst = appendPrefixes(dst, held.prefixes)
	}
	return dst
}

func appendPrefixes(dst []byte, prefixes []uint32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(prefixes)))
	for _, prefix := range prefixes {
		dst = binary.LittleEndian.AppendUint32(dst, prefix)
	}
	return dst
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// MarshalBinary returns the history's bytes. The error is always nil.
func (h *History) MarshalBinary() ([]byte, error) { return h.AppendBinary(nil) }

// UnmarshalHistory returns the history whose bytes b is, whole. It keeps
// nothing of b. Errors wrap ErrCorrupt, ErrFormat or ErrRing.
func UnmarshalHistory(b []byte) (*History, error) {
	body, err := openDocument(b, historyMagic, historyFormat, historyHeaderSize)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	d := decoder{rest: body}
	d.zeroes(3)
	h := &History{version: Version{Era: d.uint32(), Index: d.uint64()}, slotSeconds: int64(d.uint64())}
	rings, amendments := d.uint32(), d.uint32()
	for i := uint32(0); i < rings && i < MaxRings && !d.failed; i++ {
		from := int64(d.uint64())
		r, err := UnmarshalRing(d.take(int(d.uint32())))
		if err != nil {
			return nil, fmt.Errorf("history: ring %d of %d: %w", i+1, rings, err)
		}
		h.entries = append(h.entries, entry{from, r})
	}
	for i := uint32(0); i < amendments && i < MaxAmendments && !d.failed; i++ {
		h.amendments = append(h.amendments, d.amendment())
	}
	h.plain.bits = d.uint8()
	d.zeroes(3)
	h.plain.newcomers, h.plain.sources = d.holdings(), d.holdings()
	h.plain.beginnings = d.beginnings()
	if d.failed || len(d.rest) != 0 || len(h.entries) != int(rings) || len(h.amendments) != int(amendments) {
		return nil, fmt.Errorf("history: lengths do not add up: %w", ErrCorrupt)
	}
	return newHistory(h)
}

// amendment takes an amendment; its content is checked by whoever makes the
// history, but for what the encoding allows besides.
func (d *decoder) amendment() *Amendment {
	a := &Amendment{From: int64(d.uint64()), Until: int64(d.uint64()), Reason: Reason(d.uint8()), OutLost: d.flag()}
	successors, moves := int(d.uint16()), int(d.uint32())
	copy(a.Out[:], d.take(16))
	for i := 0; i < successors && !d.failed; i++ {
		a.Nodes = append(a.Nodes, d.node())
	}
	if moves > 1<<MaxBits {
		d.failed = true
	}
	taken := decoder{rest: d.take(8 * moves)}
	taken.failed = d.failed
	if !taken.failed {
		a.Moves = make([]Move, moves)
	}
	for i := range a.Moves {
		m := Move{Prefix: taken.uint32()}
		index := int(taken.uint16())
		m.Pending = taken.flag()
		taken.zeroes(1)
		if index >= len(a.Nodes) {
			taken.failed = true
			break
		}
		m.In = a.Nodes[index].ID
		a.Moves[i] = m
	}
	d.failed = d.failed || taken.failed
	return a
}

func (d *decoder) holdings() (holdings []holding) {
	count := d.uint32()
	for i := uint32(0); i < count && !d.failed; i++ {
		var held holding
		copy(held.node[:], d.take(16))
		held.prefixes = d.prefixes()
		holdings = append(holdings, held)
	}
	return holdings
}

func (d *decoder) beginnings() (beginnings []beginning) {
	count := d.uint32()
	for i := uint32(0); i < count && !d.failed; i++ {
		b := beginning{from: int64(d.uint64())}
		b.prefixes = d.prefixes()
		beginnings = append(beginnings, b)
	}
	return beginnings
}

func (d *decoder) prefixes() (prefixes []uint32) {
	pieces := d.uint32()
	if pieces > 1<<MaxBits {
		d.failed = true
	}
	taken := decoder{rest: d.take(4 * int(pieces))}
	prefixes = slices.Grow(prefixes, len(taken.rest)/4)
	for len(taken.rest) > 0 {
		prefixes = append(prefixes, taken.uint32())
	}
	return prefixes
}

func (d *decoder) flag() bool {
	b := d.uint8()
	if b > 1 {
		d.failed = true
	}
	return b == 1
}
