package agreed

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// goldenDocument has one of everything that varies.
func goldenDocument(t testing.TB) *Document {
	f := Founding{Cluster: ClusterID{0: 0xc1, 15: 1}, Name: "süd", Settings: Settings{SlotSeconds: 3600, AheadSeconds: 10, SkewSeconds: 5, LeadSeconds: 30, LatenessSeconds: 6}}
	f.Members = []Member{{ID: ring.NodeID{15: 1}, Name: "n", Zone: "z", Weight: 0x01020304, Disks: []DiskID{{15: 7}}, Address: "h:1"}}
	d, err := Found(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Command{
		{Kind: Introduce, Now: 1000, Member: Member{ID: ring.NodeID{15: 1}, Disks: []DiskID{{15: 7}, {15: 8}}, Address: "h:2"}},
		{Kind: Introduce, Now: 1000, Member: Member{ID: ring.NodeID{15: 1}, Disks: []DiskID{{15: 8}}, Address: "h:2"}},
		{Kind: Join, Now: 1000, Member: Member{ID: ring.NodeID{15: 2}, Name: "m", Weight: 1, Disks: []DiskID{{15: 9}}, Address: "h:3"}},
	} {
		var r Result
		if d, r = d.Apply(c); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	commit := Command{Kind: CommitStaged, Now: 1000, Commit: Commit{Staged: d.StagedHash(), From: 3, Oldest: -1,
		Gaps: []ring.Gap{{Node: ring.NodeID{15: 1}, Partition: ring.Partition{Bits: 4, Prefix: 10}, From: 1, Until: 2}}}}
	d, r := d.Apply(commit)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	d, r = d.Apply(Command{Kind: Stage, Now: 1000, Stage: Staged{Kind: StageZone, Node: ring.NodeID{15: 1}, Zone: "y"}})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return d
}

// The golden bytes of docs/format-agreed.md, written by hand; the checksums are of
// another implementation.
const (
	goldenDocumentBytes = `
	4d464144 01                               // MFAD, format 1
	01000000 0600000000000000                 // version 1.6
	c1000000000000000000000000000001          // cluster
	0400 73c3bc64                             // "süd"
	100e000000000000 0a00000000000000         // slots of 3600 s, 10 s ahead
	0500000000000000 1e00000000000000         // skew 5 s, lead 30 s
	0600000000000000                          // lateness 6 s
	0000000000000000                          // nothing is trimmed
	00000000 0000000000000000                 // nothing has moved
	0200                                      // 2 members:
	00000000000000000000000000000001          // id
	0100 6e 0100 7a 0300 683a32               // "n", zone "z", at "h:2"
	04030201 02 00                            // weight, valid, not down
	0100 00000000000000000000000000000008     // 1 disk
	0100 00000000000000000000000000000007     // 1 that was replaced
	00000000000000000000000000000002          // id
	0100 6d 0000 0300 683a33                  // "m", no zone, at "h:3"
	01000000 01 00                            // weight 1, joining
	0100 00000000000000000000000000000009     // 1 disk
	0000                                      // none that was replaced
	76000000                                  // the history, 118 bytes:
	4d465248 03 000000                        // MFRH, format 3
	01000000 0100000000000000                 // version 1.1
	100e000000000000 01000000 00000000        // slots of 3600 s, 1 ring
	0000000000000000 2e000000                 // from slot 0 on, 46 bytes:
	4d465247 01 00 01 00 0100 0000            // MFRG, 0 bits, 1 owner, 1 node
	00000000000000000000000000000001          // id
	04030201 01 6e 01 7a 0000                 // weight, "n", zone "z"; it owns 0-0
	6d7d88ffdcefe670                          // xxhash64
	00 000000 00000000 00000000 00000000      // plain data is not handed over
	5fab13dc7459cec0                          // xxhash64
	46000000                                  // the change, 70 bytes:
	4d465243 01 01 0000 0100000000000000      // MFRC, proposed, round 1
	0300000000000000 0200 0000                // boundary, slot 3; 2 members
	00000000000000000000000000000001 01       // waiting
	00000000000000000000000000000002 01       // waiting
	eea923b871c5e041                          // xxhash64
	0200                                      // 2 buckets:
	0700 64656661756c74 0600 65706f636873     // default, epochs
	09 002f0d0000000000 03 02 02 02           // timed, rows; 864000 s; n, r, w, smallest
	01 0000200300000000                       // interval, 50 MiB
	0700 64656661756c74 0600 6576656e7473     // default, events
	07 002f0d0000000000 03 02 02 02           // timed, write-once, index
	01 0000200300000000
	0100                                      // 1 thing is staged:
	06 00000000000000000000000000000001       // a zone, of this node
	00000000000000000000000000000000          // no new node
	00000000 0100 79 00                       // no weight, "y", no bits
	01                                        // a change is pending
	0100                                      // made of 1 thing:
	01 00000000000000000000000000000002       // this node joins
	00000000000000000000000000000000 00000000 0000 00
	6b018063dee5f201 0300000000000000         // what was staged, from slot 3
	ffffffffffffffff 00 01000000              // oldest slot -1, no loss accepted, 1 gap:
	00000000000000000000000000000001 04 0a000000
	00 0100000000000000 0200000000000000      // in 4-a, timed, slots 1 until 2
	0000                                      // nobody returns
	2490608e7917cf0c                          // xxhash64
`
	goldenCommitBytes = `
	4d464143 01 05 e803000000000000           // MFAC, format 1, commit, at 1000
	0807060504030201 0900000000000000         // hash of what is staged, from slot 9
	0200000000000000 01 01000000              // oldest slot 2, loss accepted, 1 gap:
	00000000000000000000000000000001          // of this node
	04 0a000000 01                            // in 4-a, plain
	0100000000000000 0200000000000000
	c8d471627b48baca                          // xxhash64
`
	goldenDownBytes = `
	4d464143 01 09 e803000000000000           // MFAC, format 1, down, at 1000
	00000000000000000000000000000001          // this node
	0100 00000000000000000000000000000002     // and 1 more is silent
	082b9bda01501704                          // xxhash64
`
	goldenCompletedBytes = `
	4d464143 01 0b e803000000000000           // MFAC, format 1, completed, at 1000
	01000000 0200000000000000 01000000        // under history 1.2; 1:
	00000000000000000000000000000001          // this node
	04 0a000000 00                            // 4-a, timed
	0100000000000000 ffffffffffffff7f         // from slot 1, for ever
	85f5a4df770cb491                          // xxhash64
`
	goldenPromisedBytes = `
	4d464143 01 07 e803000000000000           // MFAC, format 1, promised, at 1000
	00000000000000000000000000000001          // this node
	0700000000000000 0000000000000080         // round 7, has admitted nothing
	22d365ff64204082                          // xxhash64
`
	goldenResultBytes = `
	4d464152 01                               // MFAR, format 1
	01000000 0600000000000000 06              // 1.6; refused, a loss
	05 01 0200 6e6f                           // conflict, not done, "no"
	0100 0300 226e22                          // without "n":
	0100000000000000 0200000000000000         // 1 slot, 2 to 3
	0300000000000000 0400000000000000         // 4 partitions
	0500000000000000 0600000000000000         // 5 bytes; 6 partitions of plain data
	0700000000000000                          // 7 bytes
	0100 0500 6e6f7465 64                     // one note, "noted"
	8e056d91f4f46a02                          // xxhash64
`
)

func goldenCommands() map[string]Command {
	n, m := ring.NodeID{15: 1}, ring.NodeID{15: 2}
	p := ring.Partition{Bits: 4, Prefix: 10}
	return map[string]Command{
		goldenCommitBytes: {Kind: CommitStaged, Now: 1000, Commit: Commit{Staged: 0x0102030405060708, From: 9, Oldest: 2, AcceptLoss: true,
			Gaps: []ring.Gap{{Node: n, Partition: p, Plain: true, From: 1, Until: 2}}}},
		goldenDownBytes:      {Kind: Down, Now: 1000, Node: n, Silent: []ring.NodeID{m}},
		goldenCompletedBytes: {Kind: Completed, Now: 1000, History: ring.Version{Era: 1, Index: 2}, Completions: []ring.Completion{{Node: n, Partition: p, From: 1, Until: ring.Forever}}},
		goldenPromisedBytes:  {Kind: Promised, Now: 1000, Node: n, Round: 7, Highest: ring.NoEpoch},
	}
}

func goldenResult() Result {
	e := refuse(object.CodeConflict, "no")
	e.Cause = &ring.LastCopyError{Nodes: []string{`"n"`}, Slots: 1, FirstSlot: 2, LastSlot: 3, TimedPartitions: 4, TimedBytes: 5, PlainPartitions: 6, PlainBytes: 7}
	return Result{Version: ring.Version{Era: 1, Index: 6}, Err: e, Notes: []string{"noted"}}
}

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
	type encodes interface{ MarshalBinary() ([]byte, error) }
	all := map[string]encodes{goldenDocumentBytes: goldenDocument(t), goldenResultBytes: goldenResult()}
	for golden, c := range goldenCommands() {
		all[golden] = c
	}
	for golden, made := range all {
		got, err := made.MarshalBinary()
		if want := fromHex(t, golden); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T: %v\n got %x\nwant %x", made, err, got, want)
		}
	}
}

