package bitcask

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
)

// The manifest of a vnode, vnode/<partition>: the evidence of what a partition
// on this disk holds and has dropped. It is published whole (see vfs.Publish)
// before what it promises is relied on. Integers are little-endian; this is
// format 3.
//
//	offset  size  field
//	0       8     magic "MAYFLYMF"
//	8       4     format, 3
//	12      4     length of the whole file, bytes
//	16      16    disk id
//	32      4     partition: bits
//	36      4     partition: prefix
//	40      8     serial: one more with each publication
//	48      4     boot id length, bytes, 0..64
//	52      4     note length, bytes, 0..MaxNoteBytes
//	56      4     number of horizons
//	60      4     number of segments
//	64      4     number of doubts
//	68      …     boot id: of the machine when this was written
//	…       …     note: the vnode's own, opaque here
//	…       24    per bucket with one, ascending: bucket id u64, drop horizon i64, reap
//	              horizon i64 (epochs, seconds; 0: none)
//	…       32    per segment, ascending: bucket id u64, slot i64 (-1 plain), seq
//	              u32, state u16 (1 clean, 2 dirty, 3 sealed, 4 buried), suspect u16 (0
//	              or 1), length u64: of a sealed one, or of what was synced of a
//	              clean one (0: unknown); else 0
//	…       24    per doubt, ascending: bucket id u64, slot i64, reason u32, zero u32
//	len-4   4     CRC-32C of every byte before it
const (
	manifestMagic    = "MAYFLYMF"
	manifestFormat   = 3
	manifestFixed    = 68       // bytes
	maxManifestBytes = 64 << 20 // two million segments
	maxBootIDBytes   = 64

	// MaxNoteBytes bounds the caller's note in a manifest.
	MaxNoteBytes = 64 << 10
)

// A segState is what the evidence says of a segment.
type segState uint16

const (
	segClean  segState = 1 // open; nothing unsynced was appended when this was written
	segDirty  segState = 2 // open; appends may be unsynced
	segSealed segState = 3 // synced, with its length
	segBuried segState = 4 // of a plain bucket: merged into others, or wholly expired; only to be unlinked
)

// open reports whether the segment may take, or may have taken, unsealed appends.
func (s segState) open() bool { return s == segClean || s == segDirty }

// A segRecord is one segment in a manifest.
type segRecord struct {
	state   segState
	suspect bool  // open when the machine stopped, and not scanned since: pages may be missing
	length  int64 // bytes; of a sealed one, or of what was durable of a clean one when it was said to be clean
}

// A manifest is the decoded form.
type manifest struct {
	disk      ID
	partition Partition
	serial    uint64
	bootID    string
	note      []byte
	horizons  map[uint64]expiry.Horizon // nothing older is shown or taken in
	reaped    map[uint64]expiry.Horizon // tombstones older than it may have been dropped
	segments  map[segID]segRecord
	doubts    map[laneID]Reason
}

func newManifest(disk ID, p Partition) *manifest {
	return &manifest{
		disk: disk, partition: p,
		horizons: map[uint64]expiry.Horizon{}, reaped: map[uint64]expiry.Horizon{}, segments: map[segID]segRecord{}, doubts: map[laneID]Reason{},
	}
}

func compareLanes(a, b laneID) int {
	return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.slot, b.slot))
}

func compareSegs(a, b segID) int {
	return cmp.Or(compareLanes(a.laneID, b.laneID), cmp.Compare(a.seq, b.seq))
}

func appendManifest(dst []byte, m *manifest) []byte {
	le, start := binary.LittleEndian, len(dst)
	dst = append(dst, manifestMagic...)
	dst = le.AppendUint32(dst, manifestFormat)
	dst = le.AppendUint32(dst, 0) // length, filled in below
	dst = append(dst, m.disk[:]...)
	dst = le.AppendUint32(dst, uint32(m.partition.Bits))
	dst = le.AppendUint32(dst, m.partition.Prefix)
	dst = le.AppendUint64(dst, m.serial)
	limited := m.limited()
	for _, n := range [...]int{len(m.bootID), len(m.note), len(limited), len(m.segments), len(m.doubts)} {
		dst = le.AppendUint32(dst, uint32(n))
	}
	dst = append(append(dst, m.bootID...), m.note...)
	for _, id := range limited {
		dst = le.AppendUint64(dst, id)
		dst = le.AppendUint64(dst, uint64(m.horizons[id]))
		dst = le.AppendUint64(dst, uint64(m.reaped[id]))
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.segments), compareSegs) {
		s := m.segments[id]
		dst = le.AppendUint64(dst, id.bucket)
		dst = le.AppendUint64(dst, uint64(id.slot))
		dst = le.AppendUint32(dst, id.seq)
		dst = le.AppendUint16(dst, uint16(s.state))
		dst = le.AppendUint16(dst, boolBit(s.suspect))
		dst = le.AppendUint64(dst, uint64(s.length))
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.doubts), compareLanes) {
		dst = le.AppendUint64(dst, id.bucket)
		dst = le.AppendUint64(dst, uint64(id.slot))
		dst = le.AppendUint32(dst, uint32(m.doubts[id]))
		dst = le.AppendUint32(dst, 0)
	}
	le.PutUint32(dst[start+12:], uint32(len(dst)-start+4))
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// limited returns the buckets with a horizon of either kind, ascending.
func (m *manifest) limited() []uint64 {
	ids := slices.AppendSeq(slices.Collect(maps.Keys(m.horizons)), maps.Keys(m.reaped))
	slices.Sort(ids)
	return slices.Compact(ids)
}

