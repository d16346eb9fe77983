package bitcask

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

// framed returns a record as it lies in a segment of that generation.
func framed(rec *object.Record, generation uint32) []byte {
	var fr [frameSize]byte
	putFrame(&fr, len(rec.Raw()), generation, rec.CRC)
	b := slices.Concat(fr[:], rec.Raw())
	return append(b, zeros[:alignUp(int64(len(b)))-int64(len(b))]...)
}

func scanRecord(t *testing.T, key string, stamp int64, value []byte) *object.Record {
	t.Helper()
	rec, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: stamp, Type: []byte("t"), Bucket: []byte("b"), Key: []byte(key)}, value)
	if err != nil {
		t.Fatal(err)
	}
	return &rec
}

// What a scan makes of a file, as a line: the keys of its records, damage as
// "!", a torn tail as "~".
func TestScan(t *testing.T) {
	const gen = 7
	a, b, c := scanRecord(t, "a", 1, []byte("value a")), scanRecord(t, "b", 1, []byte("value b")), scanRecord(t, "c", 1, bytes.Repeat([]byte("c"), 1<<20))
	other := scanRecord(t, "z", 9, []byte("value z")) // as long as a
	fa, fb, fc := framed(a, gen), framed(b, gen), framed(c, gen)
	flip := func(b []byte, at int) []byte { b = slices.Clone(b); b[at] ^= 1; return b }
	nested := scanRecord(t, "n", 1, slices.Concat(make([]byte, 5), framed(a, gen+1), framed(a, gen+1)))
	fn := framed(nested, gen)
	foreign, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: 1, Type: []byte("t"), Bucket: []byte("other"), Key: []byte("f")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		bytes  []byte
		want   string
		values bool
	}{
		{"nothing", nil, "", true},
		{"records", slices.Concat(fa, fb, fc, fa), "a b c a", true},
		{"a damaged frame costs its record", slices.Concat(flip(fa, 3), fb), "! b", true},
		{"a damaged header costs its record", slices.Concat(flip(fa, 30), fb), "! b", true},
		{"a damaged value costs its record", slices.Concat(fc, flip(fc, 100_000), fb), "c ! b", true},
		{"values that are not looked at", slices.Concat(flip(fc, 100_000), fb), "c b", false},
		{"padding is not part of a record", slices.Concat(flip(fa, len(fa)-1), fb), "a b", true},
		{"damage at the end", slices.Concat(fa, flip(fb, 3)), "a !", true},
		{"a mebibyte of zeros", slices.Concat(fa, make([]byte, 1<<20), fb), "a ! b", true},
		{"a mebibyte of damage", slices.Concat(fa, flip(fc, 0), fb), "a ! b", true},
		{"cut in a frame", slices.Concat(fa, fb[:9]), "a ~", true},
		{"cut in a header", slices.Concat(fa, fb[:40]), "a ~", true},
		{"cut in a value", slices.Concat(fa, fc[:5000]), "a ~", true},
		{"cut in the padding", slices.Concat(fa, fb[:frameSize+len(b.Raw())]), "a b", true},
		{"a frame before another record of its length", slices.Concat(fa[:frameSize], framed(other, gen)[frameSize:], fb), "! b", true},
		{"records of the file's former life", slices.Concat(fa, framed(b, gen-1), fb), "a ! b", true},
		{"copies of records in a damaged value", slices.Concat(flip(fn, 1), fb), "! b", true},
		{"a record of another bucket", slices.Concat(fa, framed(&foreign, gen), fb), "a ! b", true},
	} {
		sc := &scanner{f: memFile(t, tc.bytes), end: int64(len(tc.bytes)), generation: gen, typ: "t", name: "b", values: tc.values}
		var got []string
		for {
			st, ok := sc.next()
			if !ok {
				break
			}
			switch st.kind {
			case wholeRecord:
				got = append(got, string(st.header.Key))
			case damagedPart:
				got = append(got, "!")
			case tornTail:
				got = append(got, "~")
			}
		}
		if line := strings.Join(got, " "); line != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, line, tc.want)
		}
	}
}

// A scan that does not know the generation takes that of the first record.
func TestScanUnknownGeneration(t *testing.T) {
	a, b := scanRecord(t, "a", 1, nil), scanRecord(t, "b", 1, nil)
	data := slices.Concat([]byte("12345678garbage."), framed(a, 3), framed(b, 4), framed(b, 3))
	sc := &scanner{f: memFile(t, data), end: int64(len(data))}
	var got []string
	for {
		st, ok := sc.next()
		if !ok {
			break
		}
		got = append(got, fmt.Sprint(st.kind, string(st.header.Key)))
	}
	if want := fmt.Sprint([]string{"2", "1a", "2", "1b"}); fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
