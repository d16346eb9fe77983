package event

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestKeyText(t *testing.T) {
	name64 := strings.Repeat("n", 64)
	for _, tc := range []struct {
		text string
		want Key
	}{
		{"1:a:b:c:0", Key{1, "a", "b", "c", "0"}},
		{"1790000000:ams4:WEB:search:17", Key{1790000000, "ams4", "WEB", "search", "17"}},
		{"1790000000:ams-4:LB.x:a_b:9999999999999999999", Key{1790000000, "ams-4", "LB.x", "a_b", "9999999999999999999"}},
		{"1790000000:ams4:WEB:search:00000000000000ff-3", Key{1790000000, "ams4", "WEB", "search", "00000000000000ff-3"}},
		{"1790000000:ams4:WEB:search:7-x0123456789abcdef", Key{1790000000, "ams4", "WEB", "search", "7-x0123456789abcdef"}},
		{"9007199254740992:-:.:_:0", Key{MaxEpoch, "-", ".", "_", "0"}},
		{"1:" + name64 + ":" + name64 + ":" + name64 + ":0", Key{1, name64, name64, name64, "0"}},
		{"9007199254740992:" + name64 + ":" + name64 + ":" + name64 + ":0123456789abcdef-9999999999999999999-xffffffffffffffff",
			Key{MaxEpoch, name64, name64, name64, "0123456789abcdef-9999999999999999999-xffffffffffffffff"}},
	} {
		got, err := ParseKey(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("ParseKey(%q) = %+v, %v, want %+v", tc.text, got, err, tc.want)
		}
		if s := tc.want.String(); s != tc.text {
			t.Errorf("String of %+v is %q, want %q", tc.want, s, tc.text)
		}
		if err := tc.want.Validate(); err != nil {
			t.Errorf("%+v: %v", tc.want, err)
		}
		back, err := ParseSuffix(tc.want.Epoch, tc.want.DC, tc.want.Suffix())
		if err != nil || back != tc.want {
			t.Errorf("ParseSuffix of %q = %+v, %v", tc.want.Suffix(), back, err)
		}
	}
}

func TestKeyOfGreatestLength(t *testing.T) {
	name64 := strings.Repeat("n", 64)
	longest := Key{MaxEpoch, name64, name64, name64, ChunkParts{math.MaxUint64, MaxChunkNumber, math.MaxUint64, true, true}.String()}
	if n := len(longest.String()); n != MaxKeyBytes {
		t.Errorf("the longest key has %d bytes, MaxKeyBytes is %d", n, MaxKeyBytes)
	}
}

// badKeys are near misses of the grammar.
var badKeys = []string{
	"", ":", "::::", "1", "1:a", "1:a:b", "1:a:b:c", "1:a:b:c:", "1:a:b:c:0:", "1:a:b:c:d:0",
	"0:a:b:c:0", "-1:a:b:c:0", "+1:a:b:c:0", "01:a:b:c:0", " 1:a:b:c:0", "1 :a:b:c:0", "1e3:a:b:c:0", ":a:b:c:0", "x:a:b:c:0",
	"9007199254740993:a:b:c:0", "90071992547409920:a:b:c:0", "18446744073709551617:a:b:c:0",
	"1::b:c:0", "1:a::c:0", "1:a:b::0", "1:a b:b:c:0", "1:a:b/:c:0", "1:a:b:c\x00:0", "1:ä:b:c:0", "1-a:b:c:0",
	"1:" + strings.Repeat("n", 65) + ":b:c:0",
	"1:a:b:c:00", "1:a:b:c:01", "1:a:b:c:-1", "1:a:b:c:1.", "1:a:b:c:a", "1:a:b:c:10000000000000000000",
	"1:a:b:c:0123456789abcdef-", "1:a:b:c:0123456789abcdef-01", "1:a:b:c:0123456789ABCDEF-1", "1:a:b:c:123456789abcdef-1",
	"1:a:b:c:00123456789abcdef-1", "1:a:b:c:0123456789abcdeg-1", "1:a:b:c:-x0123456789abcdef", "1:a:b:c:1-x0123456789abcde",
	"1:a:b:c:1-x0123456789abcdef0", "1:a:b:c:1-X0123456789abcdef", "1:a:b:c:1-x0123456789abcdeF",
	"1:a:b:c:1-x0123456789abcdef-x0123456789abcdef", "1:a:b:c:0123456789abcdef-0123456789abcdef-1", "1:a:b:c:1\n",
	strings.Repeat("9", 10000),
}

func TestBadKeys(t *testing.T) {
	for _, text := range badKeys {
		k, err := ParseKey(text)
		wantKeyError(t, text, err)
		if k != (Key{}) {
			t.Errorf("ParseKey(%q) returned %+v beside its error", text, k)
		}
	}
}

func wantKeyError(t *testing.T, text string, err error) {
	t.Helper()
	var keyErr *KeyError
	if !errors.Is(err, ErrKey) || !errors.As(err, &keyErr) {
		t.Errorf("%q: got %v, want a KeyError", text, err)
		return
	}
	if len(keyErr.Key) > maxQuotedKey+len("…") || len(err.Error()) > 1000 {
		t.Errorf("%q: the error quotes too much: %v", text, err)
	}
}