func TestGoldenBytesDecode(t *testing.T) {
	d, err := UnmarshalDocument(fromHex(t, goldenDocumentBytes))
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := d.MemberNamed("n"); d.Name != "süd" || m.Address != "h:2" || !m.Uses(DiskID{15: 8}) || !m.Lacks(DiskID{15: 7}) || d.Pending.Commit.From != 3 {
		t.Errorf("%+v", d)
	}
	for golden, want := range goldenCommands() {
		if got, err := UnmarshalCommand(fromHex(t, golden)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
		}
	}
	r, err := UnmarshalResult(fromHex(t, goldenResultBytes))
	if err != nil {
		t.Fatal(err)
	}
	loss, found := errors.AsType[*ring.LastCopyError](r.Failure())
	if !found || loss.PlainBytes != 7 || !errors.Is(r.Failure(), object.CodeConflict) || r.Err.Outcome != object.NotDone || r.Notes[0] != "noted" {
		t.Errorf("%+v, loss %+v", r, loss)
	}
}

// Every prefix is corrupt, so is what has one byte more, and every bit flipped
// is seen.
func TestDamage(t *testing.T) {
	for name, c := range documents(t) {
		for cut := range len(c.whole) {
			if err := c.decode(c.whole[:cut:cut]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut at %d of %d: %v", name, cut, len(c.whole), err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.whole), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s and a byte: %v", name, err)
		}
		for bit := range 8 * len(c.whole) {
			damaged := bytes.Clone(c.whole)
			damaged[bit/8] ^= 1 << (bit % 8)
			want := ErrCorrupt
			if bit/8 == 4 { // the format's byte
				want = ErrFormat
			}
			if err := c.decode(damaged); !errors.Is(err, want) {
				t.Errorf("%s with bit %d flipped: %v, want %v", name, bit, err, want)
			}
		}
	}
}

