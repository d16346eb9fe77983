package bitcask

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A hint says where the records of a sealed segment are. It is never loaded: a
// lookup reads the page where the hash must be, found by interpolation as
// placement hashes are evenly spread. (Those of a plain bucket are read whole, once,
// when the bucket is first used.) Integers are little-endian; this is format 2.
//
//	offset  size  field
//	0       8     magic "MAYFLYHT"
//	8       4     format, 2
//	12      4     the segment's generation
//	16      8     bucket id
//	24      8     slot; -1 in a plain bucket
//	32      4     sequence number within the slot
//	36      4     records listed
//	40      8     sealed length of the segment, bytes, a multiple of 8
//	48      4     partition: bits
//	52      4     partition: prefix
//	56      4     minutes in the footer
//	60      4     CRC-32C of every byte before it
//	64      …     pages: the first ends at offset 4096, each further one at the
//	              next multiple of 4096, the last after its last entry
//	…       24    per minute, ascending: minute u32 (epoch / 60; 0 in a plain
//	              bucket), records u32, digest 16 (low half first)
//	…       16    in a plain bucket only: time of the newest record i64, seconds,
//	              rounded up; bytes of tombstones u64
//	…       4     CRC-32C of the minutes and what follows them
//	…       4     zero
//	…       8     magic "MAYFLYHT"
//
// A page:
//
//	0       4     CRC-32C of the rest of the page
//	4       2     entries
//	6       2     zero
//	8       15    per entry, ascending by hash: hash u32, offset/8 u32, size/8
//	              u24, version digest u32
//	…       …     zeros up to the page's end, except in the last
//
// Every page but the last is full. How many there are follows from the number
// of records.
const (
	hintMagic       = "MAYFLYHT"
	hintFormat      = 2
	hintHeaderSize  = 64   // bytes
	hintPageSize    = 4096 // bytes, of all pages but the first
	hintPageHead    = 8    // bytes
	hintEntrySize   = 15   // bytes
	hintMinuteSize  = 24   // bytes
	hintPlainSize   = 16   // bytes
	hintTrailerSize = 16   // bytes

	hintFirstPage = (hintPageSize - hintHeaderSize - hintPageHead) / hintEntrySize // entries
	hintFullPage  = (hintPageSize - hintPageHead) / hintEntrySize                  // entries
)

// A hintHeader is what is kept in memory of a hint once it has been opened.
type hintHeader struct {
	segID
	partition    Partition
	generation   uint32
	records      int
	sealedLength int64 // bytes
	minutes      int
	plain        plainSummary // of a plain bucket; it is in the footer
}

// pages returns how many pages the hint has.
func (h *hintHeader) pages() int {
	if h.records <= hintFirstPage {
		return min(h.records, 1)
	}
	return 1 + (h.records-hintFirstPage+hintFullPage-1)/hintFullPage
}

// page returns the offset of a page and the number of its entries.
func (h *hintHeader) page(i int) (offset int64, entries int) {
	if i == 0 {
		return hintHeaderSize, min(h.records, hintFirstPage)
	}
	return int64(i) * hintPageSize, min(h.records-hintFirstPage-(i-1)*hintFullPage, hintFullPage)
}

// minutesOffset returns where the pages end.
func (h *hintHeader) minutesOffset() int64 {
	if h.records == 0 {
		return hintHeaderSize
	}
	offset, entries := h.page(h.pages() - 1)
	return offset + hintPageHead + int64(entries)*hintEntrySize
}

// size returns the length of the whole file.
func (h *hintHeader) size() int64 {
	return h.minutesOffset() + int64(h.footerSize())
}

// footerSize returns the length of what follows the pages.
func (h *hintHeader) footerSize() int {
	size := h.minutes*hintMinuteSize + hintTrailerSize
	if h.slot == plainSlot {
		size += hintPlainSize
	}
	return size
}

func appendHintHeader(dst []byte, h *hintHeader) []byte {
	start := len(dst)
	dst = append(dst, hintMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, hintFormat)
	dst = binary.LittleEndian.AppendUint32(dst, h.generation)
	dst = binary.LittleEndian.AppendUint64(dst, h.bucket)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.slot))
	dst = binary.LittleEndian.AppendUint32(dst, h.seq)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.records))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.sealedLength))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.partition.Bits))
	dst = binary.LittleEndian.AppendUint32(dst, h.partition.Prefix)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.minutes))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseHintHeader decodes the header that begins b, which may hold more.
