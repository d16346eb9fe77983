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
		{"full halfway", &vfs.Partial{Bytes: 70, Err: syscall.ENOSPC}, nil, object.CodeLowSpace, object.NotDone},
		{"full, and not to be cut", &vfs.Partial{Bytes: 70, Err: syscall.ENOSPC}, syscall.EIO, object.CodeLowSpace, object.NotDone},
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
			o := make1(t, events, t0, "failed", t0*1e6, bytesOf(2, 100))
			_, err := s.putTest(o)
			var fault *object.Error
			if !errors.As(err, &fault) || fault.Code != tc.code || fault.Outcome != tc.outcome {
				t.Fatalf("got %v, want %v, %v", err, tc.code, tc.outcome)
			}
			fsys.Inject(nil)
			wantErr(t, s.getErr(o, t0), ErrAbsent, "the failed put")
			d.space.refresh(d)
			after := make1(t, events, t0, "after", t0*1e6, bytesOf(3, 100))
			mustPut(t, s, after)
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
