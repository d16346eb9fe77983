package bitcask

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// mergeConfig is a configuration under which little data makes many segments.
func mergeConfig() Config {
	cfg := testConfig()
	cfg.MaxSegmentBytes = 16 << 10
	cfg.MergeBytesPerSecond = 1 << 20
	cfg.TombstoneGraceSeconds = 1000
	return cfg
}

// upkeep calls Maintain once a second for some seconds, and returns the last.
func upkeep(t testing.TB, d *Disk, from, seconds int64) int64 {
	t.Helper()
	for now := from; now < from+seconds; now++ {
		if _, err := d.Maintain(now, true); err != nil {
			t.Fatalf("maintain at t0+%d: %v", now-t0, err)
		}
	}
	return from + seconds
}

// A notebook is a plain bucket and what must be in it.
type notebook struct {
	t      testing.TB
	s      *Store
	stamp  int64 // microseconds after t0
	newest map[string]*testObject
}

func newNotebook(t testing.TB, s *Store) *notebook {
	return &notebook{t: t, s: s, newest: map[string]*testObject{}}
}

func (n *notebook) put(key string, size int) {
	n.t.Helper()
	n.stamp++
	o := make1(n.t, plain, 0, key, t0*1e6+n.stamp, bytesOf(uint64(n.stamp), size))
	mustPut(n.t, n.s, o)
	n.newest[key] = o
}

func (n *notebook) del(key string) {
	n.t.Helper()
	n.stamp++
	o := tombstone(n.t, plain, 0, key, t0*1e6+n.stamp)
	mustPut(n.t, n.s, o)
	n.newest[key] = o
}

// check holds every key against the store: by get, by walk, and, as a deleted one
// may be forgotten, reaped tells from when on.
func (n *notebook) check(what string, now int64, reaped bool) {
	n.t.Helper()
	for key, o := range n.newest {
		err := n.s.getErr(o, now)
		if gone := reaped && o.rec.Kind == object.Tombstone; err != nil && !(gone && errors.Is(err, ErrAbsent)) {
			n.t.Fatalf("%s: get %q: %v", what, key, err)
		}
	}
	seen := map[string]bool{}
	for h, err := range n.s.Walk(plain, 0, now) {
		if err != nil {
			n.t.Fatalf("%s: walk: %v", what, err)
		}
		o := n.newest[string(h.Key)]
		if o == nil || o.rec.Version() != h.Version() || seen[string(h.Key)] {
			n.t.Fatalf("%s: walked %q, version %v, twice %v", what, h.Key, h.Version(), seen[string(h.Key)])
		}
		seen[string(h.Key)] = true
	}
	for key, o := range n.newest {
		if !seen[key] && (o.rec.Kind == object.Value || !reaped) {
			n.t.Fatalf("%s: the walk left out %q", what, key)
		}
	}
}

// sum is what Digests must say, if no tombstone has been reaped.
func (n *notebook) sum() MinuteDigest {
	var d MinuteDigest
	for _, o := range n.newest {
		d.Count++
		d.Digest.Add(o.hash(), o.rec.Version())
	}
	return d
}

// bytesIn returns the bytes of all files in a directory.
func bytesIn(t testing.TB, fsys vfs.FS, dir string) (sum int64) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := fsys.Stat(dir + "/" + e.Name)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.SizeBytes
	}
	return sum
}

