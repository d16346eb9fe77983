package bitcask

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// pages reads a slot in pages of at least n records, checks their order, and
// returns what they showed: for each key its versions.
func pages(t *testing.T, s *Store, b Bucket, epoch int64, n int) map[string][]object.Version {
	t.Helper()
	all := map[string][]object.Version{}
	for from := uint64(0); from < PageEnd; {
		count, last := 0, from
		next, err := s.Page(b, slotAt(epoch), epoch, from, func(h Head, err error) bool {
			if err != nil {
				t.Fatal(err)
			}
			at := uint64(uint32(testHash(h.Type, h.Bucket, h.Key)))
			if at < last {
				t.Fatalf("position %d after %d, in a page from %d", at, last, from)
			}
			all[string(h.Key)] = append(all[string(h.Key)], h.Version())
			last = at
			count++
			return count < n
		})
		if err != nil {
			t.Fatal(err)
		}
		if next <= last && count > 0 || next <= from {
			t.Fatalf("the page from %d with records up to %d ends at %d", from, last, next)
		}
		from = next
	}
	return all
}

// TestPage: all records come, each once, the greatest version of each key,
// whatever the size of the pages and in however many segments they lie.
func TestPage(t *testing.T) {
	for _, b := range []Bucket{events, plain} {
		_, s := openAll(t, vfs.NewMem(), testConfig())
		want := map[string][]object.Version{}
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			name := fmt.Sprintf("k%d", rng.IntN(80))
			if i%7 == 0 {
				name = fmt.Sprintf("near%d", rng.IntN(20)) // these share one position
			}
			if i%31 == 0 {
				name = fmt.Sprintf("same%d", rng.IntN(5))
			}
			if !b.Timed {
				name = "x:" + name
			}
			o := make1(t, b, t0, name, int64(1+rng.IntN(1000)), bytesOf(uint64(i), 50))
			if _, err := s.putTest(o); err != nil {
				t.Fatal(err)
			}
			if old := want[o.key]; old == nil || old[0].Compare(o.rec.Version()) < 0 {
				want[o.key] = []object.Version{o.rec.Version()}
			}
			if i%100 == 99 {
				if err := s.Seal(b, slotAt(t0)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, n := range []int{1, 2, 7, 1000} {
			if got := pages(t, s, b, t0, n); !maps.EqualFunc(got, want, slices.Equal[[]object.Version]) {
				t.Errorf("%s, pages of %d: %d keys, want %d", b.Name, n, len(got), len(want))
			}
		}
		if got := pages(t, s, b, t0+testSlot, 5); b.Timed && len(got) > 0 {
			t.Errorf("an empty slot has %d keys", len(got))
		}
	}
}

// TestPageOfAllRecords: in a bucket that keeps all of them, all come.
func TestPageOfAllRecords(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	for i := range 40 {
		mustPut(t, s, make1(t, epochs, t0, fmt.Sprint("row", i%4), int64(1+i), bytesOf(uint64(i), 20)))
	}
	n := 0
	for _, versions := range pages(t, s, epochs, t0, 3) {
		n += len(versions)
	}
	if n != 40 {
		t.Errorf("%d of 40 records", n)
	}
}

// TestPageIsBounded: a page looks at no more than so many records, and goes on
// behind them.
func TestPageIsBounded(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	const n = 4*pageLocations + 10
	for i := range n {
		mustPut(t, s, make1(t, events, t0, fmt.Sprint(i), 1, nil))
	}
	count := 0
	next, err := s.Page(events, slotAt(t0), t0, 0, func(Head, error) bool { count++; return true })
	if err != nil || next >= PageEnd || count > pageLocations {
		t.Errorf("a page of %d records up to %d, %v", count, next, err)
	}
	if got := pages(t, s, events, t0, n); len(got) != n {
		t.Errorf("%d of %d records", len(got), n)
	}
}

// TestPageHides: what has expired is left out; what is damaged is told of.
func TestPageHides(t *testing.T) {
	mem := vfs.NewMem()
	d, s := openAll(t, mem, testConfig())
	mustPut(t, s, make1(t, events, t0, "a", 1, bytesOf(1, 100)))
	mustPut(t, s, make1(t, events, t0, "b", 1, bytesOf(2, 100)))
	count := 0
	if _, err := s.Page(events, slotAt(t0), t0+testTTL, 0, func(Head, error) bool { count++; return true }); err != nil || count > 0 {
		t.Errorf("%d expired records, %v", count, err)
	}
	if err := s.Seal(events, slotAt(t0)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, mem, segmentsOf(t, mem)[0], func(b []byte) []byte { b[len(b)-150] ^= 1; return b })
	_, s = openAll(t, mem, testConfig())
	good, bad := 0, 0
	_, err := s.Page(events, slotAt(t0), t0, 0, func(_ Head, err error) bool {
		if err != nil {
			bad++
		} else {
			good++
		}
		return true
	})
	if err != nil || good != 1 || bad != 1 || len(s.Doubts()) != 1 {
		t.Errorf("%d records, %d damaged, doubts %v, %v", good, bad, s.Doubts(), err)
	}
}

// TestSync: what was appended before it survives a crash of the machine, under
// every policy, and raises no doubt.
func TestSync(t *testing.T) {
	for _, policy := range []Sync{SyncNone, SyncInterval, SyncAlways} {
		mem := vfs.NewMem()
		cfg := testConfig()
		_, s := openAll(t, mem, cfg)
		o := make1(t, events.synced(policy), t0, "a", 1, bytesOf(1, 100))
		mustPut(t, s, o)
		if err := s.Sync(events, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
		later := make1(t, events.synced(SyncNone), t0+testSlot, "b", 1, bytesOf(1, 100))
		mustPut(t, s, later)
		cfg.BootID = "boot-2"
		_, s = openAll(t, mem.PowerCut(rand.New(rand.NewPCG(1, 2))), cfg)
		mustGet(t, s, o)
		if d := s.Doubts(); len(d) != 1 || d[0].Slot != slotAt(t0+testSlot) {
			t.Errorf("%v: doubts %v: want one about the slot that was not synced", policy, d)
		}
	}
}

// TestDoubtNotedAgain: a doubt that was noted again since it was listed is not
// cleared: what was merged then does not answer it.
func TestDoubtNotedAgain(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	id := laneID{events.ID, slotAt(t0)}
	s.evidence.doubtLater(id, ReasonDamage)
	before := s.Doubts()[0]
	s.evidence.doubtLater(id, ReasonSyncFailed)
	if err := s.ClearDoubt(before); err == nil || len(s.Doubts()) != 1 {
		t.Errorf("cleared: %v, %v", err, s.Doubts())
	}
	if err := s.ClearDoubt(s.Doubts()[0]); err != nil || len(s.Doubts()) != 0 {
		t.Errorf("not cleared: %v, %v", err, s.Doubts())
	}
	if err := s.ClearDoubt(before); err != nil {
		t.Errorf("clearing what is gone: %v", err)
	}
}

// TestKnown: a store knows whether there was a manifest.
func TestKnown(t *testing.T) {
	mem := vfs.NewMem()
	d, s := openAll(t, mem, testConfig())
	if s.Known() {
		t.Error("a new store knows of a manifest")
	}
	if err := s.SetNote([]byte("n")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, s = openAll(t, mem, testConfig()); !s.Known() || string(s.Note()) != "n" {
		t.Error("the manifest is not known")
	}
}
