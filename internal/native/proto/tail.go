package proto

import (
	"encoding/binary"
	"fmt"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
)

// AppendTailOptions appends the arguments of a tail:
//
//	offset  size  field
//	0       8     from, seconds; 0 is now, or the cursor's
//	8       4     shard
//	12      4     shards; 0 is all
//	16      1     1 without bodies
//	17      …     texts: cursor, dc, type, subtype
func AppendTailOptions(dst []byte, o tail.Options) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.From))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(o.Shard))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(o.Shards))
	dst = append(dst, boolByte(o.WithoutBodies))
	for _, s := range []string{o.Cursor, o.DC, o.Type, o.Subtype} {
		dst = appendText(dst, s)
	}
	return dst
}

// ParseTailOptions decodes the arguments of a tail, and validates them.
func ParseTailOptions(b []byte) (o tail.Options, err error) {
	r := reader{b: b}
	o = tail.Options{From: r.i64(), Shard: int(r.u32()), Shards: int(r.u32()), WithoutBodies: r.boolean()}
	o.Cursor, o.DC, o.Type, o.Subtype = string(r.text()), string(r.text()), string(r.text()), string(r.text())
	if err := r.end("the options of a tail"); err != nil {
		return tail.Options{}, err
	}
	return o, o.Validate()
}

// AppendItem appends an item of a tail, its record apart:
//
//	offset  size  field
//	0       1     kind: 1 blob, 2 watermark, 3 gap
//	1       8     second of arrival
//	9       8     lowest unfinished second
//
// then of a blob
//
//	17      1     1 if late
//	18      1     flags of the entry
//	19      8     timestamp of its version, microseconds
//	27      4     header CRC of its version
//	31      1     1 if a tombstone
//	32      8     checksum of the value
//	40      4     bytes of the value
//	44      4     events
//	48      …     text: the key
//
// of a watermark
//
//	17      8     the second
//	25      1     state
//	26      4     writers that are missing
//	30      …     text: dc; of each writer a text: name, incarnation (8), reason (1), have (4), want (4)
//
// of a gap
//
//	17      8     first second
//	25      8     last second
//	33      …     text: key, empty if whole seconds are gone; an error (wire.AppendError)
func AppendItem(dst []byte, i *tail.Item) []byte {
	dst = append(dst, byte(i.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(i.Arrival))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(i.Low))
	switch i.Kind {
	case tail.KindBlob:
		return appendBlob(dst, &i.Blob)
	case tail.KindWatermark:
		return appendWatermark(dst, &i.Watermark)
	case tail.KindGap:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(i.Gap.First))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(i.Gap.Last))
		key := ""
		if i.Gap.Key != (event.Key{}) {
			key = i.Gap.Key.String()
		}
		dst = appendText(dst, key)
		return wire.AppendError(dst, object.AsError(i.Gap.Err))
	}
	panic(fmt.Sprintf("proto: BUG: an item of kind %d", i.Kind))
}

func appendBlob(dst []byte, b *tail.Blob) []byte {
	e := &b.Entry
	dst = append(dst, boolByte(b.Late), byte(e.Flags))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Version.TimestampMicros))
	dst = binary.LittleEndian.AppendUint32(dst, e.Version.HeaderCRC)
	dst = append(dst, boolByte(e.Version.Tombstone))
	dst = binary.LittleEndian.AppendUint64(dst, e.Checksum)
	dst = binary.LittleEndian.AppendUint32(dst, e.Bytes)
	dst = binary.LittleEndian.AppendUint32(dst, e.Events)
	at := len(dst)
	dst = b.Key.AppendTo(append(dst, 0, 0))
	binary.LittleEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return dst
}

// maxMissing bounds the writers that one watermark names on the wire, so that
// it fits a frame's meta.
const maxMissing = 128

