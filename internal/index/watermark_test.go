package index

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/internal/object"
)

var (
	agg1    = Writer{"agg-1", 0xa}
	agg1new = Writer{"agg-1", 0xb}
	agg2    = Writer{"agg-2", 0xc}
)

func stamped(suffix string, micros int64) Entry {
	return Entry{Suffix: suffix, Version: object.Version{TimestampMicros: micros}}
}

func section(w Writer, entries ...Entry) Section { return Section{Writer: w, Entries: entries} }

func (s Section) final() Section {
	f := FinalOf(&s)
	s.Final = &f
	return s
}

func (s Section) wanting(entries ...Entry) Section {
	f := FinalOf(&Section{Entries: entries})
	s.Final = &f
	return s
}

func rowOf(sections ...Section) Row { return Row{sections} }

func TestExpected(t *testing.T) {
	late := stamped("web:nl:0", 1)
	late.Flags = Late
	tomb := Entry{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 1, Tombstone: true}, Flags: Erased}
	hello, bye := Section{Writer: agg1, Hello: true}, Section{Writer: agg1, Goodbye: true}
	for _, row := range []struct {
		name string
		rows []Row
		want []Writer
	}{
		{"nobody", nil, nil},
		{"hello is enough", []Row{rowOf(hello)}, []Writer{agg1}},
		{"an empty final is enough", []Row{rowOf(Section{Writer: agg1}.final())}, []Writer{agg1}},
		{"an entry is enough", []Row{rowOf(section(agg1, stamped("web:nl:0", 1)))}, []Writer{agg1}},
		{"a late entry is not", []Row{rowOf(section(agg1, late))}, nil},
		{"erasing is not", []Row{rowOf(section(agg1, tomb))}, nil},
		{"the anonymous are never", []Row{rowOf(section(Writer{}, stamped("web:nl:0", 1)))}, nil},
		{"goodbye ends it", []Row{rowOf(hello), rowOf(bye)}, nil},
		{"goodbye in the row of a final", []Row{rowOf(Section{Writer: agg1, Goodbye: true}.final())}, nil},
		{"the succeeded are not", []Row{rowOf(hello), rowOf(Section{Writer: agg1new, Hello: true, Succeeds: []Writer{agg1}})}, []Writer{agg1new}},
		{"order does not matter", []Row{rowOf(Section{Writer: agg1new, Hello: true, Succeeds: []Writer{agg1}}), rowOf(hello)}, []Writer{agg1new}},
		{"two, ascending", []Row{rowOf(Section{Writer: agg2, Hello: true}), rowOf(hello)}, []Writer{agg1, agg2}},
	} {
		if got := ExpectedIn(row.rows...); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}

