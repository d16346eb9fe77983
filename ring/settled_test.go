package ring

import (
	"slices"
	"testing"
)

// TestSettled: what has other owners than before is settled when w of those before
// know it, or are silent; what has the same ones always is.
func TestSettled(t *testing.T) {
	first, _ := mustClaim(t, equalNodes("abc"), 0, 3, nil)
	h1, err := NewHistory(Version{1, 1}, 10, first)
	if err != nil {
		t.Fatal(err)
	}
	d := equalNodes("abcd")[3]
	out := first.Owners(Partition{})[0]
	h2, _, err := h1.Replace(Version{1, 5}, Replacement{Out: out, Reason: Leaving, From: 0, Until: 100, Unwritten: 100, Candidates: []Node{d}})
	if err != nil {
		t.Fatal(err)
	}
	h3, err := h2.Complete(Version{1, 9}, Completion{Node: d.ID, From: 0, Until: Forever})
	if err != nil {
		t.Fatal(err)
	}
	f := NewFence(h1).Adopt(h2).Adopt(h3)
	rest := slices.DeleteFunc(slices.Clone(first.Owners(Partition{})), func(id NodeID) bool { return id == out })
	changed, same := Placed{true, 7, 50, 3}, Placed{true, 7, 1000, 3}
	for _, c := range []struct {
		name string
		o    Placed
		has  map[NodeID]Version
		want bool
	}{
		{"its owners are the same", same, nil, true},
		{"nobody is known to know", changed, nil, false},
		{"one knows", changed, map[NodeID]Version{out: {1, 5}}, false},
		{"the newcomer was no owner before", changed, map[NodeID]Version{out: {1, 5}, d.ID: {1, 9}}, false},
		{"one knows, another has what was before", changed, map[NodeID]Version{out: {1, 5}, rest[0]: {1, 4}}, false},
		{"two know", changed, map[NodeID]Version{out: {1, 5}, rest[0]: {1, 9}}, true},
		{"the two that stay", changed, map[NodeID]Version{rest[0]: {1, 5}, rest[1]: {1, 5}}, true},
	} {
		if got := f.Settled(c.o, 2, func(id NodeID, v Version) bool { return !c.has[id].Before(v) }); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
