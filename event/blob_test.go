package event

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// The bytes of format 1.
const (
	// no events
	goldenEmpty = "4d464542" + "01" + "00" + "0000" + "00000000" + "01000000" + "01000000" + "90" + "d39fce06f6110f42"
	// {"a":1} and {"a":2}, too small to compress
	goldenPlain = "4d464542" + "01" + "00" + "0000" + "02000000" + "09000000" + "09000000" + "9281a1610181a16102" + "1ef5b19c12fd1b9c"
	// forty times {"line":"GET /index.html"}; encoders to come may write it
	// otherwise, but must read this
	goldenZstd = "4d464542" + "01" + "01" + "0000" + "28000000" + "73030000" + "2d000000" +
		"28b52ffd400073021501009401dc002881a46c696e65af474554202f696e6465782e68746d6c015414042d5dcd" + "7fd1562817a6a674"
)

func TestGoldenBlobs(t *testing.T) {
	for _, tc := range []struct {
		name, blob string
		events     []string
	}{
		{"empty", goldenEmpty, nil},
		{"plain", goldenPlain, []string{"81a16101", "81a16102"}},
	} {
		blob, info := sealed(t, tc.events)
		if got := hex.EncodeToString(blob); got != tc.blob {
			t.Errorf("%s: got  %s\nwant %s", tc.name, got, tc.blob)
		}
		if got, err := ParseBlob(blob); err != nil || got.Info() != info || info.Count != len(tc.events) || info.StoredBytes != len(blob) {
			t.Errorf("%s: %+v, %v, made as %+v", tc.name, got, err, info)
		}
		wantEvents(t, unhex(t, tc.blob), tc.events)
	}
	line := "81a46c696e65af474554202f696e6465782e68746d6c"
	wantEvents(t, unhex(t, goldenZstd), strings.Fields(strings.Repeat(line+" ", 40)))
}

