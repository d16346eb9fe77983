package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestAppendRefuses(t *testing.T) {
	var b Builder
	if err := b.Append(unhex(t, "81a16101")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "an array": "90", "a string": "a161", "a cut map": "81a161", "two maps": "8080", "0xc1": "81a161c1",
		"a map too deep": strings.Repeat("81c0", MaxDepth-1) + "80",
	} {
		if err := b.Append(unhex(t, text)); !errors.Is(err, ErrMsgpack) {
			t.Errorf("%s: got %v, want ErrMsgpack", name, err)
		}
	}
	blob, _ := b.Seal(nil)
	wantEvents(t, blob, []string{"81a16101"})
}

func TestAppendIsBounded(t *testing.T) {
	r := rand.NewChaCha8([32]byte{})
	var b Builder
	first := incompressible(r, MaxBuilderBytes/2)
	appendTo(t, &b, first)
	if err := b.Append(first); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	appendTo(t, &b, incompressible(r, MaxBuilderBytes-len(b.buf)-8)) // to the last byte
	if err := b.Append([]byte{0x80}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if b.Len() != 2 || b.RawBytes()+BlobOverhead > MaxBlobBytes {
		t.Errorf("%d events, %d bytes", b.Len(), b.RawBytes())
	}
}

// TestNoiseIsStoredAsItIs: a blob is never larger than its document and the
// overhead, so a builder within its bound makes blobs within theirs.
func TestNoiseIsStoredAsItIs(t *testing.T) {
	r := rand.NewChaCha8([32]byte{5})
	for _, size := range []int{0, 1, 100, 10_000, 1 << 17, 1<<17 + 1, 3 << 20} {
		var b Builder
		want := appendTo(t, &b, incompressible(r, size))
		blob, info := b.Seal(nil)
		parsed, err := ParseBlob(blob)
		if err != nil || parsed.Codec != CodecNone || info.StoredBytes != info.RawBytes+BlobOverhead {
			t.Errorf("%d bytes of noise: %v, %+v, %v", size, parsed.Codec, info, err)
		}
		sameEvents(t, []string{want}, eventsOf(t, blob))
	}
}

// TestArrayHeaders: the count is where headers of 1, 3 and 5 bytes begin.
func TestArrayHeaders(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 1<<16 - 1, 1 << 16, 1<<16 + 1} {
		var b Builder
		for range n {
			if err := b.Append([]byte{0x80}); err != nil {
				t.Fatal(err)
			}
		}
		raw := b.RawBytes()
		blob, info := b.Seal(nil)
		if info.RawBytes != raw || info.Count != n {
			t.Errorf("%d events: RawBytes said %d, sealed %+v", n, raw, info)
		}
		parsed, err := ParseBlob(blob)
		if err != nil {
			t.Fatal(err)
		}
		events, err := parsed.Events(nil)
		if err != nil || events.Len() != n {
			t.Errorf("%d events came back as %d: %v", n, events.Len(), err)
		}
	}
}

func TestSealAppends(t *testing.T) {
	var b Builder
	if err := b.Append(unhex(t, "81a16101")); err != nil {
		t.Fatal(err)
	}
	alone, info := b.Seal(nil)
	after, infoAfter := b.Seal([]byte("before"))
	if string(after[:6]) != "before" || !bytes.Equal(after[6:], alone) || info != infoAfter {
		t.Errorf("got %x, %+v, want what came before and then %x, %+v", after, infoAfter, alone, info)
	}
}

// smallBound stands for MaxChunkBytes where many chunks are to be made.
const smallBound = 5000

