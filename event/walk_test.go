package event

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
	"github.com/vmihailenco/msgpack/v5"
)

// wellFormed has a value of every type of msgpack, in hex.
var wellFormed = []string{
	"00", "7f", "e0", "ff", "c0", "c2", "c3", // fixint, nil, booleans
	"cc80", "cd0100", "ce00010000", "cf0000000100000000", "d080", "d18000", "d280000000", "d38000000000000000",
	"ca3f800000", "cb3ff0000000000000",
	"a0", "a161", "bf" + strings.Repeat("61", 31), "d900", "d90161", "da000161", "db0000000161",
	"c400", "c40161", "c5000161", "c60000000161",
	"d4ff00", "d5ff0000", "d6ff00000000", "d7ff0000000000000000", "d8ff00000000000000000000000000000000",
	"c70005", "c7010500", "c800010500", "c90000000105ff",
	"90", "9101", "920102", "9f000102030405060708090a0b0c0d0e", "dc0000", "dc0001c0", "dd00000000", "dd00000001c0",
	"80", "810102", "8201020304", "de0000", "de0001c0c0", "df00000000", "df00000001c0c0",
	"81a16181a16290", "93c09190c3", "8190c0", "81800100"[:6],
	"da0000", "db00000000", "c50000", "c600000000", "c8000005", "c90000000005",
}

func TestWellFormed(t *testing.T) {
	for _, text := range wellFormed {
		doc := unhex(t, text)
		if err := Validate(doc); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if n, err := Skip(append(doc[:len(doc):len(doc)], 0xc1)); err != nil || n != len(doc) {
			t.Errorf("%s: Skip = %d, %v, want %d", text, n, err, len(doc))
		}
		if err := Validate(append(doc[:len(doc):len(doc)], 0xc0)); !errors.Is(err, ErrMsgpack) {
			t.Errorf("%s with a byte more: %v", text, err)
		}
		if err := ValidateMap(doc); (err == nil) != strings.HasPrefix(text, "8") && (err == nil) != strings.HasPrefix(text, "de") && (err == nil) != strings.HasPrefix(text, "df") {
			t.Errorf("%s: ValidateMap: %v", text, err)
		}
	}
}