// Whatever byte is another, under a right checksum: it is refused, or decodes to
// what encodes to the same bytes.
func TestEveryByte(t *testing.T) {
	for name, c := range documents(t) {
		for at := range len(c.whole) - sumBytes {
			for _, is := range []byte{0, 1, 2, 0x7f, 0xff, c.whole[at] + 1, c.whole[at] ^ 0x80} {
				b := bytes.Clone(c.whole)
				b[at] = is
				if err := c.decode(resum(b)); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
					t.Errorf("%s with %#x at %d: %v", name, is, at, err)
				}
			}
		}
	}
}

// A document that is no document, under a right checksum, is refused for what is
// wrong with it.
func TestHostileDocuments(t *testing.T) {
	valid := func(d *Document) { d.Members[1].State = Valid }
	for want, change := range map[string]func(*Document){
		"no id":                    func(d *Document) { d.Cluster = ClusterID{} },
		"want 1 to 4096":           func(d *Document) { d.Members = nil },
		"version 1.0, history 1.1": func(d *Document) { d.Version.Index = 0 },
		"last moved at 1.9":        func(d *Document) { d.Moved = ring.Version{Era: 1, Index: 9} },
		"slots of 10 seconds":      func(d *Document) { d.Settings.SlotSeconds = 10 },
		"a plan is pending: false": func(d *Document) { d.Pending = nil },
		"cluster's name":           func(d *Document) { d.Name = "" },
		"lead_seconds":             func(d *Document) { d.Settings.LeadSeconds = 0 },
		"out of order":             func(d *Document) { d.Members[0], d.Members[1] = d.Members[1], d.Members[0] },
		"in state 6":               func(d *Document) { d.Members[1].State = 6 },
		"and back: true":           func(d *Document) { d.Members[1].Back = true },
		"two members are named":    func(d *Document) { d.Members[1].Name = "n" },
		"weight is 0":              func(d *Document) { d.Members[1].Weight = 0 },
		"0 disks":                  func(d *Document) { d.Members[1].Disks = nil },
		"is there twice":           func(d *Document) { d.Members[1].Disks = d.Members[0].Removed },
		"without an id":            func(d *Document) { d.Members[1].Disks = []DiskID{{}} },
		"disks of member":          func(d *Document) { d.Members[1].Disks = []DiskID{{2}, {1}} },
		"want host:port":           func(d *Document) { d.Members[1].Address = "\n" },
		"2 members are valid":      valid,
		"cannot be asked to join":  func(d *Document) { d.Staged = []Staged{{Kind: StageJoin, Node: ring.NodeID{15: 1}}} },
		"are both staged":          func(d *Document) { d.Staged = append(d.Staged, d.Staged[0]) },
		"do not belong to it":      func(d *Document) { d.Staged = []Staged{{Kind: 9}} },
		"are both pending":         func(d *Document) { d.Pending.Staged = append(d.Pending.Staged, d.Pending.Staged[0]) },
		"0 things staged and 0":    func(d *Document) { d.Pending.Staged = nil },
		"1 things staged and 1":    func(d *Document) { d.Pending.Returning = []ring.NodeID{{15: 1}} },
		"is not back":              func(d *Document) { d.Pending = &Pending{Returning: []ring.NodeID{{15: 1}}} },
		"is no member":             func(d *Document) { d.Pending.Staged[0].Node = ring.NodeID{9} },
		"a return is pending, and ": func(d *Document) {
			d.Members[0].Down, d.Members[0].Back = true, true
			d.Pending.Staged, d.Pending.Returning = nil, []ring.NodeID{{15: 1}}
		},
	} {
		d := goldenDocument(t)
		change(d)
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := UnmarshalDocument(b); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What does not fit its field is not encoded: nothing could decode it.
func TestTooMuchIsNotEncoded(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	for want, c := range map[string]Command{
		"too long":               {Kind: Stage, Stage: Staged{Kind: StageZone, Zone: long}},
		"is none":                {Kind: Completed, Completions: []ring.Completion{{Partition: ring.Partition{Bits: 2, Prefix: 4}}}},
		"do not fit":             {Kind: SetBucket, Bucket: bucket.Properties{N: 256}},
		"want none, interval":    {Kind: SetBucket, Bucket: bucket.Properties{Sync: "never"}},
		"command 99":             {Kind: 99},
		"want at most 8388608":   {Kind: CommitStaged, Commit: Commit{Gaps: make([]ring.Gap, 1<<18)}},
		"a list or a text of 65": {Kind: Down, Silent: make([]ring.NodeID, 1<<16)},
	} {
		if _, err := c.MarshalBinary(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

type document struct {
	whole  []byte
	decode func([]byte) error
}

func documents(t testing.TB) map[string]document {
	all := map[string]document{
		"document": {fromHex(t, goldenDocumentBytes), again(t, UnmarshalDocument)},
		"result":   {fromHex(t, goldenResultBytes), again(t, UnmarshalResult)},
	}
	for golden, c := range goldenCommands() {
		all[c.Kind.String()] = document{fromHex(t, golden), again(t, UnmarshalCommand)}
	}
	return all
}

// again returns a decoder that insists that what decodes encodes to the same.
func again[D interface{ MarshalBinary() ([]byte, error) }](t testing.TB, decode func([]byte) (D, error)) func([]byte) error {
	return func(b []byte) error {
		d, err := decode(b)
		if err != nil {
			return err
		}
		if c, err := d.MarshalBinary(); err != nil || !bytes.Equal(c, b) {
			t.Errorf("decoded %x, which encodes to %x: %v", b, c, err)
		}
		return nil
	}
}

// resum gives a document the checksum of what it has become.
func resum(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[len(b)-sumBytes:], xxhash.Sum64(b[:len(b)-sumBytes]))
	return b
}

// fuzz feeds a decoder mutations under a right checksum: with a wrong one it
// would never get past it. What decodes is applied, if it can be.
func fuzz[D interface{ MarshalBinary() ([]byte, error) }](f *testing.F, decode func([]byte) (D, error), use func(*testing.T, D), seeds ...string) {
	for _, seed := range seeds {
		f.Add(fromHex(f, seed), true)
		f.Add(fromHex(f, seed), false)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right && len(b) >= sumBytes {
			b = resum(bytes.Clone(b))
		}
		d, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		if c, err := d.MarshalBinary(); err != nil || !bytes.Equal(c, b) {
			t.Errorf("decoded %x, which encodes to %x: %v", b, c, err)
		}
		use(t, d)
	})
}

// A document that decodes can be used.
func FuzzUnmarshalDocument(f *testing.F) {
	fuzz(f, UnmarshalDocument, func(t *testing.T, d *Document) {
		for _, c := range []Command{{Kind: Tick, Now: 5000}, {Kind: Cancel, Now: 5000}, {Kind: Down, Now: 5000, Node: d.Members[0].ID}, {Kind: Up, Now: 5001, Node: d.Members[0].ID}} {
			d, _ = d.Apply(c)
			if err := d.check(); err != nil {
				t.Errorf("after %v: %v", c.Kind, err)
			}
		}
	}, goldenDocumentBytes)
}

// A command that decodes is applied or refused, and leaves a valid document.
func FuzzUnmarshalCommand(f *testing.F) {
	d := goldenDocument(f)
	fuzz(f, UnmarshalCommand, func(t *testing.T, c Command) {
		next, r := d.Apply(c)
		if err := next.check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if b, err := next.MarshalBinary(); err != nil {
			t.Error(err)
		} else if _, err := UnmarshalDocument(b); err != nil {
			t.Error(err)
		}
		if b, err := r.MarshalBinary(); err != nil {
			t.Error(err)
		} else if _, err := UnmarshalResult(b); err != nil {
			t.Error(err)
		}
	}, goldenCommitBytes, goldenDownBytes, goldenCompletedBytes, goldenPromisedBytes)
}

func FuzzUnmarshalResult(f *testing.F) {
	fuzz(f, UnmarshalResult, func(*testing.T, Result) {}, goldenResultBytes)
}