func parseHintHeader(b []byte) (hintHeader, error) {
	le := binary.LittleEndian
	if len(b) < hintHeaderSize {
		return hintHeader{}, badFormat(int64(len(b)), "the hint ends inside its header")
	}
	if string(b[:8]) != hintMagic {
		return hintHeader{}, badFormat(0, "not a hint of mayfly")
	}
	if f := le.Uint32(b[8:]); f != hintFormat {
		return hintHeader{}, badFormat(8, "format %d; this program reads format %d", f, hintFormat)
	}
	if crc32.Checksum(b[:60], castagnoli) != le.Uint32(b[60:]) {
		return hintHeader{}, badFormat(0, "the header's CRC does not match")
	}
	h := hintHeader{
		segID:        segID{laneID{le.Uint64(b[16:]), expiry.Slot(le.Uint64(b[24:]))}, le.Uint32(b[32:])},
		generation:   le.Uint32(b[12:]),
		records:      int(le.Uint32(b[36:])),
		sealedLength: int64(le.Uint64(b[40:])),
		partition:    Partition{uint8(le.Uint32(b[48:])), le.Uint32(b[52:])},
		minutes:      int(le.Uint32(b[56:])),
	}
	switch {
	case h.sealedLength < segHeaderMin || h.sealedLength > maxSegmentBytes || h.sealedLength%align != 0:
		return hintHeader{}, badFormat(40, "a sealed length of %d bytes", h.sealedLength)
	case int64(h.records) > h.sealedLength/framedSize(object.MinRecordBytes):
		return hintHeader{}, badFormat(36, "%d records in %d bytes", h.records, h.sealedLength)
	case le.Uint32(b[48:]) > 32 || !h.partition.valid():
		return hintHeader{}, badFormat(48, "partition %d-%x is not possible", le.Uint32(b[48:]), h.partition.Prefix)
	case h.slot < plainSlot:
		return hintHeader{}, badFormat(24, "slot %d is not possible", h.slot)
	case h.minutes > h.records:
		return hintHeader{}, badFormat(56, "%d minutes for %d records", h.minutes, h.records)
	}
	return h, nil
}

// appendHintPage appends the page that holds those entries, padded to its size
// unless it is the last.
func appendHintPage(dst []byte, entries []location, first, last bool) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(entries)))
	dst = append(dst, 0, 0)
	for _, l := range entries {
		dst = binary.LittleEndian.AppendUint32(dst, l.hash)
		dst = binary.LittleEndian.AppendUint32(dst, l.offset8)
		dst = append(dst, byte(l.size8), byte(l.size8>>8), byte(l.size8>>16))
		dst = binary.LittleEndian.AppendUint32(dst, l.digest)
	}
	if !last {
		size := hintPageSize
		if first {
			size -= hintHeaderSize
		}
		dst = append(dst, make([]byte, start+size-len(dst))...)
	}
	binary.LittleEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

// A hintPage is a page whose CRC and count have been checked.
type hintPage []byte

// parseHintPage checks a page read whole: all its bytes, padding included.
func parseHintPage(b []byte, entries int) (hintPage, error) {
	switch {
	case crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b):
		return nil, badFormat(0, "the page's CRC does not match")
	case int(binary.LittleEndian.Uint16(b[4:])) != entries || binary.LittleEndian.Uint16(b[6:]) != 0:
		return nil, badFormat(4, "the page says %d entries, %d are right", binary.LittleEndian.Uint16(b[4:]), entries)
	}
	return hintPage(b[hintPageHead : hintPageHead+entries*hintEntrySize]), nil
}

func (p hintPage) len() int { return len(p) / hintEntrySize }

func (p hintPage) hash(i int) uint32 { return binary.LittleEndian.Uint32(p[i*hintEntrySize:]) }

func (p hintPage) at(i int) location {
	b := p[i*hintEntrySize : (i+1)*hintEntrySize]
	return location{
		hash:    binary.LittleEndian.Uint32(b),
		offset8: binary.LittleEndian.Uint32(b[4:]),
		size8:   uint32(b[8]) | uint32(b[9])<<8 | uint32(b[10])<<16,
		digest:  binary.LittleEndian.Uint32(b[11:]),
	}
}

// A bearing says where the entries of a hash are, seen from a page.
type bearing uint8