func TestEvaluate(t *testing.T) {
	const T, bound = 1000, 5
	e0, e1, e2 := stamped("web:nl:0", 10), stamped("web:nl:1", 20), stamped("web:nl:2", 30)
	straggler := stamped("cron:x:0", 40) // sorts first, stamped last
	lateE1 := e1
	lateE1.Flags = Late
	other := e1
	other.Version.HeaderCRC = 1
	both := []Writer{agg1, agg2}
	for _, row := range []struct {
		name     string
		row      Row
		expected []Writer
		certain  bool
		now      int64
		want     string
	}{
		{"all there", rowOf(section(agg1, e0, e1).final(), section(agg2, e2).final()), both, true, T + 1, "complete"},
		{"an empty second", rowOf(section(agg1).final()), []Writer{agg1}, true, T + 1, "complete"},
		{"an uncertain read is never complete", rowOf(section(agg1, e0).final()), []Writer{agg1}, false, T + 1, "pending"},
		{"unknown at the bound", rowOf(section(agg1, e0).final()), []Writer{agg1}, false, T + 5, "unknown"},
		{"one silent", rowOf(section(agg1, e0).final()), both, true, T + 4, "pending: agg-2/000000000000000c is silent"},
		{"one silent at the bound", rowOf(section(agg1, e0).final()), both, true, T + 5, "incomplete: agg-2/000000000000000c is silent"},
		{"hello is not a word on the second", rowOf(Section{Writer: agg1, Hello: true}), []Writer{agg1}, true, T + 5, "incomplete: agg-1/000000000000000a is silent"},
		{"no final", rowOf(section(agg1, e0)), []Writer{agg1}, true, T + 5, "incomplete: agg-1/000000000000000a sent no final (1 blobs at hand)"},
		{"an entry lacks", rowOf(section(agg1, e0).wanting(e0, e1)), []Writer{agg1}, true, T + 5, "incomplete: of agg-1/000000000000000a 1 of 2 blobs are at hand"},
		{"another version", rowOf(section(agg1, e0, other).wanting(e0, e1)), []Writer{agg1}, true, T + 9, "incomplete: of agg-1/000000000000000a 2 blobs are at hand, but not the 2 of its final"},
		{"a late entry is not the one counted", rowOf(section(agg1, e0, lateE1).wanting(e0, e1)), []Writer{agg1}, true, T + 5, "incomplete: of agg-1/000000000000000a 1 of 2 blobs are at hand"},
		{"a late entry more", rowOf(section(agg1, e0, lateE1).wanting(e0)), []Writer{agg1}, true, T + 1, "complete"},
		{"a straggler more", rowOf(section(agg1, straggler, e0, e1).wanting(e0, e1)), []Writer{agg1}, true, T + 1, "complete"},
		{"a straggler instead", rowOf(section(agg1, straggler, e0).wanting(e0, e1)), []Writer{agg1}, true, T + 5, "incomplete: of agg-1/000000000000000a 2 blobs are at hand, but not the 2 of its final"},
		{"a straggler in an empty second", rowOf(section(agg1, straggler).wanting()), []Writer{agg1}, true, T + 1, "complete"},
		{"an unexpected writer is not waited for", rowOf(section(agg1, e0).final(), section(agg2).wanting(e2)), []Writer{agg1}, true, T + 1, "complete"},
		{"nobody yet", rowOf(), nil, true, T + 4, "pending"},
		{"nobody", rowOf(), nil, true, T + 5, "no writers"},
		{"only anonymous blobs", rowOf(section(Writer{}, e0)), nil, true, T + 5, "no writers"},
		{"an entry of one not expected", rowOf(section(agg1, e0)), nil, true, T + 5, "no writers"},
		{"a final of one not expected", rowOf(section(agg1, e0).final()), nil, true, T + 4, "pending"},
		{"a final of one not expected, at the bound", rowOf(section(agg1, e0).final()), nil, true, T + 5, "complete"},
		{"its blobs lack, at the bound", rowOf(section(agg1).wanting(e0)), nil, true, T + 5, "incomplete: of agg-1/000000000000000a 0 of 1 blobs are at hand"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.row.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := Evaluate(T, row.row, row.expected, row.certain, row.now, bound).String(); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// Complete is never taken back, whatever else may rightly come: late entries,
// the late twins of entries that are there, what the writer stamped later,
// erasures, deltas once more, other writers.
func TestCompleteStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(rapid.IntRange(0, 9), 0, 6, rapid.ID[int]).Draw(t, "entries")
		slices.Sort(entries)
		s := Section{Writer: agg1}
		for _, n := range entries {
			s.Entries = append(s.Entries, stamped("web:nl:"+string(rune('0'+n)), rapid.Int64Range(1, 100).Draw(t, "stamp")))
		}
		s = s.final()
		row := rowOf(s)
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			e := stamped("web:nl:"+string(rune('0'+rapid.IntRange(0, 9).Draw(t, "n"))), rapid.Int64Range(101, 200).Draw(t, "later"))
			w := agg1
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0: // a straggler of a new name
				e.Suffix += "7"
			case 1: // something late, or the late twin of what is there
				if len(s.Entries) > 0 {
					e = rapid.SampledFrom(s.Entries).Draw(t, "twin")
				} else {
					e.Suffix += "8"
				}
				e.Flags = Late | Listed
			case 2: // an erasure, by the writer itself
				e.Version.Tombstone, e.Flags = true, Erased
			case 3: // another claims the key
				w = agg2
			case 4: // the same again
				row = Merge(row, rowOf(s))
				continue
			}
			row = Merge(row, rowOf(section(w, e)))
		}
		if v := Evaluate(1000, row, []Writer{agg1}, true, 1001, 5); v.State != Complete {
			t.Fatalf("%v after %+v", v, row)
		}
	})
}

// A final made blob by blob is the final of the section.
func TestFinalAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSection(false).Draw(t, "section")
		var f Final
		for _, e := range s.Entries {
			f.Add(e)
		}
		if f != FinalOf(&s) {
			t.Fatalf("%v and %v", f, FinalOf(&s))
		}
	})
}