// TestBuilderModel compares builders with a list of events: appends, seals,
// chunks and resets in any order.
func TestBuilderModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Builder
		var model []string
		noise := rand.NewChaCha8([32]byte{byte(rapid.Byte().Draw(t, "seed"))})
		t.Repeat(map[string]func(*rapid.T){
			"append small": func(t *rapid.T) {
				for i := range rapid.IntRange(1, 100).Draw(t, "events") {
					model = append(model, appendTo(t, &b, []byte{0x81, 0xa1, 'n', byte(i & 0x7f)}))
				}
			},
			"append noise": func(t *rapid.T) {
				for range rapid.IntRange(1, 3).Draw(t, "events") {
					size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 2*smallBound)).Draw(t, "bytes")
					model = append(model, appendTo(t, &b, incompressible(noise, size)))
				}
			},
			"seal": func(t *rapid.T) {
				blob, _ := b.Seal(nil)
				sameEvents(t, model, eventsOf(t, blob))
			},
			"chunks": func(t *rapid.T) {
				sameEvents(t, model, chunksOf(t, &b, smallBound))
			},
			"reset": func(t *rapid.T) {
				b.Reset()
				model = nil
			},
			"": func(t *rapid.T) {
				if b.Len() != len(model) {
					t.Fatalf("Len %d, want %d", b.Len(), len(model))
				}
			},
		})
	})
}

func appendTo(tb rapid.TB, b *Builder, doc []byte) string {
	if err := b.Append(doc); err != nil {
		tb.Fatal(err)
	}
	return string(doc)
}

func eventsOf(tb rapid.TB, blob []byte) (events []string) {
	parsed, err := ParseBlob(blob)
	if err != nil {
		tb.Fatal(err)
	}
	all, err := parsed.Events(nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range all.All() {
		events = append(events, string(e))
	}
	return events
}

// chunksOf is the events of all chunks, each of which must keep its bound.
func chunksOf(tb rapid.TB, b *Builder, bound int) (events []string) {
	for blob, info := range b.chunksBelow(bound, nil) {
		if info.StoredBytes != len(blob) || info.StoredBytes >= bound && info.Count != 1 || info.Count == 0 {
			tb.Fatalf("a chunk of %d bytes: %+v", len(blob), info)
		}
		events = append(events, eventsOf(tb, blob)...)
	}
	return events
}

func sameEvents(tb rapid.TB, want, got []string) {
	if len(got) != len(want) {
		tb.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			tb.Fatalf("event %d is %.40x, want %.40x", i, got[i], want[i])
		}
	}
}

func TestChunkSizes(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	noise := func(bytes int) func(int) []byte {
		return func(int) []byte { return incompressible(r, bytes) }
	}
	zeros := func(int) []byte { return append([]byte{0x81, 0xa1, 'z', 0xc5, 4, 0}, make([]byte, 1024)...) }
	small := func(i int) []byte { return sampleEvent(t, i) }
	fill := func(n int, e func(int) []byte) (all [][]byte) {
		for i := range n {
			all = append(all, e(i))
		}
		return all
	}
	for _, tc := range []struct {
		name    string
		events  [][]byte
		atLeast int // chunks
		atMost  int
	}{
		{"none", nil, 0, 0},
		{"one", fill(1, small), 1, 1},
		{"what fits is not cut", fill(30, small), 1, 1},
		{"noise of just under a chunk", fill(49, noise(100)), 1, 3},
		{"noise of ten chunks", fill(500, noise(100)), 10, 16},
		{"many small events", fill(1000, small), 10, 30},
		{"one event too large alone", fill(1, noise(7000)), 1, 1},
		{"a large event among small ones", slices.Concat(fill(20, small), fill(1, noise(7000)), fill(20, small)), 2, 5},
		{"zeros, then noise", slices.Concat(fill(500, zeros), fill(100, noise(100))), 3, 16},
		{"noise, then zeros", slices.Concat(fill(100, noise(100)), fill(500, zeros)), 3, 16},
	} {
		var b Builder
		var want []string
		for _, e := range tc.events {
			want = append(want, appendTo(t, &b, e))
		}
		for range 2 { // the second time with what the first has taught
			n := 0
			for range b.chunksBelow(smallBound, nil) {
				n++
			}
			if n < tc.atLeast || n > tc.atMost {
				t.Errorf("%s: %d chunks, want %d to %d", tc.name, n, tc.atLeast, tc.atMost)
			}
			sameEvents(t, want, chunksOf(t, &b, smallBound))
		}
	}
}

