package bitcask

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A life is a run of a store on a file system that may crash, and what the
// store has acknowledged in it.
type life struct {
	t       *testing.T
	fsys    *vfs.Mem
	cfg     Config
	d       *Disk
	s       *Store
	sync    Sync
	acked   []*testObject
	tried   []*testObject  // not acknowledged
	sealed  map[laneID]int // how many of acked were when the slot was sealed
	dropped expiry.Horizon
	stamp   int64

	merges, reaped int64 // in mergeScript
}

func newLife(t *testing.T, policy Sync) *life {
	return &life{t: t, fsys: vfs.NewMem(), cfg: testConfig(), sync: policy, sealed: map[laneID]int{}}
}

func (l *life) open() error {
	var err error
	l.s = nil
	if l.d, err = OpenDisk(l.fsys, l.cfg, t0*1e6); err != nil {
		return err
	}
	l.s, err = l.d.Store(Partition{})
	return err
}

func (l *life) close() {
	if l.d != nil {
		_ = l.d.Close() // after a crash it says so
	}
}

func (l *life) put(b Bucket, epoch int64, name string, size int) error {
	l.stamp++
	o := make1(l.t, b.synced(l.sync), epoch, name, t0*1e6+l.stamp, bytesOf(uint64(l.stamp), size))
	return l.putObject(o)
}

func (l *life) putObject(o *testObject) error {
	action, err := l.s.putTest(o)
	if err != nil {
		l.tried = append(l.tried, o)
		return err
	}
	if action == Append {
		l.acked = append(l.acked, o)
	}
	return nil
}

func (l *life) seal(b Bucket, epoch int64) error {
	if err := l.s.Seal(b, slotAt(epoch)); err != nil {
		return err
	}
	l.sealed[laneOf(b, epoch, testSlot)] = len(l.acked)
	return nil
}

func (l *life) expire(now int64) error {
	for {
		e, err := l.s.Expire(now, 1)
		if err != nil {
			return err
		}
		if !e.More {
			l.dropped = expiry.NextHorizon(now, testTTL, testSlot)
			return nil
		}
	}
}

// steps are what a node does in some hours, in little.
func (l *life) steps() []func() error {
	const b = t0 + testSlot
	return []func() error{
		l.open,
		func() error { return l.put(events, t0, "a", 100) },
		func() error { return l.put(events, t0+1, "b", 5000) },
		func() error { return l.put(epochs, t0, "dc", 40) },
		func() error { return l.put(epochs, t0, "dc", 40) },
		func() error { return l.put(events, t0+2, "c", 0) },
		func() error { return l.put(plain, 0, "doc", 300) },
		func() error { return l.put(plain, 0, "doc", 200) },
		func() error { return l.seal(events, t0) },
		func() error { return l.put(events, b, "d", 9000) },
		func() error { return l.put(events, t0+3, "late", 700) },
		func() error { return l.seal(epochs, t0) },
		func() error {
			l.stamp++
			return l.putObject(tombstone(l.t, plain.synced(l.sync), 0, "doc", t0*1e6+l.stamp))
		},
		func() error { return l.s.CleanIdle(t0 + 1000) },
		func() error { return l.put(events, b+1, "e", 4097) },
		func() error { return l.d.Close() },
		l.open,
		func() error { return l.put(events, b+2, "f", 123) },
		func() error { return l.s.SetNote([]byte("since slot 7")) },
		func() error { return l.expire(t0 + testTTL + testSlot) },
		func() error { return l.put(events, b+3, "g", 1) },
		func() error { return l.seal(events, b) },
		func() error { return l.seal(plain, 0) },
		func() error { return l.put(plain, 0, "doc", 10) },
	}
}

