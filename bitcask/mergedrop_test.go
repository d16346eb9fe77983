package bitcask

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// TestTombstones: a tombstone is kept through merges until it is old, and while
// any other file has the key; then it goes, the reap horizon says so, and the
// object does not come back.
func TestTombstones(t *testing.T) {
	cfg := mergeConfig()
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	n := newNotebook(t, s)
	// An old value in a segment that stays as it is: the rest of it counts.
	n.put("deleted", 100)
	for i := range 8 {
		n.put(fmt.Sprintf("live%d", i), 1500)
	}
	seal := func() {
		t.Helper()
		if err := s.Seal(plain, 0); err != nil {
			t.Fatal(err)
		}
	}
	seal()
	n.del("deleted")
	n.del("never there")
	n.put("filler", 1000)
	seal()
	n.put("filler", 1000)
	seal()
	now := upkeep(t, d, t0, 200)
	n.check("young", t0, false)
	if d.Stats().Merges == 0 || d.Stats().TombstonesReaped != 0 || s.ReapHorizon(plain) != 0 {
		t.Fatalf("%+v", d.Stats())
	}
	now = upkeep(t, d, now+cfg.TombstoneGraceSeconds, 200)
	if err := s.getErr(n.newest["deleted"], t0); err != nil {
		t.Fatalf("the tombstone of a value that is still in a file: %v", err)
	}
	st := d.Stats()
	upkeep(t, d, now, 300)
	if d.Stats().MergeWrittenBytes != st.MergeWrittenBytes {
		t.Error("a tombstone that may not go is copied again and again")
	}
	// The file with the old value becomes mostly dead and goes; then the tombstone may.
	for i := range 8 {
		n.put(fmt.Sprintf("live%d", i), 1500)
	}
	seal()
	now = upkeep(t, d, now+300, 300)
	// Its segment holds hardly anything else.
	n.put("filler", 10)
	seal()
	upkeep(t, d, now, 300)
	wantErr(t, s.getErr(n.newest["deleted"], t0), ErrAbsent, "a tombstone that may go")
	wantErr(t, s.getErr(n.newest["never there"], t0), ErrAbsent, "a tombstone that may go")
	if d.Stats().TombstonesReaped != 2 || int64(s.ReapHorizon(plain)) <= t0 {
		t.Errorf("%d reaped, horizon %d", d.Stats().TombstonesReaped, s.ReapHorizon(plain))
	}
	n.check("reaped", t0, true)
	horizon := s.ReapHorizon(plain)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, s = openAll(t, fsys.PowerCut(newRand(1)), cfg)
	n.s = s
	n.check("reaped, reopened", t0, true)
	if s.ReapHorizon(plain) != horizon {
		t.Errorf("reap horizon %d, was %d", s.ReapHorizon(plain), horizon)
	}
}

// While a lane is in doubt (a missing file may come back) or the clock is not
// trusted, no tombstone goes.
func TestTombstonesInDoubt(t *testing.T) {
	for _, tc := range []struct {
		name    string
		doubt   bool
		trusted bool
		want    int64
	}{{"all is well", false, true, 1}, {"in doubt", true, true, 0}, {"a clock that jumped", false, false, 0}} {
		cfg := mergeConfig()
		d, s := openAll(t, vfs.NewMem(), cfg)
		n := newNotebook(t, s)
		n.del("a")
		for range 9 {
			n.put("b", 100)
		}
		if err := s.Seal(plain, 0); err != nil {
			t.Fatal(err)
		}
		if tc.doubt {
			s.evidence.doubtLater(laneID{plain.ID, plainSlot}, ReasonMissingSegment)
		}
		now := t0 + cfg.TombstoneGraceSeconds
		for i := range int64(100) {
			if _, err := d.Maintain(now+i, tc.trusted); err != nil {
				t.Fatal(err)
			}
		}
		if st := d.Stats(); st.TombstonesReaped != tc.want || st.Merges == 0 {
			t.Errorf("%s: %d reaped in %d merges", tc.name, st.TombstonesReaped, st.Merges)
		}
	}
}

// No tombstone goes while a file that was merged is still there: were the manifest
// lost, the file would be taken into use again, with what was deleted in it.
func TestTombstonesOutliveBuried(t *testing.T) {
	cfg := mergeConfig()
	cfg.TombstoneGraceSeconds = 100
	d, s := openAll(t, vfs.NewMem(), cfg)
	n := newNotebook(t, s)
	seal := func() {
		t.Helper()
		if err := s.Seal(plain, 0); err != nil {
			t.Fatal(err)
		}
	}
	n.put("deleted", 1000)
	n.put("walked", 1000)
	seal()
	n.del("deleted")
	seal()
	n.put("walked", 10)
	now := t0
	for _, err := range s.Walk(plain, 0, t0) {
		if err != nil {
			t.Fatal(err)
		}
		now = upkeep(t, d, now, 300)
	}
	if st := d.Stats(); st.BuriedSegments == 0 || st.TombstonesReaped != 0 {
		t.Errorf("during the walk: %d buried, %d reaped", st.BuriedSegments, st.TombstonesReaped)
	}
	upkeep(t, d, now, 30)
	if st := d.Stats(); st.BuriedSegments != 0 || st.TombstonesReaped != 1 {
		t.Errorf("after it: %d buried, %d reaped", st.BuriedSegments, st.TombstonesReaped)
	}
}

