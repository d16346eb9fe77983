package ring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// grown returns a cluster of so many nodes, of the zones, and its history of
// slots of an hour.
func grown(t interface{ Fatalf(string, ...any) }, zones string, bits uint8) ([]Node, *History) {
	nodes := equalNodes(zones)
	r, _ := mustClaim(t, nodes, bits, 3, nil)
	h, err := NewHistory(Version{0, 1}, 3600, r)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return nodes, h
}

// tenDays is what 240 slots hold, 6400 bytes in each, and 640 of plain data.
func tenDays(from int64) Data {
	d := Data{Oldest: from - 240, TTLSeconds: 240 * 3600, Plain: []Bytes{{Bytes: 640}}}
	for slot := d.Oldest; slot < from; slot++ {
		d.Timed = append(d.Timed, Bytes{Slot: slot, Bytes: 6400})
	}
	return d
}

func mustPlan(t *testing.T, h *History, w Wanted, d Data) *Plan {
	t.Helper()
	p, err := NewPlan(h, w, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Plan) node(name string) NodePlan {
	return p.Nodes[slices.IndexFunc(p.Nodes, func(n NodePlan) bool { return n.Name == name })]
}

// From 3 nodes to 6: no timed byte moves, half of the plain ones do.
func TestPlanToGrow(t *testing.T) {
	three, h := grown(t, "abc", 6)
	six := append(three, equalNodes("---abc")...)
	p := mustPlan(t, h, Wanted{Nodes: six, Bits: 6, N: 3, From: 1000}, tenDays(1000))
	if p.TimedMoves != 0 || p.TimedStays != 240*3*6400 || p.PlainMoves != 960 {
		t.Errorf("timed: %d bytes move, %d stay; plain: %d move", p.TimedMoves, p.TimedStays, p.PlainMoves)
	}
	// The last second before slot 1000 expires as slot 1239 ends.
	if p.BalancedFrom != 1240 || len(p.Past) != 0 || len(p.Short) != 0 {
		t.Errorf("balanced from %d, %v, %v", p.BalancedFrom, p.Past, p.Short)
	}
	for _, n := range p.Nodes {
		want := NodePlan{ID: n.ID, Name: n.Name, Zone: n.Zone, Weight: 1, Fate: Stays, Before: 64, After: 32, Fair: 32}
		if n.Name >= "n3" {
			want.Fate, want.Before, want.PlainGets = Joins, 0, 320
		}
		if n != want {
			t.Errorf("\n got %+v\nwant %+v", n, want)
		}
	}
	next, err := p.Commit(h, Version{0, 2}, 1003) // it was fixed later than planned
	if err != nil || next.At(1002) != h.At(0) || next.At(1003).owned(six[5].ID) != 32 || next.Version() != (Version{0, 2}) {
		t.Errorf("committed: %v", err)
	}
	if len(next.PlainSources(Partition{})) != 3 {
		t.Error("the old nodes are no sources of plain data")
	}
}

func TestPlanToShrink(t *testing.T) {
	six, h := grown(t, "aabbcc", 6)
	p := mustPlan(t, h, Wanted{Nodes: six[:5], Bits: 6, N: 3, From: 1000}, tenDays(1000))
	// Zone c is left with one node of five: it takes all of the leaver's places.
	if p.TimedMoves != 240*3200 || p.TimedStays != 240*16000 || p.node("n5").Fate != Leaves || p.node("n4").TimedGets != 240*3200 {
		t.Errorf("timed: %d bytes move, %d stay; %+v", p.TimedMoves, p.TimedStays, p.node("n4"))
	}
	if len(p.Past) != 1 || p.Past[0] != (PastChange{760, 1000, Leaving, six[5].ID, 32, 1}) {
		t.Errorf("past: %+v", p.Past)
	}
	next, err := p.Commit(h, Version{0, 2}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for part := range next.At(999).Partitions() {
		moved := h.At(999).Owns(six[5].ID, part)
		if got := slices.Contains(next.Sources(999, part), six[5].ID); got != moved || next.At(999).Owns(six[5].ID, part) {
			t.Fatalf("%v: the leaver is a source: %v, it owned: %v", part, got, moved)
		}
	}
	if h.At(759) != next.At(759) {
		t.Error("expired slots were amended")
	}
}

// A replacement takes exactly the places of the one it replaces.
func TestPlanToReplace(t *testing.T) {
	six, h := grown(t, "aabbcc", 6)
	newcomer := testNode(9, "c", 1)
	w := Wanted{Nodes: append(slices.Clone(six[:5]), newcomer), Bits: 6, N: 3, From: 1000, Swaps: []Swap{{six[5].ID, newcomer.ID}}, Lost: []NodeID{six[5].ID}}
	p := mustPlan(t, h, w, tenDays(1000))
	if p.TimedMoves != 240*3200 || p.node("n9").TimedGets != p.TimedMoves || p.node("n9").After != 32 || p.node("n5").Fate != IsLost {
		t.Errorf("%d bytes move; %+v", p.TimedMoves, p.node("n9"))
	}
	for _, c := range p.Changes {
		if !slices.Equal(slices.DeleteFunc(slices.Clone(c.Before), func(id NodeID) bool { return id == six[5].ID }),
			slices.DeleteFunc(slices.Clone(c.After), func(id NodeID) bool { return id == newcomer.ID })) {
			t.Fatalf("%v: others moved as well", c.Partition)
		}
	}
	next, _ := p.Commit(h, Version{0, 2}, 1000)
	for part := range next.At(999).Partitions() {
		if len(next.Sources(999, part)) != 0 || len(next.PlainSources(part)) != 0 {
			t.Fatal("a lost node is a source")
		}
	}
}

// Another number of partitions: they nest, and only owners that change count.
func TestPlanOfOtherBits(t *testing.T) {
	six, h := grown(t, "aabbcc", 6)
	finer := mustPlan(t, h, Wanted{Nodes: six, Bits: 8, N: 3, From: 1000}, tenDays(1000))
	if finer.PlainMoves != 0 || finer.TimedMoves != 0 || finer.PartitionsOf != [2]int{64, 256} || finer.node("n0").After != 128 {
		t.Errorf("finer: %d plain bytes move; %+v", finer.PlainMoves, finer.node("n0"))
	}
	next, _ := finer.Commit(h, Version{0, 2}, 1000)
	coarser := mustPlan(t, next, Wanted{Nodes: six, Bits: 6, N: 3, From: 1001}, tenDays(1001))
	if coarser.PlainMoves > 192 { // a tenth of 1920
		t.Errorf("back to what it was: %d plain bytes of 1920 move", coarser.PlainMoves)
	}
	for _, c := range coarser.Changes {
		if c.Partition.Bits != 8 {
			t.Fatalf("a change of %v", c.Partition)
		}
	}
}

func TestPlanFills(t *testing.T) {
	one, h := grown(t, "a", 4)
	three := append(one, equalNodes("-bc")...)
	p := mustPlan(t, h, Wanted{Nodes: three, Bits: 4, N: 3, From: 1000, Fill: true}, tenDays(1000))
	if p.TimedMoves != 2*240*6400 || p.TimedStays != 240*6400 || len(p.Past) != 2 || p.OwnersOf != [2]int{1, 3} {
		t.Errorf("%d bytes move, %d stay; %+v", p.TimedMoves, p.TimedStays, p.Past)
	}
}

// What cannot hold is said, in a sentence each.
func TestPlanShortfalls(t *testing.T) {
	three, h := grown(t, "abc", 4)
	p := mustPlan(t, h, Wanted{Nodes: three[:2], Bits: 4, N: 3, From: 1000}, tenDays(1000))
	want := []string{"copies: 2 nodes cannot hold 3 copies; add 1",
		`copies: no other node can take 16 of the places of node "n2": all of the 2 others own these partitions already; add a node`}
	if got := fmt.Sprint(p.Short); got != fmt.Sprint(want) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestPlanRefuses(t *testing.T) {
	three, h := grown(t, "abc", 4)
	w := Wanted{Nodes: three, Bits: 4, N: 3, From: 1000}
	change := func(f func(w *Wanted)) Wanted {
		v := w
		v.Nodes = slices.Clone(w.Nodes)
		f(&v)
		return v
	}
	for name, c := range map[string]struct {
		w    Wanted
		d    Data
		want string
	}{
		"the slot of the newest ring": {change(func(w *Wanted) { w.From = 0 }), Data{}, "plan: from slot 0, the newest ring counts from slot 0"},
		"no nodes":                    {change(func(w *Wanted) { w.Nodes = nil }), Data{}, "plan: claim: 0 nodes, want 1 to 4096"},
		"no owners":                   {change(func(w *Wanted) { w.N = 0 }), Data{}, "plan: claim: 0 owners a partition"},
		"a lost member":               {change(func(w *Wanted) { w.Lost = []NodeID{three[0].ID} }), Data{}, "is declared lost and wanted as a member"},
		"a swap of who stays":         {change(func(w *Wanted) { w.Swaps = []Swap{{three[0].ID, three[1].ID}} }), Data{}, "the first must leave, once, and the second be a member"},
		"a swap for a stranger":       {change(func(w *Wanted) { w.Nodes = w.Nodes[:2]; w.Swaps = []Swap{{three[2].ID, NodeID{9}}} }), Data{}, "the first must leave"},
		"bytes of nowhere":            {w, Data{Timed: []Bytes{{Partition: Partition{1, 2}}}}, "bytes of a partition of 1 bits with prefix 2"},
		"a gap nowhere":               {w, Data{Gaps: []Gap{{Partition: Partition{17, 0}}}}, "a gap in a partition of 17 bits"},
	} {
		if p, err := NewPlan(h, c.w, c.d); p != nil || !errors.Is(err, ErrRing) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	p := mustPlan(t, h, w, tenDays(1000))
	if _, err := p.Commit(h, Version{0, 2}, 999); !errors.Is(err, ErrRing) {
		t.Errorf("committed before its slot: %v", err)
	}
	if _, err := p.Commit(h, Version{0, 1}, 1000); !errors.Is(err, ErrRing) {
		t.Errorf("committed under the same version: %v", err)
	}
}

// The last copy of anything is not given up, unless the loss is accepted.
func TestPlanKeepsTheLastCopy(t *testing.T) {
	nodes, h := grown(t, "abcd", 2)
	all := func(names ...string) (ids []NodeID) {
		for _, node := range nodes {
			if slices.Contains(names, node.Name) {
				ids = append(ids, node.ID)
			}
		}
		return ids
	}
	lose := func(names ...string) Wanted {
		w := Wanted{Bits: 2, N: 3, From: 1000, Lost: all(names...)}
		for _, node := range nodes {
			if !slices.Contains(names, node.Name) {
				w.Nodes = append(w.Nodes, node)
			}
		}
		return w
	}
	d := tenDays(1000)
	if _, err := NewPlan(h, lose("n1", "n2"), d); err != nil {
		t.Errorf("two of four with three copies: %v", err)
	}
	_, err := NewPlan(h, lose("n0", "n1", "n2"), d)
	loss, ok := errors.AsType[*LastCopyError](err)
	if !ok || loss.Slots != 240 || loss.FirstSlot != 760 || loss.LastSlot != 999 || loss.TimedPartitions != 1 || loss.TimedBytes != 240*1600 || loss.PlainPartitions != 1 || loss.PlainBytes != 160 {
		t.Fatalf("three of four: %v, %+v", err, loss)
	}
	const want = `plan: without "n0", "n1", "n2" nobody has a complete copy of timed data in 1 partitions, of 240 slots between slot 760 and slot 999 (384000 bytes known) and of plain data in 1 partitions (160 bytes known): bring it back, let the others complete theirs first, or accept the loss`
	if err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	accepted := lose("n0", "n1", "n2")
	accepted.AcceptLoss = true
	if p := mustPlan(t, h, accepted, d); p.Loss == nil || *p.Loss.copyWithoutNames() != *loss.copyWithoutNames() {
		t.Errorf("accepted: %+v", p.Loss)
	}
	// A copy that is not complete is none.
	d.Gaps = []Gap{{Node: nodes[0].ID, From: 800, Until: 810}, {Node: nodes[3].ID, From: 805, Until: 900, Partition: Partition{0, 0}}}
	_, err = NewPlan(h, lose("n1", "n2"), d)
	if loss, ok := errors.AsType[*LastCopyError](err); !ok || loss.FirstSlot != 800 && loss.FirstSlot != 805 || loss.PlainPartitions != 0 {
		t.Errorf("with gaps: %v", err)
	}
	// Newcomers that are not complete do not count: the old nodes are needed.
	three, h := grown(t, "abc", 2)
	six := append(three, equalNodes("---abc")...)
	next, _ := mustPlan(t, h, Wanted{Nodes: six, Bits: 2, N: 3, From: 1000}, Data{Oldest: 760}).Commit(h, Version{0, 2}, 1000)
	w := Wanted{Nodes: six[3:], Bits: 2, N: 3, From: 1001, Lost: []NodeID{six[0].ID, six[1].ID, six[2].ID}}
	_, err = NewPlan(next, w, Data{Oldest: 1000})
	if loss, ok := errors.AsType[*LastCopyError](err); !ok || loss.PlainPartitions == 0 {
		t.Errorf("the old ones, lost too early: %v", err)
	}
	w.Lost = nil // but they may leave: they are sources
	if _, err = NewPlan(next, w, Data{Oldest: 760}); err != nil {
		t.Errorf("the old ones leave: %v", err)
	}
}

func (e *LastCopyError) copyWithoutNames() *struct{ a, b, c, d, e, f int64 } {
	return &struct{ a, b, c, d, e, f int64 }{e.Slots, e.FirstSlot, e.LastSlot, int64(e.TimedPartitions), int64(e.TimedBytes), int64(e.PlainBytes)}
}

// The order of what is given does not matter, and all that is given comes out
// of the sums.
func TestPlanIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, 8)
		first, _ := mustClaim(t, nodes[:1+len(nodes)/2], rapid.Uint8Range(0, 6).Draw(t, "bits"), 3, nil)
		h, _ := NewHistory(Version{0, 1}, 3600, first)
		d := tenDays(1000)
		d.Timed = append(d.Timed, Bytes{999, Partition{3, 5}, rapid.Uint64Range(0, 1<<40).Draw(t, "bytes")}, Bytes{998, Partition{9, 5}, 77})
		w := Wanted{Nodes: nodes[len(nodes)/3:], Bits: rapid.Uint8Range(0, 6).Draw(t, "new bits"), N: 3, From: 1000}
		p, err := NewPlan(h, w, d)
		if err != nil {
			if _, ok := errors.AsType[*LastCopyError](err); ok {
				return
			}
			t.Fatal(err)
		}
		w.Nodes = rapid.Permutation(w.Nodes).Draw(t, "order")
		again, _ := NewPlan(h, w, d)
		a, err := json.Marshal(p)
		b, _ := json.Marshal(again)
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("%v: the order of the nodes changed the plan:\n%s\n%s", err, a, b)
		}
		var timed, gets uint64
		for _, b := range d.Timed {
			timed += b.Bytes * uint64(first.N())
		}
		for _, n := range p.Nodes {
			gets += n.PlainGets + n.TimedGets
		}
		if p.TimedMoves+p.TimedStays > timed || gets != p.TimedMoves+p.PlainMoves {
			t.Fatalf("%d bytes move and %d stay of %d; nodes get %d, %d of them plain", p.TimedMoves, p.TimedStays, timed, gets, p.PlainMoves)
		}
		next, err := p.Commit(h, Version{0, 2}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if next.At(1000) != p.ring {
			t.Fatal("the new ring does not count")
		}
		for slot := int64(1000); slot < 1002; slot++ {
			for _, node := range next.At(slot).Nodes() {
				if !slices.ContainsFunc(w.Nodes, func(n Node) bool { return n.ID == node.ID }) {
					t.Fatal("a leaver is a member of the new ring")
				}
			}
		}
	})
}

