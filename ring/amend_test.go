package ring

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ids returns the names of nodes, in their order.
func (h *History) names(ids []NodeID) string {
	var names []string
	for _, id := range ids {
		names = append(names, strings.Trim(h.nameOf(id), `"`))
	}
	return strings.Join(names, " ")
}

func TestReplace(t *testing.T) {
	nodes := equalNodes("abcd")
	r, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	whole := Partition{}
	before := r.Owners(whole)
	h2, short, err := h.Replace(Version{0, 2}, Replacement{Out: nodes[1].ID, Reason: Leaving, From: 3, Until: 9, Unwritten: 5, Candidates: nodes})
	if err != nil || short != nil {
		t.Fatal(err, short)
	}
	after := slices.Clone(before)
	after[slices.Index(after, nodes[1].ID)] = nodes[3].ID
	for _, c := range []struct {
		slot               int64
		owners             []NodeID
		sources, newcomers string
	}{
		{2, before, "", ""}, {3, after, "n1", "n3"}, {4, after, "n1", "n3"}, {5, after, "", ""}, {8, after, "", ""}, {9, before, "", ""},
	} {
		if got := h2.At(c.slot).Owners(whole); !slices.Equal(got, c.owners) {
			t.Errorf("slot %d is owned by %s, want %s", c.slot, h2.names(got), h2.names(c.owners))
		}
		if got := h2.names(h2.Sources(c.slot, whole)); got != c.sources {
			t.Errorf("slot %d: sources %q, want %q", c.slot, got, c.sources)
		}
		if got := h2.names(h2.Newcomers(c.slot, whole)); got != c.newcomers {
			t.Errorf("slot %d: newcomers %q, want %q", c.slot, got, c.newcomers)
		}
		if _, standsIn := h2.At(c.slot).Node(nodes[1].ID); standsIn != slices.Contains(c.owners, nodes[1].ID) {
			t.Errorf("slot %d: the node replaced is a member: %v", c.slot, standsIn)
		}
	}
	if !slices.Equal(h2.Newest().Owners(whole), before) {
		t.Error("an amendment changed who owns plain data")
	}
	if !slices.Equal(h.At(4).Owners(whole), before) {
		t.Error("an amendment changed the history it was made from")
	}
}

