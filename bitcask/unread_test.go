package bitcask

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// failSector fails reads that touch a byte of a file, until another one has its name.
func failSector(name string, at int64) func(vfs.Op) error {
	replaced := false
	return func(op vfs.Op) error {
		replaced = replaced || op.Kind == vfs.OpCreate && op.Name == name+vfs.TempSuffix
		if !replaced && op.Kind == vfs.OpRead && op.Name == name && op.Offset <= at && at < op.Offset+op.Bytes {
			return syscall.EIO
		}
		return nil
	}
}

// A badSlot is a slot, or a plain bucket, of a replica whose two others are whole.
type badSlot struct {
	t    *testing.T
	cfg  Config
	fsys *vfs.Mem
	d    *Disk
	s    *Store
	b    Bucket
	all  []*testObject // what the others have
	now  int64
}

func newBadSlot(t *testing.T, b Bucket, sealed bool) *badSlot {
	t.Helper()
	w := &badSlot{t: t, cfg: testConfig(), fsys: vfs.NewMem(), b: b, now: t0}
	w.cfg.TTL = func(uint64) int64 { return 0 }
	w.cfg.SealAfterSeconds = 100_000 // only where it is said
	w.open()
	for i := range 20 {
		w.all = append(w.all, make1(t, b, t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 8000)))
		mustPut(t, w.s, w.all[i])
	}
	if sealed {
		if err := w.s.Seal(b, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *badSlot) open() { w.d, w.s = openAll(w.t, w.fsys, w.cfg) }

func (w *badSlot) reopen() {
	w.t.Helper()
	if err := w.d.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *badSlot) hint() string { return hintName(segmentsOf(w.t, w.fsys)[0]) }

// A listedRecord is one that a page has.
type listedRecord struct {
	key     string
	version object.Version
}

// page lists the slot.
func (w *badSlot) page() (listed map[listedRecord]bool, damaged bool, err error) {
	listed = map[listedRecord]bool{}
	var failed error
	_, err = w.s.Page(w.b, slotAt(t0), w.now, 0, func(h Head, fault error) bool {
		switch {
		case fault == nil:
			listed[listedRecord{string(h.Key), h.Version()}] = true
		case errors.Is(fault, object.CodeCorrupt):
			damaged = true
		default:
			failed = fault
		}
		return true
	})
	return listed, damaged, errors.Join(err, failed)
}

// merge is what a node does every minute, or so, about its doubts: it takes what it
// lacks from two complete owners, and may vouch again.
func (w *badSlot) merge() {
	w.t.Helper()
	doubts := w.s.Doubts()
	if len(doubts) == 0 {
		return
	}
	listed, _, err := w.page()
	if err != nil {
		wantErr(w.t, err, object.CodeDisk, "a page")
		return
	}
	for _, o := range w.all {
		if !listed[listedRecord{o.key, o.rec.Version()}] {
			if _, err := w.s.Put(o.b, o.hash(), o.epoch, w.now, o.rec, nil); err != nil {
				wantErr(w.t, err, object.CodeDisk, "a record that is given")
				return
			}
		}
	}
	if err := w.s.Sync(w.b, slotAt(t0)); err != nil {
		w.t.Fatal(err)
	}
	for _, d := range doubts {
		if err := w.s.ClearDoubt(d); err != nil {
			wantErr(w.t, err, object.CodeUnknown, "clearing a doubt")
		}
	}
}

// use gets everything: what is not served is an error of the disk's, or the slot is
// doubted.
func (w *badSlot) use() (served int) {
	w.t.Helper()
	for _, o := range w.all {
		err := w.s.getErr(o, w.now)
		if err == nil {
			served++
		} else if doubted := len(w.s.Doubts()) > 0; !errors.Is(err, object.CodeDisk) && !doubted {
			w.t.Fatalf("%d s after the first failure: get %q: %v, and no doubt", w.now-t0, o.key, err)
		}
	}
	return served
}

// pass lets time pass, with what a node does meanwhile.
func (w *badSlot) pass(seconds int64) {
	w.t.Helper()
	for end := w.now + seconds; w.now < end; w.now += 10 {
		_, _ = w.d.Maintain(w.now, true)
		if w.now%60 == 0 {
			w.merge()
		}
	}
}

// whole wants everything served, listed and vouched for.
func (w *badSlot) whole(when string) {
	w.t.Helper()
	if served := w.use(); served != len(w.all) {
		w.t.Errorf("%s: %d of %d are served", when, served, len(w.all))
	}
	if listed, damaged, err := w.page(); len(listed) != len(w.all) || damaged || err != nil {
		w.t.Errorf("%s: %d of %d are listed, damaged %v, %v", when, len(listed), len(w.all), damaged, err)
	}
	if doubts := w.s.Doubts(); len(doubts) > 0 {
		w.t.Errorf("%s: doubts %+v", when, doubts)
	}
	for _, o := range w.all {
		if action, err := w.s.Put(o.b, o.hash(), o.epoch, w.now, o.rec, nil); action != Same || err != nil {
			w.t.Fatalf("%s: put again: %v, %v", when, action, err)
		}
	}
}

// TestBadSector: a sector that can never be read again costs a replica nothing for
// longer than a quarter of an hour, if two others have what was in it: also after a
// restart, which has to find out again.
func TestBadSector(t *testing.T) {
	header := func(w *badSlot) func(vfs.Op) error {
		return failSector(segmentsOf(w.t, w.fsys)[0], offsetOf(w.t, w.s, w.all[2]))
	}
	value := func(w *badSlot) func(vfs.Op) error {
		return failSector(segmentsOf(w.t, w.fsys)[0], offsetOf(w.t, w.s, w.all[2])+5000)
	}
	hint := func(w *badSlot) func(vfs.Op) error { return failSector(w.hint(), hintHeaderSize+20) }
	both := func(rules ...func(w *badSlot) func(vfs.Op) error) func(w *badSlot) func(vfs.Op) error {
		return func(w *badSlot) func(vfs.Op) error {
			var all []func(vfs.Op) error
			for _, r := range rules {
				all = append(all, r(w))
			}
			return func(op vfs.Op) error {
				for _, rule := range all {
					if err := rule(op); err != nil {
						return err
					}
				}
				return nil
			}
		}
	}
	hurtHint := func(w *badSlot) func(vfs.Op) error {
		edit(w.t, w.fsys, w.hint(), func(b []byte) []byte { b[hintHeaderSize+20] ^= 1; return b })
		return header(w)
	}
	for i, tc := range []struct {
		name  string
		b     Bucket
		seal  bool
		fails func(w *badSlot) func(vfs.Op) error
		late  bool // it is found out anew after a restart
	}{
		{"under a header, sealed", events, true, header, false},
		{"under a header, open", events, false, header, false},
		{"under a header, plain", plain, false, header, false},
		{"under a header, plain and sealed", plain, true, header, false},
		{"under a value, sealed", events, true, value, false},
		{"under a value, open", events, false, value, false},
		{"under a value, plain", plain, false, value, false},
		{"under a value, plain and sealed", plain, true, value, false},
		{"in a hint", events, true, hint, false},
		{"in a hint, plain", plain, true, hint, false},
		{"in a hint and under a header", events, true, both(hint, header), true},
		{"in a hint and under a header, plain", plain, true, both(hint, header), true},
		{"under a header, and the hint is damaged", events, true, hurtHint, true},
		{"under a header, and the hint is damaged, plain", plain, true, hurtHint, true},
	} {
		for _, reopen := range []bool{false, true} {
			if raceEnabled && reopen != (i%2 > 0) {
				continue // half of them will do
			}
			t.Run(fmt.Sprintf("%s, reopened: %v", tc.name, reopen), func(t *testing.T) {
				w := newBadSlot(t, tc.b, tc.seal)
				w.fsys.Inject(tc.fails(w))
				if reopen {
					w.reopen()
				}
				w.use()
				w.pass(900)
				w.whole("after a quarter of an hour")
				w.reopen()
				if served := w.use(); served != len(w.all) && !tc.late {
					t.Errorf("%d of %d are served at once after a restart", served, len(w.all))
				}
				if listed, _, err := w.page(); tc.seal && !tc.late && (len(listed) != len(w.all) || err != nil) {
					t.Errorf("%d of %d are listed at once after a restart, %v", len(listed), len(w.all), err)
				}
				w.pass(900)
				w.whole("a quarter of an hour after a restart")
			})
		}
	}
}

// TestUnreadOneByOne: that a record could not be read for ten minutes says nothing of
// others, which the disk fails to read for a moment.
func TestUnreadOneByOne(t *testing.T) {
	w := newBadSlot(t, events, true)
	bad := failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, w.all[2]))
	w.fsys.Inject(bad)
	w.use()
	w.pass(900)
	w.whole("with one bad sector")
	w.fsys.Inject(failReads(segSuffix))
	if listed, damaged, err := w.page(); !errors.Is(err, object.CodeDisk) {
		t.Errorf("while nothing can be read %d are listed, damaged %v, %v", len(listed), damaged, err)
	}
	w.fsys.Inject(bad)
	w.pass(60)
	w.whole("when the disk reads again")
}

