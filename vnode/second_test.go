package vnode

import (
	"errors"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

func TestCheckOpen(t *testing.T) {
	row, late := event.IndexKey{Epoch: 1000, DC: "ams"}, event.IndexKey{Epoch: 1000, DC: "ams", Late: true}
	w := index.Writer{Name: "agg", Incarnation: 1}
	entry := func(flags index.Flags) index.Row {
		return index.Row{Sections: []index.Section{{Writer: w, Entries: []index.Entry{{Suffix: "web:a:0", Flags: flags}}}}}
	}
	with := func(s index.Section) index.Row { s.Writer = w; return index.Row{Sections: []index.Section{s}} }
	const both = index.Late | index.Listed

	tests := []struct {
		claim string
		key   event.IndexKey
		delta index.Row
		now   int64
		open  bool
	}{
		{"a second before it begins", row, entry(0), 990, true},
		{"a second until lateness and five more", row, entry(0), 1009, true},
		{"a second after that", row, entry(0), 1010, false},
		{"late entries that stand in no late list", row, entry(index.Late), 1010, false},
		{"late and listed entries come any time", row, entry(both), 99_999, true},
		{"an erased one among them", row, entry(both | index.Erased), 99_999, true},
		{"a final of a closed second", row, with(index.Section{Final: &index.Final{}}), 1010, false},
		{"a hello in a closed second", row, with(index.Section{Hello: true}), 1010, false},
		{"a goodbye in a closed second", row, with(index.Section{Goodbye: true}), 1010, false},
		{"a succession in a closed second", row, with(index.Section{Succeeds: []index.Writer{{Name: "x"}}}), 1010, false},
		{"a late list until five seconds after its second", late, entry(both), 1005, true},
		{"a late list after that", late, entry(both), 1006, false},
	}
	for _, test := range tests {
		t.Run(test.claim, func(t *testing.T) {
			err := checkOpen(test.key, test.delta, test.now, DefaultLatenessSeconds)
			if test.open != (err == nil) {
				t.Fatalf("got %v, want open %v", err, test.open)
			}
			if err != nil && (!errors.Is(err, ErrClosed) || !errors.Is(err, object.CodeClosed) || object.AsError(err).Outcome != object.NotDone || object.AsError(err).Code.Retryable()) {
				t.Errorf("%v: want ErrClosed, not done and not to be retried as it is", err)
			}
		})
	}
}

// What Relist makes of a refused delta must be admitted.
func TestRelistedDeltasAreOpen(t *testing.T) {
	key := event.IndexKey{Epoch: 1000, DC: "ams"}
	delta := index.Row{Sections: []index.Section{{
		Writer: index.Writer{Name: "agg", Incarnation: 1}, Hello: true,
		Entries: []index.Entry{{Suffix: "web:a:0", Version: object.Version{TimestampMicros: 1}}},
	}}}
	const now = 5000
	marked, list := index.Relist(key, delta, now)
	if err := checkOpen(key, marked, now, DefaultLatenessSeconds); err != nil {
		t.Error(err)
	}
	if err := checkOpen(index.LateKey(key, now), list, now, DefaultLatenessSeconds); err != nil {
		t.Error(err)
	}
}

func TestLacking(t *testing.T) {
	w, v := index.Writer{Name: "agg", Incarnation: 1}, index.Writer{Name: "agg", Incarnation: 2}
	blob := func(suffix string, flags index.Flags) index.Entry {
		return index.Entry{Suffix: suffix, Flags: flags, Version: object.Version{TimestampMicros: 1}}
	}
	row := func(sections ...index.Section) index.Row { return index.Row{Sections: sections} }
	of := func(w index.Writer, entries ...index.Entry) index.Section {
		return index.Section{Writer: w, Entries: entries}
	}
	a, b, c := blob("web:a:0", 0), blob("web:b:0", 0), blob("web:c:0", 0)
	gone := blob("web:a:0", index.Erased)
	restamped := a
	restamped.Version.TimestampMicros = 2

	tests := []struct {
		claim         string
		have, derived index.Row
		want          index.Row
	}{
		{"an empty row lacks everything", row(), row(of(w, a, b)), row(of(w, a, b))},
		{"a full row lacks nothing", row(of(w, a, b, c)), row(of(w, a, c)), row()},
		{"one in the middle", row(of(w, a, c)), row(of(w, a, b, c)), row(of(w, b))},
		{"an entry of another writer does not count", row(of(v, a)), row(of(w, a)), row(of(w, a))},
		{"several writers", row(of(w, a), of(v, b)), row(of(w, a, b), of(v, a, b)), row(of(w, b), of(v, a))},
		{"a retry's stamp is of no account", row(of(w, restamped)), row(of(w, a)), row()},
		{"an erased blob that is listed as if it were there", row(of(w, a)), row(of(w, gone)), row(of(w, gone))},
		{"an erased blob that is known to be", row(of(w, gone)), row(of(w, gone)), row()},
		{"a late one is listed", row(of(w, blob("web:a:0", index.Late|index.Listed))), row(of(w, a)), row()},
	}
	for _, test := range tests {
		t.Run(test.claim, func(t *testing.T) {
			got := lacking(test.have, test.derived)
			if len(got.Sections) != len(test.want.Sections) {
				t.Fatalf("got %+v, want %+v", got, test.want)
			}
			for i, s := range got.Sections {
				want := test.want.Sections[i]
				if s.Writer != want.Writer || len(s.Entries) != len(want.Entries) {
					t.Fatalf("got %+v, want %+v", got, test.want)
				}
				for j := range s.Entries {
					if s.Entries[j] != want.Entries[j] {
						t.Errorf("got %+v, want %+v", s.Entries[j], want.Entries[j])
					}
				}
			}
		})
	}
}
