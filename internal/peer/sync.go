package peer

import (
	"encoding/binary"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// The operations of replicas that are merged. Integers are little-endian, a text
// is its length, 2 bytes, and its bytes. All are of class repair.
//
//	op  name         request                              answer
//	36  sync survey  meta: a partition                    meta: xxhash64 of the body (8); body: a survey
//	37  sync page    meta: a lane, position (8)           meta: a page's head; body: its items
//	38  sync repair  meta: a version, or nothing;         –
//	                 body: a record
//	39  sync digest  meta: a lane                         meta: xxhash64 of the body (8); body: a digest
//
// A partition is its bits (1) and its prefix (4). A lane is a slot of a bucket in
// a partition:
//
//	offset  size  field
//	0       5     partition
//	5       1     1 if the bucket is timed, else 0
//	6       8     slot; -1 in a plain bucket
//	14      …     texts: bucket type, bucket
//
// A survey:
//
//	offset  size  field
//	0       1     flags: 1 the node doubts everything, 2 it vouches for plain buckets
//	1       8     first slot it vouches for, 0 for all
//	9       8     when its vnode was made, Unix seconds; 0: long ago
//	17      4     number of buckets
//	21      …     per bucket: texts: type, name; 1 if timed, else 0 (1), drop
//	              horizon (8), number of slots (4), slots (8 each), ascending
//
// A page's head:
//
//	offset  size  field
//	0       8     position of the next page; 2^32 if there is none
//	8       1     1 if the node vouches for the lane, else 0
//	9       8     the bucket's drop horizon there
//	17      1     1 objects, 2 rows of an index
//	18      4     number of items
//	22      8     xxhash64 of the body
//
// An item of a page, ascending by position, of objects and of rows:
//
//	offset  size  field                  offset  size  field
//	0       4     position               0       4     position
//	4       8     timestamp              4       16    digest of the row: high, low half
//	12      4     header CRC             20      …     text: key
//	16      1     1 if a tombstone
//	17      8     checksum of the value
//	25      4     bytes of the value
//	29      …     text: key
//
// A digest of a lane, whose minutes are ascending and not empty; all of a plain
// bucket is minute 0:
//
//	offset  size  field
//	0       1     1 if the node vouches for the lane, else 0
//	1       8     the bucket's drop horizon there
//	9       4     number of minutes
//	13      …     per minute: epoch / 60 (8), objects or rows (8), sum of their
//	              versions: high, low half (16)
//
// A position is the low half of a placement hash. A version, which another value
// may replace, is its timestamp (8), header CRC (4) and 1 if a tombstone (1). A
// repair is a value, a tombstone, or a row as a delta, of which the node adds what
// it lacks; the rules for those who put do not apply.
const (
	OpSyncSurvey uint8 = 36
	OpSyncPage   uint8 = 37
	OpSyncRepair uint8 = 38
	OpSyncDigest uint8 = 39
)

// Syncs tells whether an operation of the wire is one of a [SyncHandler].
func Syncs(op uint8) bool { return op >= OpSyncSurvey && op <= OpSyncDigest }

// A Lane is a slot of a bucket in a partition, or all of a plain bucket in it.
type Lane = struct {
	Type, Bucket string
	Timed        bool
	Partition    ring.Partition
	Slot         int64 // -1 in a plain bucket
}

// An Item is one object of a lane, or one row of an index.
type Item = struct {
	Position   uint64 // the low 32 bits of its placement hash
	Key        string
	Version    object.Version // zero of a row
	Checksum   uint64         // of the value; zero of a row
	ValueBytes uint32
	Row        object.Digest // of a row's content; zero of an object
}

// A Page is a part of what a replica has of a lane.
type Page = struct {
	Items    []Item // ascending by Position
	Next     uint64 // 2^32: there is no more
	Complete bool
	Horizon  int64
}

// A LaneDigest sums up what a replica has of a lane.
type LaneDigest = struct {
	Complete bool  // the replica vouched for the lane before and after it summed up
	Horizon  int64 // the bucket's drop horizon there; 0 in a plain bucket
	Minutes  []MinuteDigest
}

// A MinuteDigest sums up one minute of a lane.
type MinuteDigest = struct {
	Minute int64 // epoch / 60; 0 for everything in a plain bucket
	Count  int64 // objects, or rows
	Digest object.Digest
}

// A Survey is what a node says of its part of a partition.
type Survey = struct {
	All     bool
	Since   int64
	Plain   bool
	Born    int64
	Buckets []SurveyedBucket
}

// A SurveyedBucket is one bucket in a Survey.
type SurveyedBucket = struct {
	Type, Name string
	Timed      bool
	Horizon    int64
	Slots      []int64 // ascending; -1 in a plain bucket
}

const (
	pageEnd       = uint64(1) << 32
	pageHeadSize  = 30 // bytes
	versionSize   = 13 // bytes
	kindOfObjects = 1
	kindOfRows    = 2
	objectItem    = 29 // bytes, up to the key
	rowItem       = 20 // bytes, up to the key
)

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendString(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendPartition(dst []byte, p ring.Partition) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, p.Bits), p.Prefix)
}

