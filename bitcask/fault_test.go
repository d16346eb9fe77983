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

func newRand(k int) *rand.Rand { return rand.New(rand.NewPCG(uint64(k), 0)) }

// onSegments returns a rule that fails the n-th operation of a kind on segments.
func onSegments(kind vfs.OpKind, n int, err error) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if op.Kind != kind || !strings.HasSuffix(op.Name, segSuffix) {
			return nil
		}
		n--
		if n == 0 {
			return err
		}
		return nil
	}
}

// TestWriteErrors: whatever a write does before it fails, the put is not there,
// its error says so, and what is put before and after it is found, now and
// after a restart.
func TestWriteErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		err     error
		then    error // of the truncation that follows
		code    object.Code
		outcome object.Outcome
	}{
		{"full at once", syscall.ENOSPC, nil, object.CodeLowSpace, object.NotDone},
		{"full halfway", &vfs.Partial{Bytes: 900, Err: syscall.ENOSPC}, nil, object.CodeLowSpace, object.NotDone},
		{"full, and not to be cut", &vfs.Partial{Bytes: 900, Err: syscall.ENOSPC}, syscall.EIO, object.CodeLowSpace, object.NotDone},
		{"failing", &vfs.Partial{Bytes: 9, Err: syscall.EIO}, nil, object.CodeDisk, object.MaybeDone},
		{"read-only", syscall.EROFS, nil, object.CodeDisk, object.MaybeDone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			d, s := openAll(t, fsys, testConfig())
			before := make1(t, events, t0, "before", t0*1e6, bytesOf(1, 100))
			mustPut(t, s, before)
			failing := onSegments(vfs.OpWrite, 1, tc.err)
			fsys.Inject(func(op vfs.Op) error {
				if op.Kind == vfs.OpTruncate && tc.then != nil {
					return tc.then
				}
				return failing(op)
			})
			o := make1(t, events, t0, "failed", t0*1e6, bytesOf(2, 1000))
			_, err := s.putTest(o)
			var fault *object.Error
			if !errors.As(err, &fault) || fault.Code != tc.code || fault.Outcome != tc.outcome {
				t.Fatalf("got %v, want %v, %v", err, tc.code, tc.outcome)
			}
			fsys.Inject(nil)
			wantErr(t, s.getErr(o, t0), ErrAbsent, "the failed put")
			d.space.refresh(d)
			after := make1(t, events, t0, "after", t0*1e6, bytesOf(3, 10))
			mustPut(t, s, after)
			if found, totals := checkAll(t, fsys.Kill()); totals.Damage != 0 {
				t.Errorf("check: %+v", found)
			}
			for range 2 {
				mustGet(t, s, before)
				mustGet(t, s, after)
				wantErr(t, s.getErr(o, t0), ErrAbsent, "the failed put")
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				d, s = openAll(t, fsys, testConfig())
			}
			mustPut(t, s, o)
			if _, err := s.SealDue(t0 + 1000); err != nil {
				t.Fatal(err)
			}
			if ok, err := s.Sealed(events, slotAt(t0)); !ok || err != nil {
				t.Fatalf("not sealed: %v", err)
			}
			for _, o := range []*testObject{before, after, o} {
				mustGet(t, s, o)
			}
		})
	}
}

