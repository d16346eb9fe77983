package index

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

func blobHeader(t testing.TB, kind object.Kind, key, writer string, incarnation uint64) object.Record {
	t.Helper()
	value := []byte("blob")
	if kind == object.Tombstone {
		value = nil
	}
	rec, err := object.Encode(object.Header{
		Kind: kind, TimestampMicros: 77, EventCount: 3, Incarnation: incarnation,
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key), Writer: []byte(writer),
	}, value)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestEntryOf(t *testing.T) {
	rec := blobHeader(t, object.Value, "1700000000:ams:web:nl:7", "agg-1", 9)
	key, e, err := EntryOf(&rec.Header)
	want := Entry{Suffix: "web:nl:7", Version: rec.Version(), Checksum: object.Checksum([]byte("blob")), Bytes: 4, Events: 3}
	if err != nil || e != want || key.String() != "1700000000:ams:web:nl:7" {
		t.Errorf("got %v %+v %v, want %+v", key, e, err, want)
	}
	rec.Release()
	if e.Suffix != "web:nl:7" || key.DC != "ams" {
		t.Error("the entry aliases the record")
	}
	if back, err := e.Key(key.Index()); err != nil || back != key {
		t.Errorf("the entry's key is %v, %v", back, err)
	}

	erased := blobHeader(t, object.Tombstone, "1700000000:ams:web:nl:7", "", 0)
	if _, e, err := EntryOf(&erased.Header); err != nil || e.Flags != Erased || !e.Version.Tombstone || e.Bytes != 0 {
		t.Errorf("a tombstone gives %+v, %v", e, err)
	}
	odd := blobHeader(t, object.Value, "1700000000:ams", "", 0)
	if _, _, err := EntryOf(&odd.Header); !errors.Is(err, event.ErrKey) {
		t.Errorf("a key that is no blob's: %v", err)
	}
}

func TestDeltaOf(t *testing.T) {
	rec := blobHeader(t, object.Value, "1700000000:ams:web:nl:7", "agg-1", 9)
	key, delta, err := DeltaOf(&rec.Header)
	if err != nil || key != (event.IndexKey{Epoch: 1700000000, DC: "ams"}) {
		t.Fatalf("key %v, %v", key, err)
	}
	if err := delta.ValidateFor(key); err != nil {
		t.Error(err)
	}
	if s := delta.Section(Writer{"agg-1", 9}); s == nil || len(s.Entries) != 1 {
		t.Errorf("got %+v", delta)
	}
	nameless := blobHeader(t, object.Value, "1700000000:ams:web:nl:7", "", 9)
	if _, delta, err := DeltaOf(&nameless.Header); err != nil || !delta.Sections[0].Writer.Anonymous() || delta.Validate() != nil {
		t.Errorf("an incarnation without a name gives %+v, %v", delta, err)
	}
}

// Two writers may claim a key, and a third erase it: readers see one blob.
func TestBlobs(t *testing.T) {
	at := func(micros int64) object.Version { return object.Version{TimestampMicros: micros} }
	r := Row{[]Section{
		{Entries: []Entry{{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 9, Tombstone: true}, Flags: Erased}}},
		{Writer: Writer{"a", 1}, Entries: []Entry{{Suffix: "web:nl:0", Version: at(1)}, {Suffix: "web:nl:2", Version: at(5)}}},
		{Writer: Writer{"b", 1}, Entries: []Entry{{Suffix: "web:nl:0", Version: at(2)}, {Suffix: "web:nl:1", Version: at(1)}, {Suffix: "web:nl:2", Version: at(4)}}},
	}}
	want := []Entry{
		{Suffix: "web:nl:0", Version: at(2), Flags: Erased},
		{Suffix: "web:nl:1", Version: at(1)},
		{Suffix: "web:nl:2", Version: at(5)},
	}
	if got := r.Blobs(); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if r.Len() != 6 || !r.Sections[0].Writer.Anonymous() {
		t.Error("the row was modified")
	}
}

func TestRelist(t *testing.T) {
	key := event.IndexKey{Epoch: 1000, DC: "ams"}
	w := Writer{"a", 1}
	e1 := Entry{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 1}}
	e2 := Entry{Suffix: "web:nl:1", Version: object.Version{TimestampMicros: 2}}
	delta := Row{[]Section{
		{Writer: w, Hello: true, Final: &Final{Count: 2}, Entries: []Entry{e1, e2}},
		{Writer: Writer{"b", 1}, Goodbye: true},
	}}
	marked, list := Relist(key, delta, 1060)
	if err := marked.ValidateFor(key); err != nil {
		t.Error(err)
	}
	listKey := LateKey(key, 1060)
	if err := list.ValidateFor(listKey); err != nil {
		t.Error(err)
	}
	if s := marked.Section(w); len(marked.Sections) != 1 || s.Hello || s.Final != nil || s.Entries[0].Flags != Late|Listed {
		t.Errorf("marked is %+v", marked)
	}
	var keys []string
	for _, e := range list.All() {
		k, err := e.Key(listKey)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.String())
	}
	if want := []string{"1000:ams:web:nl:0", "1000:ams:web:nl:1"}; !slices.Equal(keys, want) {
		t.Errorf("listed %v", keys)
	}
	if delta.Sections[0].Entries[0] != e1 {
		t.Error("the delta was modified")
	}

	marked, again := Relist(listKey, list, 1070)
	if !marked.Empty() || !same(again, list) {
		t.Errorf("moved on: %+v and %+v", marked, again)
	}
	if marked, list := Relist(key, Row{[]Section{{Writer: w, Hello: true}}}, 1060); !marked.Empty() || !list.Empty() {
		t.Error("a late hello was kept")
	}
}

// Whatever the delta, what becomes of it belongs where it goes, and nothing is lost.
func TestRelistKeepsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delta := genRow(false).Draw(t, "delta")
		key := event.IndexKey{Epoch: 7, DC: "ams"}
		marked, list := Relist(key, delta, 60)
		if marked.ValidateFor(key) != nil || list.ValidateFor(LateKey(key, 60)) != nil {
			t.Fatalf("%v, %v", marked.Validate(), list.Validate())
		}
		if marked.Len() != delta.Len() || list.Len() != delta.Len() {
			t.Fatal("an entry was lost")
		}
	})
}

func TestStrings(t *testing.T) {
	for _, row := range []struct{ got, want string }{
		{Writer{}.String(), "anonymous"},
		{Writer{"agg-1", 0xaa}.String(), "agg-1/00000000000000aa"},
		{Writer{"a\nb", 1}.String(), `a\nb/0000000000000001`},
		{(Erased | Listed).String(), "erased,listed"},
		{Flags(0).String(), ""},
		{Complete.String(), "complete"},
		{NoWriters.String(), "no writers"},
		{State(99).String(), "state 99"},
	} {
		if row.got != row.want {
			t.Errorf("got %q, want %q", row.got, row.want)
		}
	}
}

func TestWriterOrder(t *testing.T) {
	writers := slices.SortedFunc(maps.Keys(map[Writer]bool{{"b", 1}: true, {"a", 2}: true, {}: true, {"a", 1}: true}), Writer.Compare)
	if want := []Writer{{}, {"a", 1}, {"a", 2}, {"b", 1}}; !slices.Equal(writers, want) {
		t.Errorf("got %v", writers)
	}
}
