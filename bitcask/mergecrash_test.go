package bitcask

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

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
