package ring

import "testing"

// TestTrimSettles: a node replaced a leaving one and left as well before it was
// complete, and so did the one after it, from a later slot on, as one had expired
// meanwhile. The last one is complete: when that slot is trimmed nobody needs the first
// one any more.
func TestTrimSettles(t *testing.T) {
	nodes := equalNodes("abcdef")
	first, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, err := NewHistory(Version{1, 1}, 10, first)
	if err != nil {
		t.Fatal(err)
	}
	a, d, e, f := nodes[0].ID, nodes[3], nodes[4], nodes[5]
	for i, r := range []Replacement{
		{Out: a, Reason: Replaced, From: 10, Until: 100, Unwritten: 100, Candidates: []Node{d}},
		{Out: d.ID, Reason: Leaving, From: 10, Until: 100, Unwritten: 100, Candidates: []Node{e}},
		{Out: e.ID, Reason: Leaving, From: 11, Until: 100, Unwritten: 100, Candidates: []Node{f}},
	} {
		if h, _, err = h.Replace(Version{1, uint64(2 + i)}, r); err != nil {
			t.Fatal(err)
		}
	}
	if h, err = h.Complete(Version{1, 5}, Completion{Node: f.ID, From: 11, Until: Forever}); err != nil {
		t.Fatal(err)
	}
	p := Partition{}
	if got := h.Sources(50, p); len(got) != 1 || got[0] != a {
		t.Fatalf("sources before slot 10 has gone: %v", got)
	}
	if h, err = h.Trim(Version{1, 6}, 11); err != nil {
		t.Fatal(err)
	}
	if got := h.Sources(50, p); len(got) != 0 {
		t.Errorf("sources after slot 10 has gone: %v", got)
	}
}
