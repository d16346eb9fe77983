package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// goldenRing has two nodes, four partitions and one of everything that varies.
func goldenRing(t testing.TB) *Ring {
	nodes := []Node{
		{ID: NodeID{15: 1}, Name: "north", Zone: "a", Weight: 1},
		{ID: NodeID{0: 0xff, 15: 2}, Name: "süd", Zone: "", Weight: 0x01020304},
	}
	r, err := newRing(2, 1, nodes, []uint16{0, 1, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func goldenHistory(t testing.TB) *History {
	single, err := newRing(0, 1, []Node{{ID: NodeID{15: 1}, Name: "n", Weight: 1}}, []uint16{0})
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHistory(Version{0, 1}, 3600, single)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = h.Append(Version{2, 7}, 489948, goldenRing(t)); err != nil {
		t.Fatal(err)
	}
	h, short, err := h.Replace(Version{2, 8}, Replacement{
		Out: NodeID{0: 0xff, 15: 2}, Reason: Leaving, From: 489948, Until: 489950, Unwritten: 489950,
		Candidates: []Node{{ID: NodeID{0: 0x80, 15: 3}, Name: "w", Zone: "b", Weight: 2}},
	})
	if err != nil || short != nil {
		t.Fatal(short, err)
	}
	return h
}

// The golden bytes of docs/format-ring.md, written by hand; the checksums are
// of another implementation.
const (
	goldenRingBytes = `
	4d465247 01 02 01 00                // MFRG, format 1, 2 bits, 1 owner, 0
	0200 0000                           // 2 nodes, 0
	00000000000000000000000000000001    // id of the first
	01000000 05 6e6f727468 01 61        // weight 1, "north", zone "a"
	ff000000000000000000000000000002    // id of the second
	04030201 04 73c3bc64 00             // weight 0x01020304, "süd", no zone
	0000 0100 0100 0000                 // owners of 2-0, 2-1, 2-2, 2-3
	5e414095ed8077b1                    // xxhash64
`

	goldenHistoryBytes = `
	4d465248 03 000000                  // MFRH, format 3, 0
	02000000 0800000000000000           // version 2.8
	100e000000000000                    // slots of 3600 s
	02000000 01000000                   // 2 rings, 1 amendment
	0000000000000000 2d000000           // from slot 0 on, 45 bytes:
	4d465247 01 00 01 00                // MFRG, format 1, 0 bits, 1 owner, 0
	0100 0000                           // 1 node, 0
	00000000000000000000000000000001    // its id
	01000000 01 6e 00                   // weight 1, "n", no zone
	0000                                // owner of 0-0
	8e11fe726a70a6ad                    // xxhash64
	dc79070000000000 52000000           // from slot 489948 on, 82 bytes:
	4d465247 01 02 01 00                // MFRG, format 1, 2 bits, 1 owner, 0
	0200 0000                           // 2 nodes, 0
	00000000000000000000000000000001    // id of the first
	01000000 05 6e6f727468 01 61        // weight 1, "north", zone "a"
	ff000000000000000000000000000002    // id of the second
	04030201 04 73c3bc64 00             // weight 0x01020304, "süd", no zone
	0000 0100 0100 0000                 // owners of 2-0, 2-1, 2-2, 2-3
	5e414095ed8077b1                    // xxhash64
	dc79070000000000 de79070000000000   // amended from slot 489948 until slot 489950
	02 00 0100 02000000                 // leaving, a source, 1 successor, 2 moves
	ff000000000000000000000000000002    // who is replaced
	80000000000000000000000000000003    // the successor's id
	02000000 01 77 01 62                // weight 2, "w", zone "b"
	01000000 0000 01 00                 // 2-1: to the first successor, pending, 0
	02000000 0000 01 00                 // 2-2
	02 000000                           // plain data is handed over in pieces of 2 bits, 0
	01000000                            // 1 newcomer:
	ff000000000000000000000000000002    // its id
	02000000 01000000 02000000          // 2 pieces, 2-1 and 2-2
	01000000                            // 1 source:
	00000000000000000000000000000001    // its id
	02000000 01000000 02000000          // 2 pieces
	01000000                            // 1 beginning:
	0000000000000000                    // the ring from slot 0 on
	02000000 01000000 02000000          // 2 pieces
	7047ec75d6386c22                    // xxhash64
`
)

func goldenChange() Change {
	members := []NodeID{{15: 1}, {0: 0xff, 15: 2}}
	return Change{Round: 7, Phase: Proposed, Boundary: 489950, Members: members, Waiting: members[1:]}
}

const (
	goldenChangeBytes = `
	4d465243 01 01 0000                 // MFRC, format 1, proposed, 0
	0700000000000000                    // round 7
	de79070000000000                    // boundary, slot 489950
	0200 0000                           // 2 members, 0
	00000000000000000000000000000001 00 // has promised
	ff000000000000000000000000000002 01 // has not
	88c9a3ce46681e15                    // xxhash64
`
	goldenPromiseBytes = `
	4d465250 01 00 01 00                // MFRP, format 1, not lifted, fixed, 0
	0700000000000000                    // round 7
	de79070000000000                    // boundary, slot 489950
	657519525557157f                    // xxhash64
`
)

// fromHex returns the bytes of hexadecimal text with blanks and comments.
func fromHex(t testing.TB, text string) []byte {
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBytes(t *testing.T) {
	for name, c := range map[string]struct {
		made   interface{ MarshalBinary() ([]byte, error) }
		golden string
	}{"ring": {goldenRing(t), goldenRingBytes}, "history": {goldenHistory(t), goldenHistoryBytes},
		"change": {goldenChange(), goldenChangeBytes}, "promise": {Promise{Round: 7, Boundary: 489950, Fixed: true}, goldenPromiseBytes}} {
		got, err := c.made.MarshalBinary()
		if want := fromHex(t, c.golden); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n got %x\nwant %x", name, err, got, want)
		}
	}
}

func TestGoldenBytesDecode(t *testing.T) {
	r, err := UnmarshalRing(fromHex(t, goldenRingBytes))
	if err != nil {
		t.Fatal(err)
	}
	if node, _ := r.Node(NodeID{0: 0xff, 15: 2}); node.Name != "süd" || node.Weight != 0x01020304 || node.Zone != "" {
		t.Errorf("second node: %+v", node)
	}
	if owners := r.Owners(Partition{2, 3}); r.N() != 1 || owners[0] != (NodeID{15: 1}) {
		t.Errorf("partition 2-3 is owned by %v", owners)
	}
	h, err := UnmarshalHistory(fromHex(t, goldenHistoryBytes))
	if err != nil {
		t.Fatal(err)
	}
	if h.Version() != (Version{2, 8}) || h.SlotSeconds() != 3600 || h.Len() != 2 {
		t.Errorf("version %v, slots of %d s, %d rings", h.Version(), h.SlotSeconds(), h.Len())
	}
	if h.At(489947) == h.At(489948) || h.At(489948).Bits() != 2 {
		t.Error("the second ring does not count from slot 489948 on")
	}
}

// Every prefix is corrupt, and so is what has one byte more.
func TestEveryCut(t *testing.T) {
	for name, c := range documents(t) {
		for cut := range len(c.whole) {
			if err := c.decode(c.whole[:cut:cut]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut at %d of %d: %v", name, cut, len(c.whole), err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.whole), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s and a byte: %v", name, err)
		}
	}
}

// Every bit flipped is seen.
func TestEveryBit(t *testing.T) {
	for name, c := range documents(t) {
		for bit := range 8 * len(c.whole) {
			damaged := bytes.Clone(c.whole)
			damaged[bit/8] ^= 1 << (bit % 8)
			err := c.decode(damaged)
			want := ErrCorrupt
			if bit/8 == 4 { // the format's byte
				want = ErrFormat
			}
			if !errors.Is(err, want) {
				t.Errorf("%s with bit %d flipped: %v, want %v", name, bit, err, want)
			}
		}
	}
}

type document struct {
	whole  []byte
	decode func([]byte) error
}

func documents(t testing.TB) map[string]document {
	return map[string]document{
		"ring":    {fromHex(t, goldenRingBytes), func(b []byte) error { _, err := UnmarshalRing(b); return err }},
		"history": {fromHex(t, goldenHistoryBytes), func(b []byte) error { _, err := UnmarshalHistory(b); return err }},
		"change":  {fromHex(t, goldenChangeBytes), func(b []byte) error { _, err := UnmarshalChange(b); return err }},
		"promise": {fromHex(t, goldenPromiseBytes), func(b []byte) error { _, err := UnmarshalPromise(b); return err }},
	}
}

// resum gives a document the checksum of what it has become.
func resum(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[len(b)-8:], xxhash.Sum64(b[:len(b)-8]))
	return b
}

// What is wrong under a checksum that is right is refused all the same.
func TestHostileRings(t *testing.T) {
	const node0, node1 = 12, 40 // offsets of the nodes in the golden ring
	const owners = 66
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"nothing changed", func(b []byte) []byte { return b }, nil},
		{"17 bits", func(b []byte) []byte { b[5] = 17; return b }, ErrRing},
		{"255 bits", func(b []byte) []byte { b[5] = 255; return b }, ErrRing},
		{"more partitions than owners", func(b []byte) []byte { b[5] = 16; return b }, ErrCorrupt},
		{"no owners", func(b []byte) []byte { b[6] = 0; return b }, ErrCorrupt},
		{"no owners, and none there", func(b []byte) []byte { b[6] = 0; return append(b[:owners], b[len(b)-8:]...) }, ErrRing},
		{"more owners than nodes", func(b []byte) []byte { b[6], b[5] = 4, 0; return b }, ErrRing},
		{"a reserved byte", func(b []byte) []byte { b[7] = 1; return b }, ErrCorrupt},
		{"another reserved byte", func(b []byte) []byte { b[11] = 1; return b }, ErrCorrupt},
		{"no nodes", func(b []byte) []byte { b[8] = 0; return b }, ErrCorrupt},
		{"more nodes than there are", func(b []byte) []byte { b[8] = 3; return b }, ErrCorrupt},
		{"65535 nodes", func(b []byte) []byte { b[8], b[9] = 255, 255; return b }, ErrRing},
		{"a node without id", func(b []byte) []byte { b[node0+15] = 0; return b }, ErrNode},
		{"nodes out of order", func(b []byte) []byte { b[node0] = 255; b[node1] = 0; return b }, ErrRing},
		{"a node twice", func(b []byte) []byte { copy(b[node1:node1+16], b[node0:]); return b }, ErrRing},
		{"a node without weight", func(b []byte) []byte { b[node0+16] = 0; return b }, ErrNode},
		{"a name that ends elsewhere", func(b []byte) []byte { b[node0+20] = 4; return b }, ErrCorrupt},
		{"a name that never ends", func(b []byte) []byte { b[node0+20] = 255; return b }, ErrCorrupt},
		{"a name with a line break", func(b []byte) []byte { b[node0+21] = '\n'; return b }, ErrNode},
		{"a name that is no UTF-8", func(b []byte) []byte { b[node0+21] = 0xff; return b }, ErrNode},
		{"an owner that is no member", func(b []byte) []byte { b[owners] = 2; return b }, ErrRing},
		{"an owner far out", func(b []byte) []byte { b[owners+1] = 255; return b }, ErrRing},
		{"an owner twice", func(b []byte) []byte { b[5], b[6], b[owners+2] = 1, 2, 0; return b }, ErrRing},
	} {
		r, err := UnmarshalRing(resum(c.change(fromHex(t, goldenRingBytes))))
		if !errors.Is(err, c.want) || (err == nil) != (r != nil) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestHostileHistories(t *testing.T) {
	// Offsets of the first ring's slot, the amendment, its successor and moves,
	// and the handover.
	const first, amendment = 36, 36 + 12 + 45 + 12 + 82
	const successor = amendment + 24 + 16
	const move = successor + 24
	const plain = move + 16
	const begun = plain + 4 + 2*(4+16+4+8) + 4
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"nothing changed", func(b []byte) {}, nil},
		{"a reserved byte", func(b []byte) { b[7] = 1 }, ErrCorrupt},
		{"slots of no length", func(b []byte) { clear(b[20:28]) }, ErrRing},
		{"slots of negative length", func(b []byte) { b[27] = 0x80 }, ErrRing},
		{"no rings", func(b []byte) { b[28] = 0 }, ErrCorrupt},
		{"fewer rings", func(b []byte) { b[28] = 1 }, ErrCorrupt},
		{"more rings", func(b []byte) { b[28] = 3 }, ErrCorrupt},
		{"four thousand million rings", func(b []byte) { b[28], b[29], b[30], b[31] = 255, 255, 255, 255 }, ErrCorrupt},
		{"rings out of order", func(b []byte) { binary.LittleEndian.PutUint64(b[first:], 489948) }, ErrRing},
		{"a ring that never ends", func(b []byte) { b[first+11] = 255 }, ErrCorrupt},
		{"a ring longer than the rest", func(b []byte) { b[first+12+45+8]++ }, ErrCorrupt},
		{"more amendments", func(b []byte) { b[32] = 2 }, ErrCorrupt},
		{"fewer amendments", func(b []byte) { b[32] = 0 }, ErrCorrupt},
		{"four thousand million amendments", func(b []byte) { b[32], b[33], b[34], b[35] = 255, 255, 255, 255 }, ErrCorrupt},
		{"an amendment from before the first ring", func(b []byte) { b[amendment+7] = 0x80 }, ErrRing},
		{"an amendment of the other ring", func(b []byte) { b[amendment+2] = 0 }, ErrRing},
		{"an amendment of no slots", func(b []byte) { b[amendment+8] = 0xdc }, ErrRing},
		{"an amendment for no reason", func(b []byte) { b[amendment+16] = 0 }, ErrRing},
		{"an amendment for a new reason", func(b []byte) { b[amendment+16] = 6 }, ErrRing},
		{"an amendment that replaces and fills", func(b []byte) { b[amendment+16] = 5 }, ErrRing},
		{"a fill of some partitions", func(b []byte) { b[amendment+16] = 5; clear(b[amendment+24 : successor]) }, ErrRing},
		{"half a flag", func(b []byte) { b[amendment+17] = 2 }, ErrCorrupt},
		{"no successors", func(b []byte) { b[amendment+18] = 0 }, ErrCorrupt},
		{"65535 successors", func(b []byte) { b[amendment+18], b[amendment+19] = 255, 255 }, ErrCorrupt},
		{"no moves", func(b []byte) { b[amendment+20] = 0 }, ErrCorrupt},
		{"four thousand million moves", func(b []byte) { b[amendment+23] = 255 }, ErrCorrupt},
		{"the replaced is no owner", func(b []byte) { b[amendment+24] = 1 }, ErrRing},
		{"the successor is the replaced", func(b []byte) { copy(b[successor:successor+16], b[amendment+24:]) }, ErrRing},
		{"a successor without id", func(b []byte) { clear(b[successor : successor+16]) }, ErrNode},
		{"a move of a partition that is not there", func(b []byte) { b[move+8] = 4 }, ErrRing},
		{"a move of another's partition", func(b []byte) { b[move+8] = 3 }, ErrRing},
		{"a move twice", func(b []byte) { b[move+8] = 1 }, ErrRing},
		{"a move to nobody", func(b []byte) { b[move+4] = 1 }, ErrCorrupt},
		{"a move half pending", func(b []byte) { b[move+6] = 2 }, ErrCorrupt},
		{"a move's reserved byte", func(b []byte) { b[move+7] = 1 }, ErrCorrupt},
		{"plain data in fewer pieces than partitions", func(b []byte) { b[plain] = 1 }, ErrRing},
		{"plain data in 2^17 pieces", func(b []byte) { b[plain] = 17 }, ErrRing},
		{"plain data's reserved byte", func(b []byte) { b[plain+1] = 1 }, ErrCorrupt},
		{"a newcomer that owns nothing", func(b []byte) { b[plain+8] = 1 }, ErrRing},
		{"a newcomer for nothing", func(b []byte) { clear(b[plain+24 : plain+28]) }, ErrCorrupt},
		{"a newcomer's piece twice", func(b []byte) { b[plain+32] = 1 }, ErrRing},
		{"a newcomer's piece that is not there", func(b []byte) { b[plain+32] = 5 }, ErrRing},
		{"four thousand million pieces", func(b []byte) { b[plain+27] = 255 }, ErrCorrupt},
		{"a source without newcomer", func(b []byte) { b[plain+60+4] = 3 }, ErrRing},
		{"a source that is an owner", func(b []byte) { copy(b[plain+40:plain+56], b[plain+8:]) }, ErrRing},
		{"a beginning at no ring", func(b []byte) { b[begun] = 1 }, ErrRing},
		{"a beginning at the newest ring", func(b []byte) { binary.LittleEndian.PutUint64(b[begun:], 489948) }, ErrRing},
		{"a beginning of nothing", func(b []byte) { clear(b[begun+8 : begun+12]) }, ErrCorrupt},
		{"a beginning's piece twice", func(b []byte) { b[begun+16] = 1 }, ErrRing},
		{"a beginning's piece that is not there", func(b []byte) { b[begun+16] = 5 }, ErrRing},
		{"a beginning's piece without newcomer", func(b []byte) { b[begun+16] = 3 }, ErrRing},
		{"four thousand million pieces that begin", func(b []byte) { b[begun+11] = 255 }, ErrCorrupt},
		{"no beginnings", func(b []byte) { b[begun-4] = 0 }, ErrCorrupt},
		{"four thousand million beginnings", func(b []byte) { b[begun-1] = 255 }, ErrCorrupt},
		{"a ring of nothing", func(b []byte) { clear(b[first+8 : first+12]) }, ErrCorrupt},
		{"a ring of another format", func(b []byte) { b[first+12+4] = 2 }, ErrFormat},
		{"a damaged ring", func(b []byte) { b[first+12+5] = 1 }, ErrCorrupt},
	} {
		b := fromHex(t, goldenHistoryBytes)
		c.change(b)
		h, err := UnmarshalHistory(resum(b))
		if !errors.Is(err, c.want) || (err == nil) != (h != nil) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := UnmarshalHistory(fromHex(t, goldenRingBytes)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a ring for a history: %v", err)
	}
}

// Changes and promises that nobody could have written, under right checksums.
func TestHostileChanges(t *testing.T) {
	for name, c := range map[string]struct {
		at int
		is byte
	}{
		"phase 3":                   {5, 3},
		"reserved":                  {7, 1},
		"more members":              {24, 3},
		"more members than nodes":   {25, 0xff},
		"waiting for one when idle": {5, 0},
		"a member of zeroes":        {43, 0},
		"waiting for half of one":   {28 + 16, 2},
	} {
		b := fromHex(t, goldenChangeBytes)
		b[c.at] = c.is
		if _, err := UnmarshalChange(resum(b)); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := fromHex(t, goldenPromiseBytes)
	b[5] = 2
	if _, err := UnmarshalPromise(resum(b)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("lifted by half: %v", err)
	}
	for name, c := range map[string]Change{
		"phase":     {Phase: Fixed + 1},
		"twice":     {Members: []NodeID{{1}, {1}}},
		"nobody":    {Members: []NodeID{{}}},
		"a waiter":  {Phase: Proposed, Members: []NodeID{{1}}, Waiting: []NodeID{{2}}},
		"too many":  {Members: make([]NodeID, MaxNodes+1)},
		"idle":      {Phase: Idle, Members: []NodeID{{1}}, Waiting: []NodeID{{1}}},
		"two waits": {Phase: Proposed, Members: []NodeID{{1}}, Waiting: []NodeID{{1}, {1}}},
	} {
		if _, err := c.MarshalBinary(); !errors.Is(err, ErrRing) {
			t.Errorf("%s was encoded: %v", name, err)
		}
	}
}

func TestMoreRingsThanAHistoryHolds(t *testing.T) {
	h, rings := testHistory(t)
	for i := range int64(MaxRings - 1) {
		h, _ = h.Append(Version{0, uint64(i + 2)}, i+1, rings[0])
	}
	b, _ := h.MarshalBinary()
	if _, err := UnmarshalHistory(b); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[28:], MaxRings+1)
	if _, err := UnmarshalHistory(resum(b)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a count of one more than there are: %v", err)
	}
}

func TestUnknownFormatIsSaid(t *testing.T) {
	b := fromHex(t, goldenRingBytes)
	b[4] = 2
	const want = "ring: format 2, this program knows format 1: unknown ring format"
	if _, err := UnmarshalRing(b); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	b = fromHex(t, goldenHistoryBytes)
	b[4] = 1
	const wantHistory = "history: format 1, this program knows format 3: unknown ring format"
	if _, err := UnmarshalHistory(b); err == nil || err.Error() != wantHistory {
		t.Errorf("%v, want %s", err, wantHistory)
	}
}

// What is made encodes, decodes and encodes to the same bytes, behind whatever
// is there, and keeps nothing of the bytes it came from.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prev *Ring
		var h *History
		for i := range rapid.IntRange(1, 3).Draw(t, "rings") {
			prev, _ = mustClaim(t, drawNodes(t, 9), rapid.Uint8Range(0, 6).Draw(t, "bits"), 3, prev)
			var err error
			if i == 0 {
				h, err = NewHistory(Version{3, 1}, 10, prev)
			} else {
				h, err = h.Append(Version{3, uint64(i + 1)}, int64(i*100), prev)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		b, _ := h.AppendBinary([]byte("before"))
		whole := bytes.Clone(b[len("before"):])
		again, err := UnmarshalHistory(b[len("before"):])
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
		if c, _ := again.MarshalBinary(); !bytes.Equal(c, whole) {
			t.Fatalf("\n got %x\nwant %x", c, whole)
		}
	})
}