// A decoder takes fields off the front of a message. After the first fault it
// gives zeros, and err says what it was.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(fmt.Sprintf(format, args...))
	}
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.fail("%d bytes where %d are wanted", len(d.b), n)
		return make([]byte, min(n, 16))
	}
	f := d.b[:n:n]
	d.b = d.b[n:]
	return f
}

func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }
func (d *decoder) i64() int64  { return int64(d.u64()) }
func (d *decoder) byte() byte  { return d.take(1)[0] }
func (d *decoder) finish() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	return d.err
}

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("a flag of %d", b)
	}
	return b == 1
}

// text takes a text of 1 to most bytes.
func (d *decoder) text(most int) string {
	n := int(binary.LittleEndian.Uint16(d.take(2)))
	if d.err == nil && (n < 1 || n > most || n > len(d.b)) {
		d.fail("a text of %d bytes; it has 1 to %d", n, min(most, len(d.b)))
	}
	if d.err != nil {
		return ""
	}
	return string(d.take(n))
}

// count takes the number of things that have at least so many bytes each.
func (d *decoder) count(least int) int {
	n := d.u32()
	if uint64(n)*uint64(least) > uint64(len(d.b)) {
		d.fail("%d things in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) partition() ring.Partition {
	p := ring.Partition{Bits: d.byte(), Prefix: d.u32()}
	if p.Bits > 32 || uint64(p.Prefix) >= 1<<p.Bits {
		d.fail("no partition has %d bits and the prefix %d", p.Bits, p.Prefix)
	}
	return p
}

func parsePartition(b []byte) (ring.Partition, error) {
	d := decoder{b: b}
	p := d.partition()
	return p, d.finish()
}

func appendLane(dst []byte, l *Lane) []byte {
	dst = append(appendPartition(dst, l.Partition), flag(l.Timed))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Slot))
	return appendString(appendString(dst, l.Type), l.Bucket)
}

func (d *decoder) lane() (l Lane) {
	l.Partition, l.Timed, l.Slot = d.partition(), d.bool(), d.i64()
	l.Type, l.Bucket = d.text(object.MaxNameBytes), d.text(object.MaxNameBytes)
	if (l.Slot == -1) == l.Timed || l.Slot < -1 {
		d.fail("slot %d of a bucket", l.Slot)
	}
	return l
}

func parseLane(b []byte) (Lane, error) {
	d := decoder{b: b}
	l := d.lane()
	return l, d.finish()
}

// appendPageRequest appends which page is asked for.
func appendPageRequest(dst []byte, l *Lane, from uint64) []byte {
	return binary.LittleEndian.AppendUint64(appendLane(dst, l), from)
}

func parsePageRequest(b []byte) (l Lane, from uint64, err error) {
	d := decoder{b: b}
	l, from = d.lane(), d.u64()
	if from > pageEnd {
		d.fail("a page from %d", from)
	}
	return l, from, d.finish()
}

const minuteSize = 32 // bytes

func appendLaneDigest(dst []byte, l *LaneDigest) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(append(dst, flag(l.Complete)), uint64(l.Horizon))
	dst = le.AppendUint32(dst, uint32(len(l.Minutes)))
	for _, m := range l.Minutes {
		dst = le.AppendUint64(le.AppendUint64(dst, uint64(m.Minute)), uint64(m.Count))
		dst = le.AppendUint64(le.AppendUint64(dst, m.Digest.Hi), m.Digest.Lo)
	}
	return dst
}

// parseLaneDigest decodes a digest. It does not alias b.
func parseLaneDigest(b []byte) (l LaneDigest, err error) {
	d := decoder{b: b}
	l.Complete, l.Horizon = d.bool(), d.i64()
	for i := range d.count(minuteSize) {
		m := MinuteDigest{Minute: d.i64(), Count: d.i64()}
		m.Digest.Hi, m.Digest.Lo = d.u64(), d.u64()
		if m.Count < 1 || i > 0 && m.Minute <= l.Minutes[i-1].Minute {
			d.fail("%d things in minute %d", m.Count, m.Minute)
		}
		if d.err != nil {
			return LaneDigest{}, d.err
		}
		l.Minutes = append(l.Minutes, m)
	}
	if err := d.finish(); err != nil {
		return LaneDigest{}, err
	}
	return l, nil
}

func appendSurvey(dst []byte, s *Survey) []byte {
	le := binary.LittleEndian
	dst = append(dst, flag(s.All)|flag(s.Plain)<<1)
	dst = le.AppendUint64(le.AppendUint64(dst, uint64(s.Since)), uint64(s.Born))
	dst = le.AppendUint32(dst, uint32(len(s.Buckets)))
	for i := range s.Buckets {
		b := &s.Buckets[i]
		dst = append(appendString(appendString(dst, b.Type), b.Name), flag(b.Timed))
		dst = le.AppendUint32(le.AppendUint64(dst, uint64(b.Horizon)), uint32(len(b.Slots)))
		for _, slot := range b.Slots {
			dst = le.AppendUint64(dst, uint64(slot))
		}
	}
	return dst
}

