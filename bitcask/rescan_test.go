package bitcask

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// failReads fails every read of files with one of the suffixes.
func failReads(suffixes ...string) func(vfs.Op) error {
	return func(op vfs.Op) error {
		for _, suffix := range suffixes {
			if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, suffix) {
				return syscall.EIO
			}
		}
		return nil
	}
}

// A readLife is a closed disk with a sealed slot, an open one and a plain bucket
// with a sealed segment and an open one.
type readLife struct {
	fsys *vfs.Mem
	all  []*testObject
}

func newReadLife(t *testing.T) *readLife {
	t.Helper()
	l := &readLife{fsys: vfs.NewMem()}
	d, s := openAll(t, l.fsys, testConfig())
	put := func(o *testObject) {
		mustPut(t, s, o)
		l.all = append(l.all, o)
	}
	for i := range 8 {
		put(make1(t, events, t0, fmt.Sprintf("sealed%d", i), t0*1e6, bytesOf(uint64(i), 3000)))
		put(make1(t, plain, 0, fmt.Sprintf("sealed%d", i), t0*1e6, bytesOf(uint64(i), 2000)))
	}
	for _, b := range []Bucket{events, plain} {
		if err := s.Seal(b, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 8 {
		put(make1(t, events, t0+testSlot, fmt.Sprintf("open%d", i), t0*1e6, bytesOf(uint64(i), 3000)))
		put(make1(t, plain, 0, fmt.Sprintf("open%d", i), t0*1e6, bytesOf(uint64(i), 2000)))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// hurtHints flips a byte in a page of each hint.
func (l *readLife) hurtHints(t *testing.T) {
	t.Helper()
	hurt := 0
	for _, name := range segmentsOf(t, l.fsys) {
		if _, err := l.fsys.Stat(hintName(name)); err == nil {
			edit(t, l.fsys, hintName(name), func(b []byte) []byte { b[hintHeaderSize+hintPageHead+3] ^= 1; return b })
			hurt++
		}
	}
	if hurt != 2 {
		t.Fatalf("%d hints are damaged, want 2", hurt)
	}
}

// use asks for everything there is. Nothing may be called absent of a slot that is
// not in doubt, nothing but a failing disk may be an error, and what is listed without
// one is everything.
func (l *readLife) use(t *testing.T, s *Store, what string) {
	t.Helper()
	check := func(o *testObject, err error, doing string) {
		t.Helper()
		absent := errors.Is(err, object.CodeAbsent)
		if err == nil || errors.Is(err, object.CodeDisk) || absent && s.evidence.doubted(laneOf(o.b, o.epoch, testSlot)) {
			return
		}
		t.Fatalf("%s: %s %q: %v", what, doing, o.key, err)
	}
	for _, o := range l.all {
		check(o, s.getErr(o, t0), "get")
	}
	for _, o := range []*testObject{l.all[0], l.all[1], l.all[len(l.all)-2]} {
		want := 0
		for _, other := range l.all {
			if laneOf(other.b, other.epoch, testSlot) == laneOf(o.b, o.epoch, testSlot) {
				want++
			}
		}
		whole := func(listed int, failed bool, by string) {
			t.Helper()
			if listed != want && !failed {
				t.Fatalf("%s: %d of %d records are listed by %s, and no error", what, listed, want, by)
			}
		}
		sums, err := s.Digests(o.b, slotAt(o.epoch))
		check(o, err, "digests by")
		listed, failed := 0, err != nil
		for _, sum := range sums {
			listed += int(sum.Count)
		}
		whole(listed, failed, "digests")
		listed, failed = 0, false
		for _, err := range s.Walk(o.b, slotAt(o.epoch), t0) {
			check(o, err, "walk by")
			listed, failed = listed+1, failed || err != nil
		}
		whole(listed, failed, "walk")
		listed, failed = 0, false
		_, err = s.Page(o.b, slotAt(o.epoch), t0, 0, func(_ Head, err error) bool {
			check(o, err, "page by")
			listed, failed = listed+1, failed || err != nil
			return true
		})
		check(o, err, "page by")
		whole(listed, failed || err != nil, "page")
	}
}

// found wants everything, by all ways, now and after a restart, which closes d.
func (l *readLife) found(t *testing.T, fsys *vfs.Mem, d *Disk, s *Store, what string) {
	t.Helper()
	for _, when := range []string{"afterwards", "after a restart"} {
		count := 0
		for _, o := range l.all {
			if err := s.getErr(o, t0); err != nil {
				t.Fatalf("%s: %s: get %q: %v", what, when, o.key, err)
			}
		}
		for _, o := range []*testObject{l.all[0], l.all[1], l.all[len(l.all)-2]} {
			for _, err := range s.Walk(o.b, slotAt(o.epoch), t0) {
				if count++; err != nil {
					t.Fatalf("%s: %s: walk: %v", what, when, err)
				}
			}
		}
		if count != len(l.all) {
			t.Fatalf("%s: %s: %d of %d records are listed", what, when, count, len(l.all))
		}
		if _, err := s.SealDue(t0 + 2000); err != nil { // those whose hints turned out to be damaged now
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if found, totals := checkAll(t, fsys); totals.Damage != 0 || totals.Records != int64(len(l.all)) {
			t.Fatalf("%s: %s: check: %+v, %+v", what, when, totals, found)
		}
		d, s = openAll(t, fsys, testConfig())
	}
}

// TestTransientReadErrors: while the disk fails to read, that is what is said, and
// the slot is in doubt; sealing what is due meanwhile does no harm. When the disk
// reads again, everything is there, without a restart and after one.
func TestTransientReadErrors(t *testing.T) {
	for _, tc := range []struct {
		name      string
		hurt      bool // hints are damaged
		whileOpen bool // the failure comes after the slots were first used
		doubt     bool
		fail      []string
	}{
		{"hints, in use", false, true, true, []string{hintSuffix}},
		{"hints, first used: the segments are read whole instead", false, false, false, []string{hintSuffix}},
		{"segments, in use", false, true, true, []string{segSuffix}},
		{"segments, first used", false, false, true, []string{segSuffix}},
		{"all, in use", false, true, true, []string{hintSuffix, segSuffix}},
		{"all, first used", false, false, true, []string{hintSuffix, segSuffix}},
		{"segments under damaged hints", true, false, true, []string{segSuffix}},
		{"segments under damaged hints that were not asked yet", true, true, true, []string{segSuffix}},
		{"all under damaged hints", true, false, true, []string{hintSuffix, segSuffix}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newReadLife(t)
			if tc.hurt {
				l.hurtHints(t)
			}
			d, s := openAll(t, l.fsys, testConfig())
			if tc.whileOpen {
				for _, o := range []*testObject{l.all[0], l.all[1], l.all[len(l.all)-2]} {
					if _, err := s.Sealed(o.b, slotAt(o.epoch)); err != nil { // loads it, and looks into no hint
						t.Fatal(err)
					}
				}
			}
			l.fsys.Inject(failReads(tc.fail...))
			l.use(t, s, "failing")
			if doubts := s.Doubts(); tc.doubt != (len(doubts) > 0 && doubts[0].Reason == ReasonDamage) {
				t.Errorf("doubts %+v", doubts)
			}
			_, _ = s.SealDue(t0 + 1000)
			l.use(t, s, "failing still")
			_, _ = s.SealDue(t0 + 1100)
			l.fsys.Inject(nil)
			for now := t0 + 1200; now < t0+1202; now++ { // the second seals what the first has read
				if _, err := s.SealDue(now); err != nil {
					t.Fatal(err)
				}
			}
			if ok, err := s.Sealed(events, slotAt(t0+testSlot)); !ok || err != nil {
				t.Errorf("not sealed afterwards: %v", err)
			}
			l.found(t, l.fsys, d, s, tc.name)
		})
	}
}

// TestReadFaultsEverywhere fails each read of a life in turn, and the few after it:
// when the disk reads again, everything is there, killed meanwhile or not, and no
// hint lacks a record.
func TestReadFaultsEverywhere(t *testing.T) {
	l := newReadLife(t)
	l.hurtHints(t)
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 17
	}
	for _, burst := range []int{1, 3, 80} {
		for k, seen := 0, 1; seen > k; k += stride {
			what := fmt.Sprintf("%d reads fail from read %d on", burst, k)
			fsys := l.fsys.Kill()
			seen = 0
			fsys.Inject(func(op vfs.Op) error {
				if op.Kind == vfs.OpRead && !strings.HasPrefix(op.Name, vnodeDir) && strings.Contains(op.Name, "/") {
					if seen++; seen > k && seen <= k+burst {
						return syscall.EIO
					}
				}
				return nil
			})
			d, s := openAll(t, fsys, testConfig())
			l.use(t, s, what)
			_, _ = s.SealDue(t0 + 1000)
			l.use(t, s, what)
			_, _ = s.SealDue(t0 + 1001)
			killed := fsys.Kill()
			fsys.Inject(nil)
			for now := t0 + 1100; now < t0+1102; now++ {
				if _, err := s.SealDue(now); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			l.found(t, fsys, d, s, what)
			d, s = openAll(t, killed, testConfig())
			for now := t0 + 1200; now < t0+1202; now++ {
				if _, err := s.SealDue(now); err != nil {
					t.Fatalf("%s, killed: %v", what, err)
				}
			}
			l.found(t, killed, d, s, what+", killed")
		}
	}
}

// TestUnreadTail: after a stop of the machine the end of a segment may be anything
// and is cut off, but not where it could not be read.
func TestUnreadTail(t *testing.T) {
	for _, records := range []int{1, 30} { // in one sector and in some
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, testConfig())
		var all []*testObject
		for i := range records {
			all = append(all, make1(t, events, t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 1000)))
			mustPut(t, s, all[i])
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := testConfig()
		cfg.BootID = "boot-2"
		fsys.Inject(func(op vfs.Op) error {
			if op.Offset == 0 { // the header
				return nil
			}
			return failReads(segSuffix)(op)
		})
		_, s = openAll(t, fsys, cfg)
		for _, o := range all {
			wantErr(t, s.getErr(o, t0), ErrAbsent, "a get meanwhile")
		}
		if doubts := s.Doubts(); len(doubts) != 1 {
			t.Errorf("doubts %+v", doubts)
		}
		if slots, err := s.Slots(events); err != nil || len(slots) != 1 {
			t.Errorf("slots %v, %v: the slot is not empty because it cannot be read", slots, err)
		}
		fsys.Inject(nil)
		for now := t0 + 1000; now < t0+1002; now++ {
			if _, err := s.SealDue(now); err != nil {
				t.Fatal(err)
			}
		}
		_, again := openAll(t, fsys.Kill(), cfg)
		for _, o := range all {
			mustGet(t, s, o)
			mustGet(t, again, o)
		}
	}
}

// TestNothingBehindHint: a segment with a hint takes no records, though the hint is
// damaged: they would be behind its end if the damage went away.
func TestNothingBehindHint(t *testing.T) {
	for _, b := range []Bucket{events, plain} {
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, testConfig())
		first, more := make1(t, b, t0, "first", t0*1e6, bytesOf(1, 100)), make1(t, b, t0, "more", t0*1e6, bytesOf(2, 100))
		mustPut(t, s, first)
		if err := errors.Join(s.Seal(b, slotAt(t0)), d.Close()); err != nil {
			t.Fatal(err)
		}
		flip := func(data []byte) []byte { data[20] ^= 1; return data }
		hint := hintName(segmentsOf(t, fsys)[0])
		edit(t, fsys, hint, flip)
		_, s = openAll(t, fsys, testConfig())
		mustPut(t, s, more)
		fsys = fsys.Kill()
		edit(t, fsys, hint, flip)
		_, s = openAll(t, fsys, testConfig())
		mustGet(t, s, first)
		mustGet(t, s, more)
	}
}