const (
	inside bearing = iota + 1 // in it, if anywhere
	ahead                     // in an earlier page, if anywhere
	behind                    // in a later page, if anywhere
	atEdge                    // in it, and maybe in the next ones too
)

// search appends to dst the entries with a hash, if they are all inside the page.
// first and last tell that no page comes before it, or after it.
func (p hintPage) search(dst []location, hash uint32, first, last bool) ([]location, bearing) {
	end := p.len() - 1
	if end < 0 || hash > p.hash(end) {
		return dst, behind
	}
	least, i := p.hash(0), 0
	switch {
	case hash < least:
		return dst, ahead
	case hash == least && !first || hash == p.hash(end) && !last:
		return dst, atEdge
	case hash > least: // hashes are evenly spread: the place reckoned is a few entries off
		i = int(uint64(hash-least) * uint64(end) / uint64(p.hash(end)-least))
	}
	for i > 0 && p.hash(i-1) >= hash {
		i--
	}
	for i < end && p.hash(i) < hash {
		i++
	}
	for ; i <= end && p.hash(i) == hash; i++ {
		dst = append(dst, p.at(i))
	}
	return dst, inside
}

func appendHintFooter(dst []byte, h *hintHeader, m minutes) []byte {
	start := len(dst)
	for _, d := range m {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(d.Minute))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(d.Count))
		dst = binary.LittleEndian.AppendUint64(dst, d.Digest.Lo)
		dst = binary.LittleEndian.AppendUint64(dst, d.Digest.Hi)
	}
	if h.slot == plainSlot {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(h.plain.newest))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(h.plain.tombstoneBytes))
	}
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return append(dst, hintMagic...)
}

// parseHintFooter decodes what follows the pages, read whole, and sets h.plain.
func parseHintFooter(h *hintHeader, b []byte) (minutes, error) {
	body, trailer := b[:len(b)-hintTrailerSize], b[len(b)-hintTrailerSize:]
	if string(trailer[8:]) != hintMagic || binary.LittleEndian.Uint32(trailer[4:]) != 0 {
		return nil, badFormat(0, "the trailer is damaged")
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(trailer) {
		return nil, badFormat(0, "the CRC of the minutes does not match")
	}
	if h.slot == plainSlot {
		tail := body[len(body)-hintPlainSize:]
		body = body[:len(body)-hintPlainSize]
		h.plain = plainSummary{int64(binary.LittleEndian.Uint64(tail)), int64(binary.LittleEndian.Uint64(tail[8:]))}
		if h.plain.tombstoneBytes < 0 || h.plain.tombstoneBytes > h.sealedLength {
			return nil, badFormat(int64(len(body))+8, "%d bytes of tombstones in %d", h.plain.tombstoneBytes, h.sealedLength)
		}
	}
	m := make(minutes, 0, len(body)/hintMinuteSize)
	for ; len(body) > 0; body = body[hintMinuteSize:] {
		d := MinuteDigest{
			Minute: int64(binary.LittleEndian.Uint32(body)),
			Count:  int64(binary.LittleEndian.Uint32(body[4:])),
			Digest: object.Digest{Lo: binary.LittleEndian.Uint64(body[8:]), Hi: binary.LittleEndian.Uint64(body[16:])},
		}
		if n := len(m); n > 0 && m[n-1].Minute >= d.Minute {
			return nil, badFormat(0, "minute %d follows minute %d", d.Minute, m[n-1].Minute)
		}
		m = append(m, d)
	}
	return m, nil
}

// writeHint writes a hint of those locations, ascending by hash.
func writeHint(f vfs.File, h *hintHeader, sorted []location, m minutes) error {
	if len(sorted) != h.records || len(m) != h.minutes {
		panic(fmt.Sprintf("bitcask: BUG: a hint of %d records and %d minutes is given %d and %d", h.records, h.minutes, len(sorted), len(m)))
	}
	const flushAt = 256 << 10
	buf := appendHintHeader(make([]byte, 0, min(h.size(), flushAt+hintPageSize)), h)
	offset := int64(0)
	flush := func() error {
		n, err := f.WritevAt([][]byte{buf}, offset)
		offset, buf = offset+n, buf[:0]
		return err
	}
	for i := range h.pages() {
		_, n := h.page(i)
		buf = appendHintPage(buf, sorted[:n], i == 0, i == h.pages()-1)
		sorted = sorted[n:]
		if len(buf) >= flushAt {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	buf = appendHintFooter(buf, h, m)
	return flush()
}