// TestUnreadAgain: a record that was read again, after its slot was doubted and merged,
// and then is not for good, is noticed again.
func TestUnreadAgain(t *testing.T) {
	w := newBadSlot(t, events, true)
	bad := failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, w.all[2])+5000)
	w.fsys.Inject(bad)
	w.use()
	if len(w.s.Doubts()) != 1 {
		t.Fatalf("doubts %+v", w.s.Doubts())
	}
	w.fsys.Inject(nil)
	w.pass(120)
	w.whole("when it is read again")
	w.fsys.Inject(bad)
	w.use()
	if len(w.s.Doubts()) != 1 {
		t.Errorf("when it is not: doubts %+v", w.s.Doubts())
	}
	w.pass(900)
	w.whole("when it is not, for long")
}

// TestUnreadRow: of a row's records one that the disk does not read is nobody's concern
// once it was put anew, also after a restart.
func TestUnreadRow(t *testing.T) {
	w := newBadSlot(t, epochs, true)
	o := w.all[2]
	bad := failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, o)+5000)
	next := make1(t, epochs, t0, "2", t0*1e6+1, bytesOf(3, 100))
	mustPut(t, w.s, next)
	w.fsys.Inject(bad)
	count := func() (found int, fault error) {
		for _, err := range w.s.Each(o.b, o.hash(), o.epoch, w.now, []byte(o.key)) {
			if found++; err != nil {
				fault = err
			}
		}
		return found, fault
	}
	if n, err := count(); n != 2 || !errors.Is(err, object.CodeDisk) {
		t.Errorf("%d records, %v", n, err)
	}
	w.pass(900)
	for range 2 {
		if n, err := count(); n != 2 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
		w.reopen()
	}
}