func TestChooseMerge(t *testing.T) {
	const limit = 1600
	for _, tc := range []struct {
		name string
		all  []mergeCandidate
		want []int
	}{
		{"nothing", nil, nil},
		{"nothing is dead", []mergeCandidate{{1600, 0, 0}, {1500, 0, 1}}, nil},
		{"under half is dead", []mergeCandidate{{1600, 799, 0}}, nil},
		{"half is dead", []mergeCandidate{{1600, 800, 0}}, []int{0}},
		{"the deadest first, whatever their order", []mergeCandidate{{1600, 800, 0}, {1000, 1000, 1}, {1000, 700, 2}, {1600, 0, 3}}, []int{1, 2, 0}},
		{"equally dead: the oldest first", []mergeCandidate{{1000, 500, 4}, {1600, 800, 1}}, []int{1, 0}},
		{"a few small ones stay", slices.Repeat([]mergeCandidate{{99, 0, 0}}, 7), nil},
		{"many small ones go together", slices.Repeat([]mergeCandidate{{99, 0, 0}}, 8), []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"a dead one takes small ones along", append(slices.Repeat([]mergeCandidate{{99, 0, 0}}, 7), mergeCandidate{1600, 1600, 9}), []int{7, 0, 1, 2, 3, 4, 5, 6}},
		{"so many at once", slices.Repeat([]mergeCandidate{{1600, 1600, 0}}, 40), []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
	} {
		if got := chooseMerge(tc.all, limit); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	for _, tc := range []struct {
		size, dead int64
		want       bool
	}{{100, 49, false}, {100, 75, true}, {400, 75, false}, {49, 49, false}, {1000, 750, true}, {1000, 749, false}} {
		if got := wasteful(tc.size, tc.dead, 1600); got != tc.want {
			t.Errorf("%d of %d bytes dead: %v", tc.dead, tc.size, got)
		}
	}
}

// TestMergeFreesSpace: what was overwritten is given back, what counts is found
// before, during and after, and after a restart; nothing is copied at the start.
func TestMergeFreesSpace(t *testing.T) {
	fsys := vfs.NewMem()
	cfg := mergeConfig()
	d, s := openAll(t, fsys, cfg)
	n := newNotebook(t, s)
	for round := range 12 {
		for i := range 20 {
			n.put(fmt.Sprintf("k%d", i), 900+round)
		}
	}
	n.del("k7")
	before := bytesIn(t, fsys, laneDir(plain.ID, Partition{}))
	now := upkeep(t, d, t0, mergeAfterStart)
	if st := d.Stats(); st.Merges != 0 || st.MergeWrittenBytes != 0 {
		t.Fatalf("merged in the first minute: %+v", st)
	}
	n.check("before", t0, false)
	now = upkeep(t, d, now, 60)
	n.check("after", t0, false)
	after := bytesIn(t, fsys, laneDir(plain.ID, Partition{}))
	st := d.Stats()
	if st.Merges == 0 || after > before/3 || st.MergeFailures+st.MergeSkipped != 0 || st.BuriedSegments != 0 || st.Merging {
		t.Errorf("%d bytes before, %d after, %+v", before, after, st)
	}
	if st.MergeWrittenBytes == 0 || st.MergeWrittenBytes > 50_000 {
		t.Errorf("%d bytes were rewritten to free %d", st.MergeWrittenBytes, before-after)
	}
	if sums, err := s.Digests(plain, 0); err != nil || len(sums) != 1 || sums[0] != n.sum() {
		t.Errorf("digests %+v, %v, want %+v", sums, err, n.sum())
	}
	for range 2 {
		if found, totals := checkAll(t, fsys.Kill()); totals.Damage+totals.Notes != 0 {
			t.Errorf("check: %+v", found)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, cfg)
		n.s = s
		n.check("reopened", t0, false)
		now = upkeep(t, d, now, 100)
		n.put("k3", 500)
	}
	// It has come to rest: nothing is copied for ever.
	was := d.Stats().MergeWrittenBytes
	upkeep(t, d, now, 300)
	if is := d.Stats().MergeWrittenBytes; is != was {
		t.Errorf("with nothing new, %d more bytes were rewritten", is-was)
	}
}

// Sums of what replicas show are the same however often it was overwritten, and
// wherever the records lie.
func TestPlainDigests(t *testing.T) {
	cfg := mergeConfig()
	_, s := openAll(t, vfs.NewMem(), cfg)
	n := newNotebook(t, s)
	rng := newRand(3)
	for i := range 300 {
		key := fmt.Sprint([]string{"k", ":same", ":near"}[rng.IntN(3)], rng.IntN(12))
		if rng.IntN(8) == 0 {
			n.del(key)
		} else {
			n.put(key, rng.IntN(900))
		}
		if i%50 == 49 {
			if err := s.Seal(plain, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if sums, err := s.Digests(plain, 0); err != nil || len(sums) != 1 || sums[0] != n.sum() {
		t.Errorf("digests %+v, %v, want %+v", sums, err, n.sum())
	}
}

// Merging keeps to its bytes a second, and may be switched off.
func TestMergeThrottle(t *testing.T) {
	for _, rate := range []int64{5000, -1} {
		cfg := mergeConfig()
		cfg.MergeBytesPerSecond = rate
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, cfg)
		n := newNotebook(t, s)
		for range 10 {
			for i := range 20 {
				n.put(fmt.Sprintf("k%d", i), 1000)
			}
		}
		now := upkeep(t, d, t0, mergeAfterStart)
		moved := func() int64 { st := d.Stats(); return st.MergeReadBytes + st.MergeWrittenBytes }
		seconds, most := int64(0), int64(0)
		for d.Stats().MergedSegments < 5 && seconds < 500 {
			was := moved()
			now = upkeep(t, d, now, 1)
			most = max(most, moved()-was)
			seconds++
		}
		if rate < 0 {
			if moved() != 0 {
				t.Errorf("switched off, and %d bytes were moved", moved())
			}
			continue
		}
		if most > rate+3000 || moved() > (seconds+1)*rate+3000 {
			t.Errorf("%d bytes in %d seconds, %d in one", moved(), seconds, most)
		}
		if d.Stats().MergeWaits == 0 || d.Stats().MergedSegments < 5 {
			t.Errorf("%+v", d.Stats())
		}
		n.check("throttled", t0, false)
	}
}

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

// What makes a record dead is durable before the record goes: after a loss of
// power there is the one or the other, also where nothing is ever synced.
func TestMergeSyncsWhatReplaces(t *testing.T) {
	cfg := mergeConfig()
	cfg.mergeAfter = 1
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	old := make1(t, plain.synced(SyncNone), 0, "key", t0*1e6, bytesOf(1, 2000))
	mustPut(t, s, old)
	if err := s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	next := make1(t, plain.synced(SyncNone), 0, "key", t0*1e6+1, bytesOf(2, 2000))
	mustPut(t, s, next)
	upkeep(t, d, t0, 20)
	if st := d.Stats(); st.Merges != 1 || st.BuriedSegments != 0 {
		t.Fatalf("%+v", st)
	}
	cfg.BootID = "boot-2"
	for seed := range 10 {
		_, s := openAll(t, fsys.PowerCut(newRand(seed)), cfg)
		mustGet(t, s, next)
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

// A walk that has begun yields everything, although what it walks is merged and
// the time to unlink it passes.
func TestWalkThroughMerge(t *testing.T) {
	cfg := mergeConfig()
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	n := newNotebook(t, s)
	for range 6 {
		for i := range 20 {
			n.put(fmt.Sprintf("k%d", i), 1000)
		}
	}
	now := upkeep(t, d, t0, mergeAfterStart-1)
	seen := map[string]bool{}
	for h, err := range s.Walk(plain, 0, t0) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(h.Key)] {
			t.Errorf("%q twice", h.Key)
		}
		seen[string(h.Key)] = true
		now = upkeep(t, d, now, 20)
	}
	if len(seen) != 20 || d.Stats().Merges == 0 {
		t.Errorf("walked %d of 20 keys through %d merges", len(seen), d.Stats().Merges)
	}
	if d.Stats().BuriedSegments == 0 {
		t.Error("nothing waited for the walk")
	}
	upkeep(t, d, now, 40)
	if st := d.Stats(); st.BuriedSegments != 0 || countFiles(t, fsys, laneDir(plain.ID, Partition{})) > 8 {
		t.Errorf("%d files, %+v", countFiles(t, fsys, laneDir(plain.ID, Partition{})), st)
	}
}

// Puts, deletes, gets and walks go on while segments are merged under them.
func TestMergeConcurrently(t *testing.T) {
	cfg := mergeConfig()
	cfg.TombstoneGraceSeconds = 1 << 40 // time flies here
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	stop := make(chan struct{})
	var puts, wg sync.WaitGroup
	last := make([]*testObject, 4)
	for w := range last {
		puts.Go(func() {
			for i := range 200 {
				o := make1(t, plain, 0, fmt.Sprintf("w%d", w), t0*1e6+int64(i), bytesOf(uint64(i), i%900))
				if i%100 == 99 {
					o = tombstone(t, plain, 0, fmt.Sprintf("w%d", w), t0*1e6+int64(i))
				}
				mustPutAny(t, s, o)
				if err := s.getErr(o, t0); err != nil {
					t.Errorf("put %d of writer %d: %v", i, w, err)
					return
				}
				mustPutAny(t, s, make1(t, plain, 0, fmt.Sprintf("w%d:%d", w, i%30), t0*1e6+int64(i), bytesOf(uint64(i), 100)))
				last[w] = o
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, err := range s.Walk(plain, 0, t0) {
				if err != nil {
					t.Errorf("walk: %v", err)
					return
				}
			}
		}
	})
	wg.Go(func() {
		for now := t0; ; now++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := d.Maintain(now, true); err != nil {
				t.Errorf("maintain: %v", err)
				return
			}
		}
	})
	puts.Wait()
	close(stop)
	wg.Wait()
	for _, o := range last {
		mustGet(t, s, o)
	}
	if st := d.Stats(); st.Merges == 0 || st.Damage != 0 || st.MergeFailures != 0 {
		t.Errorf("%+v", st)
	}
}

func mustPutAny(t testing.TB, s *Store, o *testObject) {
	if _, err := s.putTest(o); err != nil {
		t.Errorf("put %q: %v", o.key, err)
	}
}

// A segment with a record that counts and cannot be read is left as it is; the
// others are merged.
func TestMergeLeavesDamage(t *testing.T) {
	cfg := mergeConfig()
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	n := newNotebook(t, s)
	n.put("hit", 300)
	n.put("often", 3000)
	n.put("often", 10)
	if err := s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	n.put("other", 300)
	n.put("twice", 3000)
	n.put("twice", 10)
	if err := s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	files := segmentsOf(t, fsys)
	hit := n.newest["hit"]
	edit(t, fsys, files[0], func(b []byte) []byte {
		at := strings.Index(string(b), string(hit.rec.Value()[:20]))
		b[at+100] ^= 1
		return b
	})
	d.handles.closeIdle()
	upkeep(t, d, t0, mergeAfterStart+40)
	st := d.Stats()
	if st.MergeSkipped != 1 || st.MergedSegments != 1 || st.Damage != 1 {
		t.Errorf("%+v", st)
	}
	if left := segmentsOf(t, fsys); len(left) != 2 || left[0] != files[0] {
		t.Errorf("files %q", left)
	}
	if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonDamage || doubts[0].Slot != plainSlot {
		t.Errorf("doubts %+v", doubts)
	}
	for _, key := range []string{"often", "other", "twice"} {
		mustGet(t, s, n.newest[key])
	}
	wantErr(t, s.getErr(hit, t0), object.ErrCorrupt, "the damaged one")
	// The object is put again: then the segment may go.
	if k, err := s.Recheck(plain, hit.hash(), 0, t0, []byte("hit")); k != 1 || err != nil {
		t.Fatalf("recheck: %d, %v", k, err)
	}
	mustPut(t, s, hit)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, s = openAll(t, fsys, cfg)
	mustGet(t, s, hit)
	upkeep(t, d, t0, mergeAfterStart+40)
	mustGet(t, s, hit)
	if left := segmentsOf(t, fsys); slices.Contains(left, files[0]) {
		t.Errorf("files %q", left)
	}
}

// mergeScript makes a few mostly dead segments out of several buckets' puts and
// merges them. acked tells of every put and delete that was acknowledged.
func mergeScript(l *life) error {
	other := Bucket{ID: 0xe4, Type: "default", Name: "other"}
	put := func(b Bucket, key string, size int) func() error {
		return func() error { return l.put(b, 0, key, size) }
	}
	del := func(key string) func() error {
		return func() error {
			l.stamp++
			return l.putObject(tombstone(l.t, plain.synced(l.sync), 0, key, t0*1e6+l.stamp))
		}
	}
	steps := []func() error{
		l.open,
		put(plain, "a", 2000), put(plain, "b", 2000), put(other, "x", 500), put(plain, "gone", 500),
		func() error { return l.seal(plain, 0) },
		put(plain, "a", 2100), put(plain, "b", 2100), del("gone"), del("never"),
		func() error { return l.seal(plain, 0) },
		put(plain, "a", 100), put(other, "x", 600), put(plain, "b", 100),
		func() error { return l.maintain(t0, 75) },
		put(plain, "a", 300), func() error { return l.put(events, t0, "e", 300) }, put(plain, "c", 300),
		func() error { return l.seal(plain, 0) },
		put(plain, "c", 200), del("a"),
		func() error { return l.maintain(t0+2000, 100) },
		put(plain, "a", 50),
		func() error { return l.d.Close() },
		l.open,
		put(plain, "d", 50),
		func() error { return l.maintain(t0+3000, 100) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// maintain runs Maintain every five seconds. The clock of the timed buckets is not
// trusted: they have nothing to do with it.
func (l *life) maintain(from, seconds int64) error {
	for now := from; now < from+seconds; now += 5 {
		if _, err := l.d.Maintain(now, now >= t0+2000); err != nil {
			return err
		}
		if l.fsys.Crashed() {
			return vfs.ErrCrashed
		}
	}
	st := l.d.Stats()
	l.merges, l.reaped = l.merges+st.Merges, l.reaped+st.TombstonesReaped
	return nil
}

func mergeLife(t *testing.T, policy Sync) *life {
	l := newLife(t, policy)
	l.cfg = mergeConfig()
	l.cfg.TTL = nil
	return l
}

// TestCrashInMerge crashes at each operation of a life with merges: nothing
// acknowledged is lost, and nothing that was overwritten or deleted comes back,
// at the start or when merging goes on.
func TestCrashInMerge(t *testing.T) {
	cuts, stride := 2, 1
	if testing.Short() || raceEnabled {
		cuts, stride = 1, 5
	}
	all := func(*testObject, int) bool { return true }
	for _, policy := range []Sync{SyncNone, SyncAlways} {
		t.Run(policy.String(), func(t *testing.T) {
			k := 0
			for ; ; k += stride {
				l := mergeLife(t, policy)
				l.fsys.CrashAt(k)
				err := mergeScript(l)
				l.close()
				if !l.fsys.Crashed() {
					if err != nil {
						t.Fatal(err)
					}
					if l.merges < 3 || l.reaped < 2 {
						t.Errorf("the script merges %d times, and reaps %d tombstones", l.merges, l.reaped)
					}
					break
				}
				l.verifyMerged(fmt.Sprintf("killed at operation %d", k), l.fsys.Kill(), "boot-1", all)
				durable := all
				if policy != SyncAlways {
					durable = func(o *testObject, i int) bool { return i < l.sealed[laneOf(o.b, o.epoch, testSlot)] }
				}
				for seed := range cuts {
					rng := rand.New(rand.NewPCG(uint64(k), uint64(seed)))
					l.verifyMerged(fmt.Sprintf("power cut at operation %d, seed %d", k, seed), l.fsys.PowerCut(rng), "boot-2", durable)
				}
			}
			t.Logf("%d operations", k)
			if k < 150 {
				t.Errorf("the script has only %d operations: it does not do what it should", k)
			}
		})
	}
}

// verifyMerged opens what a crash has left, and merges what is left to merge:
// each key shows its greatest acknowledged version, or one tried after it, or,
// where it was deleted, nothing.
func (l *life) verifyMerged(what string, fsys *vfs.Mem, boot string, keep func(*testObject, int) bool) {
	l.t.Helper()
	cfg := l.cfg
	cfg.BootID = boot
	if _, err := fsys.Stat(identityName); err == nil && (l.sync == SyncAlways || boot == "boot-1") {
		l.checkClean(what+", before the start", fsys.Kill(), boot)
	}
	d, err := OpenDisk(fsys, cfg, t0*1e6)
	if err != nil {
		l.t.Fatalf("%s: opening: %v", what, err)
	}
	defer d.Close()
	s, err := d.Store(Partition{})
	if err != nil {
		l.t.Fatalf("%s: opening the store: %v", what, err)
	}
	look := func(when string) {
		l.t.Helper()
		for id, o := range l.expect(keep) {
			err := l.foundOrNewer(s, o)
			if reaped := o.rec.Kind == object.Tombstone && l.nothingOlder(s, o); err != nil && !reaped {
				l.t.Fatalf("%s, %s: %s, version %v: %v", what, when, id, o.rec.Version(), err)
			}
		}
	}
	look("at the start")
	for _, now := range []int64{0, 1, 60, 61, 62, 72, 82, 83, 84, 95, 96, 97, 110, 120, 130} {
		upkeep(l.t, d, t0+5000+now, 1)
	}
	look("merged")
	if st := d.Stats(); st.BuriedSegments != 0 || st.MergeFailures != 0 {
		l.t.Fatalf("%s: %+v", what, st)
	}
	o := make1(l.t, plain.synced(SyncAlways), 0, "after", t0*1e6, bytesOf(9, 3000))
	mustPut(l.t, s, o)
	mustGet(l.t, s, o)
	if err := d.Close(); err != nil {
		l.t.Fatalf("%s: closing: %v", what, err)
	}
	if l.sync == SyncAlways || boot == "boot-1" {
		l.checkClean(what+", at the end", fsys, boot)
	}
	entries, err := fsys.ReadDir(laneDir(plain.ID, Partition{}))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name, vfs.TempSuffix) {
			l.t.Fatalf("%s: %s is left", what, e.Name)
		}
	}
}

// nothingOlder reports whether a deleted key shows nothing, or what was put after
// it was deleted.
func (l *life) nothingOlder(s *Store, o *testObject) bool {
	rec, err := s.Get(o.b, o.hash(), 0, t0, []byte(o.key))
	if err != nil {
		return errors.Is(err, ErrAbsent)
	}
	defer rec.Release()
	return rec.Version().Compare(o.rec.Version()) >= 0
}

func (l *life) checkClean(what string, fsys *vfs.Mem, boot string) {
	l.t.Helper()
	if _, err := Check(fsys, CheckOptions{Hash: testHash, BootID: boot}, func(f Finding) bool {
		if f.Severity == SeverityDamage {
			l.t.Fatalf("%s: check: %+v", what, f)
		}
		return true
	}); err != nil {
		l.t.Fatalf("%s: check: %v", what, err)
	}
}

// TestFaultsInMerge fails each operation of a life with merges in turn, once or
// from then on until the disk is mended: nothing acknowledged is lost and merging
// goes on afterwards.
func TestFaultsInMerge(t *testing.T) {
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, lasting := range []bool{false, true} {
			t.Run(fmt.Sprint(fault, lasting), func(t *testing.T) {
				merged := false
				for k := 0; !merged; k++ {
					if (testing.Short() || raceEnabled) && k%7 != 0 {
						continue
					}
					merged = faultInMerge(t, fault, lasting, k)
				}
			})
		}
	}
}

// faultInMerge reports whether the k-th operation came after the script's end.
func faultInMerge(t *testing.T, fault error, lasting bool, k int) (over bool) {
	cfg := mergeConfig()
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	defer d.Close()
	n := newNotebook(t, s)
	for range 3 {
		for i := range 6 {
			n.put(fmt.Sprintf("k%d", i), 2000)
		}
		n.del("k5")
	}
	seen := 0
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind > vfs.OpSyncDir {
			return nil
		}
		seen++
		if seen == k+1 || lasting && seen > k {
			if op.Kind == vfs.OpWrite && fault == error(syscall.ENOSPC) {
				return &vfs.Partial{Bytes: op.Bytes / 2, Err: fault}
			}
			return fault
		}
		return nil
	})
	failed := 0
	for now := t0; now < t0+100; now++ {
		if _, err := d.Maintain(now, true); err != nil {
			failed++
		}
	}
	over = seen <= k
	fsys.Inject(nil)
	what := fmt.Sprintf("%v at operation %d, lasting %v", fault, k, lasting)
	n.check(what, t0, false)
	d.space.refresh(d)
	now := upkeep(t, d, t0+100, 150)
	n.check(what+", mended", t0, false)
	if st := d.Stats(); st.SyncErrors == 0 && (st.Merges == 0 || st.BuriedSegments != 0) || failed > 0 && over {
		t.Fatalf("%s: %d rounds failed, %+v", what, failed, st)
	}
	n.put("k0", 100)
	if err := d.Close(); err != nil && !lasting && fault == error(syscall.ENOSPC) {
		t.Fatalf("%s: closing: %v", what, err)
	}
	d, s = openAll(t, fsys, cfg)
	n.s = s
	n.check(what+", reopened", t0, false)
	upkeep(t, d, now, 100)
	n.check(what+", merged again", t0, false)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if found, totals := checkAll(t, fsys); totals.Damage != 0 {
		t.Fatalf("%s: check: %+v", what, found)
	}
	return over
}
