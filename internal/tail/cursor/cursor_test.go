package cursor

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The model of a cursor is a map from identity to second of arrival.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(1, 1000).Draw(t, "low")
		c, m := New(low), map[uint64]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				arrival := rapid.Int64Range(low-3, low+8).Draw(t, "arrival")
				id := rapid.Uint64Range(0, 20).Draw(t, "id")
				c.Add(arrival, id)
				if _, ok := m[id]; !ok && arrival >= low {
					m[id] = arrival
				}
			},
			"finish": func(t *rapid.T) {
				to := rapid.Int64Range(low-2, low+4).Draw(t, "to")
				c.Finish(to)
				low = max(low, to)
				for id, arrival := range m {
					if arrival < low {
						delete(m, id)
					}
				}
			},
			"text": func(t *rapid.T) {
				again, err := Parse(c.String())
				if err != nil {
					t.Fatal(err)
				}
				if again.String() != c.String() {
					t.Fatal("the text of the text differs")
				}
				c = again
			},
			"": func(t *rapid.T) {
				if c.Low() != low || c.Len() != len(m) {
					t.Fatalf("low %d, %d deliveries; want %d, %d", c.Low(), c.Len(), low, len(m))
				}
				for id := range uint64(21) {
					if _, ok := m[id]; ok != c.Has(id) {
						t.Fatalf("%d: Has is %v", id, c.Has(id))
					}
				}
			},
		})
	})
}

// Equal positions have equal texts, whatever the order of delivery.
func TestTextIsCanonical(t *testing.T) {
	a, b := New(100), New(90)
	a.Add(101, 5)
	a.Add(100, 7)
	a.Add(101, 3)
	b.Add(95, 1)
	b.Add(101, 3)
	b.Add(101, 5)
	b.Add(100, 7)
	b.Finish(100)
	if a.String() != b.String() {
		t.Errorf("%s and %s", a, b)
	}
}

func TestGolden(t *testing.T) {
	c := New(1_700_000_000)
	if got, want := c.String(), "mft1.APFTZQAAAAAAAAAAAJPbNw"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.Add(1_700_000_000, 0xffffffffffffffff)
	c.Add(1_700_000_000, 1)
	c.Add(1_700_000_007, 0x0102030405060708)
	if got, want := c.String(), "mft1.APFTZQAAAAACAAAAAAAAAAIAAAABAAAAAAAAAP__________BwAAAAEAAAAIBwYFBAMCAZWRYnw"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGoldenIdentities(t *testing.T) {
	if got := BlobID(0x1122334455667788, []byte("1700000000:ams:web:nl:0")); got != 0x776ec99e4b27215 {
		t.Errorf("blob %#x", got)
	}
	if got := WatermarkID(1700000000, "ams", 2); got != 0x16477f4566ccf189 {
		t.Errorf("watermark %#x", got)
	}
}

// body wraps the bytes of a cursor with a right checksum.
func body(b []byte) string {
	b = binary.LittleEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, castagnoli))
	return prefix + encoding.EncodeToString(b)
}

func le(fields ...any) (b []byte) {
	for _, f := range fields {
		b, _ = binary.Append(b, binary.LittleEndian, f)
	}
	return b
}

func TestParseRefuses(t *testing.T) {
	good := New(100)
	good.Add(100, 1)
	text := good.String()
	for name, s := range map[string]string{
		"nothing":              "",
		"another prefix":       "mft2." + text[len(prefix):],
		"cut off":              text[:len(text)-1],
		"changed":              strings.Replace(text, "ZAAA", "ZAAB", 1),
		"a line break":         text + "\n",
		"padding":              text + "=",
		"a byte more":          body(le(int64(100), uint32(0), uint8(0))),
		"second zero":          body(le(int64(0), uint32(0))),
		"second past any":      body(le(int64(maxSecond+1), uint32(0))),
		"a negative second":    body(le(int64(-1), uint32(0))),
		"too many seconds":     body(le(int64(100), uint32(1<<31))),
		"too many deliveries":  body(le(int64(100), uint32(1), uint32(0), uint32(1<<31), uint64(1))),
		"an empty second":      body(le(int64(100), uint32(1), uint32(0), uint32(0), uint64(1))),
		"a second twice":       body(le(int64(100), uint32(2), uint32(0), uint32(1), uint64(1), uint32(0), uint32(1), uint64(2))),
		"deliveries unordered": body(le(int64(100), uint32(1), uint32(0), uint32(2), uint64(2), uint64(1))),
		"a delivery twice":     body(le(int64(100), uint32(2), uint32(0), uint32(1), uint64(1), uint32(1), uint32(1), uint64(1))),
		"too long":             prefix + strings.Repeat("A", MaxTextBytes),
	} {
		if c, err := Parse(s); !errors.Is(err, ErrCursor) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	c := New(100)
	f.Add(c.String())
	c.Add(100, 1)
	c.Add(107, 9)
	f.Add(c.String())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrCursor) {
				t.Fatalf("not an ErrCursor: %v", err)
			}
			return
		}
		if c.String() != s {
			t.Fatalf("%q came back as %q", s, c)
		}
	})
}

// FuzzParseBody gives the parser what the checksum would hide from a fuzzer.
func FuzzParseBody(f *testing.F) {
	f.Add(le(int64(100), uint32(1), uint32(0), uint32(1), uint64(1)))
	f.Add(le(int64(100), uint32(2), uint32(0), uint32(1), uint64(1), uint32(7), uint32(1), uint64(2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(body(b))
		if err == nil && c.String() != body(b) {
			t.Fatalf("%x came back as %q", b, c)
		}
	})
}