// TestUnneeded: what nobody needs is dropped, also after a restart; what is put
// once it is needed again stays, also if that comes between two questions.
func TestUnneeded(t *testing.T) {
	cfg := mergeConfig()
	var answers []bool // to the questions, the last one to all that follow
	cfg.Unneeded = func(Partition) bool {
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return a
	}
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	old := make1(t, plain, 0, "old", t0*1e6, bytesOf(1, 1000))
	mustPut(t, s, old)
	answers = []bool{true, false} // it comes to be needed
	now := upkeep(t, d, t0, 1)
	mustGet(t, s, old)
	young := make1(t, plain, 0, "young", t0*1e6, bytesOf(2, 1000))
	mustPut(t, s, young)
	now = upkeep(t, d, now, buriedFor+5)
	mustGet(t, s, old)
	mustGet(t, s, young)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, s = openAll(t, fsys, cfg)
	answers = []bool{true}
	now = upkeep(t, d, now, 60+buriedFor+5)
	wantErr(t, s.getErr(old, t0), ErrAbsent, "dropped")
	wantErr(t, s.getErr(young, t0), ErrAbsent, "dropped")
	if n, st := countFiles(t, fsys, laneDir(plain.ID, Partition{})), d.Stats(); n > 1 || st.PlainUnneeded != 2 {
		t.Errorf("%d files, %+v", n, st)
	}
	answers = []bool{false}
	mustPut(t, s, young)
	upkeep(t, d, now, buriedFor+5)
	mustGet(t, s, young)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPlainTTL: segments whose every record has expired are unlinked and nothing
// is rewritten; a merge drops what has expired; a longer TTL brings nothing
// back, above all not what had been deleted.
func TestPlainTTL(t *testing.T) {
	cfg := mergeConfig()
	ttl := testTTL
	cfg.TTL = func(uint64) int64 { return ttl }
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	put := func(key string, second int64) *testObject {
		t.Helper()
		o := make1(t, plain, 0, key, (t0+second)*1e6, bytesOf(1, 1000))
		mustPut(t, s, o)
		return o
	}
	seal := func() {
		t.Helper()
		if err := s.Seal(plain, 0); err != nil {
			t.Fatal(err)
		}
	}
	put("deleted", 0)
	keeper := put("keeper", 50) // keeps the old value's segment alive
	seal()
	mustPut(t, s, tombstone(t, plain, 0, "deleted", (t0+1)*1e6))
	first := put("first", 2)
	seal()
	late := put("late", 60)
	dir := laneDir(plain.ID, Partition{})
	if n := countFiles(t, fsys, dir); n != 5 {
		t.Fatalf("%d files", n)
	}
	// A clock that has jumped drops nothing.
	if _, err := d.Maintain(t0+20*365*86400, false); err != nil || countFiles(t, fsys, dir) != 5 || s.Horizon(plain) != 0 {
		t.Fatalf("an untrusted clock: %v, %d files, horizon %d", err, countFiles(t, fsys, dir), s.Horizon(plain))
	}
	upkeep(t, d, t0+testTTL+2, buriedFor+5)
	if n, st := countFiles(t, fsys, dir), d.Stats(); n != 3 || st.PlainExpired != 1 || st.MergeWrittenBytes != 0 {
		t.Errorf("%d files, %+v", n, st)
	}
	ttl = 100 * testTTL
	for range 2 {
		wantErr(t, s.getErr(first, t0), ErrAbsent, "dropped")
		mustGet(t, s, keeper)
		mustGet(t, s, late)
		rec, err := s.Get(plain, keeper.hash(), 0, t0, []byte("deleted"))
		if err == nil || !errors.Is(err, ErrExpired) && !errors.Is(err, ErrAbsent) {
			t.Fatalf("what was deleted is back: %v, %v", rec.Header, err)
		}
		o := make1(t, plain, 0, "deleted", (t0+1)*1e6, nil)
		if err := s.getErr(o, t0); !errors.Is(err, ErrExpired) {
			t.Fatalf("what was deleted and then dropped: %v", err)
		}
		_, err = s.putTest(make1(t, plain, 0, "new", (t0+1)*1e6, nil))
		wantErr(t, err, ErrExpired, "a put below the horizon")
		for h, err := range s.Walk(plain, 0, t0) {
			if err != nil || string(h.Key) == "deleted" {
				t.Errorf("walked %q, %v", h.Key, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, cfg)
	}
	// The active segment is dropped too once all in it has expired, though nobody
	// has used the bucket since the restart.
	ttl = testTTL
	if _, err := d.Store(Partition{}); err != nil {
		t.Fatal(err)
	}
	upkeep(t, d, t0+1000, mergeAfterStart+buriedFor+10)
	if n := countFiles(t, fsys, dir); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if found, totals := checkAll(t, fsys.Kill()); totals.Damage+totals.Notes != 0 {
		t.Errorf("check: %+v", found)
	}
}

// A merge that meets what has expired drops it, and raises the horizon with it.
func TestMergeDropsExpired(t *testing.T) {
	cfg := mergeConfig()
	cfg.TTL = func(uint64) int64 { return testTTL }
	d, s := openAll(t, vfs.NewMem(), cfg)
	put := func(key string, second int64, size int) *testObject {
		t.Helper()
		o := make1(t, plain, 0, key, (t0+second)*1e6, bytesOf(1, size))
		mustPut(t, s, o)
		return o
	}
	old := put("old", 1, 500)
	kept := put("kept", 90, 100)
	put("often", 90, 2000)
	put("often", 91, 2000)
	put("often", 92, 10)
	if err := s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	upkeep(t, d, t0+testTTL+10, 75)
	if st := d.Stats(); st.Merges != 1 || int64(s.Horizon(plain)) != t0+2 {
		t.Errorf("horizon t0+%d, %+v", int64(s.Horizon(plain))-t0, st)
	}
	mustGet(t, s, kept)
	wantErr(t, s.getErr(old, t0), ErrAbsent, "what had expired")
}
