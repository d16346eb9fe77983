package bitcask

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// The bytes of each format, once written by hand from its table (the CRCs by
// the code) and frozen. A change here is a new format.

func goldenID(b byte) ID { return ID(bytes.Repeat([]byte{b}, 16)) }

func goldenSegHeader() *segHeader {
	return &segHeader{
		cluster: goldenID(0xc1), node: goldenID(0xa2),
		bucket: Bucket{ID: 0x1122334455667788, Type: "default", Name: "events", Timed: true},
		slot:   489920, slotSeconds: 3600, partition: Partition{6, 0x0a},
		generation: 0xdeadbeef, seq: 3, created: 1_763_712_000,
	}
}

func goldenHint() (*hintHeader, []location, minutes) {
	h := &hintHeader{
		segID:     segID{laneID{0x1122334455667788, 489920}, 3},
		partition: Partition{6, 0x0a}, generation: 0xdeadbeef, records: 2, sealedLength: 4096, minutes: 1,
	}
	return h, []location{{0x00000001, 16, 4, 0xaabbccdd}, {0xfffffffe, 0x20, 0x123456, 0x01020304}},
		minutes{{Minute: 29395200, Count: 2, Digest: object.Digest{Hi: 0x1111111122222222, Lo: 0x3333333344444444}}}
}

// goldenPlainHint is the hint of a plain bucket's segment.
func goldenPlainHint() (*hintHeader, []location, minutes) {
	h, entries, sums := goldenHint()
	h.segID = segID{laneID{0x1122334455667788, plainSlot}, 3}
	h.plain = plainSummary{newest: 1_763_712_001, tombstoneBytes: 32}
	sums[0].Minute = 0
	return h, entries, sums
}

func goldenManifest() *manifest {
	m := newManifest(goldenID(0xd3), Partition{6, 0x0a})
	m.serial, m.bootID, m.note = 7, "boot", []byte("hi")
	m.horizons[0x1122334455667788] = expiry.Horizon(1_763_712_000)
	m.horizons[0x1122334455667789] = expiry.Horizon(1_763_712_001)
	m.reaped[0x1122334455667789] = expiry.Horizon(1_763_712_002)
	m.segments[segID{laneID{0x1122334455667789, plainSlot}, 4}] = segRecord{state: segBuried}
	m.segments[segID{laneID{0x1122334455667788, 489920}, 0}] = segRecord{state: segSealed, length: 4096}
	m.segments[segID{laneID{0x1122334455667788, 489921}, 1}] = segRecord{state: segDirty, suspect: true}
	m.segments[segID{laneID{0x1122334455667788, 489922}, 0}] = segRecord{state: segClean, length: 2048}
	m.doubts[laneID{0x1122334455667788, 489921}] = ReasonUncleanStop
	return m
}

func encodeHint(h *hintHeader, entries []location, m minutes) []byte {
	fsys := vfs.NewMem()
	if err := vfs.Publish(fsys, "h", func(f vfs.File) error { return writeHint(f, h, entries, m) }); err != nil {
		panic(err)
	}
	b, err := vfs.ReadFile(fsys, "h", 1<<30)
	if err != nil {
		panic(err)
	}
	return b
}

func encodeFrame() []byte {
	var f [frameSize]byte
	putFrame(&f, 100, 0xdeadbeef, 0x01020304)
	return f[:]
}

func TestGoldenBytes(t *testing.T) {
	identity := Identity{Cluster: goldenID(0xc1), Node: goldenID(0xa2), Disk: goldenID(0xd3), SlotSeconds: 3600, CreatedMicros: 1_763_712_000_000_001}
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"identity", appendIdentity(nil, identity), goldenIdentityHex},
		{"frame", encodeFrame(), goldenFrameHex},
		{"segment header", appendSegHeader(nil, goldenSegHeader()), goldenSegHeaderHex},
		{"hint", encodeHint(goldenHint()), goldenHintHex},
		{"plain hint", encodeHint(goldenPlainHint()), goldenPlainHintHex},
		{"manifest", appendManifest(nil, goldenManifest()), goldenManifestHex},
	} {
		want, err := hex.DecodeString(strings.Join(strings.Fields(tc.want), ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tc.got, want) {
			t.Errorf("%s: got\n%s", tc.name, hex.Dump(tc.got))
		}
	}
}

