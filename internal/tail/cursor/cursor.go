// Package cursor says how far somebody has followed a tail: the lowest second
// of arrival that is not finished, and what was already delivered of that second
// and later ones. Whoever resumes with a cursor gets what is missing, and nothing
// twice of what the cursor knows.
//
// The hub keeps one for each subscription; a client that counts what it has
// really taken keeps its own, from the arrival second, the identity and the
// lowest unfinished second that come with each item.
//
// The package is pure, and imports nothing of mayfly.
package cursor

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A Cursor is a position in a tail. It is not safe for concurrent use.
type Cursor struct {
	low     int64 // seconds since the Unix epoch, UTC
	seconds []second
	ids     map[uint64]struct{} // of all seconds
}

// A second holds what was delivered of one second of arrival.
//
// Invariant: Cursor.seconds is ascending, none of them before low, none empty.
type second struct {
	arrival int64
	ids     []uint64
}

// New returns the cursor of one who begins with the arrival second low, at least
// 1, and has nothing yet.
func New(low int64) *Cursor {
	return &Cursor{low: max(low, 1), ids: make(map[uint64]struct{})}
}

// Low returns the lowest second of arrival that is not finished.
func (c *Cursor) Low() int64 { return c.low }

// Len returns how many deliveries the cursor remembers.
func (c *Cursor) Len() int { return len(c.ids) }

// Has reports whether what has that identity was delivered, as far as the cursor
// goes back.
func (c *Cursor) Has(id uint64) bool {
	_, ok := c.ids[id]
	return ok
}

// Add notes a delivery. What arrived before Low, or over a century after it, or is
// noted already, is passed over.
func (c *Cursor) Add(arrival int64, id uint64) {
	if arrival < c.low || arrival-c.low > maxDistance || c.Has(id) {
		return
	}
	i, ok := c.find(arrival)
	if !ok {
		c.seconds = slices.Insert(c.seconds, i, second{arrival: arrival})
	}
	c.seconds[i].ids = append(c.seconds[i].ids, id)
	c.ids[id] = struct{}{}
}

// find returns the place of a second. Most deliveries are of the newest ones.
func (c *Cursor) find(arrival int64) (int, bool) {
	i := len(c.seconds)
	for i > 0 && c.seconds[i-1].arrival >= arrival {
		i--
	}
	return i, i < len(c.seconds) && c.seconds[i].arrival == arrival
}

// Finish says that all that arrived before low was delivered: it need not be
// remembered any more. Cursors do not go back: a lower low does nothing.
func (c *Cursor) Finish(low int64) {
	if low <= c.low {
		return
	}
	c.low = low
	n := 0
	for n < len(c.seconds) && c.seconds[n].arrival < low {
		for _, id := range c.seconds[n].ids {
			delete(c.ids, id)
		}
		n++
	}
	c.seconds = slices.Delete(c.seconds, 0, n)
}

// BlobID identifies a delivered blob: by its key, and by the checksum of its
// value, since replicas that disagree may hold two values under one key. It is
// the xxhash64 of the checksum, as eight little-endian bytes, and the key's text.
func BlobID(checksum uint64, key []byte) uint64 {
	var short [256]byte // keys of blobs fit
	return xxhash.Sum64(append(binary.LittleEndian.AppendUint64(short[:0], checksum), key...))
}

// WatermarkID identifies a delivered watermark of a second of a dc, in that state:
// the xxhash64 of the byte 'w', the state's number, the second as eight little-
// endian bytes, and the dc.
func WatermarkID(second int64, dc string, state uint8) uint64 {
	var short [128]byte
	b := append(short[:0], 'w', state)
	return xxhash.Sum64(append(binary.LittleEndian.AppendUint64(b, uint64(second)), dc...))
}
