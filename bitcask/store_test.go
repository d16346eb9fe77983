package bitcask

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Every way of reading finds what was put: while the slot is open, when it is
// sealed, and after the disk was opened anew in either state.
func TestPutGetThroughALife(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	var all []*testObject
	for i := range 300 {
		all = append(all, make1(t, events, t0+int64(i%10), fmt.Sprintf("web:app:%d", i), t0*1e6+int64(i), bytesOf(uint64(i), i*7%3000)))
	}
	for i := range 4 { // one hash for all four, or one lower half
		all = append(all, make1(t, events, t0, fmt.Sprintf("same%d", i), t0*1e6, bytesOf(uint64(i), 100)))
		all = append(all, make1(t, events, t0, fmt.Sprintf("near%d", i), t0*1e6, bytesOf(uint64(i), 100)))
	}
	for _, o := range all {
		mustPut(t, s, o)
	}
	check := func(when string) {
		t.Helper()
		for _, o := range all {
			if err := s.getErr(o, t0); err != nil {
				t.Fatalf("%s: get %q: %v", when, o.key, err)
			}
			h, err := s.Head(o.b, o.hash(), o.epoch, t0, []byte(o.key))
			if err != nil || string(h.RawHeader()) != string(o.rec.RawHeader()) {
				t.Fatalf("%s: head %q: %v", when, o.key, err)
			}
			h.Release()
			n := 0
			for rec, err := range s.Each(o.b, o.hash(), o.epoch, t0, []byte(o.key)) {
				if err != nil || string(rec.Raw()) != string(o.rec.Raw()) {
					t.Fatalf("%s: each %q: %v", when, o.key, err)
				}
				n++
			}
			if n != 1 {
				t.Fatalf("%s: each %q: %d records", when, o.key, n)
			}
			if action, err := s.putTest(o); err != nil || action != Same {
				t.Fatalf("%s: put %q again: %v, %v", when, o.key, action, err)
			}
		}
		absent := make1(t, events, t0, "same9", t0, nil)
		wantErr(t, s.getErr(absent, t0), ErrAbsent, when+": a key with a known hash")
		absent = make1(t, events, t0+30, "x", t0, nil)
		wantErr(t, s.getErr(absent, t0), ErrAbsent, when+": a key of an empty slot")
		var walked []string
		for h, err := range s.Walk(events, slotAt(t0), t0) {
			if err != nil {
				t.Fatalf("%s: walk: %v", when, err)
			}
			walked = append(walked, string(h.Key))
		}
		var want []string
		for _, o := range all {
			want = append(want, o.key)
		}
		if !slices.Equal(walked, want) {
			t.Fatalf("%s: walked %d keys, want the %d put, in order", when, len(walked), len(want))
		}
		i := 0
		for rec, err := range s.WalkRecords(events, slotAt(t0), t0) {
			if err != nil || string(rec.Raw()) != string(all[i].rec.Raw()) {
				t.Fatalf("%s: walk of records: %d: %v", when, i, err)
			}
			i++
		}
	}
	reopen := func() {
		t.Helper()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, testConfig())
	}
	check("open")
	open, err := s.Digests(events, slotAt(t0))
	if err != nil || len(open) != 1 || open[0].Count != int64(len(all)) {
		t.Fatalf("digests: %v, %v", open, err)
	}
	reopen()
	check("open, reopened")
	if err := s.Seal(events, slotAt(t0)); err != nil {
		t.Fatal(err)
	}
	check("sealed")
	reopen()
	check("sealed, reopened")
	sealed, err := s.Digests(events, slotAt(t0))
	if err != nil || !slices.Equal(open, sealed) {
		t.Fatalf("digests of the sealed slot %v, of the open one %v, %v", sealed, open, err)
	}
	late := make1(t, events, t0+3, "late", t0*1e6, []byte("late"))
	mustPut(t, s, late)
	all = append(all, late)
	check("sealed, with a late record")
	if slots, err := s.Slots(events); err != nil || !slices.Equal(slots, []expiry.Slot{slotAt(t0)}) {
		t.Fatalf("slots %v, %v", slots, err)
	}
	buckets, err := s.Buckets()
	if err != nil || !slices.Equal(buckets, []Bucket{events}) {
		t.Fatalf("buckets %v, %v", buckets, err)
	}
	if st := d.Stats(); st.Damage != 0 || st.Doubts != 0 {
		t.Fatalf("damage in %+v", st)
	}
}

// The greatest version is what is read, wherever it is and in whatever order the
// versions came.
func TestVersions(t *testing.T) {
	for _, b := range []Bucket{plain, {ID: 9, Type: "default", Name: "timed", Timed: true}} {
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, testConfig())
		always := func(_, _ *object.Header) Action { return Append }
		var newest *testObject
		for i, stamp := range []int64{50, 10, 70, 60, 65} {
			o := make1(t, b, t0, "key", stamp*1e6, fmt.Append(nil, "value ", i))
			if stamp == 65 {
				o = tombstone(t, b, t0, "key", 70*1e6)
			}
			if _, err := s.Put(b, o.hash(), t0, t0, o.rec, always); err != nil {
				t.Fatal(err)
			}
			if newest == nil || o.rec.Version().Compare(newest.rec.Version()) > 0 {
				newest = o
			}
			mustGet(t, s, newest)
			if i == 1 || i == 3 {
				if err := s.Seal(b, slotAt(t0)); err != nil {
					t.Fatal(err)
				}
			}
			mustGet(t, s, newest)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d, s = openAll(t, fsys, testConfig())
			mustGet(t, s, newest)
		}
		n := 0
		for h, err := range s.Walk(b, slotAt(t0), t0) {
			if err != nil || h.Version() != newest.rec.Version() {
				t.Errorf("walked version %v, %v", h.Version(), err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("walked %d records of one key", n)
		}
		older := make1(t, b, t0, "key", 5e6, []byte("old"))
		if action, err := s.putTest(older); err != nil || action != Same {
			t.Errorf("an older version: %v, %v", action, err)
		}
	}
}

// All deltas of a key are kept, and the same delta is not written twice.
func TestKeepAll(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	var all []*testObject
	for i := range 50 {
		o := make1(t, epochs, t0+int64(i%2), "dc", t0*1e6+int64(i), fmt.Append(nil, i))
		all = append(all, o)
		mustPut(t, s, o)
	}
	check := func() {
		t.Helper()
		for _, o := range all {
			if action, err := s.putTest(o); err != nil || action != Same {
				t.Fatalf("again: %v, %v", action, err)
			}
		}
		for second := range int64(2) {
			seen := map[string]int{}
			for rec, err := range s.Each(epochs, all[second].hash(), t0+second, t0, []byte(all[second].key)) {
				if err != nil {
					t.Fatal(err)
				}
				seen[string(rec.Value())]++
			}
			if len(seen) != 25 {
				t.Fatalf("second %d has %d deltas", second, len(seen))
			}
		}
	}
	check()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, s = openAll(t, fsys, testConfig())
	check()
	if err := s.Seal(epochs, slotAt(t0)); err != nil {
		t.Fatal(err)
	}
	check()
	_ = d
}