// TestUnreadGreater: where the disk does not read one of two versions of a key, it may be
// the greater one: the other is not served in its place, nor summed up.
func TestUnreadGreater(t *testing.T) {
	w := newBadSlot(t, plain, true)
	older := w.all[2]
	w.all[2] = make1(t, plain, t0, "2", t0*1e6+1, bytesOf(2, 100))
	before := segmentsOf(t, w.fsys)
	mustPut(t, w.s, w.all[2])
	if err := w.s.Seal(plain, 0); err != nil {
		t.Fatal(err)
	}
	name := slices.DeleteFunc(segmentsOf(t, w.fsys), func(name string) bool { return slices.Contains(before, name) })[0]
	w.fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && op.Name == name && op.Offset > 0 {
			return syscall.EIO
		}
		return nil
	})
	wantErr(t, w.s.getErr(older, w.now), object.CodeDisk, "a get")
	if action, err := w.s.putTest(older); !errors.Is(err, object.CodeDisk) {
		t.Errorf("a put: %v, %v", action, err)
	}
	if sums, err := w.s.Digests(plain, 0); !errors.Is(err, object.CodeDisk) {
		t.Errorf("digests: %+v, %v", sums, err)
	}
	w.pass(900)
	w.whole("given up")
	if sums, err := w.s.Digests(plain, 0); err != nil || len(sums) != 1 {
		t.Errorf("digests, given up: %+v, %v", sums, err)
	}
}