func appendWatermark(dst []byte, w *tail.Watermark) []byte {
	missing := w.Verdict.Missing[:min(len(w.Verdict.Missing), maxMissing)]
	dst = binary.LittleEndian.AppendUint64(dst, uint64(w.Epoch))
	dst = append(dst, byte(w.Verdict.State))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(missing)))
	dst = appendText(dst, w.DC)
	for _, m := range missing {
		dst = appendText(dst, m.Writer.Name)
		dst = binary.LittleEndian.AppendUint64(dst, m.Writer.Incarnation)
		dst = append(dst, byte(m.Reason))
		dst = binary.LittleEndian.AppendUint32(dst, m.Have)
		dst = binary.LittleEndian.AppendUint32(dst, m.Want)
	}
	return dst
}

// ParseItem decodes an item of a tail whose record, if it has one, is body in
// buf. On success the item's record has taken over the use of buf; the rest of
// the item aliases nothing. A blob without a body has no record.
func ParseItem(meta, body []byte, buf *object.Buffer) (i tail.Item, err error) {
	r := reader{b: meta}
	i = tail.Item{Kind: tail.Kind(r.u8()), Arrival: r.i64(), Low: r.i64()}
	if i.Kind != tail.KindBlob && len(body) > 0 {
		return tail.Item{}, malformed("an item that is no blob and has a body")
	}
	switch i.Kind {
	case tail.KindBlob:
		i.Blob, err = parseBlob(&r, body)
	case tail.KindWatermark:
		i.Watermark = parseWatermark(&r)
	case tail.KindGap:
		i.Gap, err = parseGap(&r)
	default:
		return tail.Item{}, malformed("an item of unknown kind")
	}
	if err == nil {
		err = r.end("an item of a tail")
	}
	if err != nil {
		return tail.Item{}, err
	}
	if i.Kind == tail.KindBlob && len(body) > 0 {
		i.Blob.Record.Buf = buf
	}
	return i, nil
}

func parseBlob(r *reader, body []byte) (b tail.Blob, err error) {
	b.Late = r.boolean()
	b.Entry.Flags = index.Flags(r.u8())
	b.Entry.Version.TimestampMicros = r.i64()
	b.Entry.Version.HeaderCRC = r.u32()
	b.Entry.Version.Tombstone = r.boolean()
	b.Entry.Checksum = r.u64()
	b.Entry.Bytes = r.u32()
	b.Entry.Events = r.u32()
	key := string(r.text())
	if r.bad {
		return b, nil // end tells
	}
	if b.Key, err = event.ParseKey(key); err != nil {
		return b, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	b.Entry.Suffix = b.Key.Suffix()
	if len(body) > 0 {
		if b.Record, err = object.ParseRecord(body); err != nil {
			return b, fmt.Errorf("the record of %s: %w", key, err)
		}
		if string(b.Record.Key) != key {
			return b, malformed("a record under another key than its item")
		}
	}
	return b, nil
}

func parseWatermark(r *reader) (w tail.Watermark) {
	w.Epoch = r.i64()
	w.Verdict.State = index.State(r.u8())
	n := r.u32()
	w.DC = string(r.text())
	if n > maxMissing || w.Verdict.State < index.Pending || w.Verdict.State > index.NoWriters || !r.bad && !event.ValidName(w.DC) {
		r.bad = true
		return w
	}
	for range n {
		w.Verdict.Missing = append(w.Verdict.Missing, index.Missing{
			Writer: index.Writer{Name: string(r.text()), Incarnation: r.u64()},
			Reason: index.Reason(r.u8()), Have: r.u32(), Want: r.u32(),
		})
	}
	return w
}

func parseGap(r *reader) (g tail.Gap, err error) {
	g.First, g.Last = r.i64(), r.i64()
	key := string(r.text())
	if r.bad {
		return g, nil // end tells
	}
	if key != "" {
		if g.Key, err = event.ParseKey(key); err != nil {
			return g, fmt.Errorf("%w: %w", ErrArguments, err)
		}
	}
	e, rest, err := wire.ParseError(r.b)
	if err != nil {
		return g, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	g.Err, r.b = e, rest
	return g, nil
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
