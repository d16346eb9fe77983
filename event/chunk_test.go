package event

import (
	"math"
	"testing"
)

func TestChunkText(t *testing.T) {
	for _, tc := range []struct {
		text string
		want ChunkParts
	}{
		{"0", ChunkParts{}},
		{"42", ChunkParts{N: 42}},
		{"9999999999999999999", ChunkParts{N: MaxChunkNumber}},
		{"0000000000000000-0", ChunkParts{HasIncarnation: true}},
		{"1234567890123456-5", ChunkParts{Incarnation: 0x1234567890123456, HasIncarnation: true, N: 5}},
		{"ffffffffffffffff-9999999999999999999", ChunkParts{Incarnation: math.MaxUint64, HasIncarnation: true, N: MaxChunkNumber}},
		{"42-x00000000000000ff", ChunkParts{N: 42, Loser: 255, HasLoser: true}},
		{"1234567890123456-x0000000000000000", ChunkParts{N: 1234567890123456, HasLoser: true}},
		{"00000000000000aa-7-xfedcba9876543210", ChunkParts{0xaa, 7, 0xfedcba9876543210, true, true}},
	} {
		got, err := ParseChunk(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("ParseChunk(%q) = %+v, %v, want %+v", tc.text, got, err, tc.want)
		}
		if s := tc.want.String(); s != tc.text {
			t.Errorf("%+v is %q, want %q", tc.want, s, tc.text)
		}
	}
	if got := PlainChunk(42); got != "42" {
		t.Errorf("PlainChunk(42) = %q", got)
	}
	if got := Chunk(0xaa, 7); got != "00000000000000aa-7" {
		t.Errorf("Chunk(0xaa, 7) = %q", got)
	}
}

func TestLoserKey(t *testing.T) {
	for _, tc := range []struct{ chunk, want string }{
		{"0", "0-x00000000000000ff"},
		{"00000000000000aa-7", "00000000000000aa-7-x00000000000000ff"},
		{"0-x1111111111111111", "0-x00000000000000ff"}, // a value is named by itself alone
	} {
		k := Key{1, "a", "b", "c", tc.chunk}
		got := k.LoserKey(0xff)
		if want := (Key{1, "a", "b", "c", tc.want}); got != want {
			t.Errorf("loser of %q is %q, want %q", k, got, want)
		}
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestChunkNumberOutOfRangePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a chunk number of 20 digits was accepted")
		}
	}()
	PlainChunk(MaxChunkNumber + 1)
}