// TestGivenUpIsDoubted: what is given up is doubted, though the slot was vouched for
// meanwhile.
func TestGivenUpIsDoubted(t *testing.T) {
	for _, open := range []bool{false, true} {
		w := newBadSlot(t, events, !open)
		w.fsys.Inject(failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, w.all[2])))
		w.reopen()
		w.use()
		if err := w.s.ClearDoubt(w.s.Doubts()[0]); err != nil {
			t.Fatal(err)
		}
		for end := w.now + unreadPatience + 60; w.now < end; w.now += 10 {
			if _, err := w.d.Maintain(w.now, true); err != nil {
				t.Fatal(err)
			}
		}
		if listed, damaged, err := w.page(); len(listed) == 20 || damaged || err != nil {
			t.Errorf("%d are listed, damaged %v, %v", len(listed), damaged, err)
		}
		if len(w.s.Doubts()) != 1 {
			t.Errorf("open: %v: doubts %+v", open, w.s.Doubts())
		}
	}
}

// TestDamagedHeader: a page tells of a damaged header once. Then the slot is doubted,
// and what others gave is all there is.
//
// Or they do not have it, and what all have lost is lost.
func TestDamagedHeader(t *testing.T) {
	for i := range 4 {
		hopeless := i%2 > 0 // the others do not have the record either
		w := newBadSlot(t, []Bucket{events, plain}[i/2], true)
		at := offsetOf(t, w.s, w.all[2])
		edit(t, w.fsys, segmentsOf(t, w.fsys)[0], func(b []byte) []byte { b[at+frameSize+10] ^= 1; return b })
		w.reopen()
		if listed, damaged, err := w.page(); len(listed) != 19 || !damaged || err != nil || len(w.s.Doubts()) != 1 {
			t.Errorf("%d are listed, damaged %v, %v, doubts %+v", len(listed), damaged, err, w.s.Doubts())
		}
		if hopeless {
			w.all = slices.Delete(w.all, 2, 3)
		}
		w.pass(60)
		w.whole("merged")
	}
}

// TestUnreadForAWhile: for ten minutes nothing is concluded from what the disk does not
// read, and when it does, nothing was put anew.
func TestUnreadForAWhile(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		for _, under := range []int64{0, 5000} {
			w := newBadSlot(t, events, false)
			w.fsys.Inject(failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, w.all[2])+under))
			if reopen {
				w.reopen()
			}
			w.use()
			w.pass(unreadPatience - 20)
			if listed, damaged, err := w.page(); damaged || err == nil && len(listed) != len(w.all) || err != nil && !errors.Is(err, object.CodeDisk) {
				t.Errorf("shortly before ten minutes %d are listed, damaged %v, %v", len(listed), damaged, err)
			}
			w.fsys.Inject(nil)
			w.pass(120)
			w.whole("when the disk reads again")
			w.d.Close()
			if found, totals := checkAll(t, w.fsys); totals.Records != int64(len(w.all)) || totals.Damage > 0 {
				t.Errorf("check: %+v, %+v", totals, found)
			}
		}
	}
}

// TestRecheckUnread: what the disk fails to read now is set aside for who has a copy of
// the same version, and for nobody else.
func TestRecheckUnread(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		w := newBadSlot(t, events, sealed)
		o := w.all[2]
		w.fsys.Inject(failSector(segmentsOf(t, w.fsys)[0], offsetOf(t, w.s, o)+5000))
		for _, tc := range []struct {
			copied object.Version
			want   int
		}{{object.Version{}, 0}, {w.all[3].rec.Version(), 0}, {o.rec.Version(), 1}, {o.rec.Version(), 0}} {
			if n, err := w.s.Recheck(o.b, o.hash(), o.epoch, w.now, []byte(o.key), tc.copied); n != tc.want || err != nil {
				t.Errorf("%d are set aside with a copy of version %v, %v, want %d", n, tc.copied, err, tc.want)
			}
		}
		if len(w.s.Doubts()) != 1 || w.d.Stats().UnreadRecords != 0 {
			t.Errorf("doubts %+v, %d are tried again", w.s.Doubts(), w.d.Stats().UnreadRecords)
		}
		mustPut(t, w.s, o)
		w.pass(120)
		w.whole("put anew")
		w.reopen()
		w.whole("after a restart")
	}
}