// sealed makes a blob of events in hex.
func sealed(tb testing.TB, events []string) ([]byte, BlobInfo) {
	tb.Helper()
	var b Builder
	for _, e := range events {
		if err := b.Append(unhex(tb, e)); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Seal(nil)
}

func wantEvents(t *testing.T, blob []byte, want []string) {
	t.Helper()
	parsed, err := ParseBlob(blob)
	if err != nil {
		t.Fatal(err)
	}
	events, err := parsed.Events(nil)
	if err != nil {
		t.Fatal(err)
	}
	if events.Len() != len(want) || parsed.Count != len(want) || len(events.Document()) != parsed.RawBytes {
		t.Fatalf("%d events in %d bytes, the header says %d in %d, want %d events",
			events.Len(), len(events.Document()), parsed.Count, parsed.RawBytes, len(want))
	}
	if err := Validate(events.Document()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	for i, e := range events.All() {
		if hex.EncodeToString(e) != want[i] {
			t.Fatalf("event %d is %x, want %s", i, e, want[i])
		}
	}
}

// TestEveryCutOfABlob cuts blobs at each byte: every prefix must say "torn", or
// a whole copy elsewhere would not be looked for.
func TestEveryCutOfABlob(t *testing.T) {
	for _, text := range []string{goldenEmpty, goldenPlain, goldenZstd} {
		whole := unhex(t, text)
		for cut := range whole {
			if _, err := ParseBlob(whole[:cut]); !errors.Is(err, ErrTorn) {
				t.Errorf("cut at %d of %d: got %v, want ErrTorn", cut, len(whole), err)
			}
		}
	}
}

// TestEveryBitOfABlob: no damaged bit goes unnoticed.
func TestEveryBitOfABlob(t *testing.T) {
	whole := unhex(t, goldenZstd)
	for i := range len(whole) * 8 {
		whole[i/8] ^= 1 << (i % 8)
		_, err := ParseBlob(whole)
		want := ErrCorrupt
		switch {
		case i/8 == 4:
			want = ErrVersion
		case i/8 >= 16 && i/8 < 20 && errors.Is(err, ErrTorn):
			want = ErrTorn // a length that is too great looks like a blob cut short
		}
		if !errors.Is(err, want) {
			t.Errorf("bit %d of byte %d: got %v, want %v", i%8, i/8, err, want)
		}
		whole[i/8] ^= 1 << (i % 8)
	}
}

// forged is a blob with a right checksum over whatever it is given.
func forged(version, codec byte, reserved uint16, count, raw uint32, payload []byte) []byte {
	b := append([]byte(blobMagic), version, codec)
	b = binary.LittleEndian.AppendUint16(b, reserved)
	b = binary.LittleEndian.AppendUint32(b, count)
	b = binary.LittleEndian.AppendUint32(b, raw)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

func TestForgedHeaders(t *testing.T) {
	doc := unhex(t, "9181a16101")
	for _, tc := range []struct {
		name string
		blob []byte
		want error
	}{
		{"nothing", nil, ErrTorn},
		{"another file", []byte("PK\x03\x04 something else altogether, long enough"), ErrCorrupt},
		{"the magic of another file, cut", []byte("MFEX"), ErrCorrupt},
		{"version 0", forged(0, 0, 0, 1, 5, doc), ErrVersion},
		{"version 2", forged(2, 0, 0, 1, 5, doc), ErrVersion},
		{"version 2, cut", forged(2, 0, 0, 1, 5, doc)[:5], ErrVersion},
		{"codec 2", forged(1, 2, 0, 1, 5, doc), ErrVersion},
		{"codec 255", forged(1, 255, 0, 1, 5, doc), ErrVersion},
		{"the first reserved byte", forged(1, 0, 1, 1, 5, doc), ErrCorrupt},
		{"the second reserved byte", forged(1, 0, 1<<8, 1, 5, doc), ErrCorrupt},
		{"raw bytes over the bound", forged(1, 1, 0, 1, MaxRawBytes+1, doc), ErrTooLarge},
		{"more events than bytes", forged(1, 0, 0, 5, 5, doc), ErrCorrupt},
		{"no document", forged(1, 0, 0, 0, 0, nil), ErrCorrupt},
		{"raw bytes other than the payload's", forged(1, 0, 0, 1, 6, doc), ErrCorrupt},
		{"something after it", append(forged(1, 0, 0, 1, 5, doc), 0), ErrCorrupt},
		{"over the bound", make([]byte, MaxBlobBytes+1), ErrCorrupt},
		{"over the bound, with magic", append([]byte("MFEB\x01"), make([]byte, MaxBlobBytes)...), ErrTooLarge},
		{"a payload over the bound claimed", append([]byte("MFEB\x01\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\xff\xff\xff\xff"), doc...), ErrTorn},
		{"a payload over the bound claimed in a long blob", append([]byte("MFEB\x01\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\xff\xff\xff\xff"), make([]byte, 100)...), ErrCorrupt},
	} {
		if _, err := ParseBlob(tc.blob); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestForgedDocuments(t *testing.T) {
	for name, doc := range map[string]string{
		"a map":                     "81a16101",
		"fewer events":              "9181a16101",
		"more events":               "9381a1610180c0",
		"an event that is no map":   "9281a16101c0",
		"a malformed event":         "9281a1610181a161",
		"something after the last":  "9281a1610180c0",
		"an event too deep":         "9280" + strings.Repeat("81c0", MaxDepth-1) + "80",
		"a count it cannot have":    "ddffffffff80",
		"an array header that ends": "dc00",
	} {
		raw := unhex(t, doc)
		for codec, payload := range [][]byte{raw, compress(nil, raw)} {
			b, err := ParseBlob(forged(1, byte(codec), 0, 2, uint32(len(raw)), payload))
			if err == nil {
				_, err = b.Events(nil)
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, codec %d: got %v, want ErrCorrupt", name, codec, err)
			}
		}
	}
}

// forgedFrame is a zstd frame that claims content bytes and has the blocks given.
func forgedFrame(content uint32, blocks ...byte) []byte {
	f := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, content) // single segment, 4-byte size
	return append(f, blocks...)
}

// repeatBlocks is n blocks of one byte repeated size times, the last marked so.
func repeatBlocks(n int, size uint32, value byte) (blocks []byte) {
	for i := range n {
		head := size<<3 | 1<<1
		if i == n-1 {
			head |= 1
		}
		blocks = append(blocks, byte(head), byte(head>>8), byte(head>>16), value)
	}
	return blocks
}

func TestForgedFrames(t *testing.T) {
	doc := append([]byte{0x91}, sampleEvent(t, 1)...)
	good := compress(nil, doc)
	size := uint32(len(doc))
	last := func(kind, size uint32) []byte {
		head := size<<3 | kind<<1 | 1
		return []byte{byte(head), byte(head >> 8), byte(head >> 16)}
	}
	for _, tc := range []struct {
		name  string
		raw   uint32
		frame []byte
	}{
		{"not a frame", size, []byte("this is no zstd frame at all")},
		{"nothing", size, nil},
		{"a cut frame", size, good[:len(good)-1]},
		{"a cut frame header", size, good[:5]},
		{"a byte after it", size, append(bytes.Clone(good), 0)},
		{"two frames", 2 * size, append(bytes.Clone(good), good...)},
		{"a skippable frame first", size, append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}, good...)},
		{"a skippable frame after", size, append(bytes.Clone(good), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0)},
		{"raw bytes one more", size + 1, good},
		{"raw bytes one less", size - 1, good},
		{"no content size", size, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50, 1, 0, 0}},
		{"a dictionary", 2, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 2, 17, 0, 0, 0x91, 0x80}},
		{"200 MiB claimed, none there", 200 << 20, forgedFrame(200<<20, last(0, 0)...)},
		{"200 MiB claimed, a compressed block there", 200 << 20, forgedFrame(200<<20, append(last(2, 3), 1, 2, 3)...)},
		{"blocks larger than any may be", 50 * (2<<20 - 1), forgedFrame(50*(2<<20-1), repeatBlocks(50, 2<<20-1, 0x90)...)},
		{"200 MiB claimed by the frame alone", 10, forgedFrame(200<<20, repeatBlocks(1600, 1<<17, 0x90)...)},
		{"a block of the fourth type", 10, forgedFrame(10, append(last(3, 3), 1, 2, 3)...)},
		{"no last block", 1 << 17, forgedFrame(1<<17, repeatBlocks(2, 1<<17, 0x90)[:4]...)},
		{"less content than claimed", 2 << 17, forgedFrame(2<<17, append(repeatBlocks(2, 1<<17, 0x90)[:4], append(last(2, 3), 1, 2, 3)...)...)},
		{"more content than claimed", 1 << 17, forgedFrame(1<<17, repeatBlocks(2, 1<<17, 0x90)...)},
	} {
		b, err := ParseBlob(forged(1, 1, 0, 1, tc.raw, tc.frame))
		if err != nil {
			t.Errorf("%s: ParseBlob: %v", tc.name, err)
			continue
		}
		allocated := allocatedBy(func() { _, err = b.Events(nil) })
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", tc.name, err)
		}
		if allocated > 4<<20 {
			t.Errorf("%s: %d bytes allocated for a payload of %d", tc.name, allocated, len(tc.frame))
		}
	}
}