// A record that the kernel took whole before the disk was full is done, however
// it fares with those written together with it.
func TestJoinedWriteCutShort(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	first := make1(t, events, t0, "first", t0*1e6, bytesOf(1, 100))
	mustPut(t, s, first)
	var joined []*testObject
	for i := range 5 {
		joined = append(joined, make1(t, events, t0, fmt.Sprintf("j%d", i), t0*1e6, bytesOf(uint64(i), 100)))
	}
	size := framedSize(len(joined[0].rec.Raw()))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.takeRoleLocked() // as if a write were under way: the puts queue up
	l.mu.Unlock()
	results := make(chan error, len(joined))
	for i, o := range joined {
		go func() { _, err := s.putTest(o); results <- err }()
		waitQueue(l, i+1)
	}
	fsys.Inject(onSegments(vfs.OpWrite, 1, &vfs.Partial{Bytes: 2*size + 50, Err: syscall.ENOSPC}))
	l.mu.Lock()
	l.releaseRoleLocked()
	l.mu.Unlock()
	failed := 0
	for range joined {
		if err := <-results; err != nil {
			wantErr(t, err, object.CodeLowSpace, "a put that was cut off")
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d of 5 puts failed, want the last 3", failed)
	}
	fsys.Inject(nil)
	d.space.refresh(d)
	for range 2 {
		mustGet(t, s, first)
		for i, o := range joined {
			if err := s.getErr(o, t0); (err == nil) != (i < 2) {
				t.Errorf("record %d: %v", i, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, testConfig())
	}
	if d.Stats().Damage != 0 {
		t.Error("the cut write has left damage")
	}
}

// waitQueue returns when n puts wait for the lane's file.
func waitQueue(l *lane, n int) {
	for {
		l.mu.Lock()
		waiting := len(l.queue)
		l.mu.Unlock()
		if waiting == n {
			return
		}
	}
}

// A sync that fails fails the puts that waited for it; later ones go to another
// segment, and the slot is doubted.
func TestSyncError(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	b := events.synced(SyncAlways)
	good := make1(t, b, t0, "good", t0*1e6, bytesOf(1, 100))
	mustPut(t, s, good)
	fsys.Inject(onSegments(vfs.OpSync, 1, syscall.EIO))
	bad := make1(t, b, t0, "bad", t0*1e6, bytesOf(2, 100))
	_, err := s.putTest(bad)
	if e := object.AsError(err); e == nil || e.Code != object.CodeDisk || e.Outcome != object.MaybeDone {
		t.Fatalf("got %v", err)
	}
	if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonSyncFailed {
		t.Errorf("doubts %+v", doubts)
	}
	fsys.Inject(nil)
	after := make1(t, b, t0, "after", t0*1e6, bytesOf(3, 100))
	mustPut(t, s, after)
	// The retry finds a record that may be lost: it is written again.
	if action, err := s.putTest(bad); err != nil || action != Append {
		t.Errorf("the retry: %v, %v", action, err)
	}
	if _, err := d.Maintain(t0, true); err != nil {
		t.Fatal(err)
	}
	cut := fsys.PowerCut(newRand(1))
	cfg := testConfig()
	cfg.BootID = "boot-2"
	_, s = openAll(t, cut, cfg)
	mustGet(t, s, good)
	mustGet(t, s, after)
	mustGet(t, s, bad)
	if len(s.Doubts()) == 0 {
		t.Error("the doubt is forgotten")
	}
}

// On a disk that becomes full, puts are refused before it is; gets, sealing of
// what fits, and expiry go on; when something has expired, puts are taken again.
func TestFullDisk(t *testing.T) {
	fsys := vfs.NewMem()
	cfg := testConfig()
	cfg.MinFreeBytes = 64 << 10
	d, s := openAll(t, fsys, cfg)
	fsys.SetCapacity(512 << 10)
	var all []*testObject
	refused := false
	for i := 0; i < 1000 && !refused; i++ {
		o := make1(t, events, t0+int64(i/2), fmt.Sprintf("k%d", i), t0*1e6, bytesOf(uint64(i), 5000))
		_, err := s.putTest(o)
		if err != nil {
			wantErr(t, err, object.CodeLowSpace, "a put on a nearly full disk")
			if !strings.Contains(err.Error(), "until data expires") {
				t.Errorf("%q does not say what to do", err)
			}
			refused = true
			continue
		}
		all = append(all, o)
		d.space.refresh(d) // the sync loop does it every second
	}
	if !refused || !d.LowSpace() {
		t.Fatal("no put was refused")
	}
	if free, _, _ := fsys.Space(); free == 0 {
		t.Error("the disk was filled to the last byte")
	}
	for _, o := range all {
		mustGet(t, s, o)
	}
	// Somebody else fills it for good.
	free, _, _ := fsys.Space()
	if err := vfs.PublishBytes(fsys, "other", make([]byte, free)); err != nil {
		t.Fatal(err)
	}
	if free, _, _ := fsys.Space(); free != 0 {
		t.Fatalf("%d bytes are free", free)
	}
	if err := s.Seal(events, slotAt(t0)); err == nil {
		t.Error("sealed on a full disk")
	}
	for _, o := range all {
		mustGet(t, s, o)
	}
	now := t0 + testTTL + 2*testSlot
	done, err := s.Expire(now, 1000)
	if err != nil || done.Files == 0 {
		t.Fatalf("expiry on a full disk: %+v, %v", done, err)
	}
	if err := s.getErr(all[0], t0); !errors.Is(err, ErrExpired) {
		t.Errorf("what was dropped: %v", err)
	}
	mustGet(t, s, all[len(all)-1])
	d.space.refresh(d)
	if d.LowSpace() {
		t.Fatal("space is still low")
	}
	if _, err := d.Maintain(now, true); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat(reserveName); err != nil {
		t.Errorf("the reserve is not there again: %v", err)
	}
	mustPut(t, s, make1(t, events, t0+99, "more", t0*1e6, bytesOf(1, 5000)))
}

// Puts are taken again only when an eighth more than the bound is free, so that
// they are not refused and taken by turns.
func TestLowSpaceHysteresis(t *testing.T) {
	fsys := vfs.NewMem()
	fsys.SetCapacity(1 << 20)
	cfg := testConfig()
	cfg.MinFreeBytes = 256 << 10
	d := openDisk(t, fsys, cfg)
	for _, step := range []struct {
		freeBytes int64
		low       bool
	}{{300 << 10, false}, {256 << 10, false}, {255 << 10, true}, {270 << 10, true}, {287 << 10, true}, {288 << 10, false}, {260 << 10, false}} {
		free, _, err := fsys.Space()
		if err != nil {
			t.Fatal(err)
		}
		if e, err := fsys.Stat("ballast"); err == nil {
			free += e.SizeBytes
			if err := fsys.Remove("ballast"); err != nil {
				t.Fatal(err)
			}
		}
		if err := vfs.PublishBytes(fsys, "ballast", make([]byte, free-step.freeBytes)); err != nil {
			t.Fatal(err)
		}
		d.space.refresh(d)
		if d.LowSpace() != step.low {
			t.Errorf("with %d KiB free: low %v", step.freeBytes>>10, d.LowSpace())
		}
	}
}

// A value found bad is set aside: it is not served, its slot is doubted, and
// the object can be put again, which then is what is served.
func TestRecheck(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, testConfig())
		good := make1(t, events, t0, "good", t0*1e6, bytesOf(1, 1000))
		bad := make1(t, events, t0, "bad", t0*1e6, bytesOf(2, 1000))
		mustPut(t, s, good)
		mustPut(t, s, bad)
		if sealed {
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		edit(t, fsys, segmentsOf(t, fsys)[0], func(b []byte) []byte { b[len(b)-100] ^= 1; return b })
		d, s = openAll(t, fsys, testConfig())
		recheck := func(o *testObject, want int) {
			t.Helper()
			if n, err := s.Recheck(o.b, o.hash(), o.epoch, t0, []byte(o.key), object.Version{}); n != want || err != nil {
				t.Errorf("recheck of %q: %d, %v", o.key, n, err)
			}
		}
		wantErr(t, s.getErr(bad, t0), object.ErrCorrupt, "the damaged value")
		if action, err := s.putTest(bad); action != Same || err != nil {
			t.Errorf("before it is known: %v, %v", action, err)
		}
		recheck(good, 0)
		// It was met before, and the slot is vouched for since.
		s.noteUnreadable(placeAt(t, s, bad), s.getErr(bad, t0))
		if err := s.ClearDoubt(s.Doubts()[0]); err != nil {
			t.Fatal(err)
		}
		recheck(bad, 1)
		recheck(bad, 0)
		recheck(make1(t, events, t0, "never", 1, nil), 0)
		wantErr(t, s.getErr(bad, t0), ErrAbsent, "a value set aside")
		if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonDamage {
			t.Errorf("doubts %+v", doubts)
		}
		n := 0
		for range s.Walk(events, slotAt(t0), t0) {
			n++
		}
		if n != 1 {
			t.Errorf("walked %d records, want the good one", n)
		}
		mustPut(t, s, bad)
		for range 2 {
			mustGet(t, s, bad)
			mustGet(t, s, good)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d, s = openAll(t, fsys, testConfig())
		}
	}
}

// A slot that outgrows a segment goes on in the next; full ones are sealed at
// once, the last one stays open.
func TestSegmentsRoll(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSegmentBytes = 10_000
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	var all []*testObject
	for i := range 100 {
		size := 1000
		if i == 50 {
			size = 30_000 // has a segment to itself
		}
		o := make1(t, events, t0, fmt.Sprint("k", i), t0*1e6, bytesOf(uint64(i), size))
		mustPut(t, s, o)
		all = append(all, o)
	}
	large := 0
	files := segmentsOf(t, fsys)
	for _, name := range files {
		if e, err := fsys.Stat(name); err != nil || e.SizeBytes > cfg.MaxSegmentBytes {
			large++
		}
	}
	if len(files) < 12 || len(files) > 18 || large != 1 {
		t.Errorf("%d segments, %d too long", len(files), large)
	}
	if n, err := s.SealDue(t0); err != nil || n != len(files)-1 {
		t.Errorf("%d of %d sealed, %v", n, len(files), err)
	}
	for range 2 {
		for _, o := range all {
			mustGet(t, s, o)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, cfg)
	}
	if st := d.Stats(); st.Damage != 0 || st.Stores != 1 {
		t.Errorf("%+v", st)
	}
}

// TestFaultsEverywhere fails each operation of a life in turn, once, as a disk
// does that is full for a moment, or that has a bad one. The process goes on as
// well as it can: what it acknowledged is there, at once, after a kill, and, under
// SyncAlways, after a loss of power; and nothing half-done is left.
func TestFaultsEverywhere(t *testing.T) { faultsEverywhere(t, (*life).steps) }

// faultsEverywhere does it with the steps of a life that it is given.
func faultsEverywhere(t *testing.T, steps func(*life) []func() error) {
	all := func(*testObject, int) bool { return true }
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, policy := range []Sync{SyncInterval, SyncAlways} {
			t.Run(fmt.Sprint(fault, policy), func(t *testing.T) {
				stride := 1
				if testing.Short() || raceEnabled {
					stride = 6
				}
				for k := 0; ; k += stride {
					l := newLife(t, policy)
					what := fmt.Sprintf("%v at operation %d", fault, k)
					if seen := l.stubborn(steps(l), k, fault); seen <= k {
						l.close()
						return
					}
					for id, o := range l.expect(all) {
						if err := l.foundOrNewer(l.s, o); err != nil {
							t.Fatalf("%s: %s: %v", what, id, err)
						}
					}
					l.verify(what+", killed", l.fsys.Kill(), "boot-1", all, fault == error(syscall.ENOSPC))
					if policy == SyncAlways {
						l.verify(what+", power cut", l.fsys.PowerCut(newRand(k)), "boot-2", all, false)
					}
					l.close()
				}
			})
		}
	}
}

// stubborn takes these steps of a life, whatever fails, of which the k-th operation
// does. It returns how many operations there were.
func (l *life) stubborn(steps []func() error, k int, fault error) (seen int) {
	l.fsys.Inject(func(op vfs.Op) error {
		if op.Kind > vfs.OpSyncDir {
			return nil
		}
		seen++
		switch {
		case seen != k+1:
			return nil
		case op.Kind == vfs.OpWrite && op.Bytes > 1:
			return &vfs.Partial{Bytes: op.Bytes / 2, Err: fault}
		}
		return fault
	})
	for i, step := range steps {
		if l.s == nil && i > 0 { // what fails while it is opened keeps nothing from being opened again
			l.close()
			err := l.open()
			if err != nil {
				l.close()
				err = l.open()
			}
			if err != nil {
				l.t.Fatalf("%v at operation %d: opening again: %v", fault, k, err)
			}
		}
		if err := step(); err != nil && l.d != nil {
			l.d.space.refresh(l.d)
		}
	}
	return seen
}
