package index

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/internal/object"
)

// What replicas do with deltas must not depend on order, grouping or repetition.
func TestMergeIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		late := rapid.Bool().Draw(t, "late")
		a, b, c := genRow(late).Draw(t, "a"), genRow(late).Draw(t, "b"), genRow(late).Draw(t, "c")
		before := [][]byte{encode(a), encode(b), encode(c)}
		if !same(Merge(a, b), Merge(b, a)) {
			t.Fatal("not commutative")
		}
		if !same(Merge(a, Merge(b, c)), Merge(Merge(a, b), c)) {
			t.Fatal("not associative")
		}
		if !same(Merge(a, a), a) || !same(Merge(a, b, a), Merge(a, b)) {
			t.Fatal("not idempotent")
		}
		if !same(Merge(c, a, b), Merge(a, b, c)) {
			t.Fatal("three at once differ")
		}
		if err := Merge(a, b, c).Validate(); err != nil {
			t.Fatal(err)
		}
		for i, r := range []Row{a, b, c} {
			if !bytes.Equal(before[i], encode(r)) {
				t.Fatal("Merge modified its argument")
			}
		}
	})
}

// A model row: everything said, in maps, merged by the words of the design.
type model struct {
	marks    map[Writer]byte
	finals   map[Writer]Final
	succeeds map[[2]Writer]bool
	entries  map[Writer]map[string][]Entry
}

func (m *model) add(r Row) {
	for _, s := range r.Sections {
		m.marks[s.Writer] |= s.marks()
		if s.Final != nil && s.Final.Compare(m.finals[s.Writer]) >= 0 {
			m.finals[s.Writer] = *s.Final
		}
		for _, w := range s.Succeeds {
			m.succeeds[[2]Writer{s.Writer, w}] = true
		}
		if m.entries[s.Writer] == nil {
			m.entries[s.Writer] = map[string][]Entry{}
		}
		for _, e := range s.Entries {
			m.entries[s.Writer][e.Suffix] = append(m.entries[s.Writer][e.Suffix], e)
		}
	}
}

// check compares a row with all that was said.
func (m *model) check(t *rapid.T, r Row) {
	if len(r.Sections) != len(m.marks) {
		t.Fatalf("%d sections, want %d", len(r.Sections), len(m.marks))
	}
	for _, s := range r.Sections {
		if s.marks() != m.marks[s.Writer] {
			t.Fatalf("%v: marks %b, want %b", s.Writer, s.marks(), m.marks[s.Writer])
		}
		if f, ok := m.finals[s.Writer]; ok && *s.Final != f {
			t.Fatalf("%v: final %v, want %v", s.Writer, *s.Final, f)
		}
		for _, w := range s.Succeeds {
			if !m.succeeds[[2]Writer{s.Writer, w}] {
				t.Fatalf("%v succeeds %v, as nobody said", s.Writer, w)
			}
			delete(m.succeeds, [2]Writer{s.Writer, w})
		}
		if len(s.Entries) != len(m.entries[s.Writer]) {
			t.Fatalf("%v: %d entries, want %d", s.Writer, len(s.Entries), len(m.entries[s.Writer]))
		}
		for _, e := range s.Entries {
			if err := checkEntry(e, m.entries[s.Writer][e.Suffix]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(m.succeeds) > 0 {
		t.Fatalf("forgotten: succeeds %v", m.succeeds)
	}
}

// checkEntry compares an entry with all that was said of its suffix.
func checkEntry(e Entry, said []Entry) error {
	var erased, listed, counts bool
	var values, tombstones []object.Version
	for _, s := range said {
		erased = erased || s.Flags&Erased != 0
		listed = listed || s.Flags&Listed != 0
		counts = counts || s.Flags&Late == 0
		if s.Version.Tombstone {
			tombstones = append(tombstones, s.Version)
		} else {
			values = append(values, s.Version)
		}
	}
	if len(values) == 0 {
		values = tombstones
	}
	want := slices.MaxFunc(values, object.Version.Compare)
	switch {
	case e.Version != want:
		return fmt.Errorf("%s: version %v, want %v of %v", e.Suffix, e.Version, want, said)
	case (e.Flags&Erased != 0) != erased, (e.Flags&Listed != 0) != listed, (e.Flags&Late == 0) != counts:
		return fmt.Errorf("%s: flags %v of %v", e.Suffix, e.Flags, said)
	case !slices.ContainsFunc(said, func(s Entry) bool { s.Flags = e.Flags; return s == e }):
		return fmt.Errorf("%s: %+v was said by nobody: %+v", e.Suffix, e, said)
	}
	return nil
}

func TestMergeAndAccumulatorAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		late := rapid.Bool().Draw(t, "late")
		deltas := rapid.SliceOfN(genRow(late), 0, 6).Draw(t, "deltas")
		m := model{map[Writer]byte{}, map[Writer]Final{}, map[[2]Writer]bool{}, map[Writer]map[string][]Entry{}}
		var acc Accumulator
		for _, d := range deltas {
			before := encode(acc.Row())
			fits := acc.Size() + d.Size() // an upper bound
			changed := acc.Add(d)
			m.add(d)
			if changed == bytes.Equal(before, encode(acc.Row())) {
				t.Fatalf("Add said changed=%v", changed)
			}
			if acc.Add(d) {
				t.Fatal("the same delta again was news")
			}
			if acc.Size() != len(encode(acc.Row())) || acc.Size() > fits {
				t.Fatalf("Size is %d, the row has %d", acc.Size(), len(encode(acc.Row())))
			}
			if acc.Len() != acc.Row().Len() {
				t.Fatalf("Len is %d, the row has %d", acc.Len(), acc.Row().Len())
			}
		}
		if !same(acc.Row(), Merge(deltas...)) {
			t.Fatal("Accumulator and Merge differ")
		}
		m.check(t, acc.Row())
	})
}

// A row that was handed out stays as it was, whatever is added later.
func TestAccumulatorRowsDoNotChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var acc Accumulator
		acc.Add(genRow(false).Draw(t, "a"))
		row := acc.Row()
		was := encode(row)
		acc.Add(genRow(false).Draw(t, "b"))
		acc.Row()
		if !bytes.Equal(was, encode(row)) {
			t.Fatal("a later delta changed an earlier row")
		}
	})
}