// allocatedBy is what f allocates, bytes.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestFramesOfOthers: what another zstd library may write, within the format.
func TestFramesOfOthers(t *testing.T) {
	events := append([]byte{0xdc, 0xff, 0xff}, bytes.Repeat([]byte{0x80}, 1<<16-1)...)
	frame := forgedFrame(uint32(len(events)), 3<<3, 0, 0, 0xdc, 0xff, 0xff)
	frame = append(frame, repeatBlocks(1, 1<<16-1, 0x80)...)
	b, err := ParseBlob(forged(1, 1, 0, 1<<16-1, uint32(len(events)), frame))
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Events(nil)
	if err != nil || got.Len() != 1<<16-1 {
		t.Errorf("raw and repeated blocks: %d events, %v", got.Len(), err)
	}
	frame[4] |= 4 // content checksum: the low 4 bytes of xxhash64
	frame = binary.LittleEndian.AppendUint32(frame, uint32(xxhash.Sum64(events)))
	b, err = ParseBlob(forged(1, 1, 0, 1<<16-1, uint32(len(events)), frame))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Events(nil); err != nil {
		t.Errorf("with a content checksum: %v", err)
	}
}

func TestEventsUseTheBuffer(t *testing.T) {
	var b Builder
	for i := range 500 {
		if err := b.Append(sampleEvent(t, i)); err != nil {
			t.Fatal(err)
		}
	}
	blob, info := b.Seal(nil)
	parsed, err := ParseBlob(blob)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, info.RawBytes)
	n := testing.AllocsPerRun(20, func() {
		events, err := parsed.Events(buf)
		if err != nil || &events.Document()[0] != &buf[:1][0] {
			t.Fatalf("the buffer was not used: %v", err)
		}
		for range events.All() {
		}
	})
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocations a blob with a buffer of the right size", n)
	}
	if n := testing.AllocsPerRun(20, func() { _, _ = ParseBlob(blob) }); n != 0 {
		t.Errorf("ParseBlob allocates %v times", n)
	}
}