// TestEveryCutOfADocument: no prefix of a document is one.
func TestEveryCutOfADocument(t *testing.T) {
	for _, text := range wellFormed {
		doc := unhex(t, text)
		for cut := range doc {
			if err := Validate(doc[:cut]); !errors.Is(err, ErrMsgpack) {
				t.Errorf("%s cut at %d: got %v, want ErrMsgpack", text, cut, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	deep := func(code string, n int, inner string) string { return strings.Repeat(code, n) + inner }
	for name, text := range map[string]string{
		"empty":                                "",
		"the code that is no type":             "c1",
		"the code that is no type, inside":     "91c1",
		"array32 of 4 Gi":                      "ddffffffff",
		"array32 of 64 Mi":                     "dd04000000",
		"map32 of 64 Mi":                       "df04000000",
		"map32 of 4 Gi":                        "dfffffffff",
		"map32 whose values overflow 32 bits":  "df80000000",
		"bin32 of 1 GiB":                       "c640000000",
		"str32 of 4 GiB":                       "dbffffffff",
		"ext32 of 4 GiB":                       "c9ffffffff05",
		"300 nested array16 that claim 65535":  deep("dcffff", 300, ""),
		"ten million nested arrays":            deep("91", 10_000_000, "c0"),
		"nested one deeper than allowed":       deep("91", MaxDepth, "90"),
		"maps nested one deeper than allowed":  deep("81c0", MaxDepth, "80"),
		"keys nested one deeper than allowed":  deep("81", MaxDepth, "80") + deep("c0", MaxDepth, ""),
		"a count one more than the bytes left": "93c0c0",
		"a map with a key and no value":        "81c0",
		"a second document":                    "c0c0",
	} {
		doc := unhex(t, text)
		var asError *MsgpackError
		if err := Validate(doc); !errors.Is(err, ErrMsgpack) || !errors.As(err, &asError) {
			t.Errorf("%s: got %v, want ErrMsgpack", name, err)
		} else if asError.Offset < 0 || asError.Offset > len(doc) {
			t.Errorf("%s: offset %d of %d", name, asError.Offset, len(doc))
		}
		if n := testing.AllocsPerRun(1, func() { walk(doc, MaxDepth) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestClaimsAreRefusedAtOnce: a count that cannot be is refused where it stands,
// not after all there is has been walked.
func TestClaimsAreRefusedAtOnce(t *testing.T) {
	for _, header := range []string{"dc1001", "dd00001001", "de0801", "df00000801", "da1001", "c500001001"} {
		doc := append(unhex(t, "91"+header), make([]byte, 4096)...)
		if strings.HasPrefix(header, "c5") {
			doc[2], doc[3] = 0x10, 0x03
		}
		var asError *MsgpackError
		if err := Validate(doc); !errors.As(err, &asError) || asError.Offset != 1 {
			t.Errorf("%s: got %v, want it refused at byte 1", header, err)
		}
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) []byte {
		return append(bytes.Repeat([]byte{0x81, 0xc0}, n-1), 0x80)
	}
	if err := Validate(nested(MaxDepth)); err != nil {
		t.Errorf("%d deep: %v", MaxDepth, err)
	}
	if err := Validate(nested(MaxDepth + 1)); err == nil {
		t.Errorf("%d deep was accepted", MaxDepth+1)
	}
	if err := ValidateMap(nested(MaxDepth - 1)); err != nil {
		t.Errorf("event %d deep: %v", MaxDepth-1, err)
	}
	if err := ValidateMap(nested(MaxDepth)); err == nil {
		t.Errorf("an event %d deep was accepted: in a blob it is deeper than a document may be", MaxDepth)
	}
}

func TestSplitArray(t *testing.T) {
	errStop := errors.New("stop")
	for _, tc := range []struct {
		name, doc string
		want      string
		bad       bool
	}{
		{"empty", "90", "", false},
		{"three", "93c080a161", "c0 80 a161", false},
		{"array16", "dc0002c0c3", "c0 c3", false},
		{"array32", "dd0000000191c0", "91c0", false},
		{"a map", "80", "", true},
		{"nothing", "", "", true},
		{"too many claimed", "93c0c0", "", true},
		{"a bad element", "92c0c1", "c0", true},
		{"something after it", "91c0c0", "c0", true},
		{"an element too deep", "91" + strings.Repeat("91", MaxDepth-1) + "90", "", true},
		{"an element as deep as allowed", "91" + strings.Repeat("91", MaxDepth-2) + "90", strings.Repeat("91", MaxDepth-2) + "90", false},
	} {
		var got []string
		doc := unhex(t, tc.doc)
		err := SplitArray(doc, func(e []byte) error { got = append(got, hex.EncodeToString(e)); return nil })
		if strings.Join(got, " ") != tc.want || errors.Is(err, ErrMsgpack) != tc.bad || (err != nil) != tc.bad {
			t.Errorf("%s: got %q, %v", tc.name, got, err)
		}
		if err == nil && Validate(doc) != nil {
			t.Errorf("%s: split, but not valid", tc.name)
		}
	}
	if err := SplitArray([]byte{0x92, 0xc0, 0xc0}, func([]byte) error { return errStop }); err != errStop {
		t.Errorf("got %v, want what yield returned", err)
	}
}

// FuzzWalk compares the walk with two libraries: whatever is accepted they must
// skip to the same place, and what both skip must be accepted if it is not too
// deep.
func FuzzWalk(f *testing.F) {
	for _, text := range wellFormed {
		f.Add(unhex(f, text))
	}
	f.Add(unhex(f, "df04000000"))
	f.Add(unhex(f, "93c0c1"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		n, reason := walk(doc, MaxDepth)
		if n < 0 || n > len(doc) {
			t.Fatalf("offset %d of %d", n, len(doc))
		}
		first, firstErr := skipMsgp(doc)
		second, secondErr := skipV5(doc)
		switch {
		case reason == "" && (firstErr != nil || first != n):
			t.Fatalf("accepted %d bytes, msgp: %d, %v", n, first, firstErr)
		case reason == "" && (secondErr != nil || second != n):
			t.Fatalf("accepted %d bytes, msgpack/v5: %d, %v", n, second, secondErr)
		case reason != "" && reason != reasonDepth && firstErr == nil && secondErr == nil && first == second:
			t.Fatalf("refused at %d (%s), both libraries skip %d bytes", n, reason, first)
		}
		if reason == "" && Validate(doc[:n]) != nil {
			t.Fatal("Skip accepts what Validate does not")
		}
		if err := ValidateMap(doc); err == nil && (Validate(doc) != nil || !isMap(doc[0])) {
			t.Fatal("ValidateMap accepts what is no valid map")
		}
	})
}

func skipMsgp(doc []byte) (int, error) {
	rest, err := msgp.Skip(doc)
	return len(doc) - len(rest), err
}

func skipV5(doc []byte) (int, error) {
	r := bytes.NewReader(doc)
	err := msgpack.NewDecoder(r).Skip()
	return len(doc) - r.Len(), err
}

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// sampleEvent is an event as a web server sends it, about 400 bytes of msgpack.
func sampleEvent(tb testing.TB, i int) []byte {
	tb.Helper()
	doc, err := AppendMsgpack(nil, fmt.Appendf(nil, `{"host":"web-%03d.ams4","pid":%d,"http":{"method":"GET","status":%d,"path":"/search",`+
		`"query":"page=%d&sort=price","agent":"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0","bytes":%d},`+
		`"user":{"id":%d,"language":"en-gb","ip":"10.%d.%d.7","bot":false},"times":{"wall":0.%06d,"cpu":0.0%05d,"db":[0.25,1.5]},"exp":{"exp_1":%d,"exp_2":1}}`,
		i%80, 1000+i%400, 200+i%3*100, i%40, i*7919%90001, i*104729%40000003, i%256, i*31%256, i*7907%999983, i*6113%99991, i%3))
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func BenchmarkValidate(b *testing.B) {
	doc := binary.BigEndian.AppendUint16([]byte{0xdc}, 300)
	for i := range 300 {
		doc = append(doc, sampleEvent(b, i)...)
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(doc); err != nil {
			b.Fatal(err)
		}
	}
}
