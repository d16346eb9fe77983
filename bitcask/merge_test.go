package bitcask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// hitSealed is a disk with one sealed segment: of "hit", and of "often", which was
// overwritten and makes it worth merging.
func hitSealed(t *testing.T, cfg Config) (fsys *vfs.Mem, d *Disk, s *Store, n *notebook) {
	t.Helper()
	fsys = vfs.NewMem()
	d, s = openAll(t, fsys, cfg)
	n = newNotebook(t, s)
	n.put("hit", 300)
	n.put("often", 3000)
	n.put("often", 10)
	if err := s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	return fsys, d, s, n
}

// A segment with a record that counts and cannot be read is left as it is; the
// others are merged.
func TestMergeLeavesDamage(t *testing.T) {
	cfg := mergeConfig()
	fsys, d, s, n := hitSealed(t, cfg)
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
	if k, err := s.Recheck(plain, hit.hash(), 0, t0, []byte("hit"), object.Version{}); k != 1 || err != nil {
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

// TestMergeDropsUnread: a record that the disk does not read keeps its segment from being
// merged until it was put anew.
func TestMergeDropsUnread(t *testing.T) {
	cfg := mergeConfig()
	fsys, d, s, n := hitSealed(t, cfg)
	hit, first := n.newest["hit"], segmentsOf(t, fsys)[0]
	fsys.Inject(failSector(first, offsetOf(t, s, hit)+frameSize))
	for _, anew := range []bool{false, true} {
		if anew {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d, s = openAll(t, fsys, cfg)
		}
		_ = s.getErr(hit, t0)
		upkeep(t, d, t0, unreadPatience+60)
		if left := segmentsOf(t, fsys); slices.Contains(left, first) == anew {
			t.Errorf("put anew: %v, files %q", anew, left)
		}
		if !anew {
			mustPut(t, s, hit)
		}
	}
	mustGet(t, s, hit)
	mustGet(t, s, n.newest["often"])
	if found, totals := checkAll(t, fsys.Kill()); totals.Damage > 0 {
		t.Errorf("check: %+v", found)
	}
}
