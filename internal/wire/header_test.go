package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

// unhex reads hexadecimal with blanks and line breaks between bytes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var fullHeader = Header{
	Op: 2, Class: Ingest, Flags: 0, ID: 0x0102030405060708, History: History{Era: 3, Index: 0x1122334455667788},
	RemainingMillis: 1500, MetaBytes: 3, BodyBytes: 100_000,
	Trace:   Trace{ID: [16]byte{0: 0xa0, 15: 0xaf}, Span: [8]byte{0: 0xb0, 7: 0xb7}, Flags: 1},
	MetaCRC: metaCRC([]byte("abc")),
}

// The frame header is frozen: a change here is another protocol.
func TestHeaderGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		h    Header
		want string
	}{
		{"a put with everything set", fullHeader, `
			4d465731 02 02 0000 0807060504030201 8877665544332211 03000000 dc050000 03000000 a0860100
			a00000000000000000000000000000af b0000000000000b7 01 00000000000000 b73f4b36 87a5f6f1`},
		{"an empty answer", Header{Op: 2, Class: Ingest, Flags: FlagResponse, ID: 1}, `
			4d465731 02 02 0100 0100000000000000 0000000000000000 00000000 00000000 00000000 00000000
			00000000000000000000000000000000 0000000000000000 00 00000000000000 00000000 d865d8a1`},
		{"a cancel", Header{Class: Tail, Flags: FlagCancel, ID: 7}, `
			4d465731 00 05 0800 0700000000000000 0000000000000000 00000000 00000000 00000000 00000000
			00000000000000000000000000000000 0000000000000000 00 00000000000000 00000000 3bf42ea7`},
	} {
		got := AppendHeader(nil, &c.h)
		if want := unhex(t, c.want); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
		if back, err := ParseHeader(got); err != nil || back != c.h {
			t.Errorf("%s: parsed back as %+v, %v", c.name, back, err)
		}
	}
}

// reseal gives a header that was tampered with a matching CRC, so that the
// rules behind it are reached.
func reseal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
	return b
}

func TestHeaderFaults(t *testing.T) {
	with := func(at int, v ...byte) []byte {
		b := AppendHeader(nil, &fullHeader)
		copy(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"it is cut short":                   AppendHeader(nil, &fullHeader)[:HeaderBytes-1],
		"it is empty":                       nil,
		"the magic is another":              reseal(with(0, 'H', 'T', 'T', 'P')),
		"a bit of the CRC differs":          with(76, ^byte(0)),
		"a bit under the CRC differs":       with(36, 1),
		"a reserved byte is set":            reseal(with(71, 1)),
		"the meta is longer than allowed":   reseal(with(32, 1, 0, 1, 0)),
		"the body is longer than allowed":   reseal(with(36, 1, 0, 0, 4)),
		"the body claims 4 GiB":             reseal(with(36, 255, 255, 255, 255)),
		"an unknown flag is set":            reseal(with(6, 32, 0)),
		"it is an error that is no answer":  reseal(with(6, 2, 0)),
		"it is an error with more to come":  reseal(with(6, 7, 0)),
		"it cancels and grants":             reseal(with(6, 24, 0)),
		"a cancel has a payload":            reseal(with(6, 8, 0)),
		"a credit has the wrong payload":    reseal(with(6, 16, 0)),
		"a request concerns the connection": reseal(with(8, 0, 0, 0, 0, 0, 0, 0, 0)),
	} {
		if h, err := ParseHeader(b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %+v, %v; want ErrFrame", name, h, err)
		}
	}
}

// TestHeaderDamage flips every bit of a header: none may go unnoticed.
func TestHeaderDamage(t *testing.T) {
	good := AppendHeader(nil, &fullHeader)
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := ParseHeader(b); !errors.Is(err, ErrFrame) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(AppendHeader(nil, &fullHeader))
	f.Add(AppendHeader(nil, &Header{Class: Tail, Flags: FlagCredit, ID: 1, MetaBytes: 4}))
	f.Add(AppendHeader(nil, &Header{Flags: flagsError}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderBytes {
			b = reseal(bytes.Clone(b[:HeaderBytes]))
		}
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("an error that is no ErrFrame: %v", err)
			}
			return
		}
		if back := AppendHeader(nil, &h); !bytes.Equal(back, b) {
			t.Fatalf("encodes back as\n%x, was\n%x", back, b)
		}
	})
}