// What was amended for slots of the new ring ends with the ring before, and is
// no part of the plan.
func TestPlanAfterAmendments(t *testing.T) {
	nodes := equalNodes("abcde")
	r, _ := mustClaim(t, nodes[:4], 2, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h, _, err := h.Replace(Version{0, 2}, Replacement{Out: nodes[0].ID, Reason: Down, From: 5, Until: Forever, Unwritten: 7, Candidates: nodes[1:4]})
	if err != nil || h.AmendmentCount() != 2 {
		t.Fatal(err, h.AmendmentCount())
	}
	p, err := NewPlan(h, Wanted{Nodes: nodes, Bits: 2, N: 3, From: 7}, Data{})
	if err != nil || len(p.Past) != 0 {
		t.Errorf("joined: %v, past %v", err, p)
	}
	p, err = NewPlan(h, Wanted{Nodes: nodes[:3], Bits: 2, N: 3, From: 7}, Data{})
	if err != nil || len(p.Past) == 0 || p.Past[0].Out != nodes[3].ID || p.Past[0].Reason != Leaving {
		t.Errorf("left: %v, past %v", err, p)
	}
}

func TestWhoIsNeeded(t *testing.T) {
	nodes := equalNodes("abcd")
	r, _ := mustClaim(t, nodes[:3], 2, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	plan, err := NewPlan(h, Wanted{Nodes: nodes[1:], Bits: 2, N: 3, From: 9}, Data{Oldest: 2})
	if err != nil {
		t.Fatal(err)
	}
	if h, err = plan.Commit(h, Version{0, 2}, 9); err != nil || h.NewestFrom() != 9 {
		t.Fatal(err, h.NewestFrom())
	}
	out, in := nodes[0].ID, nodes[3].ID
	says := func(what string, serves, names bool) {
		if got := h.Serves(out, 2); got != serves {
			t.Errorf("%s: it serves: %v", what, got)
		}
		if got := h.Names(out); got != names {
			t.Errorf("%s: it is named: %v", what, got)
		}
	}
	says("left", true, true)
	if h.Serves(NodeID{99}, 0) || h.Names(NodeID{99}) || !h.Serves(in, 0) {
		t.Error("a stranger serves, or a member does not")
	}
	onlyPlain, _ := h.Complete(Version{0, 3}, Completion{Node: in, Until: Forever})
	if !onlyPlain.Serves(out, 2) {
		t.Error("a source of plain data is not needed")
	}
	for _, id := range h.PlainNewcomers(Partition{}) {
		h, _ = h.Complete(later(h), Completion{Node: id, Plain: true})
	}
	says("plain data is complete", true, true)
	before := h
	h, _ = h.Complete(later(h), Completion{Node: in, Until: Forever})
	if h.Same(before) || !h.Same(h.Versioned(Version{5, 5})) {
		t.Error("changed and the same, or the same and changed")
	}
	if again, _ := h.Complete(later(h), Completion{Node: in, Until: Forever}); !again.Same(h) {
		t.Error("completed twice is another history")
	}
	says("all is complete", false, true)
	if !h.Serves(out, 1) {
		t.Error("it owns slot 1")
	}
	h, _ = h.Trim(later(h), 9)
	says("trimmed", false, false)
}

// TestTakesAndLosesInOneChange: a node leaves, and a member that is down takes some of
// its places of the past. It loses them of the open slot and of those until the new
// ring's at once. Of these it need not have anything when it is back, and they need not
// wait for it: who has taken them makes up for the one that left.
func TestTakesAndLosesInOneChange(t *testing.T) {
	const oldest, open, boundary = 760, 1000, 1024
	nodes := equalNodes("abcabc")
	r, _ := mustClaim(t, nodes, 4, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	d := Data{Oldest: oldest, TTLSeconds: 2400}
	for slot := int64(oldest); slot <= open; slot++ {
		d.Timed = append(d.Timed, Bytes{Slot: slot, Bytes: 16 << 10})
	}
	p, err := NewPlan(h, Wanted{Nodes: nodes[1:], Bits: 4, N: 3, From: boundary}, d)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = p.Commit(h, later(h), boundary); err != nil {
		t.Fatal(err)
	}
	away := nodes[3]
	taken := len(h.Duties(away.ID))
	if h, _, err = h.Replace(later(h), Replacement{Out: away.ID, Reason: Down, From: open, Until: Forever, Unwritten: open + 2,
		Candidates: slices.Concat(nodes[1:3], nodes[4:])}); err != nil {
		t.Fatal(err)
	}
	gets, wasted, places := 0, 0, 0
	for _, c := range h.Duties(away.ID) {
		for slot := c.From; slot < c.Until && slot <= open; slot++ {
			if c.Plain {
				continue
			}
			gets += 1 << 10
			if !h.At(slot).Owns(away.ID, c.Partition) {
				wasted += 1 << 10
			}
		}
	}
	if taken == 0 || gets == 0 || wasted > 0 {
		t.Errorf("of %d duties, %d bytes are to be had, %d of them of what it does not own any more", taken, gets, wasted)
	}
	for p := range r.OwnedBy(nodes[0].ID) {
		if !h.At(oldest).Owns(away.ID, p) {
			continue
		}
		in := h.Newcomers(open, p)[0]
		done, err := h.Complete(later(h), Completion{Node: in, Partition: p, From: oldest, Until: boundary})
		if err != nil {
			t.Fatal(err)
		}
		if left := done.Sources(open, p); len(left) > 0 {
			t.Errorf("%v: %s took the place and is complete, and %s are asked still", p, h.names([]NodeID{in}), h.names(left))
		}
		if left := done.Sources(open-1, p); !slices.Contains(left, nodes[0].ID) {
			t.Errorf("%v: the slot before has the sources %s", p, h.names(left))
		}
		places++
	}
	if places == 0 {
		t.Error("it took no place")
	}
}
