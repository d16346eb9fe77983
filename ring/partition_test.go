package ring

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestPartition(t *testing.T) {
	const hash = 0xec2415ad44be1c40
	for _, c := range []struct {
		bits        uint8
		want        Partition
		name        string
		first, last uint64
	}{
		{0, Partition{0, 0}, "0-0", 0, math.MaxUint64},
		{1, Partition{1, 1}, "1-1", 0x8000000000000000, math.MaxUint64},
		{4, Partition{4, 0xe}, "4-e", 0xe000000000000000, 0xefffffffffffffff},
		{5, Partition{5, 0x1d}, "5-1d", 0xe800000000000000, 0xefffffffffffffff},
		{6, Partition{6, 0x3b}, "6-3b", 0xec00000000000000, 0xefffffffffffffff},
		{8, Partition{8, 0xec}, "8-ec", 0xec00000000000000, 0xecffffffffffffff},
		{9, Partition{9, 0x1d8}, "9-1d8", 0xec00000000000000, 0xec7fffffffffffff},
		{16, Partition{16, 0xec24}, "16-ec24", 0xec24000000000000, 0xec24ffffffffffff},
	} {
		p := PartitionOf(hash, c.bits)
		if p != c.want || p.String() != c.name {
			t.Errorf("%d bits: %#v %q, want %q", c.bits, p, p, c.name)
		}
		if first, last := p.Range(); first != c.first || last != c.last {
			t.Errorf("%v: %#x to %#x, want %#x to %#x", p, first, last, c.first, c.last)
		}
		if parsed, err := ParsePartition(c.name); err != nil || parsed != p {
			t.Errorf("ParsePartition(%q) = %v, %v", c.name, parsed, err)
		}
	}
	if p := (Partition{6, 10}); p.String() != "6-0a" {
		t.Errorf("partition 10 of 64 is named %q", p)
	}
}

func TestParsePartitionRefuses(t *testing.T) {
	for _, name := range []string{
		"", "-", "6", "6-", "-0a", "6-a", "6-00a", "06-0a", "6-0A", "6-40", "+6-0a", "6-+a", "6-0x", "6_0a", "6-0a ",
		" 6-0a", "6-0a-1", "17-00000", "17-0000", "99-0a", "256-0", "0-", "0-1", "0-00", "1-2", "16-10000", "6-0a.tmp", "\x00",
		"6-\u0660a",
	} {
		if p, err := ParsePartition(name); !errors.Is(err, ErrPartition) || p != (Partition{}) {
			t.Errorf("ParsePartition(%q) = %v, %v", name, p, err)
		}
	}
}

func drawPartition(t *rapid.T, label string) Partition {
	bits := rapid.Uint8Range(0, MaxBits).Draw(t, label+" bits")
	return Partition{bits, rapid.Uint32Range(0, 1<<bits-1).Draw(t, label+" prefix")}
}

func TestPartitionRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawPartition(t, "p"), drawPartition(t, "q")
		hash := rapid.Uint64().Draw(t, "hash")
		first, last := p.Range()
		if p.Contains(hash) != (first <= hash && hash <= last) {
			t.Fatalf("%v, %#x to %#x, and %#x: contains = %t", p, first, last, hash, p.Contains(hash))
		}
		if !p.Contains(first) || !p.Contains(last) {
			t.Fatalf("%v does not contain its own ends", p)
		}
		qFirst, qLast := q.Range()
		if p.Overlaps(q) != (first <= qLast && qFirst <= last) || p.Overlaps(q) != q.Overlaps(p) {
			t.Fatalf("%v and %v: overlaps = %t", p, q, p.Overlaps(q))
		}
		if (p.Compare(q) == 0) != (p == q) || p.Compare(q) != -q.Compare(p) {
			t.Fatalf("%v and %v: compare = %d", p, q, p.Compare(q))
		}
	})
}

func FuzzParsePartition(f *testing.F) {
	for _, seed := range []string{"0-0", "6-0a", "16-ffff", "17-00000", "6-0A", "-", "6-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := ParsePartition(name)
		if err == nil && p.String() != name {
			t.Errorf("%q parsed to %v", name, p)
		}
		if err != nil && !errors.Is(err, ErrPartition) {
			t.Errorf("%q: %v", name, err)
		}
	})
}
