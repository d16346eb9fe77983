package bitcask

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Reads and writes expire at the exact second, by the TTL as it is now.
func TestExpiryIsExact(t *testing.T) {
	ttl := testTTL
	cfg := testConfig()
	cfg.TTL = func(uint64) int64 { return ttl }
	_, s := openAll(t, vfs.NewMem(), cfg)
	timed := make1(t, events, t0, "a", t0*1e6, []byte("x"))
	doc := make1(t, plain, 0, "doc", t0*1e6+1, []byte("x")) // its time counts as t0+1: rounded up
	mustPut(t, s, timed)
	mustPut(t, s, doc)
	at := func(now int64, timedThere, docThere bool) {
		t.Helper()
		for o, there := range map[*testObject]bool{timed: timedThere, doc: docThere} {
			err := s.getErr(o, now)
			if there && err != nil || !there && !errors.Is(err, ErrExpired) {
				t.Errorf("ttl %d: get %q at t0+%d: %v", ttl, o.key, now-t0, err)
			}
			_, err = s.Head(o.b, o.hash(), o.epoch, now, []byte(o.key))
			if there != (err == nil) {
				t.Errorf("ttl %d: head %q at t0+%d: %v", ttl, o.key, now-t0, err)
			}
			n := 0
			for range s.Walk(o.b, slotAt(o.epoch), now) {
				n++
			}
			if there != (n == 1) {
				t.Errorf("ttl %d: walk at t0+%d: %d records", ttl, now-t0, n)
			}
			_, err = s.Put(o.b, o.hash(), o.epoch, now, o.rec, nil)
			if there && err != nil || !there && !errors.Is(err, object.CodeExpired) {
				t.Errorf("ttl %d: put %q at t0+%d: %v", ttl, o.key, now-t0, err)
			}
		}
	}
	at(t0+testTTL-1, true, true)
	at(t0+testTTL, false, true)
	at(t0+testTTL+1, false, false)
	ttl = 10 * testTTL // longer: both are back, as nothing was dropped
	at(t0+testTTL+1, true, true)
	ttl = 0
	at(t0+1000*testTTL, true, true)
	ttl = 1
	at(t0+1, false, true)
}

