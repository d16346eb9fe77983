package agreed

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// Bounds of what is encoded, in bytes.
const (
	MaxDocumentBytes = 64 << 20
	MaxCommandBytes  = 8 << 20
	MaxResultBytes   = 1 << 20
)

var (
	// ErrCorrupt says the bytes are cut short, damaged, or were never what they
	// are taken for.
	ErrCorrupt = errors.New("corrupt agreed state")

	// ErrFormat says the bytes are of a format this program does not know.
	ErrFormat = errors.New("unknown format of agreed state")
)

// A document as bytes: on disk, between nodes, in a snapshot. Integers are
// little-endian; a text is its length in 2 bytes and UTF-8; a list its length in
// 2 bytes, unless said otherwise, and its elements. Equal documents have equal
// bytes.
//
//	size  field
//	4     magic "MFAD"
//	1     format, 1
//	12    version: era (4), index (8)
//	16    cluster id
//	…     text: the cluster's name
//	40    settings, 8 each: slot, ahead, skew, lead, lateness seconds
//	8     trimmed, a slot, signed
//	12    moved, a version
//	…     list of members, ascending by id:
//	        16  id
//	         …  texts: name, zone, address
//	         4  weight
//	         1  state: 1 joining, 2 valid, 3 leaving, 4 left, 5 lost
//	         1  bit 0: down, bit 1: back
//	         …  lists: disks, removed disks (16 each), ascending
//	…     the history: its length (4), its bytes (docs/format-ring.md)
//	…     the change: its length (4), its bytes (docs/format-ring.md)
//	…     list of buckets, by type, then name:
//	         …  texts: type, name
//	         1  bits: timed, write-once, index, rows
//	         8  TTL in seconds
//	         4  n, r, w, smallest w
//	         1  sync: 0 none, 1 interval, 2 always
//	         8  longest value in bytes
//	…     list of what is staged, each 42:
//	         1  kind
//	        32  node, new node
//	         4  weight
//	         …  text: zone
//	         1  bits
//	1     1 if a change is pending, else 0; then
//	         …  list: what it is made of, as above
//	         …  the commit, as in a command
//	         …  list: ids of the members that return
//	8     xxhash64 of all before
//
// Nothing may follow. A decoder accepts exactly what an encoder can write.
const documentMagic = "MFAD"

// MarshalBinary returns the document's bytes. It fails only if there are more
// than MaxDocumentBytes.
func (d *Document) MarshalBinary() ([]byte, error) {
	e := newEncoder(documentMagic)
	e.version(d.Version)
	e.id(d.Cluster)
	e.text(d.Name)
	e.settings(d.Settings)
	e.i64(d.Trimmed)
	e.version(d.Moved)
	e.u16(len(d.Members))
	for _, m := range d.Members {
		e.member(m)
	}
	history, err := d.History.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("agreed: %w", err)
	}
	e.part(history)
	change, err := d.Change.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("agreed: %w", err)
	}
	e.part(change)
	e.u16(d.Buckets.Len())
	for p := range d.Buckets.All() {
		e.bucket(p)
	}
	e.staged(d.Staged)
	e.bool(d.Pending != nil)
	if p := d.Pending; p != nil {
		e.staged(p.Staged)
		e.commit(p.Commit)
		e.ids(p.Returning)
	}
	return e.done(MaxDocumentBytes)
}

// UnmarshalDocument returns the document whose bytes b is, whole. It keeps
// nothing of b. Errors wrap ErrCorrupt or ErrFormat.
func UnmarshalDocument(b []byte) (*Document, error) {
	in, err := newDecoder(b, documentMagic, MaxDocumentBytes)
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	d := &Document{Version: in.version(), Cluster: in.id(), Name: in.text(), Settings: in.settings(), Trimmed: in.i64(), Moved: in.version()}
	for range in.count(in.u16(), 46) {
		d.Members = append(d.Members, in.member())
	}
	history, change := in.part(), in.part()
	var buckets []bucket.Properties
	for range in.count(in.u16(), 26) {
		buckets = append(buckets, in.bucket())
	}
	d.Staged = in.staged()
	if in.bool() {
		d.Pending = &Pending{Staged: in.staged(), Commit: in.commit(), Returning: in.ids()}
	}
	if err := in.done(); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	if d.History, err = ring.UnmarshalHistory(history); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	if d.Change, err = ring.UnmarshalChange(change); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	if d.Buckets, err = bucket.NewSet(buckets...); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	if err := d.inOrder(buckets); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	return d, nil
}

// inOrder checks that buckets are in the order in which they are written.
func (d *Document) inOrder(buckets []bucket.Properties) error {
	i := 0
	for p := range d.Buckets.All() {
		if p != buckets[i] {
			return fmt.Errorf("bucket %q is out of order", p.Name)
		}
		i++
	}
	return nil
}