func boolBit(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// parseManifest decodes b, the whole file. Two encodings of one content do not
// exist: what decodes encodes back to b.
func parseManifest(b []byte) (*manifest, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < manifestFixed+4 || string(b[:8]) != manifestMagic:
		return nil, badFormat(0, "not a manifest of mayfly")
	case le.Uint32(b[8:]) != manifestFormat:
		return nil, errFormat
	case int(le.Uint32(b[12:])) != len(b):
		return nil, badFormat(12, "the manifest says %d bytes and has %d", le.Uint32(b[12:]), len(b))
	case crc32.Checksum(b[:len(b)-4], castagnoli) != le.Uint32(b[len(b)-4:]):
		return nil, badFormat(0, "the CRC does not match")
	}
	bits := le.Uint32(b[32:])
	m := newManifest(ID(b[16:32]), Partition{uint8(bits), le.Uint32(b[36:])})
	if bits > 32 || !m.partition.valid() {
		return nil, badFormat(32, "partition %d-%x is not possible", bits, m.partition.Prefix)
	}
	m.serial = le.Uint64(b[40:])
	var n [5]uint64
	for i := range n {
		n[i] = uint64(le.Uint32(b[48+4*i:]))
	}
	if want := manifestFixed + n[0] + n[1] + 24*n[2] + 32*n[3] + 24*n[4] + 4; want != uint64(len(b)) {
		return nil, badFormat(48, "the counts ask for %d bytes, there are %d", want, len(b))
	}
	if n[0] > maxBootIDBytes || n[1] > MaxNoteBytes {
		return nil, badFormat(48, "a boot id of %d bytes and a note of %d", n[0], n[1])
	}
	rest := b[manifestFixed : len(b)-4]
	take := func(n uint64) []byte { f := rest[:n:n]; rest = rest[n:]; return f }
	m.bootID, m.note = string(take(n[0])), slices.Clone(take(n[1]))
	if len(m.note) == 0 {
		m.note = nil
	}
	return m, errors.Join(m.decodeHorizons(take(24*n[2])), m.decodeSegments(take(32*n[3])), m.decodeDoubts(rest))
}

func (m *manifest) decodeHorizons(b []byte) error {
	first := true
	for last := uint64(0); len(b) > 0; b = b[24:] {
		id := binary.LittleEndian.Uint64(b)
		drop, reap := expiry.Horizon(binary.LittleEndian.Uint64(b[8:])), expiry.Horizon(binary.LittleEndian.Uint64(b[16:]))
		switch {
		case !first && id <= last:
			return badFormat(manifestFixed, "the horizons are out of order")
		case drop == 0 && reap == 0:
			return badFormat(manifestFixed, "bucket %016x has no horizon", id)
		}
		if drop != 0 {
			m.horizons[id] = drop
		}
		if reap != 0 {
			m.reaped[id] = reap
		}
		first, last = false, id
	}
	return nil
}

func (m *manifest) decodeSegments(b []byte) error {
	le := binary.LittleEndian
	for last := (segID{}); len(b) > 0; b = b[32:] {
		id := segID{laneID{le.Uint64(b), expiry.Slot(le.Uint64(b[8:]))}, le.Uint32(b[16:])}
		suspect := le.Uint16(b[22:])
		s := segRecord{segState(le.Uint16(b[20:])), suspect == 1, int64(le.Uint64(b[24:]))}
		switch {
		case len(m.segments) > 0 && compareSegs(last, id) >= 0:
			return badFormat(manifestFixed, "the segments are out of order")
		case id.slot < plainSlot || s.state < segClean || s.state > segBuried || s.length < 0, s.state == segSealed && s.length == 0, s.state != segSealed && s.state != segClean && s.length > 0,
			suspect > 1, s.suspect && !s.state.open(), s.state == segBuried && id.slot != plainSlot:
			return badFormat(manifestFixed, "a segment of slot %d in state %d with %d bytes", id.slot, s.state, s.length)
		}
		m.segments[id], last = s, id
	}
	return nil
}

func (m *manifest) decodeDoubts(b []byte) error {
	le := binary.LittleEndian
	for last := (laneID{}); len(b) > 0; b = b[24:] {
		id, why := laneID{le.Uint64(b), expiry.Slot(le.Uint64(b[8:]))}, Reason(le.Uint32(b[16:]))
		switch {
		case len(m.doubts) > 0 && compareLanes(last, id) >= 0:
			return badFormat(manifestFixed, "the doubts are out of order")
		case why < ReasonUncleanStop || why > ReasonSyncFailed || le.Uint32(b[20:]) != 0 || id.slot < allSlots:
			return badFormat(manifestFixed, "a doubt of slot %d for reason %d", id.slot, why)
		}
		m.doubts[id], last = why, id
	}
	return nil
}