const goldenIdentityHex = `
	4d 41 59 46 4c 59 44 4b 01 00 00 00 00 00 00 00
	c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1
	a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2
	d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3
	10 0e 00 00 00 00 00 00 01 00 3f 33 16 44 06 00
	a0 de 8c 33
`

const goldenFrameHex = `
	64 00 00 00 ef be ad de 04 03 02 01 04 09 59 2f
`

const goldenSegHeaderHex = `
	4d 41 59 46 4c 59 53 47 01 00 00 00 78 00 00 00
	c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1
	a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2
	88 77 66 55 44 33 22 11 00 1c 20 69 00 00 00 00
	10 0e 00 00 00 00 00 00 06 00 00 00 0a 00 00 00
	ef be ad de 03 00 00 00 00 1c 20 69 00 00 00 00
	01 00 07 06 64 65 66 61 75 6c 74 65 76 65 6e 74
	73 00 00 00 0c ca f0 75
`

const goldenHintHex = `
	4d 41 59 46 4c 59 48 54 02 00 00 00 ef be ad de
	88 77 66 55 44 33 22 11 c0 79 07 00 00 00 00 00
	03 00 00 00 02 00 00 00 00 10 00 00 00 00 00 00
	06 00 00 00 0a 00 00 00 01 00 00 00 9a f2 06 3f
	96 61 1e d6 02 00 00 00 01 00 00 00 10 00 00 00
	04 00 00 dd cc bb aa fe ff ff ff 20 00 00 00 56
	34 12 04 03 02 01 00 89 c0 01 02 00 00 00 44 44
	44 44 33 33 33 33 22 22 22 22 11 11 11 11 21 11
	af 98 00 00 00 00 4d 41 59 46 4c 59 48 54
`

const goldenManifestHex = `
	4d 41 59 46 4c 59 4d 46 03 00 00 00 16 01 00 00
	d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3 d3
	06 00 00 00 0a 00 00 00 07 00 00 00 00 00 00 00
	04 00 00 00 02 00 00 00 02 00 00 00 04 00 00 00
	01 00 00 00 62 6f 6f 74 68 69 88 77 66 55 44 33
	22 11 00 1c 20 69 00 00 00 00 00 00 00 00 00 00
	00 00 89 77 66 55 44 33 22 11 01 1c 20 69 00 00
	00 00 02 1c 20 69 00 00 00 00 88 77 66 55 44 33
	22 11 c0 79 07 00 00 00 00 00 00 00 00 00 03 00
	00 00 00 10 00 00 00 00 00 00 88 77 66 55 44 33
	22 11 c1 79 07 00 00 00 00 00 01 00 00 00 02 00
	01 00 00 00 00 00 00 00 00 00 88 77 66 55 44 33
	22 11 c2 79 07 00 00 00 00 00 00 00 00 00 01 00
	00 00 00 08 00 00 00 00 00 00 89 77 66 55 44 33
	22 11 ff ff ff ff ff ff ff ff 04 00 00 00 04 00
	00 00 00 00 00 00 00 00 00 00 88 77 66 55 44 33
	22 11 c1 79 07 00 00 00 00 00 01 00 00 00 00 00
	00 00 ab bf 49 21
`

const goldenPlainHintHex = `
	4d 41 59 46 4c 59 48 54 02 00 00 00 ef be ad de
	88 77 66 55 44 33 22 11 ff ff ff ff ff ff ff ff
	03 00 00 00 02 00 00 00 00 10 00 00 00 00 00 00
	06 00 00 00 0a 00 00 00 01 00 00 00 f5 2a 71 27
	96 61 1e d6 02 00 00 00 01 00 00 00 10 00 00 00
	04 00 00 dd cc bb aa fe ff ff ff 20 00 00 00 56
	34 12 04 03 02 01 00 00 00 00 02 00 00 00 44 44
	44 44 33 33 33 33 22 22 22 22 11 11 11 11 01 1c
	20 69 00 00 00 00 20 00 00 00 00 00 00 00 e1 9c
	71 2a 00 00 00 00 4d 41 59 46 4c 59 48 54
`
