package tail

import (
	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// A blob is one entry of an index row as subscriptions see it. It is made once
// and shared by all of them.
type blob struct {
	key     event.Key
	entry   index.Entry
	arrival int64  // the second whose row or late list named it
	id      uint64 // cursor.BlobID
	keyHash uint64 // xxhash64 of the key's text: shards
}

// blobsOf walks what a tail takes from the row of that key: not what is erased, by
// whichever writer, and in a row that is no late list not what stands in one.
func blobsOf(key event.IndexKey, row index.Row, yield func(*blob)) {
	erased := erasedIn(row)
	for _, e := range row.All() {
		if e.Flags&index.Erased != 0 || !key.Late && e.Flags&index.Listed != 0 {
			continue
		}
		if _, gone := erased[e.Suffix]; gone {
			continue
		}
		if k, err := e.Key(key); err == nil { // rows were checked when they came in
			yield(makeBlob(k, e, key.Epoch))
		}
	}
}

// erasedIn returns the names of the erased blobs; nil if there are none, as in
// nearly every row.
func erasedIn(row index.Row) (erased map[string]struct{}) {
	for _, e := range row.All() {
		if e.Flags&index.Erased == 0 {
			continue
		}
		if erased == nil {
			erased = make(map[string]struct{})
		}
		erased[e.Suffix] = struct{}{}
	}
	return erased
}

func makeBlob(k event.Key, e *index.Entry, arrival int64) *blob {
	var room [event.MaxKeyBytes]byte
	text := k.AppendTo(room[:0])
	return &blob{key: k, entry: *e, arrival: arrival, id: cursor.BlobID(e.Checksum, text), keyHash: xxhash.Sum64(text)}
}

// bodyOf finds the record of b among those at hand. hint is where to look first:
// bodies mostly come in the order of the entries.
func bodyOf(b *blob, bodies []object.Record, hint *int) *object.Record {
	var room [event.MaxKeyBytes]byte
	text := b.key.AppendTo(room[:0])
	for range bodies {
		if *hint >= len(bodies) {
			*hint = 0
		}
		r := &bodies[*hint]
		*hint++
		if r.Header.Checksum == b.entry.Checksum && r.Buf != nil && string(r.Key) == string(text) {
			return r
		}
	}
	return nil
}

// A mark is the watermark of one second of one dc.
type mark struct {
	second  int64
	dc      string
	verdict index.Verdict
}

func (m *mark) id(s index.State) uint64 { return cursor.WatermarkID(m.second, m.dc, uint8(s)) }

// knowledge ranks states: a watermark is only followed by one that knows more.
func knowledge(s index.State) int {
	switch s {
	case index.Complete:
		return 3
	case index.Incomplete, index.NoWriters:
		return 2
	case index.Unknown:
		return 1
	}
	return 0
}
