package cursor

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// A cursor's text is a prefix that names format 1, "mft1.", and the base64 (URL
// alphabet, no padding) of the following. Integers are little-endian. A cursor
// has exactly one text.
//
//	offset  size  field
//	0       8     low: the lowest unfinished second of arrival, 1..2^53
//	8       4     s, number of seconds something was delivered of
//	12      …     the seconds, ascending
//	…       4     CRC-32C of every byte before it
//
// A second:
//
//	0       4     arrival second, as its distance from low
//	4       4     n, number of deliveries, at least 1
//	8       8·n   their identities, ascending, each at most once in the cursor
const (
	prefix         = "mft1."
	headSize       = 12
	secondHeadSize = 8
	idSize         = 8
	crcSize        = 4

	maxSecond   = 1 << 53   // as event.MaxEpoch
	maxDistance = 1<<32 - 1 // seconds from low; the width of its field
)

// MaxTextBytes is the longest text Parse looks at: two million deliveries.
const MaxTextBytes = 24 << 20

// ErrCursor: the text is not a cursor of this program. Nothing was done; begin
// from a second instead.
var ErrCursor = errors.New("malformed cursor")

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	encoding   = base64.RawURLEncoding.Strict()
)

// String returns the cursor's text: printable, without spaces or quotes.
func (c *Cursor) String() string {
	b := make([]byte, 0, headSize+len(c.seconds)*secondHeadSize+len(c.ids)*idSize+crcSize)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.low))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.seconds)))
	for _, s := range c.seconds {
		b = binary.LittleEndian.AppendUint32(b, uint32(s.arrival-c.low))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.ids)))
		for _, id := range slices.Sorted(slices.Values(s.ids)) {
			b = binary.LittleEndian.AppendUint64(b, id)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return prefix + encoding.EncodeToString(b)
}

// Parse reads a cursor's text, and only a text that String makes. It allocates in
// proportion to the text. The error is an ErrCursor.
func Parse(text string) (*Cursor, error) {
	if len(text) > MaxTextBytes {
		return nil, cursorError("it is longer than any")
	}
	body, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, cursorError("it does not begin with " + prefix)
	}
	if strings.ContainsAny(body, "\r\n") { // which the decoder would skip
		return nil, cursorError("it is not base64")
	}
	b, err := encoding.DecodeString(body)
	if err != nil {
		return nil, cursorError("it is not base64")
	}
	if len(b) < headSize+crcSize {
		return nil, cursorError("it is cut off")
	}
	sum := binary.LittleEndian.Uint32(b[len(b)-crcSize:])
	b = b[:len(b)-crcSize]
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, cursorError("its checksum does not match: a part of it is lost or changed")
	}
	return parseBody(b)
}

func parseBody(b []byte) (*Cursor, error) {
	low, count := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	if low < 1 || low > maxSecond {
		return nil, cursorError("its second is out of range")
	}
	b = b[headSize:]
	if uint64(count)*(secondHeadSize+idSize) > uint64(len(b)) {
		return nil, cursorError("it is cut off")
	}
	c := &Cursor{low: int64(low), seconds: make([]second, 0, count), ids: make(map[uint64]struct{}, len(b)/idSize)}
	for range count {
		var fault string
		if b, fault = c.parseSecond(b); fault != "" {
			return nil, cursorError(fault)
		}
	}
	if len(b) > 0 {
		return nil, cursorError("something follows it")
	}
	return c, nil
}

// parseSecond takes one second off the front of b.
func (c *Cursor) parseSecond(b []byte) (rest []byte, fault string) {
	if len(b) < secondHeadSize {
		return nil, "it is cut off"
	}
	arrival, count := c.low+int64(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
	b = b[secondHeadSize:]
	if count == 0 || uint64(count)*idSize > uint64(len(b)) {
		return nil, "it is cut off"
	}
	if n := len(c.seconds); n > 0 && c.seconds[n-1].arrival >= arrival {
		return nil, "its seconds are out of order"
	}
	ids := make([]uint64, count)
	for i := range ids {
		ids[i] = binary.LittleEndian.Uint64(b[i*idSize:])
		if i > 0 && ids[i-1] >= ids[i] || c.Has(ids[i]) {
			return nil, "its deliveries are out of order"
		}
		c.ids[ids[i]] = struct{}{}
	}
	c.seconds = append(c.seconds, second{arrival, ids})
	return b[len(ids)*idSize:], ""
}

func cursorError(what string) error { return fmt.Errorf("%w: %s", ErrCursor, what) }
