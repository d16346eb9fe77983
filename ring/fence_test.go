package ring

import "testing"

// TestFence: a request under an older history is served where that names the same
// owners, refused where it names others or is not known, and one under a newer
// history waits.
func TestFence(t *testing.T) {
	first, _ := mustClaim(t, equalNodes("abc"), 3, 3, nil)
	h1, err := NewHistory(Version{1, 1}, 10, first)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := mustClaim(t, equalNodes("abcdef"), 3, 3, first)
	h2, err := h1.Append(Version{1, 4}, 100, second)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFence(h1).Adopt(h2)
	if f.History() != h2 {
		t.Fatal("the newest history does not count")
	}
	// A hash whose owners change, and nodes by what they are there.
	hash := uint64(0)
	var stays, leaves, comes NodeID
	for p := range second.Partitions() {
		hash, _ = p.Range()
		stays, leaves, comes = NodeID{}, NodeID{}, NodeID{}
		for _, n := range second.Nodes() {
			switch was, is := first.Owns(n.ID, p), second.Owns(n.ID, p); {
			case was && is:
				stays = n.ID
			case was:
				leaves = n.ID
			case is:
				comes = n.ID
			}
		}
		if !stays.IsZero() && !leaves.IsZero() && !comes.IsZero() {
			break
		}
	}
	old, young := Placed{true, hash, 999, 3}, Placed{true, hash, 1000, 3}
	plain := Placed{false, hash, 0, 3}
	few := Placed{true, hash, 999, 1}
	for _, c := range []struct {
		name   string
		node   NodeID
		theirs Version
		o      Placed
		want   Standing
	}{
		{"the same history, an owner", stays, h2.Version(), young, IsOwner},
		{"the same history, an owner of before", leaves, h2.Version(), young, HasMoved},
		{"the same history, an owner of before, for its slot", leaves, h2.Version(), old, IsOwner},
		{"the same history, a newcomer, for an older slot", comes, h2.Version(), old, HasMoved},
		{"an older history, a slot it did not change", stays, h1.Version(), old, IsOwner},
		{"an older history, a slot it changed, who stays", stays, h1.Version(), young, HasMoved},
		{"an older history, a slot it changed, who leaves", leaves, h1.Version(), young, HasMoved},
		{"an older history, plain data", stays, h1.Version(), plain, HasMoved},
		{"plain data, an owner", comes, h2.Version(), plain, IsOwner},
		{"plain data, a source", leaves, h2.Version(), plain, IsSource},
		{"a version in between that was never adopted", stays, Version{1, 2}, old, HasMoved},
		{"a newer history", stays, Version{1, 5}, old, IsBehind},
		{"a newer era", stays, Version{2, 0}, old, IsBehind},
		{"an older era", stays, Version{0, 9}, old, HasMoved},
		{"a bucket with one owner", first.Owners(first.PartitionOf(hash))[0], h2.Version(), few, IsOwner},
		{"a bucket with one owner, another", first.Owners(first.PartitionOf(hash))[1], h2.Version(), few, HasMoved},
	} {
		if got := f.Judge(c.node, c.theirs, c.o); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.Judge(stays, h1.Version(), old) }); n > 0 {
		t.Errorf("judging allocates %v times", n)
	}

	// An amendment makes a source of timed data.
	h3, _, err := h2.Replace(Version{1, 5}, Replacement{Out: stays, Reason: Leaving, From: 90, Until: Forever, Unwritten: 110, Candidates: second.Nodes()})
	if err != nil {
		t.Fatal(err)
	}
	f = f.Adopt(h3)
	if got := f.Judge(stays, h3.Version(), young); got != IsSource {
		t.Errorf("who is replaced is %d in a slot it has data of, want a source", got)
	}
	if got := f.Judge(stays, h2.Version(), young); got != HasMoved {
		t.Errorf("asked under the history before the amendment: %d", got)
	}

	// What is too long ago is forgotten.
	h := h3
	old.Epoch = 500 // no amendment is about it
	for i := range uint64(FenceHistories) {
		if h, err = h.Complete(Version{1, 6 + i}); err != nil {
			t.Fatal(err)
		}
		if got := f.Judge(leaves, h1.Version(), old); got != IsOwner && i < FenceHistories-3 {
			t.Errorf("after %d more histories: %d", i, got)
		}
		f = f.Adopt(h)
	}
	if got := f.Judge(leaves, h1.Version(), old); got != HasMoved {
		t.Errorf("asked under a history that is forgotten: %d", got)
	}
}
