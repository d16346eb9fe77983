package ring

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// The golden values of docs/format-ring.md, computed by another implementation
// of xxhash64. A change of any of them would lose all the data of every
// cluster.
var goldenHashes = []struct {
	bucketType, bucket, key string
	want                    uint64
}{
	{"", "", "", 0xc0dcf27516acb324},
	{"default", "events", "1763812800:ams:web:checkout:0", 0xec2415ad44be1c40},
	{"default", "events", "1763812800:ams:web:checkout:1", 0xcbdfbbdbb170eef8},
	{"default", "events", "1763812800:ams:web:checkout:00c0ffee00c0ffee-0", 0xa04bafaf444d8b55},
	{"default", "epochs", "1763812800:ams", 0xeae27c61f75c904d},
	{"default", "epochs", "1763812800:ams:late", 0xbcdfaab2899c0d83},
	{"sessions", "plain", "\x00\xff", 0x4a767134039ab53b},
	{"default", "events", strings.Repeat("k", 4096), 0xdd83b3a3ef22327e},
}

func TestGoldenHashes(t *testing.T) {
	for _, c := range goldenHashes {
		if got := Hash(c.bucketType, c.bucket, c.key); got != c.want {
			t.Errorf("Hash(%q, %q, %.60q) = %#016x, want %#016x", c.bucketType, c.bucket, c.key, got, c.want)
		}
	}
}

// Strings and bytes, short and long inputs hash alike: as the comment says.
func TestHashIsOneFunction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`.{0,100}`)
		bucketType, bucket := part.Draw(t, "type"), part.Draw(t, "bucket")
		key := strings.Repeat(part.Draw(t, "key"), rapid.IntRange(0, 50).Draw(t, "times"))
		var input []byte
		for _, s := range []string{bucketType, bucket, key} {
			input = binary.LittleEndian.AppendUint16(input, uint16(len(s)))
			input = append(input, s...)
		}
		want := xxhash.Sum64(input)
		if got := Hash(bucketType, bucket, key); got != want {
			t.Fatalf("of strings: %#x, want %#x", got, want)
		}
		if got := HashBytes([]byte(bucketType), []byte(bucket), []byte(key)); got != want {
			t.Fatalf("of bytes: %#x, want %#x", got, want)
		}
		if got := Hash(bucketType, bucket, []byte(key)); got != want {
			t.Fatalf("of names and bytes: %#x, want %#x", got, want)
		}
	})
}

func TestHashKeepsPartsApart(t *testing.T) {
	if Hash("a", "bc", "k") == Hash("ab", "c", "k") || Hash("a", "b", "ck") == Hash("a", "bc", "k") {
		t.Error("two objects with different names hash alike")
	}
}

func TestHashRefusesWhatDoesNotFit(t *testing.T) {
	Hash("t", "b", strings.Repeat("k", 65535)) // fits
	defer func() {
		if message, _ := recover().(string); !strings.HasPrefix(message, "ring: BUG: ") {
			t.Errorf("a key of 65536 bytes: recovered %q", message)
		}
	}()
	Hash("t", "b", strings.Repeat("k", 65536))
}

func TestHashDoesNotAllocate(t *testing.T) {
	short, long := []byte("1763812800:ams:web:checkout:0"), make([]byte, 4096)
	for name, key := range map[string][]byte{"short": short, "long": long} {
		if n := testing.AllocsPerRun(100, func() { Hash("default", "events", key) }); n != 0 {
			t.Errorf("%s key: %v allocations", name, n)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for name, key := range map[string]string{"key30": "1763812800:ams:web:checkout:0", "key4096": strings.Repeat("k", 4096)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Hash("default", "events", key)
			}
		})
	}
}