// script takes the steps up to the first that fails.
func (l *life) script() error {
	for _, step := range l.steps() {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// expect returns, by key, what must be found: the greatest acknowledged version.
func (l *life) expect(upTo func(o *testObject, i int) bool) map[string]*testObject {
	want := map[string]*testObject{}
	for i, o := range l.acked {
		if o.b.KeepAll || !upTo(o, i) || o.b.Timed && l.dropped.Covers(o.epoch) {
			continue
		}
		id := o.b.Name + " " + o.key
		if have := want[id]; have == nil || o.rec.Version().Compare(have.rec.Version()) > 0 {
			want[id] = o
		}
	}
	return want
}

// verify opens what the crash has left and holds it against what was
// acknowledged. Objects that keep accepts must be there; of the others, either
// they are, or their slot is doubted.
func (l *life) verify(what string, fsys *vfs.Mem, boot string, keep func(o *testObject, i int) bool, clean bool) {
	l.t.Helper()
	fail := func(format string, args ...any) {
		l.t.Helper()
		l.t.Fatalf("%s: %s", what, fmt.Sprintf(format, args...))
	}
	if clean {
		if _, err := fsys.Stat(identityName); err == nil {
			if _, err := Check(fsys.Kill(), CheckOptions{Hash: testHash, BootID: boot}, func(f Finding) bool {
				if f.Severity == SeverityDamage {
					fail("check before the start: %+v", f)
				}
				return true
			}); err != nil {
				fail("check: %v", err)
			}
		}
	}
	cfg := l.cfg
	cfg.BootID = boot
	d, err := OpenDisk(fsys, cfg, t0*1e6)
	if err != nil {
		fail("opening: %v", err)
	}
	defer d.Close()
	s, err := d.Store(Partition{})
	if err != nil {
		fail("opening the store: %v", err)
	}
	// The state is what was acknowledged, or that and what was tried last.
	for id, o := range l.expect(keep) {
		if err := l.foundOrNewer(s, o); err != nil {
			fail("%s: %v", id, err)
		}
	}
	for id, o := range l.expect(func(*testObject, int) bool { return true }) {
		if err := l.foundOrNewer(s, o); err != nil && !l.doubted(s, o) {
			fail("%s is lost (%v) and nothing doubts it: %v", id, err, s.Doubts())
		}
	}
	l.verifyDeltas(s, keep, fail)
	if h := s.Horizon(events); h < l.dropped {
		fail("horizon %d, want %d", h, l.dropped)
	}
	if l.dropped > 0 {
		o := l.acked[0]
		wantErr(l.t, l.rawGet(s, o), ErrExpired, what+": what was dropped")
	}
	// It goes on from here.
	after := make1(l.t, events.synced(SyncAlways), t0+2*testSlot, "after", t0*1e6, bytesOf(9, 3000))
	mustPut(l.t, s, after)
	late := make1(l.t, events.synced(SyncAlways), t0+testSlot+9, "after", t0*1e6, bytesOf(9, 3000))
	mustPut(l.t, s, late)
	mustGet(l.t, s, after)
	mustGet(l.t, s, late)
	if boot == "boot-1" && !raceEnabled { // what follows a kill is durable, whatever the killed process had not made so
		l.afterCut(what, fsys.PowerCut(newRand(int(l.stamp))), after, late)
	}
	if _, err := s.SealDue(t0 + 1000); err != nil {
		fail("sealing: %v", err)
	}
	mustGet(l.t, s, late)
	for id, o := range l.expect(keep) {
		if err := l.foundOrNewer(s, o); err != nil {
			fail("after sealing: %s: %v", id, err)
		}
	}
	if err := d.Close(); err != nil {
		fail("closing: %v", err)
	}
	if clean {
		if _, err := Check(fsys, CheckOptions{Hash: testHash, BootID: boot}, func(f Finding) bool {
			if f.Severity == SeverityDamage {
				fail("check at the end: %+v", f)
			}
			return true
		}); err != nil {
			fail("check: %v", err)
		}
	}
}

// afterCut opens what a loss of power has left and demands some objects.
func (l *life) afterCut(what string, fsys *vfs.Mem, objects ...*testObject) {
	l.t.Helper()
	cfg := l.cfg
	cfg.BootID = "boot-2"
	d, err := OpenDisk(fsys, cfg, t0*1e6)
	if err != nil {
		l.t.Fatalf("%s, then a power cut: opening: %v", what, err)
	}
	defer d.Close()
	s, err := d.Store(Partition{})
	if err != nil {
		l.t.Fatalf("%s, then a power cut: opening the store: %v", what, err)
	}
	for _, o := range objects {
		if err := s.getErr(o, t0); err != nil {
			l.t.Fatalf("%s, then a power cut: %s: %v", what, o.key, err)
		}
	}
}

// rawGet reads at a time when nothing has expired by TTL.
func (l *life) rawGet(s *Store, o *testObject) error {
	rec, err := s.Get(o.b, o.hash(), o.epoch, t0, []byte(o.key))
	if err == nil {
		rec.Release()
	}
	return err
}

// foundOrNewer reports whether an object is found, or one that was tried after it.
func (l *life) foundOrNewer(s *Store, o *testObject) error {
	err := s.getErr(o, t0)
	if err == nil {
		return nil
	}
	for _, later := range slices.Concat(l.tried, l.acked) {
		if later.key == o.key && later.b.Name == o.b.Name && later.rec.Version().Compare(o.rec.Version()) > 0 && s.getErr(later, t0) == nil {
			return nil
		}
	}
	// The horizon may have been raised durably before the crash cut Expire off.
	if o.b.Timed && s.Horizon(o.b).Covers(o.epoch) && errors.Is(err, ErrExpired) {
		return nil
	}
	return err
}

func (l *life) doubted(s *Store, o *testObject) bool {
	for _, d := range s.Doubts() {
		if d.All || d.Bucket == o.b.ID && (d.Slot == plainSlot || d.Slot == slotAt(o.epoch)) {
			return true
		}
	}
	return false
}

func (l *life) verifyDeltas(s *Store, keep func(*testObject, int) bool, fail func(string, ...any)) {
	for i, o := range l.acked {
		if !o.b.KeepAll || !keep(o, i) || s.Horizon(o.b).Covers(o.epoch) {
			continue
		}
		found := false
		for rec, err := range s.Each(o.b, o.hash(), o.epoch, t0, []byte(o.key)) {
			found = found || err == nil && string(rec.Raw()) == string(o.rec.Raw())
		}
		if !found {
			fail("delta %d of %q is lost", i, o.key)
		}
	}
}

// TestCrashEverywhere crashes the script at each operation that changes the
// file system. A killed process has lost nothing that was acknowledged; after a
// loss of power everything is there that was acknowledged as synced or sealed,
// and what else is missing is doubted.
func TestCrashEverywhere(t *testing.T) { crashEverywhere(t, (*life).script, 100) }

// crashEverywhere does it with a script that changes the file system that often
// or more.
func crashEverywhere(t *testing.T, script func(*life) error, least int) {
	all := func(*testObject, int) bool { return true }
	cuts := 2
	if testing.Short() || raceEnabled {
		cuts = 1
	}
	for _, policy := range []Sync{SyncNone, SyncInterval, SyncAlways} {
		t.Run(policy.String(), func(t *testing.T) {
			k := 0
			for ; ; k++ {
				l := newLife(t, policy)
				l.fsys.CrashAt(k)
				err := script(l)
				l.close()
				if err == nil && !l.fsys.Crashed() {
					break
				}
				l.verify(fmt.Sprintf("killed at operation %d", k), l.fsys.Kill(), "boot-1", all, true)
				durable := all
				if policy != SyncAlways {
					durable = func(o *testObject, i int) bool { return i < l.sealed[laneOf(o.b, o.epoch, testSlot)] }
				}
				for seed := range cuts {
					rng := rand.New(rand.NewPCG(uint64(k), uint64(seed)))
					l.verify(fmt.Sprintf("power cut at operation %d, seed %d", k, seed), l.fsys.PowerCut(rng), "boot-2", durable, policy == SyncAlways)
				}
			}
			t.Logf("%d operations", k)
			if k < least {
				t.Errorf("the script has only %d operations: it does not do what it should", k)
			}
		})
	}
}

// A write that a kill cut off anywhere leaves nothing behind, whatever is
// written over its remains.
func TestTornTail(t *testing.T) {
	fsys := vfs.NewMem()
	_, s := openAll(t, fsys, testConfig())
	first := make1(t, events, t0, "first", t0*1e6, bytesOf(1, 100))
	mustPut(t, s, first)
	whole := segmentsOf(t, fsys)[0]
	e, err := fsys.Stat(whole)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, make1(t, events, t0, "torn", t0*1e6, bytesOf(2, 300)))
	end, err := fsys.Stat(whole)
	if err != nil {
		t.Fatal(err)
	}
	for size := e.SizeBytes; size < end.SizeBytes; size += 3 {
		torn := fsys.Kill()
		edit(t, torn, whole, func(b []byte) []byte { return b[:size] })
		_, s := openAll(t, torn, testConfig())
		small := make1(t, events, t0, "small", t0*1e6, bytesOf(3, int(size%50)))
		mustPut(t, s, small)
		torn = torn.Kill()
		if found, _ := checkAll(t, torn); len(found) != 0 {
			t.Fatalf("cut at %d of %d: check says %+v", size, end.SizeBytes, found)
		}
		_, s = openAll(t, torn, testConfig())
		mustGet(t, s, first)
		mustGet(t, s, small)
	}
}

// When Seal has returned, the manifest says durably how long the segment is: a
// shorter one is noticed, whatever becomes of the hint.
func TestSealedLengthIsDurable(t *testing.T) {
	for _, withHint := range []bool{true, false} {
		fsys := vfs.NewMem()
		_, s := openAll(t, fsys, testConfig())
		mustPut(t, s, make1(t, events, t0, "a", t0*1e6, bytesOf(1, 100)))
		mustPut(t, s, make1(t, events, t0, "b", t0*1e6, bytesOf(1, 100)))
		if err := s.Seal(events, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
		cut := fsys.PowerCut(newRand(0))
		name := segmentsOf(t, cut)[0]
		edit(t, cut, name, func(b []byte) []byte { return b[:len(b)-100] })
		if !withHint {
			if err := cut.Remove(hintName(name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, totals := checkAll(t, cut); totals.Damage == 0 {
			t.Error("check does not notice")
		}
		_, s = openAll(t, cut, testConfig())
		if _, err := s.Sealed(events, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
		if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonShortSegment {
			t.Errorf("doubts %+v", doubts)
		}
	}
}

// After a clean stop a loss of power loses nothing and raises no doubt, under
// every policy; nor a minute after the last put, once that was noted.
func TestCleanStop(t *testing.T) {
	for _, policy := range []Sync{SyncNone, SyncInterval, SyncAlways} {
		for _, stop := range []bool{true, false} {
			fsys := vfs.NewMem()
			d, s := openAll(t, fsys, testConfig())
			o := make1(t, events.synced(policy), t0, "a", t0*1e6, bytesOf(1, 10_000))
			mustPut(t, s, o)
			if stop {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			} else if err := s.CleanIdle(t0 + cleanAfter); err != nil {
				t.Fatal(err)
			}
			cfg := testConfig()
			cfg.BootID = "boot-2"
			for seed := range 10 {
				_, s := openAll(t, fsys.PowerCut(newRand(seed)), cfg)
				mustGet(t, s, o)
				if doubts := s.Doubts(); len(doubts) != 0 {
					t.Errorf("%v, stopped %v: doubts %+v", policy, stop, doubts)
				}
			}
		}
	}
}

// What was synced of an open segment when it was said to be clean is missed if it
// is gone when the machine starts again, as after a sync that reported nothing of what
// an earlier one had lost. Once that was told and the doubt is taken back, it is not
// told again.
func TestCleanLengthIsDurable(t *testing.T) {
	for what, damage := range map[string]func(b []byte) []byte{
		"short": func(b []byte) []byte { return b[:len(b)-8000] },
		"cut": func(b []byte) []byte { // between the two records, which are equally long
			h, err := parseSegHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			return b[:h.size()+(len(b)-h.size())/2]
		},
		"zeroed": func(b []byte) []byte { clear(b[len(b)-8000:]); return b },
	} {
		t.Run(what, func(t *testing.T) {
			fsys := vfs.NewMem()
			_, s := openAll(t, fsys, testConfig())
			first, second := make1(t, events, t0, "a", t0*1e6, bytesOf(1, 10_000)), make1(t, events, t0, "b", t0*1e6, bytesOf(1, 10_000))
			mustPut(t, s, first)
			mustPut(t, s, second)
			if err := s.CleanIdle(t0 + cleanAfter); err != nil {
				t.Fatal(err)
			}
			cut := fsys.PowerCut(newRand(0))
			edit(t, cut, segmentsOf(t, cut)[0], damage)
			if _, totals := checkAll(t, cut); totals.Damage == 0 {
				t.Error("check does not notice")
			}
			cfg := testConfig()
			cfg.BootID = "boot-2"
			d, s := openAll(t, cut, cfg)
			mustGet(t, s, first)
			doubts := s.Doubts()
			if len(doubts) != 1 || doubts[0].Reason != ReasonShortSegment && doubts[0].Reason != ReasonDamage {
				t.Fatalf("doubts %+v", doubts)
			}
			if err := s.ClearDoubt(doubts[0]); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			cfg.BootID = "boot-3"
			_, s = openAll(t, cut.PowerCut(newRand(0)), cfg)
			mustGet(t, s, first)
			if doubts := s.Doubts(); what == "cut" && len(doubts) != 0 {
				t.Errorf("doubts %+v again", doubts)
			}
		})
	}
}