// TestChunksKeepTheRealBound is one walk with MaxChunkBytes.
func TestChunksKeepTheRealBound(t *testing.T) {
	r := rand.NewChaCha8([32]byte{4})
	var b Builder
	for range 120 {
		appendTo(t, &b, incompressible(r, 10_000))
	}
	n, events := 0, 0
	for _, info := range b.Chunks(nil) {
		if info.StoredBytes >= 500_000 {
			t.Errorf("a chunk of %d bytes", info.StoredBytes)
		}
		n++
		events += info.Count
	}
	if n < 3 || n > 4 || events != 120 {
		t.Errorf("%d events in %d chunks", events, n)
	}
}

func TestChunksMayBeLeft(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	var b Builder
	var want []string
	for range 200 {
		want = append(want, appendTo(t, &b, incompressible(r, 100)))
	}
	for range b.chunksBelow(smallBound, nil) {
		break
	}
	sameEvents(t, want, chunksOf(t, &b, smallBound))
}

func TestResetReleasesWhatWasNotUsed(t *testing.T) {
	var b Builder
	if err := b.Append(incompressible(rand.NewChaCha8([32]byte{3}), 5<<20)); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if cap(b.buf) == 0 {
		t.Error("a buffer that was full was released")
	}
	if err := b.Append([]byte{0x80}); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if cap(b.buf) != 0 {
		t.Errorf("a buffer of %d bytes was kept for an event of one byte", cap(b.buf))
	}
	if err := b.Append([]byte{0x80}); err != nil {
		t.Fatal(err)
	}
	blob, _ := b.Seal(nil)
	wantEvents(t, blob, []string{"80"})
}

func TestBuilderAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := sampleEvent(t, 1)
	var b Builder
	var blob []byte
	fill := func() {
		b.Reset()
		for range 500 {
			if err := b.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		blob, _ = b.Seal(blob[:0])
		for chunk := range b.Chunks(blob) {
			blob = chunk
		}
	}
	fill()
	if n := testing.AllocsPerRun(20, fill); n > 3 { // the iterator's
		t.Errorf("%v allocations for two blobs of 500 events, want at most 3", n)
	}
}

// TestSealTogether: goroutines share the encoder and the decoder, and nothing
// else.
func TestSealTogether(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var b Builder
			var blob, doc []byte
			for round := range 5 {
				b.Reset()
				var want []string
				for i := range 100 {
					want = append(want, appendTo(t, &b, sampleEvent(t, g*1000+round*100+i)))
				}
				blob, _ = b.Seal(blob[:0])
				parsed, err := ParseBlob(blob)
				if err != nil {
					t.Error(err)
					return
				}
				events, err := parsed.Events(doc)
				if err != nil {
					t.Error(err)
					return
				}
				doc = events.Document()
				for i, e := range events.All() {
					if string(e) != want[i] {
						t.Errorf("event %d is %s, want %s", i, hex.EncodeToString(e), hex.EncodeToString([]byte(want[i])))
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func benchmarkBuilder(b *testing.B) *Builder {
	b.Helper()
	var builder Builder
	for i := range 500 {
		if err := builder.Append(sampleEvent(b, i)); err != nil {
			b.Fatal(err)
		}
	}
	return &builder
}

// BenchmarkAppend is a blob of 500 events without its encoding.
func BenchmarkAppend(b *testing.B) {
	events := make([][]byte, 500)
	for i := range events {
		events[i] = sampleEvent(b, i)
	}
	var builder Builder
	b.ReportAllocs()
	for b.Loop() {
		builder.Reset()
		for _, e := range events {
			if err := builder.Append(e); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.SetBytes(int64(builder.RawBytes()))
}

// BenchmarkSeal encodes a blob of 500 events; bytes are the document's.
func BenchmarkSeal(b *testing.B) {
	builder := benchmarkBuilder(b)
	var blob []byte
	b.SetBytes(int64(builder.RawBytes()))
	b.ReportAllocs()
	for b.Loop() {
		blob, _ = builder.Seal(blob[:0])
	}
}
