package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// spellListing writes down what a listing does under a script of outcomes, the
// clock going on by a second with each.
func spellListing(key event.IndexKey, delta index.Row, outcomes ...*object.Error) string {
	var said []string
	l, next := NewListing(key, delta)
	now := int64(150)
	for _, err := range append(outcomes, nil, nil, nil) {
		if next.Kind == ListingOver {
			break
		}
		flags := index.Flags(0)
		for _, e := range next.Row.All() {
			flags |= e.Flags
		}
		said = append(said, fmt.Sprintf("add %d to %v %s", next.Row.Len(), next.Key, flags))
		next = l.Added(err, now)
		now++
	}
	switch {
	case next.Kind != ListingOver:
		said = append(said, "and on")
	case next.Err != nil:
		said = append(said, fmt.Sprintf("%v, %v", next.Err.Code, next.Err.Outcome))
	default:
		said = append(said, fmt.Sprintf("listed %d in %v, late %v", next.Row.Len(), next.Key, l.Late()))
	}
	return strings.Join(said, "; ")
}

func TestListing(t *testing.T) {
	closed := object.Errorf(object.CodeClosed, object.NotDone, "closed")
	down := object.Errorf(object.CodeUnavailable, object.NotDone, "down")
	key, late := event.IndexKey{Epoch: 100, DC: "ams"}, event.IndexKey{Epoch: 120, DC: "ams", Late: true}
	hello := index.Row{Sections: []index.Section{{Writer: index.Writer{Name: "w", Incarnation: 1}, Hello: true}}}
	_, listed := index.Relist(key, rowOf(1), 120)
	for _, c := range []struct {
		claim    string
		key      event.IndexKey
		delta    index.Row
		outcomes []*object.Error
		want     string
	}{
		{"in time", key, rowOf(1, 2), nil, "add 2 to 100:ams ; listed 2 in 100:ams, late false"},
		{"a failure may have listed it", key, rowOf(1), []*object.Error{down}, "add 1 to 100:ams ; unavailable, maybe done"},
		{"late: the list first, then the row", key, rowOf(1), []*object.Error{closed},
			"add 1 to 100:ams ; add 1 to 150:ams:late late,listed; add 1 to 100:ams late,listed; listed 1 in 150:ams:late, late true"},
		{"a list that closes is followed by another", key, rowOf(1), []*object.Error{closed, closed},
			"add 1 to 100:ams ; add 1 to 150:ams:late late,listed; add 1 to 151:ams:late late,listed; add 1 to 100:ams late,listed; listed 1 in 151:ams:late, late true"},
		{"not for ever", key, rowOf(1), []*object.Error{closed, closed, closed, closed, closed},
			"add 1 to 100:ams ; add 1 to 150:ams:late late,listed; add 1 to 151:ams:late late,listed; add 1 to 152:ams:late late,listed; add 1 to 153:ams:late late,listed; closed, maybe done"},
		{"a list that fails", key, rowOf(1), []*object.Error{closed, down}, "add 1 to 100:ams ; add 1 to 150:ams:late late,listed; unavailable, maybe done"},
		{"a mark that fails", key, rowOf(1), []*object.Error{closed, nil, down},
			"add 1 to 100:ams ; add 1 to 150:ams:late late,listed; add 1 to 100:ams late,listed; unavailable, maybe done"},
		{"a hello comes too late", key, hello, []*object.Error{closed}, "add 0 to 100:ams ; expired, not done"},
		{"a late list's own delta moves on, and its blobs' rows have it", late, listed, []*object.Error{closed},
			"add 1 to 120:ams:late late,listed; add 1 to 150:ams:late late,listed; listed 1 in 150:ams:late, late true"},
	} {
		if got := spellListing(c.key, c.delta, c.outcomes...); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.claim, got, c.want)
		}
	}
}

func TestRowsOfBlobs(t *testing.T) {
	blob := func(key string) object.Record {
		rec, err := object.Encode(object.Header{
			Kind: object.Value, TimestampMicros: 1, Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key),
		}, []byte("v"))
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	recs := []object.Record{
		blob("100:ams:WEB:app:1"), blob("101:ams:WEB:app:1"), blob("no blob"), blob("100:ams:WEB:app:2"), blob("100:fra:WEB:app:1"),
	}
	var bad []int
	rows := RowsOfBlobs(recs, func(i int, err *object.Error) {
		if err.Code != object.CodeBadRequest || err.Outcome != object.MaybeDone {
			t.Errorf("%v", err)
		}
		bad = append(bad, i)
	})
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%v %v %d", r.Key, r.Blobs, r.Delta.Len()))
	}
	if want := []string{"100:ams [0 3] 2", "101:ams [1] 1", "100:fra [4] 1"}; !slices.Equal(got, want) || !slices.Equal(bad, []int{2}) {
		t.Errorf("rows %q, bad %v", got, bad)
	}
	for i := range recs {
		recs[i].Release()
	}
}

func TestGatherer(t *testing.T) {
	var g Gatherer[int]
	a, b := event.IndexKey{Epoch: 1, DC: "a"}, event.IndexKey{Epoch: 1, DC: "b"}
	if g.Add(a, rowOf(1)) != nil || g.Add(b, rowOf(1)) != nil {
		t.Error("an idle row is not written at once")
	}
	first, second := g.Add(a, rowOf(2)), g.Add(a, rowOf(3))
	if first == nil || first != second {
		t.Error("what waits for one row does not go together")
	}
	next := g.Written(a)
	if next != first || next.Row().Len() != 2 {
		t.Errorf("next are %v", next)
	}
	if later := g.Add(a, rowOf(4)); later == nil || later == next {
		t.Error("a gathering takes newcomers while it is written")
	}
	if g.Written(b) != nil || g.Written(a) == nil || g.Written(a) != nil || g.Busy() != 0 {
		t.Error("rows are not idle at the end")
	}
}
