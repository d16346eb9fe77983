package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// testHistory returns a history of rings of 1, 2, … nodes that count from
// these slots on, besides a first one that counts for all before; slots of 10 s.
func testHistory(t *testing.T, froms ...int64) (*History, []*Ring) {
	t.Helper()
	first, _ := mustClaim(t, equalNodes("a"), 3, 3, nil)
	rings := []*Ring{first}
	h, err := NewHistory(Version{0, 1}, 10, first)
	if err != nil {
		t.Fatal(err)
	}
	for i, from := range froms {
		r, _ := mustClaim(t, equalNodes("abcdefgh"[:i+2]), 3, 3, rings[i])
		if h, err = h.Append(Version{0, uint64(i + 2)}, from, r); err != nil {
			t.Fatal(err)
		}
		rings = append(rings, r)
	}
	return h, rings
}

func TestHistoryFor(t *testing.T) {
	h, rings := testHistory(t, 5, 8)
	for _, c := range []struct {
		name  string
		timed bool
		epoch int64
		want  int // index of the ring
	}{
		{"before the first change", true, 49, 0},
		{"the first second of a change", true, 50, 1},
		{"the last second before the next", true, 79, 1},
		{"the next", true, 80, 2},
		{"long after", true, math.MaxInt64, 2},
		{"the first second of all", true, 1, 0},
		{"before time", true, -1, 0},
		{"plain objects follow the newest ring", false, 1, 2},
	} {
		r, p := h.For(c.timed, 0xec2415ad44be1c40, c.epoch)
		if r != rings[c.want] {
			t.Errorf("%s: ring of %d nodes, want that of %d", c.name, len(r.Nodes()), c.want+1)
		}
		if p != (Partition{3, 7}) {
			t.Errorf("%s: partition %v", c.name, p)
		}
	}
	if h.Newest() != rings[2] || h.Len() != 3 || h.SlotSeconds() != 10 || h.Version() != (Version{0, 3}) {
		t.Errorf("newest of %d rings, slots of %d s, version %v", h.Len(), h.SlotSeconds(), h.Version())
	}
	var got []string
	for from, r := range h.All() {
		got = append(got, fmt.Sprint(from, len(r.Nodes())))
	}
	if !slices.Equal(got, []string{"0 1", "5 2", "8 3"}) {
		t.Errorf("All yields %q", got)
	}
	for range h.All() {
		break // must not be fed more
	}
}

// The ring of a slot is the last one whose first slot is not after it.
func TestHistoryAt(t *testing.T) {
	h, rings := testHistory(t, 3, 4, 9, 20, 21)
	rapid.Check(t, func(t *rapid.T) {
		slot := rapid.Int64Range(-5, 30).Draw(t, "slot")
		want := rings[0]
		i := 0
		for from := range h.All() {
			if from <= slot {
				want = rings[i]
			}
			i++
		}
		if h.At(slot) != want {
			t.Fatalf("slot %d: ring of %d nodes", slot, len(h.At(slot).Nodes()))
		}
	})
}

func TestHistorySlotOfIsAFloor(t *testing.T) {
	h, _ := testHistory(t)
	for epoch, want := range map[int64]int64{0: 0, 9: 0, 10: 1, -1: -1, -10: -1, -11: -2} {
		if got := h.SlotOf(epoch); got != want {
			t.Errorf("SlotOf(%d) = %d, want %d", epoch, got, want)
		}
	}
}

func TestHistoryRefuses(t *testing.T) {
	h, rings := testHistory(t, 5)
	before, _ := h.MarshalBinary()
	for _, c := range []struct {
		name string
		make func() (*History, error)
	}{
		{"slots of no length", func() (*History, error) { return NewHistory(Version{}, 0, rings[0]) }},
		{"a ring from the last one's slot", func() (*History, error) { return h.Append(Version{0, 3}, 5, rings[0]) }},
		{"a ring from before it", func() (*History, error) { return h.Append(Version{0, 3}, 4, rings[0]) }},
		{"the same version", func() (*History, error) { return h.Append(Version{0, 2}, 6, rings[0]) }},
		{"an earlier version", func() (*History, error) { return h.Append(Version{0, 1}, 6, rings[0]) }},
		{"trimmed without a new version", func() (*History, error) { return h.Trim(Version{0, 2}, 5) }},
	} {
		if got, err := c.make(); got != nil || !errors.Is(err, ErrRing) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if after, _ := h.MarshalBinary(); !slices.Equal(before, after) {
		t.Error("a refused change changed the history")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h, rings := testHistory(t)
	var err error
	for i := range int64(MaxRings - 1) {
		if h, err = h.Append(Version{0, uint64(i + 2)}, i+1, rings[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = h.Append(Version{1, 0}, 5000, rings[0]); !errors.Is(err, ErrRing) {
		t.Errorf("ring %d: %v", MaxRings+1, err)
	}
	trimmed, err := h.Trim(Version{1, 0}, 500)
	if err != nil || trimmed.Len() != MaxRings-500 || h.Len() != MaxRings {
		t.Fatalf("trimmed to %d rings, %v", trimmed.Len(), err)
	}
	if _, err = trimmed.Append(Version{1, 1}, 5000, rings[0]); err != nil {
		t.Errorf("after trimming: %v", err)
	}
}

// Two changes of one history do not know of each other.
func TestHistoryForks(t *testing.T) {
	h, rings := testHistory(t, 5, 6) // three entries: a slice that grew to room for four
	one, err1 := h.Append(Version{0, 9}, 8, rings[0])
	two, err2 := h.Append(Version{0, 9}, 9, rings[1])
	if err1 != nil || err2 != nil || one.Newest() != rings[0] || two.Newest() != rings[1] || h.Newest() != rings[2] {
		t.Errorf("%v, %v: a change reached another history", err1, err2)
	}
	trimmed, _ := h.Trim(Version{0, 9}, 5)
	if _, err := trimmed.Append(Version{0, 10}, 8, rings[0]); err != nil || h.Newest() != rings[2] {
		t.Errorf("%v: a change reached another history", err)
	}
}

// Trimming changes nothing for the slots that remain, and rings go once all plain
// data was handed over.
func TestTrimKeepsWhatCounts(t *testing.T) {
	h, _ := testHistory(t, 3, 4, 9, 20, 21)
	if trimmed, _ := h.Trim(Version{0, 50}, 1000); trimmed.Len() != h.Len() {
		t.Errorf("%d of %d rings are left, and no plain data was handed over", trimmed.Len(), h.Len())
	}
	for _, node := range h.Newest().Nodes() {
		h, _ = h.Complete(later(h), Completion{Node: node.ID, Plain: true})
	}
	for oldest := int64(-1); oldest < 30; oldest++ {
		trimmed, err := h.Trim(Version{0, 99}, oldest)
		if err != nil {
			t.Fatal(err)
		}
		for slot := oldest; slot < 30; slot++ {
			if trimmed.At(slot) != h.At(slot) {
				t.Errorf("trimmed to %d: another ring for slot %d", oldest, slot)
			}
		}
	}
	if trimmed, _ := h.Trim(Version{0, 99}, 1000); trimmed.Len() != 1 || trimmed.Newest() != h.Newest() {
		t.Error("the newest ring must stay")
	}
}
