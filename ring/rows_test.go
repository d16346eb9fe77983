package ring

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rows tells rows in a line, oldest first; who has all of one stands behind a plus.
func (h *History) rows(rows []Row) string {
	var all []string
	for _, r := range rows {
		text := h.names(r.Nodes)
		if len(r.Whole) > 0 {
			text += "+" + h.names(r.Whole)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// TestRows: a row for each replacement whose newcomer is not complete.
func TestRows(t *testing.T) {
	nodes := equalNodes("abcdef")
	r, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	first := slices.Clone(r.Owners(Partition{}))
	name := func(id NodeID) string { return strings.Trim(h.names([]NodeID{id}), " ") }
	row := func(ids ...NodeID) string {
		var all []NodeID
		return h.names(append(all, ids...))
	}
	replace := func(out NodeID, reason Reason, from int64, in Node) {
		t.Helper()
		v := h.version
		v.Index++
		next, short, err := h.Replace(v, Replacement{Out: out, Reason: reason, From: from, Until: 9, Unwritten: 9, Candidates: []Node{in}})
		if err != nil || short != nil {
			t.Fatal(err, short)
		}
		h = next
	}
	complete := func(c Completion) {
		t.Helper()
		v := h.version
		v.Index++
		next, err := h.Complete(v, c)
		if err != nil {
			t.Fatal(err)
		}
		h = next
	}
	want := func(claim string, slot int64, rows string, duties ...string) {
		t.Helper()
		if got := h.rows(h.Rows(slot, Partition{})); got != rows {
			t.Errorf("%s: rows %q, want %q", claim, got, rows)
		}
		var got []string
		for _, node := range nodes {
			for _, d := range h.Duties(node.ID) {
				got = append(got, fmt.Sprint(name(d.Node), " ", d.From, "-", d.Until))
			}
		}
		if !slices.Equal(got, duties) {
			t.Errorf("%s: duties %q, want %q", claim, got, duties)
		}
	}
	a, b, c := first[0], first[1], first[2]
	d, e, f := nodes[3], nodes[4], nodes[5]
	want("nobody was replaced", 5, "")
	replace(a, Leaving, 3, d)
	want("slots before", 2, "", "n3 3-9")
	want("one was replaced", 5, row(a, b, c)+"; "+row(d.ID, b, c), "n3 3-9")
	replace(d.ID, Leaving, 5, e)
	want("its successor was replaced too", 5, row(a, b, c)+"; "+row(d.ID, b, c)+"; "+row(e.ID, b, c), "n3 3-5", "n4 5-9")
	want("not in this slot", 4, row(a, b, c)+"; "+row(d.ID, b, c), "n3 3-5", "n4 5-9")
	replace(b, Lost, 5, f)
	want("a lost one stays in its row", 5, row(a, b, c)+"; "+row(d.ID, b, c)+"; "+row(e.ID, b, c)+"; "+row(e.ID, f.ID, c), "n3 3-5", "n4 5-9", "n5 5-9")
	complete(Completion{Node: f.ID, From: 5, Until: 9})
	want("who is complete stands for the one before in all rows", 5, row(a, f.ID, c)+"; "+row(d.ID, f.ID, c)+"; "+row(e.ID, f.ID, c), "n3 3-5", "n4 5-9")
	complete(Completion{Node: e.ID, From: 5, Until: 9})
	want("all are complete in this slot", 5, "", "n3 3-5")
	want("and not in that", 4, row(a, b, c)+"; "+row(d.ID, b, c), "n3 3-5")
	complete(Completion{Node: d.ID, From: 3, Until: 5})
	want("all are complete", 4, "")
}

// TestRowsOfFilled: rings with fewer owners than wanted.
func TestRowsOfFilled(t *testing.T) {
	nodes := equalNodes("abc")
	r, _ := mustClaim(t, nodes[:1], 0, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h, _, err := h.Fill(Version{0, 2}, 3, 0, Forever, 9, nodes)
	if err != nil {
		t.Fatal(err)
	}
	rows := h.Rows(5, Partition{})
	if len(rows) != 3 || len(rows[0].Nodes) != 1 || len(rows[1].Nodes) != 2 || len(rows[2].Nodes) != 3 || h.Rows(9, Partition{}) != nil {
		t.Errorf("%s; then %v", h.rows(rows), h.Rows(9, Partition{}))
	}
}

// TestPlainRows: the rings since plain data was complete, and who has all of one.
func TestPlainRows(t *testing.T) {
	nodes := equalNodes("abcdef")
	version := uint64(1)
	r, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, _ := NewHistory(Version{0, version}, 10, r)
	claim := func(from int64, members ...Node) []NodeID {
		t.Helper()
		next, _ := mustClaim(t, sortedNodes(members), 0, min(3, len(members)), h.Newest())
		version++
		var err error
		if h, err = h.Append(Version{0, version}, from, next); err != nil {
			t.Fatal(err)
		}
		return next.Owners(Partition{})
	}
	complete := func(id NodeID) {
		version++
		h, _ = h.Complete(Version{0, version}, Completion{Node: id, Plain: true})
	}
	want := func(what, rows string) {
		t.Helper()
		if got := h.rows(h.PlainRows(Partition{})); got != rows {
			t.Errorf("%s: rows %q, want %q", what, got, rows)
		}
	}
	first := r.Owners(Partition{})
	want("one ring", "")
	second := claim(3, nodes[0], nodes[3], nodes[4])
	want("two of three are new", h.names(first)+"; "+h.names(second))
	complete(nodes[3].ID)
	want("one of them is complete", h.names(first)+"+"+h.names([]NodeID{nodes[3].ID})+"; "+h.names(second))
	complete(nodes[4].ID)
	want("both are", "")
	third := claim(4, nodes[0], nodes[3], nodes[5])
	want("one more: the first ring is made up for", h.names(second)+"; "+h.names(third))
	complete(nodes[5].ID)
	fourth := claim(5, nodes[0], nodes[3])
	want("fewer owners: those that stay may lack something", h.names(third)+"; "+h.names(fourth))
	if got := len(h.PlainNewcomers(Partition{})); got != 2 {
		t.Errorf("of two that stay %d may lack something", got)
	}
	complete(nodes[0].ID)
	complete(nodes[3].ID)
	want("fewer owners, complete", "")
}

// TestTrimKeepsPlainRows: the rings before stay as long as newcomers may lack what
// was acknowledged under them, whatever has expired of them, and whoever is lost.
func TestTrimKeepsPlainRows(t *testing.T) {
	nodes := equalNodes("abcdef")
	r, _ := mustClaim(t, nodes[:4], 0, 4, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	must := func(next *History, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		h = next
	}
	claim := func(from int64, members ...Node) []NodeID {
		t.Helper()
		next, _ := mustClaim(t, members, 0, len(members), h.Newest())
		must(h.Append(later(h), from, next))
		return next.Owners(Partition{})
	}
	first := r.Owners(Partition{})
	second := claim(10, nodes[:3]...)
	third := claim(20, nodes[:2]...)
	want := h.names(first) + "; " + h.names(second) + "; " + h.names(third)
	for _, oldest := range []int64{15, 25, 100} {
		must(h.Trim(later(h), oldest))
		if got := h.rows(h.PlainRows(Partition{})); got != want || h.Len() != 3 {
			t.Errorf("became shorter twice, trimmed to %d: %d rings, rows %q, want %q", oldest, h.Len(), got, want)
		}
	}
	must(h.DeclareLost(later(h), nodes[3].ID))
	must(h.Trim(later(h), 101))
	if got := h.rows(h.PlainRows(Partition{})); got != want || len(h.PlainSources(Partition{})) != 1 {
		t.Errorf("one is lost: rows %q, want %q", got, want)
	}
	must(h.Complete(later(h), Completion{Node: nodes[0].ID, Plain: true}))
	must(h.Trim(later(h), 102))
	if got := h.rows(h.PlainRows(Partition{})); got != want {
		t.Errorf("one of two is complete: rows %q, want %q", got, want)
	}
	must(h.Complete(later(h), Completion{Node: nodes[1].ID, Plain: true}))
	if must(h.Trim(later(h), 103)); h.Len() != 1 || h.PlainRows(Partition{}) != nil {
		t.Errorf("both are: %d rings, rows %q", h.Len(), h.rows(h.PlainRows(Partition{})))
	}
}

// TestFewerAndOthers: where owners become fewer and one of them is another one, those
// that stay may lack what the two that made way acknowledged.
func TestFewerAndOthers(t *testing.T) {
	nodes := equalNodes("abcd")
	r, _ := mustClaim(t, nodes[:3], 0, 3, nil)
	h, _ := NewHistory(Version{0, 1}, 10, r)
	two, _ := mustClaim(t, sortedNodes([]Node{nodes[0], nodes[3]}), 0, 2, r)
	h, err := h.Append(Version{0, 2}, 5, two)
	if err != nil || len(h.PlainNewcomers(Partition{})) != 2 || len(h.PlainSources(Partition{})) != 2 {
		t.Errorf("%v: newcomers %s, sources %s", err, h.names(h.PlainNewcomers(Partition{})), h.names(h.PlainSources(Partition{})))
	}
}

// TestComesForward: where rows become shorter, an owner that was further back takes
// a place that was vacated. It is a newcomer, as are all: what a bucket of fewer
// copies had on the one that left, nobody that stays need have.
func TestComesForward(t *testing.T) {
	nodes := equalNodes("abc")
	r, _ := mustClaim(t, nodes, 0, 3, nil)
	before := r.Owners(Partition{})
	stay := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.ID == before[0] })
	two, _ := mustClaim(t, stay, 0, 2, r)
	after := two.Owners(Partition{})
	if want := []NodeID{before[2], before[1]}; !slices.Equal(after, want) {
		t.Fatalf("owners %v, want %v", after, want)
	}
	h, _ := NewHistory(Version{0, 1}, 10, r)
	h, err := h.Append(Version{0, 2}, 5, two)
	if err != nil {
		t.Fatal(err)
	}
	rows := func() string { return h.rows(h.PlainRows(Partition{})) }
	want := h.names(before) + "; " + h.names(after)
	if len(h.PlainNewcomers(Partition{})) != 2 || !slices.Equal(h.PlainSources(Partition{}), before[:1]) || rows() != want {
		t.Errorf("newcomers %s, sources %s, rows %s, want %s", h.names(h.PlainNewcomers(Partition{})), h.names(h.PlainSources(Partition{})), rows(), want)
	}
	for i, id := range after {
		h, _ = h.Complete(Version{0, uint64(3 + i)}, Completion{Node: id, Plain: true})
		if i == 1 {
			want = ""
		}
		if rows() != want {
			t.Errorf("rows %s once %d of two are complete, want %s", rows(), i+1, want)
		}
	}
}

// Where a node has to do with partitions, said three ways, is what the rings say.
func TestHoldings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := equalNodes("abcde")
		bits := rapid.Uint8Range(0, 2).Draw(t, "bits")
		r, _ := mustClaim(t, nodes[:3], bits, 2, nil)
		h, _ := NewHistory(Version{0, 1}, 10, r)
		if rapid.Bool().Draw(t, "a second ring") {
			other, _ := mustClaim(t, nodes[1:4], rapid.Uint8Range(0, 2).Draw(t, "its bits"), 2, r)
			h, _ = h.Append(Version{0, 2}, 6, other)
		}
		if rapid.Bool().Draw(t, "a leaver") {
			next, _, err := h.Replace(Version{0, 3}, Replacement{Out: nodes[1].ID, Reason: Leaving, From: 2, Until: 8, Unwritten: 9, Candidates: nodes[3:]})
			if err != nil {
				t.Fatal(err)
			}
			h = next
		}
		oldest := rapid.Int64Range(0, 9).Draw(t, "oldest")
		for _, node := range nodes {
			all := h.Stretches(node.ID, oldest)
			held := map[Partition]bool{}
			for slot := range int64(12) {
				ring := h.At(slot)
				for p := range ring.Partitions() {
					owner, source := ring.Owns(node.ID, p), slices.Contains(h.Sources(slot, p), node.ID)
					held[p] = held[p] || owner || source
					i := slices.IndexFunc(all[p], func(s Stretch) bool { return s.From <= slot && slot < s.Until })
					if slot >= oldest && ((i >= 0) != (owner || source) || i >= 0 && all[p][i].Owner != owner) {
						t.Fatalf("node %s, %v, slot %d: owner %v, source %v, stretches %+v", node.Name, p, slot, owner, source, all[p])
					}
				}
				if end := h.SpanEnd(slot); end <= slot || end != Forever && h.At(end) == ring || h.At(end-1) != ring {
					t.Fatalf("the span of slot %d ends at %d", slot, end)
				}
			}
			for p := range h.Newest().Partitions() {
				held[p] = held[p] || h.Newest().Owns(node.ID, p) || slices.Contains(h.PlainSources(p), node.ID)
			}
			for bits := range uint8(4) {
				for prefix := range uint32(1) << bits {
					p := Partition{bits, prefix}
					if h.Holds(node.ID, p) != held[p] || slices.Contains(h.HeldBy(node.ID), p) != held[p] {
						t.Fatalf("node %s holds %v: %v, %v, want %v", node.Name, p, h.Holds(node.ID, p), h.HeldBy(node.ID), held[p])
					}
				}
			}
		}
	})
}