// What was dropped stays expired whatever the TTL becomes, also after a
// restart, and nothing is taken in below the horizon.
func TestHorizon(t *testing.T) {
	ttl := testTTL
	cfg := testConfig()
	cfg.TTL = func(id uint64) int64 {
		if id == plain.ID {
			return 0
		}
		return ttl
	}
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	var all []*testObject
	for i := range int64(30) {
		o := make1(t, events, t0+i, "a", t0*1e6, bytesOf(uint64(i), 100))
		mustPut(t, s, o)
		all = append(all, o)
		if i == 12 {
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	doc := make1(t, plain, 0, "doc", 1, []byte("old, but plain"))
	ttl = 0
	mustPut(t, s, doc)
	if e, err := s.Expire(t0+1000*testTTL, 100); err != nil || e.Files != 0 {
		t.Fatalf("with a TTL of 0: %+v, %v", e, err)
	}
	ttl = testTTL
	now := t0 + 2*testSlot + testTTL - 1 // every second of the first two slots is dead, but the last of the second
	if _, err := d.Maintain(now-1, false); err != nil || s.Horizon(events) != 0 {
		t.Fatalf("with a clock that is not trusted: %v, %v", s.Horizon(events), err)
	}
	// One second is still readable: its slot must stay.
	if _, err := s.Expire(now-1, 100); err != nil {
		t.Fatal(err)
	}
	if got := s.Horizon(events); got != expiry.Horizon(t0+testSlot) {
		t.Fatalf("horizon t0+%d, want the end of the first slot", int64(got)-t0)
	}
	for i, o := range all {
		err := s.getErr(o, t0)
		if gone := i < 10; gone && !errors.Is(err, ErrExpired) || !gone && err != nil {
			t.Errorf("second %d: %v", i, err)
		}
	}
	if left := countFiles(t, fsys, laneDir(events.ID, Partition{})); left != 2 {
		t.Errorf("%d files are left, want 2 of the open slots", left)
	}
	ttl = 100 * testTTL
	for range 2 {
		wantErr(t, s.getErr(all[0], t0), ErrExpired, "below the horizon")
		absent := make1(t, events, t0+5, "never there", t0*1e6, nil)
		wantErr(t, s.getErr(absent, t0), ErrExpired, "never there, below the horizon")
		_, err := s.putTest(absent)
		wantErr(t, err, ErrExpired, "a put below the horizon")
		mustGet(t, s, all[10])
		mustGet(t, s, doc)
		slots, err := s.Slots(events)
		if err != nil || len(slots) != 2 || slots[0] != slotAt(t0+testSlot) {
			t.Errorf("slots %v, %v", slots, err)
		}
		if len(s.Doubts()) != 0 {
			t.Errorf("doubts %+v", s.Doubts())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, s = openAll(t, fsys, cfg)
	}
	if found, totals := checkAll(t, fsys.Kill()); totals.Damage != 0 {
		t.Errorf("check: %+v", found)
	}
	// A newcomer takes over a greater one; a lesser changes nothing.
	if err := s.RaiseHorizon(events, expiry.Horizon(t0+25)); err != nil {
		t.Fatal(err)
	}
	if err := s.RaiseHorizon(events, 7); err != nil || s.Horizon(events) != expiry.Horizon(t0+25) {
		t.Errorf("horizon %v, %v", s.Horizon(events), err)
	}
	wantErr(t, s.getErr(all[24], t0), ErrExpired, "below a raised horizon")
	mustGet(t, s, all[25])
	if e, err := s.Expire(t0, 100); err != nil || e.Files == 0 {
		t.Errorf("what lies below it: %+v, %v", e, err)
	}
}

func countFiles(t testing.TB, fsys vfs.FS, dir string) int {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil && !vfs.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(entries)
}

// Expiry works in steps, rewrites nothing, and closes what it unlinks.
func TestExpireInSteps(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	for i := range int64(50) {
		mustPut(t, s, make1(t, events, t0+i, "a", t0*1e6, bytesOf(1, 1000)))
		if i%10 == 9 && i < 30 {
			if err := s.Seal(events, slotAt(t0+i)); err != nil {
				t.Fatal(err)
			}
			for n := range 2 { // late ones
				mustPut(t, s, make1(t, events, t0+i, fmt.Sprint("late", n), t0*1e6, nil))
				if err := s.Seal(events, slotAt(t0+i)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	written := int64(0)
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && !strings.HasPrefix(op.Name, vnodeDir) {
			written += op.Bytes
		}
		return nil
	})
	steps, files := 0, 0
	for {
		e, err := s.Expire(t0+1000, 3)
		if err != nil {
			t.Fatal(err)
		}
		steps++
		files += e.Files
		if e.Files > 3 {
			t.Fatalf("a step of %d files", e.Files)
		}
		if !e.More {
			break
		}
	}
	if files != 3*3*2+2*2 || written != 0 { // a segment and a hint each; the open ones' hints do not exist
		t.Errorf("%d files unlinked in %d steps, %d bytes written", files, steps, written)
	}
	if left := countFiles(t, fsys, laneDir(events.ID, Partition{})); left != 0 {
		t.Errorf("%d files are left", left)
	}
	if open, _, _ := d.handles.counts(); open != 0 {
		t.Errorf("%d files are still open", open)
	}
	// A kill before the manifest has forgotten them: nobody misses the files.
	fsys.Inject(nil)
	d, s = openAll(t, fsys.Kill(), testConfig())
	if _, err := d.Maintain(t0+1000, true); err != nil {
		t.Fatal(err)
	}
	if damage, _ := s.Damage(); len(damage) != 0 || len(s.Doubts()) != 0 {
		t.Errorf("dropped files are missed: %+v, %+v", damage, s.Doubts())
	}
	if left := s.evidence.list(func(segID, segRecord) bool { return true }); len(left) != 0 {
		t.Errorf("the manifest still lists %v", left)
	}
}

// A put that races the drop of its slot is either refused or dropped with it:
// no file outlives its slot.
func TestPutRacesExpiry(t *testing.T) {
	for round := range 20 {
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, testConfig())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 200 {
				o := make1(t, events, t0+int64(i%10), fmt.Sprint(i), t0*1e6, nil)
				if _, err := s.putTest(o); err != nil && !errors.Is(err, ErrExpired) {
					t.Errorf("put: %v", err)
				}
			}
		}()
		for range round % 3 {
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Expire(t0+1000, 1000); err != nil {
			t.Fatal(err)
		}
		<-done
		if _, err := s.Expire(t0+1000, 1000); err != nil {
			t.Fatal(err)
		}
		if left := countFiles(t, fsys, laneDir(events.ID, Partition{})); left != 0 {
			t.Fatalf("round %d: %d files are left", round, left)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