// TestMuchUnread: where very much cannot be read, it is looked at by and by, and what
// has no room to be remembered is met again.
func TestMuchUnread(t *testing.T) {
	w := newBadSlot(t, events, true)
	for i := range maxUnread + 100 {
		w.all = append(w.all, make1(t, events, t0, fmt.Sprint("small", i), t0*1e6, nil))
		mustPut(t, w.s, w.all[len(w.all)-1])
	}
	name := segmentsOf(t, w.fsys)[1]
	e, err := w.fsys.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	w.fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && op.Name == name && op.Offset < e.SizeBytes {
			return syscall.EIO
		}
		return nil
	})
	w.use()
	for range 2 {
		w.pass(900)
		if n := w.d.Stats().UnreadRecords; n > maxUnread {
			t.Errorf("%d records are remembered", n)
		}
	}
	w.whole("in the end")
	if s := w.d.Stats(); s.GivenUp != maxUnread+100 || s.UnreadRecords != 0 {
		t.Errorf("%d are given up, %d remembered", s.GivenUp, s.UnreadRecords)
	}
}

// offsetOf returns where the record of an object begins.
func offsetOf(t *testing.T, s *Store, o *testObject) int64 { return placeAt(t, s, o).offset() }

// placeAt returns where the first record under an object's hash is.
func placeAt(t *testing.T, s *Store, o *testObject) place {
	t.Helper()
	op := s.disk.newOp()
	defer s.disk.freeOp(op)
	if err := s.find(o.b, o.hash(), o.epoch, t0, op); err != nil {
		t.Fatal(err)
	}
	return op.places[0]
}

// TestUnreadSpell: a failure is one with those before it if it comes soon after.
func TestUnreadSpell(t *testing.T) {
	for _, tc := range []struct {
		name string
		met  []int64
		over bool
	}{
		{"once", []int64{1000}, false},
		{"for nine minutes", []int64{1000, 1200, 1400, 1540}, false},
		{"for ten", []int64{1000, 1300, 1600}, true},
		{"once, and once much later", []int64{1000, 1900}, false},
		{"the clock was put back", []int64{5000, 1000, 1300}, false},
	} {
		var u unreadSpell
		for _, at := range tc.met {
			u.met(at)
		}
		if u.isOver() != tc.over {
			t.Errorf("%s: over: %v", tc.name, u.isOver())
		}
	}
}

// TestUnreadConcurrently: reads that fail now and then, puts, pages and maintenance side
// by side: when the disk reads again, everything is there.
func TestUnreadConcurrently(t *testing.T) {
	for _, b := range []Bucket{events, plain} {
		w := newBadSlot(t, b, true)
		var reads atomic.Int64
		w.fsys.Inject(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && reads.Add(1)%3 > 0 {
				return syscall.EIO
			}
			return nil
		})
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for j := range 30 {
					o := w.all[(i*7+j)%len(w.all)]
					_ = w.s.getErr(o, t0)
					_, _ = w.s.putTest(o)
					_, _ = w.s.Recheck(o.b, o.hash(), o.epoch, t0, []byte(o.key), o.rec.Version())
					_, _ = w.s.Page(o.b, slotAt(t0), t0, 0, func(Head, error) bool { return true })
				}
			})
		}
		for range 100 {
			w.now += 20
			_, _ = w.d.Maintain(w.now, true)
		}
		wg.Wait()
		w.fsys.Inject(nil)
		w.pass(1200)
		w.whole("when the disk reads again")
	}
}