func (e *encoder) settings(s Settings) {
	for _, v := range []int64{s.SlotSeconds, s.AheadSeconds, s.SkewSeconds, s.LeadSeconds, s.LatenessSeconds} {
		e.i64(v)
	}
}

func (d *decoder) settings() Settings {
	return Settings{SlotSeconds: d.i64(), AheadSeconds: d.i64(), SkewSeconds: d.i64(), LeadSeconds: d.i64(), LatenessSeconds: d.i64()}
}

func (e *encoder) member(m Member) {
	e.id(m.ID)
	e.text(m.Name)
	e.text(m.Zone)
	e.text(m.Address)
	e.u32(m.Weight)
	e.u8(uint8(m.State))
	var flags uint8
	if m.Down {
		flags |= 1
	}
	if m.Back {
		flags |= 2
	}
	e.u8(flags)
	e.disks(m.Disks)
	e.disks(m.Removed)
}

func (d *decoder) member() Member {
	m := Member{ID: d.id(), Name: d.text(), Zone: d.text(), Address: d.text(), Weight: d.u32(), State: MemberState(d.u8())}
	flags := d.u8()
	if flags > 3 {
		d.fail()
	}
	m.Down, m.Back = flags&1 != 0, flags&2 != 0
	m.Disks, m.Removed = d.disks(), d.disks()
	return m
}

func (e *encoder) disks(disks []DiskID) {
	e.u16(len(disks))
	for _, disk := range disks {
		e.id(disk)
	}
}

func (d *decoder) disks() (disks []DiskID) {
	for range d.count(d.u16(), 16) {
		disks = append(disks, d.id())
	}
	return disks
}

// Sync policies by their number; the last is none, as of a bucket whose TTL is
// to be set.
var syncs = [...]bucket.Sync{bucket.SyncNone, bucket.SyncInterval, bucket.SyncAlways, ""}

func (e *encoder) bucket(p bucket.Properties) {
	e.text(p.Type)
	e.text(p.Name)
	var flags uint8
	for i, set := range []bool{p.Timed, p.WriteOnce, p.Index, p.Rows} {
		if set {
			flags |= 1 << i
		}
	}
	e.u8(flags)
	e.i64(p.TTLSeconds)
	for _, v := range []int{p.N, p.R, p.W, p.SmallestW} {
		if v < 0 || v > math.MaxUint8 {
			e.fail("%d owners do not fit their field", v)
		}
		e.u8(uint8(v))
	}
	sync := slices.Index(syncs[:], p.Sync)
	if sync < 0 {
		e.fail("sync is %.20q, want none, interval or always", p.Sync)
	}
	e.u8(uint8(sync))
	e.i64(p.MaxValueBytes)
}

func (d *decoder) bucket() bucket.Properties {
	p := bucket.Properties{Type: d.text(), Name: d.text()}
	flags := d.u8()
	if flags > 15 {
		d.fail()
	}
	p.Timed, p.WriteOnce, p.Index, p.Rows = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	p.TTLSeconds = d.i64()
	p.N, p.R, p.W, p.SmallestW = int(d.u8()), int(d.u8()), int(d.u8()), int(d.u8())
	if sync := int(d.u8()); sync < len(syncs) {
		p.Sync = syncs[sync]
	} else {
		d.fail()
	}
	p.MaxValueBytes = d.i64()
	return p
}

func (e *encoder) staged(all []Staged) {
	e.u16(len(all))
	for _, x := range all {
		e.stage(x)
	}
}

func (d *decoder) staged() (all []Staged) {
	for range d.count(d.u16(), 40) {
		all = append(all, d.stage())
	}
	return all
}

func (e *encoder) stage(x Staged) {
	e.u8(uint8(x.Kind))
	e.id(x.Node)
	e.id(x.New)
	e.u32(x.Weight)
	e.text(x.Zone)
	e.u8(x.Bits)
}

func (d *decoder) stage() Staged {
	return Staged{Kind: StageKind(d.u8()), Node: d.id(), New: d.id(), Weight: d.u32(), Zone: d.text(), Bits: d.u8()}
}

func (e *encoder) commit(c Commit) {
	e.u64(c.Staged)
	e.i64(c.From)
	e.i64(c.Oldest)
	e.bool(c.AcceptLoss)
	e.u32(uint32(len(c.Gaps)))
	for _, g := range c.Gaps {
		e.id(g.Node)
		e.partition(g.Partition)
		e.bool(g.Plain)
		e.i64(g.From)
		e.i64(g.Until)
	}
}

func (d *decoder) commit() Commit {
	c := Commit{Staged: d.u64(), From: d.i64(), Oldest: d.i64(), AcceptLoss: d.bool()}
	for range d.count(int(d.u32()), 38) {
		c.Gaps = append(c.Gaps, ring.Gap{Node: d.id(), Partition: d.partition(), Plain: d.bool(), From: d.i64(), Until: d.i64()})
	}
	return c
}