func TestBadKeysByHand(t *testing.T) {
	good := Key{1, "a", "b", "c", "0"}
	for name, spoil := range map[string]func(*Key){
		"zero epoch":      func(k *Key) { k.Epoch = 0 },
		"negative epoch":  func(k *Key) { k.Epoch = -1 },
		"epoch too great": func(k *Key) { k.Epoch = MaxEpoch + 1 },
		"no dc":           func(k *Key) { k.DC = "" },
		"colon in dc":     func(k *Key) { k.DC = "a:b" },
		"colon in type":   func(k *Key) { k.Type = "a:b" },
		"no subtype":      func(k *Key) { k.Subtype = "" },
		"no chunk":        func(k *Key) { k.Chunk = "" },
		"colon in chunk":  func(k *Key) { k.Chunk = "0:0" },
	} {
		k := good
		spoil(&k)
		if err := k.Validate(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: got %v, want ErrKey", name, err)
		}
	}
	for _, suffix := range []string{"", "b", "b:c", "b:c:", ":c:0", "b::0", "b:c:0:0", "a:b:c:0"} {
		_, err := ParseSuffix(1, "a", suffix)
		wantKeyError(t, suffix, err)
	}
	for _, k := range []Key{{0, "a", "b", "c", "0"}, {1, "a:", "b", "c", "0"}} {
		_, err := ParseSuffix(k.Epoch, k.DC, k.Suffix())
		wantKeyError(t, k.String(), err)
	}
}

func TestTimedEpoch(t *testing.T) {
	for _, tc := range []struct {
		key  string
		want int64 // 0: refused
	}{
		{"1790000000:ams4:WEB:search:17", 1790000000},
		{"1790000000:anything \xff at all", 1790000000},
		{"1790000000:", 1790000000},
		{"1790000000-ams4", 1790000000},
		{"9007199254740992:x", MaxEpoch},
		{"9007199254740993:x", 0}, {"1790000000", 0}, {"", 0}, {":", 0}, {"0:x", 0}, {"01:x", 0}, {"-1:x", 0},
		{"1 :x", 0}, {"1x", 0}, {"99999999999999999999999:x", 0},
	} {
		got, err := TimedEpoch(tc.key)
		gotBytes, errBytes := TimedEpoch([]byte(tc.key))
		if got != tc.want || (err == nil) != (tc.want != 0) || gotBytes != got || (errBytes == nil) != (err == nil) {
			t.Errorf("TimedEpoch(%q) = %d, %v and of bytes %d, %v, want %d", tc.key, got, err, gotBytes, errBytes, tc.want)
		}
		if err != nil {
			wantKeyError(t, tc.key, err)
		}
	}
}

func TestKeysAllocateNothing(t *testing.T) {
	const text = "1790000000:ams4:WEB:search:00000000000000ff-3"
	k, _ := ParseKey(text)
	bytes := []byte(text)
	buf := make([]byte, 0, MaxKeyBytes)
	for name, f := range map[string]func(){
		"ParseKey":                 func() { _, _ = ParseKey(text) },
		"AppendTo":                 func() { buf = k.AppendTo(buf[:0]) },
		"Validate":                 func() { _ = k.Validate() },
		"TimedEpoch":               func() { _, _ = TimedEpoch(bytes) },
		"ParseIndexKey":            func() { _, _ = ParseIndexKey("1790000000-ams4") },
		"AppendTo of an index key": func() { buf = k.Index().AppendTo(buf[:0]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, text := range badKeys {
		f.Add(text)
	}
	f.Add("1790000000:ams4:WEB:search:00000000000000ff-3-x0123456789abcdef")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			wantKeyError(t, text, err)
			return
		}
		if k.String() != text {
			t.Fatalf("%q came back as %q", text, k.String())
		}
		if err := k.Validate(); err != nil {
			t.Fatal(err)
		}
		if back, err := ParseSuffix(k.Epoch, k.DC, k.Suffix()); err != nil || back != k {
			t.Fatalf("suffix %q: %+v, %v", k.Suffix(), back, err)
		}
		if epoch, err := TimedEpoch(text); err != nil || epoch != k.Epoch {
			t.Fatalf("TimedEpoch(%q) = %d, %v", text, epoch, err)
		}
		parts, err := ParseChunk(k.Chunk)
		if err != nil || parts.String() != k.Chunk {
			t.Fatalf("chunk %q came back as %q, %v", k.Chunk, parts, err)
		}
		loser, err := ParseKey(k.LoserKey(7).String())
		if err != nil || loser.LoserKey(7) != loser {
			t.Fatalf("loser of %q: %+v, %v", text, loser, err)
		}
	})
}

func BenchmarkParseKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseKey("1790000000:ams4:WEB:search:00000000000000ff-3"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTimedEpoch(b *testing.B) {
	key := []byte("1790000000:ams4:WEB:search:00000000000000ff-3")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := TimedEpoch(key); err != nil {
			b.Fatal(err)
		}
	}
}