// fuzzDocument feeds a decoder mutations under a right checksum: with a wrong
// one it would never get past it.
func fuzzDocument[D interface{ MarshalBinary() ([]byte, error) }](f *testing.F, decode func([]byte) (D, error), seeds ...[]byte) {
	for _, seed := range seeds {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right && len(b) >= 8 {
			b = resum(bytes.Clone(b))
		}
		d, err := decode(b)
		if err == nil {
			if again, _ := d.MarshalBinary(); !bytes.Equal(again, b) {
				t.Errorf("decoded %x, which encodes to %x", b, again)
			}
			return
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrRing) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

func FuzzUnmarshalRing(f *testing.F) {
	large, _ := mustClaim(f, equalNodes("aabbcc"), 6, 3, nil)
	b, _ := large.MarshalBinary()
	fuzzDocument(f, UnmarshalRing, fromHex(f, goldenRingBytes), b)
}

func FuzzUnmarshalHistory(f *testing.F) {
	fuzzDocument(f, UnmarshalHistory, fromHex(f, goldenHistoryBytes))
}

func FuzzUnmarshalChange(f *testing.F) {
	idle, _ := Change{}.MarshalBinary()
	fuzzDocument(f, UnmarshalChange, fromHex(f, goldenChangeBytes), idle)
}

func FuzzUnmarshalPromise(f *testing.F) {
	fuzzDocument(f, UnmarshalPromise, fromHex(f, goldenPromiseBytes))
}

func BenchmarkUnmarshalRing(b *testing.B) {
	r, _ := mustClaim(b, equalNodes("aaaabbbbcccc"), 10, 3, nil)
	encoded, _ := r.MarshalBinary()
	b.SetBytes(int64(len(encoded)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := UnmarshalRing(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