// Where too many owners do not answer the last of them keep their places, and
// a return of one of them is not safe.
func TestReplaceWhereOthersAreStale(t *testing.T) {
	nodes := equalNodes("abcde")
	whole := Partition{}
	r, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	down := func(out int, most int, stale ...int) []Shortfall {
		x := Replacement{Out: nodes[out].ID, Reason: Down, From: 3, Until: Forever, Unwritten: 5, Candidates: nodes[3:], MostStale: most}
		for _, i := range stale {
			x.Stale = append(x.Stale, nodes[i].ID)
		}
		next, short, err := h.Replace(later(h), x)
		if err != nil {
			t.Fatal(err)
		}
		h = next
		return short
	}
	sorted := func() string {
		names := strings.Fields(h.names(h.At(9).Owners(whole)))
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	const held = `[copies: 2 of the places of node "n0" stay with it: more than 1 of the owners of these partitions do not answer; bring one of them back, or remove it as lost]`
	if short := fmt.Sprint(down(0, 1, 0, 1)); short != held || sorted() != "n0 n1 n2" {
		t.Errorf("two are silent: owners %s\n got %s\nwant %s", sorted(), short, held)
	}
	if short := down(0, 0, 0); len(short) != 1 || sorted() != "n0 n1 n2" {
		t.Errorf("one of them could acknowledge alone: owners %s, %v", sorted(), short)
	}
	if short := down(0, 1, 0); short != nil || sorted() != "n1 n2 n3" && sorted() != "n1 n2 n4" {
		t.Errorf("one is silent: owners %s, %v", sorted(), short)
	}
	// n0 was an owner, and is down still: it counts as well.
	if short := down(1, 1, 0, 1); len(short) != 1 || !strings.Contains(sorted(), "n1") {
		t.Errorf("then another one: owners %s, %v", sorted(), short)
	}
	if places, unsafe := h.Returning(nodes[0].ID, 9, nil, 1); places != 1 || unsafe != 0 {
		t.Errorf("to return: %d places, %d not safe", places, unsafe)
	}
	if _, unsafe := h.Returning(nodes[0].ID, 9, []NodeID{nodes[1].ID}, 1); unsafe != 0 {
		t.Error("not safe to return although one alone is stale")
	}
	if _, unsafe := h.Returning(nodes[0].ID, 9, []NodeID{nodes[1].ID, nodes[2].ID}, 1); unsafe != 1 {
		t.Error("safe to return although two are stale")
	}
	if places, _ := h.Returning(nodes[1].ID, 9, nil, 1); places != 0 {
		t.Errorf("a node that owns all it did returns to %d places", places)
	}
	if h, _ = h.Return(later(h), nodes[0].ID, 7); sorted() != "n0 n1 n2" {
		t.Errorf("back: owners %s", sorted())
	}
	if places, _ := h.Returning(nodes[0].ID, 7, nil, 1); places != 0 {
		t.Errorf("still to return: %d places", places)
	}
	// A ring of one owner: it could acknowledge alone, whatever is wanted.
	alone, _ := mustClaim(t, nodes[:1], 0, 1, nil)
	h, _ = NewHistory(Version{0, 1}, 10, alone)
	if down(0, 1, 0); sorted() != "n0" {
		t.Errorf("the only owner: owners %s", sorted())
	}
}

// later returns the version after that of h.
func later(h *History) Version {
	v := h.Version()
	v.Index++
	return v
}

// Where all others are owners already, nobody can take the place.
func TestReplaceWithNobody(t *testing.T) {
	nodes := equalNodes("abc")
	r, _ := mustClaim(t, nodes, 2, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h2, short, err := h.Replace(Version{0, 2}, Replacement{Out: nodes[1].ID, Reason: Down, From: 3, Until: Forever, Unwritten: 4, Candidates: nodes})
	const want = `[copies: no other node can take 8 of the places of node "n1": all of the 2 others own these partitions already; add a node]`
	if err != nil || fmt.Sprint(short) != want {
		t.Errorf("%v\n got %v\nwant %s", err, short, want)
	}
	if len(slices.Collect(h2.Amendments())) != 0 || h2.At(5) != r {
		t.Error("something was amended")
	}
}

func TestReplaceRefuses(t *testing.T) {
	nodes := equalNodes("abcd")
	h, _ := testHistory(t, 5)
	for name, r := range map[string]Replacement{
		"nobody":         {Reason: Down, From: 1, Until: 2},
		"no reason":      {Out: nodes[0].ID, From: 1, Until: 2},
		"a fill":         {Out: nodes[0].ID, Reason: Filled, From: 1, Until: 2},
		"no slots":       {Out: nodes[0].ID, Reason: Down, From: 2, Until: 2},
		"a bad newcomer": {Out: nodes[0].ID, Reason: Down, From: 1, Until: 2, Candidates: []Node{{ID: NodeID{1}}}},
	} {
		if got, _, err := h.Replace(Version{0, 9}, r); got != nil || !errors.Is(err, ErrRing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := h.Fill(Version{0, 9}, 17, 0, 5, 5, nodes); !errors.Is(err, ErrRing) {
		t.Errorf("17 owners: %v", err)
	}
	if _, err := h.Complete(Version{0, 1}); !errors.Is(err, ErrRing) {
		t.Errorf("the same version: %v", err)
	}
}

// A successor comes from a zone that has no copy, if there is one; the places
// of one node are spread by weight; a replacement gets them all.
func TestSuccessors(t *testing.T) {
	nodes := equalNodes("aabbcc")
	r, _ := mustClaim(t, nodes, 8, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	spare := testNode(6, "b", 2)
	replace := func(first NodeID, candidates ...Node) (a *Amendment) {
		h2, _, err := h.Replace(Version{0, 2}, Replacement{Out: nodes[0].ID, Reason: Replaced, From: 0, Until: 4, Unwritten: 4, Candidates: candidates, First: first})
		if err != nil {
			t.Fatal(err)
		}
		for a = range h2.Amendments() {
		}
		return a
	}
	all := append([]Node{spare}, nodes...)
	for _, m := range replace(NodeID{}, all...).Moves {
		if m.In != nodes[1].ID { // the other one of zone a
			t.Fatalf("partition %x goes to another zone", m.Prefix)
		}
	}
	if a := replace(spare.ID, all...); len(a.Moves) != 128 || len(a.Nodes) != 1 || a.Nodes[0].ID != spare.ID {
		t.Errorf("the replacement got %d places of 128, others too: %v", len(a.Moves), a.Nodes)
	}
	got := map[NodeID]int{}
	for _, m := range replace(NodeID{}, testNode(7, "d", 1), testNode(8, "d", 3)).Moves {
		got[m.In]++
	}
	if heavy := got[testNode(8, "d", 3).ID]; heavy != 96 {
		t.Errorf("the node of weight 3 of 4 got %d of 128 places", heavy)
	}
}

func TestFill(t *testing.T) {
	nodes := equalNodes("abcd")
	r, _ := mustClaim(t, nodes[:1], 4, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h2, short, err := h.Fill(Version{0, 2}, 3, 0, 7, 7, nodes)
	if err != nil || short != nil {
		t.Fatal(err, short)
	}
	for p := range r.Partitions() {
		if h2.At(6).N() != 3 || len(h2.Newcomers(6, p)) != 2 || len(h2.Sources(6, p)) != 0 || h2.At(6).Owners(p)[0] != nodes[0].ID {
			t.Fatalf("%v: owners %s", p, h2.names(h2.At(6).Owners(p)))
		}
	}
	if h2.At(7).N() != 1 {
		t.Error("filled in other slots than asked for")
	}
	if _, short, _ = h.Fill(Version{0, 2}, 3, 0, 7, 7, nodes[:2]); fmt.Sprint(short) != "[copies: rings of the past are filled up to 2 owners of 3: there are 2 nodes for it]" {
		t.Errorf("with two nodes: %v", short)
	}
}

// A successor that is replaced in turn before it was complete leaves its own
// source behind until the last in the row is complete.
func TestChainOfSuccessors(t *testing.T) {
	nodes := equalNodes("xxx")
	whole := Partition{}
	r, _ := mustClaim(t, nodes[:1], 0, 1, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h, _, _ = h.Replace(Version{0, 2}, Replacement{Out: nodes[0].ID, Reason: Leaving, From: 0, Until: 9, Unwritten: 9, Candidates: nodes[1:2]})
	h, _, _ = h.Replace(Version{0, 3}, Replacement{Out: nodes[1].ID, Reason: Leaving, From: 0, Until: 5, Unwritten: 9, Candidates: nodes[2:]})
	if got := h.Duties(nodes[1].ID); len(got) != 1 || got[0].From != 5 || got[0].Until != 9 {
		t.Errorf("replaced until slot 5, it has to have %v", got)
	}
	h, _, err := h.Replace(Version{0, 4}, Replacement{Out: nodes[1].ID, Reason: Leaving, From: 5, Until: 9, Unwritten: 9, Candidates: nodes[2:]})
	if err != nil || h.names(h.Sources(3, whole)) != "n0 n1" {
		t.Fatalf("%v, sources %s", err, h.names(h.Sources(3, whole)))
	}
	h, _ = h.Complete(Version{0, 5}, Completion{Node: nodes[2].ID, From: 0, Until: 5})
	if got := h.names(h.Sources(3, whole)) + "; " + h.names(h.Sources(6, whole)); got != "; n0 n1" {
		t.Errorf("half way: sources %s", got)
	}
	h, _ = h.Complete(Version{0, 6}, Completion{Node: nodes[2].ID, From: 5, Until: Forever})
	if got := h.names(h.Sources(3, whole)) + h.names(h.Sources(6, whole)); got != "" {
		t.Errorf("at the end: sources %s", got)
	}
}

// A node that returns takes its places back although its successor was
// replaced meanwhile, and takes that of another that was given to it.
func TestReturnUnderLaterAmendments(t *testing.T) {
	nodes := equalNodes("xxxxx")
	whole := Partition{}
	r, _ := mustClaim(t, nodes[:2], 0, 2, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	down := func(out, in int) {
		v := h.Version()
		v.Index++
		var err error
		h, _, err = h.Replace(v, Replacement{Out: nodes[out].ID, Reason: Down, From: 3, Until: Forever, Unwritten: 4, Candidates: nodes[in : in+1]})
		if err != nil {
			t.Fatal(err)
		}
	}
	down(0, 2) // n0 to n2
	down(2, 3) // its place on to n3
	down(1, 0) // n1's to n0, which is down itself: nobody should, but may
	h, err := h.Return(Version{0, 9}, nodes[0].ID, 6)
	if err != nil {
		t.Fatal(err)
	}
	sorted := func(slot int64) string {
		names := strings.Fields(h.names(h.At(slot).Owners(whole)))
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for slot, want := range map[int64]string{2: "n0 n1", 3: "n0 n3", 5: "n0 n3", 6: "n0 n2", 100: "n0 n2"} {
		if got := sorted(slot); got != want {
			t.Errorf("slot %d: owners %s, want %s", slot, got, want)
		}
	}
}

// Plain data of a ring with other bits: sources and newcomers where hashes are.
func TestPlainHandover(t *testing.T) {
	nodes := equalNodes("xxx")
	coarse, _ := newRing(0, 1, sortedNodes(nodes[:1]), []uint16{0})
	two := sortedNodes(nodes[:2])
	first, second := uint16(0), uint16(1)
	if two[0].ID != nodes[0].ID {
		first, second = 1, 0
	}
	fine, _ := newRing(1, 1, two, []uint16{first, second})
	h, _ := NewHistory(Version{0, 1}, 10, coarse)
	h, err := h.Append(Version{0, 2}, 5, fine)
	if err != nil {
		t.Fatal(err)
	}
	say := func(p Partition) string { return h.names(h.PlainSources(p)) + ">" + h.names(h.PlainNewcomers(p)) }
	if got := say(Partition{1, 0}) + " " + say(Partition{1, 1}) + " " + say(Partition{}); got != "> n0>n1 n0>n1" {
		t.Errorf("split: %s", got)
	}
	back, _ := h.Append(Version{0, 3}, 6, coarse) // n1 was never complete, and may have taken puts
	h = back
	if got := say(Partition{2, 0}) + " " + say(Partition{2, 2}); got != "> n1>n0" {
		t.Errorf("and back: %s", got)
	}
	h, _ = h.Complete(Version{0, 4}, Completion{Node: nodes[0].ID, Plain: true})
	if got := say(Partition{}); got != ">" || !h.plain.empty() || h.plain.bits != 0 {
		t.Errorf("complete: %s", got)
	}
	lost, _ := back.DeclareLost(Version{0, 4}, nodes[1].ID)
	if len(lost.PlainSources(Partition{})) != 0 || len(lost.PlainNewcomers(Partition{})) != 1 {
		t.Error("a lost node is a source, or its successor complete")
	}
}

// Fewer copies: a put that two of three have need not be on each that stays.
func TestPlainHandoverToFewer(t *testing.T) {
	nodes := equalNodes("xxx")
	three, _ := mustClaim(t, nodes, 0, 3, nil)
	two, _ := mustClaim(t, nodes, 0, 2, three)
	h, _ := NewHistory(Version{0, 1}, 10, three)
	h, err := h.Append(Version{0, 2}, 5, two)
	if err != nil || len(h.PlainSources(Partition{})) != 1 || len(h.PlainNewcomers(Partition{})) != 2 {
		t.Fatalf("%v: sources %v, newcomers %v", err, h.PlainSources(Partition{}), h.PlainNewcomers(Partition{}))
	}
	for i, id := range h.PlainNewcomers(Partition{}) {
		h, _ = h.Complete(Version{0, uint64(3 + i)}, Completion{Node: id, Plain: true})
		if got := len(h.PlainSources(Partition{})); got != 1-i {
			t.Errorf("%d sources after %d are complete", got, i+1)
		}
	}
}

// A world is a history and what nodes really hold, piece by piece.
type world struct {
	h     *History
	nodes []Node
	gone  map[NodeID]bool // declared lost, or left
	down  map[NodeID]bool
	now   int64 // the open slot
	timed map[int64][]map[NodeID]bool
	plain []map[NodeID]bool
}

const (
	pieceBits = 3 // the most bits of any ring
	pieces    = 1 << pieceBits
)

func piece(i int) Partition { return Partition{pieceBits, uint32(i)} }

func (w *world) version() Version {
	v := w.h.Version()
	v.Index++
	return v
}

func (w *world) members() (nodes []Node) {
	for _, node := range w.nodes {
		if !w.gone[node.ID] && !w.down[node.ID] {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func (w *world) lost() []NodeID { return slices.Collect(maps.Keys(w.gone)) }

// write writes the open slot: all of its owners have it.
func (w *world) write() {
	r := w.h.At(w.now)
	full := make([]map[NodeID]bool, pieces)
	for i := range full {
		full[i] = map[NodeID]bool{}
		for _, id := range r.row(uint32(i) >> (pieceBits - r.bits)) {
			full[i][id] = !w.gone[id]
		}
		maps.DeleteFunc(full[i], func(_ NodeID, has bool) bool { return !has })
	}
	w.timed[w.now] = full
}

// check demands of every piece of data that owners that are no newcomers have
// it, and that somebody who has it is an owner or a source.
func (w *world) check(t *rapid.T) {
	one := func(what string, i int, owners, newcomers, sources []NodeID, full map[NodeID]bool) {
		somebody := false
		for _, id := range owners {
			if w.gone[id] { // it could not be replaced
				continue
			}
			if !slices.Contains(newcomers, id) && !full[id] && len(full) > 0 {
				t.Fatalf("%s, piece %d: %s counts as complete and has nothing", what, i, w.h.nameOf(id))
			}
			if slices.Contains(sources, id) {
				t.Fatalf("%s, piece %d: the owner %s is a source", what, i, w.h.nameOf(id))
			}
			somebody = somebody || full[id]
		}
		for _, id := range sources {
			if w.gone[id] {
				t.Fatalf("%s, piece %d: %s is lost and a source", what, i, w.h.nameOf(id))
			}
			somebody = somebody || full[id]
		}
		if len(full) > 0 && !somebody { // else all who took it are lost
			t.Fatalf("%s, piece %d: nobody who has it is asked: owners %s, sources %s", what, i, w.h.names(owners), w.h.names(sources))
		}
	}
	for slot, full := range w.timed {
		r := w.h.At(slot)
		for i := range full {
			p := Partition{r.bits, uint32(i) >> (pieceBits - r.bits)}
			one(fmt.Sprint("slot ", slot), i, r.Owners(p), w.h.Newcomers(slot, p), w.h.Sources(slot, p), full[i])
		}
	}
	r := w.h.Newest()
	for i, full := range w.plain {
		one("plain", i, r.row(uint32(i)>>(pieceBits-r.bits)), w.h.PlainNewcomers(piece(i)), w.h.PlainSources(piece(i)), full)
	}
	b, _ := w.h.MarshalBinary()
	again, err := UnmarshalHistory(b)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := again.MarshalBinary(); !bytes.Equal(b, c) {
		t.Fatal("decodes to another history")
	}
}

// lose takes from the node all that it had.
func (w *world) lose(node NodeID) {
	w.gone[node] = true
	for _, full := range w.timed {
		for i := range full {
			delete(full[i], node)
		}
	}
	for i := range w.plain {
		delete(w.plain[i], node)
	}
}

// get gives the node what others have of a piece: nothing, if all are lost that
// had it.
func (w *world) get(full map[NodeID]bool, node NodeID) {
	if len(full) > 0 {
		full[node] = true
	}
}

// lacks reports whether losing the node would lose a piece of anything.
func (w *world) lacks(node NodeID) bool {
	alone := func(full map[NodeID]bool, holders ...[]NodeID) bool {
		for id := range full {
			if id != node && slices.Contains(slices.Concat(holders...), id) {
				return false
			}
		}
		return true
	}
	for slot, full := range w.timed {
		r := w.h.At(slot)
		for i := range full {
			p := Partition{r.bits, uint32(i) >> (pieceBits - r.bits)}
			if alone(full[i], r.Owners(p), w.h.Sources(slot, p)) {
				return true
			}
		}
	}
	for i, full := range w.plain {
		r := w.h.Newest()
		if alone(full, r.row(uint32(i)>>(pieceBits-r.bits)), w.h.PlainSources(piece(i))) {
			return true
		}
	}
	return false
}

// checkStale demands that what a replacement was not to touch is as it was, and
// that all else has changed if anybody could take it.
func (w *world) checkStale(t *rapid.T, before *History, r Replacement) {
	if len(r.Stale) == 0 {
		return
	}
	for slot := r.From; slot < w.now+10; slot++ {
		made, was, is := before.entries[before.entryAt(slot)].ring, before.At(slot), w.h.At(slot)
		for p := range was.Partitions() {
			stale := 0
			for _, id := range r.Stale {
				if made.Owns(id, p) || was.Owns(id, p) {
					stale++
				}
			}
			free := slices.ContainsFunc(r.Candidates, func(n Node) bool { return n.ID != r.Out && !was.Owns(n.ID, p) })
			want := was.Owns(r.Out, p) && free && stale <= r.MostStale && stale < made.N()
			if got := was.Owns(r.Out, p) && !is.Owns(r.Out, p); got != want {
				t.Fatalf("slot %d, %v: %d of the owners are stale, at most %d may be, replaced: %v, want %v", slot, p, stale, r.MostStale, got, want)
			}
		}
	}
}

// Whatever is replaced, returns, fills, completes, is lost or trimmed: nobody
// who lacks something counts as complete, and somebody who has it is asked.
func TestAmendmentsKeepTheData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{gone: map[NodeID]bool{}, down: map[NodeID]bool{}, timed: map[int64][]map[NodeID]bool{}}
		for i := range 6 {
			w.nodes = append(w.nodes, testNode(i, string(rune('a'+i%3)), 1))
		}
		count := rapid.IntRange(1, 4).Draw(t, "nodes at first")
		first, _ := mustClaim(t, w.nodes[:count], rapid.Uint8Range(0, pieceBits).Draw(t, "bits"), rapid.IntRange(1, 3).Draw(t, "n"), nil)
		w.h, _ = NewHistory(Version{0, 1}, 10, first)
		for i := range pieces {
			full := map[NodeID]bool{}
			for _, id := range first.row(uint32(i) >> (pieceBits - first.bits)) {
				full[id] = true
			}
			w.plain = append(w.plain, full)
		}
		w.write()
		any := func() NodeID { return rapid.SampledFrom(w.nodes).Draw(t, "node").ID }
		must := func(h *History, err error) {
			if err != nil {
				t.Fatal(err)
			}
			w.h = h
		}
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"next slot": func(t *rapid.T) {
				w.now++
				w.write()
			},
			"new ring": func(t *rapid.T) {
				members := w.members()
				if len(members) == 0 {
					t.Skip()
				}
				members = members[:rapid.IntRange(1, len(members)).Draw(t, "of them")]
				r, _ := mustClaim(t, members, rapid.Uint8Range(0, pieceBits).Draw(t, "bits"), rapid.IntRange(1, 3).Draw(t, "n"), w.h.Newest())
				from := w.now + 1
				if last := w.h.entries[w.h.Len()-1].from; from <= last {
					from = last + 1
				}
				must(w.h.Append(w.version(), from, r, w.lost()...))
			},
			"down": func(t *rapid.T) {
				id := any()
				if w.gone[id] || w.down[id] {
					t.Skip()
				}
				w.down[id] = true
				r := Replacement{Out: id, Reason: Down, From: w.now, Until: Forever, Unwritten: w.now + 1, Candidates: w.members()}
				if rapid.Bool().Draw(t, "with care") {
					r.Stale, r.MostStale = slices.SortedFunc(maps.Keys(w.down), NodeID.Compare), rapid.IntRange(0, 2).Draw(t, "at most")
				}
				before := w.h
				h, _, err := w.h.Replace(w.version(), r)
				must(h, err)
				w.checkStale(t, before, r)
			},
			"back": func(t *rapid.T) {
				id := any()
				if w.gone[id] || !w.down[id] {
					t.Skip()
				}
				delete(w.down, id)
				must(w.h.Return(w.version(), id, w.now+1))
			},
			"leave or lose": func(t *rapid.T) {
				id, reason := any(), Leaving
				if rapid.Bool().Draw(t, "lost") {
					reason = Lost
				}
				if w.gone[id] || reason == Lost && (w.lacks(id) || len(w.gone) > 2) {
					t.Skip()
				}
				from := rapid.Int64Range(0, w.now).Draw(t, "from")
				first := NodeID{}
				if rapid.Bool().Draw(t, "replaced") {
					first = any()
				}
				if reason == Lost {
					from = 0
				}
				if reason == Lost {
					w.lose(id)
					if members := w.members(); len(members) > 0 && w.h.Newest().owned(id) > 0 {
						r, _ := mustClaim(t, members, w.h.Newest().Bits(), w.h.Newest().N(), w.h.Newest())
						must(w.h.Append(w.version(), max(w.now, w.h.entries[w.h.Len()-1].from)+1, r, w.lost()...))
					}
				}
				before := w.h
				h, short, err := w.h.Replace(w.version(), Replacement{Out: id, Reason: reason, From: from, Until: Forever, Unwritten: w.now + 1, Candidates: w.members(), First: first})
				must(h, err)
				for slot := before.entries[0].from; slot < w.now+10; slot++ {
					was, is := before.At(slot), h.At(slot)
					for p := range is.Partitions() {
						switch owners := is.Owners(p); {
						case slot < from && !slices.Equal(owners, was.Owners(p)):
							t.Fatalf("slot %d, before %d, changed", slot, from)
						case slot >= from && short == nil && slices.Contains(owners, id):
							t.Fatalf("slot %d is owned by the one replaced", slot)
						}
					}
				}
			},
			"fill": func(t *rapid.T) {
				h, _, err := w.h.Fill(w.version(), rapid.IntRange(1, 3).Draw(t, "n"), 0, Forever, w.now+1, w.members())
				must(h, err)
			},
			"complete": func(t *rapid.T) {
				id := any()
				if w.gone[id] {
					t.Skip()
				}
				c := Completion{Node: id, Plain: rapid.Bool().Draw(t, "plain"), Until: Forever}
				bits := rapid.Uint8Range(0, pieceBits).Draw(t, "bits")
				c.Partition = Partition{bits, rapid.Uint32Range(0, 1<<bits-1).Draw(t, "prefix")}
				if !c.Plain && rapid.Bool().Draw(t, "some slots") {
					c.From = rapid.Int64Range(0, w.now).Draw(t, "from")
					c.Until = rapid.Int64Range(c.From+1, w.now+2).Draw(t, "until")
				}
				for i := range pieces { // it got everything there from owners and sources
					if !piece(i).within(c.Partition) {
						continue
					}
					if c.Plain {
						w.get(w.plain[i], c.Node)
						continue
					}
					for slot, full := range w.timed {
						if c.From <= slot && slot < c.Until {
							w.get(full[i], c.Node)
						}
					}
				}
				must(w.h.Complete(w.version(), c))
			},
			"trim": func(t *rapid.T) {
				oldest := rapid.Int64Range(0, w.now).Draw(t, "oldest")
				before := w.h
				must(w.h.Trim(w.version(), oldest))
				for slot := range w.timed {
					if slot < oldest {
						delete(w.timed, slot)
						continue
					}
					for p := range before.At(slot).Partitions() {
						if !slices.Equal(before.At(slot).Owners(p), w.h.At(slot).Owners(p)) || !slices.Equal(before.Sources(slot, p), w.h.Sources(slot, p)) {
							t.Fatalf("slot %d changed", slot)
						}
					}
				}
			},
		})
	})
}