func FuzzParseBlob(f *testing.F) {
	for _, text := range []string{goldenEmpty, goldenPlain, goldenZstd} {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		blob, err := ParseBlob(b)
		if err != nil {
			if !errors.Is(err, ErrTorn) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		checkBlob(t, blob)
	})
}

// FuzzBlobPayload forges blobs with right checksums, which FuzzParseBlob cannot
// find by itself.
func FuzzBlobPayload(f *testing.F) {
	for _, text := range []string{goldenPlain, goldenZstd} {
		b := unhex(f, text)
		f.Add(b[5], binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]), b[20:len(b)-8])
	}
	frame := forgedFrame(1<<17, repeatBlocks(1, 1<<17, 0x90)...)
	f.Add(byte(1), uint32(1), uint32(1<<17), frame)
	f.Fuzz(func(t *testing.T, codec byte, count, raw uint32, payload []byte) {
		blob, err := ParseBlob(forged(1, codec, 0, count, raw, payload))
		if err != nil {
			if errors.Is(err, ErrTorn) {
				t.Fatalf("a whole blob is torn: %v", err)
			}
			return
		}
		checkBlob(t, blob)
	})
}

// checkBlob reads the events of a blob; if it has any, they make another blob
// with the same events.
func checkBlob(t *testing.T, blob Blob) {
	events, err := blob.Events(nil)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		return
	}
	if err := Validate(events.Document()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	var again Builder
	for _, e := range events.All() {
		if err := again.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	second, _ := again.Seal(nil)
	parsed, err := ParseBlob(second)
	if err != nil || parsed.Count != blob.Count {
		t.Fatalf("%d events became %d: %v", blob.Count, parsed.Count, err)
	}
	got, err := parsed.Events(nil)
	if err != nil || !bytes.Equal(got.doc[got.first:], events.doc[events.first:]) {
		t.Fatalf("the events differ: %v", err)
	}
}

// incompressible is an event of about n bytes that zstd cannot shrink.
func incompressible(r *rand.ChaCha8, n int) []byte {
	doc := append([]byte{0x81, 0xa1, 'b', 0xc6}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(doc[4:], uint32(n))
	start := len(doc)
	doc = append(doc, make([]byte, n)...)
	_, _ = r.Read(doc[start:])
	return doc
}

func BenchmarkParseBlob(b *testing.B) {
	blob, _ := benchmarkBuilder(b).Seal(nil)
	b.SetBytes(int64(len(blob)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBlob(blob); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvents decodes a blob and visits its events; bytes are the document's.
func BenchmarkEvents(b *testing.B) {
	data, info := benchmarkBuilder(b).Seal(nil)
	blob, err := ParseBlob(data)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, info.RawBytes)
	b.SetBytes(int64(info.RawBytes))
	b.ReportAllocs()
	for b.Loop() {
		events, err := blob.Events(buf)
		if err != nil {
			b.Fatal(err)
		}
		for range events.All() {
		}
	}
}