func parseSurvey(b []byte) (s Survey, err error) {
	d := decoder{b: b}
	flags := d.byte()
	if flags > 3 {
		d.fail("flags of %d", flags)
	}
	s.All, s.Plain, s.Since, s.Born = flags&1 != 0, flags&2 != 0, d.i64(), d.i64()
	if s.Since < 0 || s.Born < 0 {
		d.fail("a node that vouches from slot %d on since %d", s.Since, s.Born)
	}
	const leastBucket = 2*3 + 1 + 8 + 4
	for range d.count(leastBucket) {
		b := SurveyedBucket{Type: d.text(object.MaxNameBytes), Name: d.text(object.MaxNameBytes), Timed: d.bool(), Horizon: d.i64()}
		n := d.count(8)
		for i := range n {
			slot := d.i64()
			if slot < -1 || (slot == -1) == b.Timed || i > 0 && slot <= b.Slots[i-1] {
				d.fail("slot %d of a bucket", slot)
			}
			if d.err != nil {
				break
			}
			b.Slots = append(b.Slots, slot)
		}
		if d.err != nil {
			break
		}
		s.Buckets = append(s.Buckets, b)
	}
	return s, d.finish()
}

// appendPage appends a page's items to body, and the head that goes with it to
// meta.
func appendPage(meta, body []byte, p *Page, rows bool) (head, items []byte) {
	le, start := binary.LittleEndian, len(body)
	for i := range p.Items {
		item := &p.Items[i]
		body = le.AppendUint32(body, uint32(item.Position))
		if rows {
			body = le.AppendUint64(le.AppendUint64(body, item.Row.Hi), item.Row.Lo)
		} else {
			body = appendVersion(body, item.Version)
			body = le.AppendUint32(le.AppendUint64(body, item.Checksum), item.ValueBytes)
		}
		body = appendString(body, item.Key)
	}
	meta = append(le.AppendUint64(meta, p.Next), flag(p.Complete))
	meta = le.AppendUint64(meta, uint64(p.Horizon))
	kind := byte(kindOfObjects)
	if rows {
		kind = kindOfRows
	}
	meta = le.AppendUint32(append(meta, kind), uint32(len(p.Items)))
	return le.AppendUint64(meta, object.Checksum(body[start:])), body
}

// parsePage decodes a page that was asked for from a position on. It does not
// alias its arguments.
func parsePage(meta, body []byte, from uint64) (p Page, err error) {
	h, d := decoder{b: meta}, decoder{b: body}
	p.Next, p.Complete, p.Horizon = h.u64(), h.bool(), h.i64()
	kind, n, sum := h.byte(), h.u32(), h.u64()
	least := objectItem + 3
	if kind == kindOfRows {
		least = rowItem + 3
	}
	switch {
	case h.err != nil:
	case kind != kindOfObjects && kind != kindOfRows:
		h.fail("a page of kind %d", kind)
	case p.Next <= from || p.Next > pageEnd:
		h.fail("a page from %d to %d", from, p.Next)
	case uint64(n)*uint64(least) > uint64(len(body)):
		h.fail("%d items in %d bytes", n, len(body))
	case sum != object.Checksum(body):
		h.fail("a page that was damaged on its way")
	}
	if err := h.finish(); err != nil {
		return Page{}, err
	}
	last := from
	for range n {
		item := Item{Position: uint64(d.u32())}
		if kind == kindOfRows {
			item.Row.Hi, item.Row.Lo = d.u64(), d.u64()
		} else {
			item.Version = d.version()
			item.Checksum, item.ValueBytes = d.u64(), d.u32()
		}
		item.Key = d.text(object.MaxKeyBytes)
		if item.Position < last || item.Position >= p.Next {
			d.fail("position %d after %d", item.Position, last)
		}
		if d.err != nil {
			return Page{}, d.err
		}
		last = item.Position
		p.Items = append(p.Items, item)
	}
	if err := d.finish(); err != nil {
		return Page{}, err
	}
	return p, nil
}

func appendVersion(dst []byte, v object.Version) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(v.TimestampMicros))
	return append(binary.LittleEndian.AppendUint32(dst, v.HeaderCRC), flag(v.Tombstone))
}

func (d *decoder) version() object.Version {
	return object.Version{TimestampMicros: d.i64(), HeaderCRC: d.u32(), Tombstone: d.bool()}
}

// parseOver decodes which version a repair may replace; nothing is the zero one.
func parseOver(b []byte) (v object.Version, err error) {
	if len(b) == 0 {
		return v, nil
	}
	d := decoder{b: b}
	v = d.version()
	return v, d.finish()
}
