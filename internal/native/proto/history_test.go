package proto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/ring"
)

func testHistory(t testing.TB) History {
	t.Helper()
	nodes := []ring.Node{{ID: ring.NodeID{1}, Name: "a", Weight: 1}, {ID: ring.NodeID{2}, Name: "b", Weight: 1}}
	one, _, err := ring.Claim(nodes, 1, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ring.NewHistory(ring.Version{Era: 1, Index: 2}, 10, one)
	if err != nil {
		t.Fatal(err)
	}
	return History{Rings: h, Addresses: []Address{{ring.NodeID{1}, "a:7070"}, {ring.NodeID{2}, "[::1]:7"}}}
}

func TestGoldenHistory(t *testing.T) {
	h := testHistory(t)
	rings, err := h.Rings.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	want := "92000000" + hex.EncodeToString(rings) + "02000000" +
		"01" + strings.Repeat("00", 15) + "0600" + hex.EncodeToString([]byte("a:7070")) +
		"02" + strings.Repeat("00", 15) + "0700" + hex.EncodeToString([]byte("[::1]:7"))
	b := AppendHistory(nil, h)
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	got, err := ParseHistory(b)
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	for cut := range len(b) {
		if _, err := ParseHistory(b[:cut]); !errors.Is(err, ErrArguments) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestHostileHistories(t *testing.T) {
	h := testHistory(t)
	rings, _ := h.Rings.MarshalBinary()
	none := AppendHistory(nil, History{Rings: h.Rings})
	with := func(a ...Address) []byte { return AppendHistory(nil, History{h.Rings, a}) }
	flipped := slices.Clone(none)
	flipped[20] ^= 1
	for _, c := range []struct {
		claim string
		b     []byte
	}{
		{"nothing", nil},
		{"a length that is not true", []byte{0xff, 0xff, 0xff, 0xff}},
		{"no rings", make([]byte, 8)},
		{"damaged rings", flipped},
		{"4 billion addresses", append(slices.Clone(none[:4+len(rings)]), 0xff, 0xff, 0xff, 0xff)},
		{"fewer addresses than it says", append(slices.Clone(none[:4+len(rings)]), 1, 0, 0, 0)},
		{"more behind it", append(slices.Clone(none), 0)},
		{"out of order", with(h.Addresses[1], h.Addresses[0])},
		{"a node twice", with(h.Addresses[0], h.Addresses[0])},
		{"no port", with(Address{ring.NodeID{1}, "a"})},
		{"no host", with(Address{ring.NodeID{1}, ":7070"})},
		{"any host", with(Address{ring.NodeID{1}, "0.0.0.0:7070"})},
		{"any host, again", with(Address{ring.NodeID{1}, "[::]:7070"})},
		{"a long address", with(Address{ring.NodeID{1}, strings.Repeat("a", MaxAddressBytes) + ":1"})},
	} {
		if _, err := ParseHistory(c.b); !errors.Is(err, ErrArguments) {
			t.Errorf("%s: %v", c.claim, err)
		}
	}
	if got, err := ParseHistory(none); err != nil || len(got.Addresses) != 0 {
		t.Errorf("a node that is alone: %+v, %v", got, err)
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add(AppendHistory(nil, testHistory(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHistory(b)
		if err == nil && !bytes.Equal(AppendHistory(nil, h), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}
