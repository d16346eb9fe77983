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

// TestSyncAfterFailure: a slot of which a sync failed is durable when Sync says so,
// under every policy, whatever the kernel made of the pages that it could not write: a
// doubt that is cleared then comes back for nothing.
func TestSyncAfterFailure(t *testing.T) {
	for _, b := range []Bucket{events, epochs, plain} {
		for _, policy := range []Sync{SyncNone, SyncAlways} {
			for _, killed := range []bool{false, true} { // and started again before it is synced
				t.Run(fmt.Sprintf("%s, policy %v, killed: %v", b.Name, policy, killed), func(t *testing.T) {
					fsys := vfs.NewMem()
					d, s := openAll(t, fsys, testConfig())
					var all []*testObject
					for i := range 5 {
						all = append(all, make1(t, b.synced(policy), t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 500)))
					}
					mustPut(t, s, all[0])
					fsys.Inject(onSegments(vfs.OpSync, 1, syscall.EIO))
					_, _ = s.putTest(all[1])
					_, _ = s.putTest(all[2])
					if killed {
						s.evidence.doubtLater(laneOf(b, t0, testSlot), ReasonDamage)
					}
					_ = s.CleanIdle(t0 + cleanAfter) // under SyncNone it is what fails
					fsys.Inject(nil)
					if len(s.Doubts()) != 1 || s.Doubts()[0].Reason != ReasonSyncFailed {
						t.Fatalf("doubts %+v", s.Doubts())
					}
					if killed {
						if err := s.publish("keeping the evidence"); err != nil {
							t.Fatal(err)
						}
						fsys = fsys.Kill()
						d, s = openAll(t, fsys, testConfig())
					}
					doubts := s.Doubts()
					listed := 0
					if _, err := s.Page(b, slotAt(t0), t0, 0, func(Head, error) bool { listed++; return true }); err != nil || listed < 3 {
						t.Fatalf("%d are listed, %v", listed, err)
					}
					before := d.Stats().Syncs
					if err := s.Sync(b, slotAt(t0)); err != nil {
						t.Fatal(err)
					}
					if d.Stats().Syncs == before {
						t.Error("nothing was synced")
					}
					if err := s.ClearDoubt(doubts[0]); err != nil {
						t.Fatal(err)
					}
					mustPut(t, s, all[3])
					for _, name := range segmentsOf(t, fsys)[:1] { // the kernel has dropped what it could not write
						edit(t, fsys, name, func(data []byte) []byte { clear(data[len(data)-1200:]); return data })
					}
					cfg := testConfig()
					cfg.BootID = "boot-2"
					_, again := openAll(t, fsys.PowerCut(newRand(1)), cfg)
					for _, o := range all[:3] {
						if err := getAny(again, o); err != nil {
							t.Errorf("get %q: %v", o.key, err)
						}
					}
				})
			}
		}
	}
}

// getAny gets an object, or a record among those of its row.
func getAny(s *Store, o *testObject) error {
	if !o.b.KeepAll {
		return s.getErr(o, t0)
	}
	for rec, err := range s.Each(o.b, o.hash(), o.epoch, t0, []byte(o.key)) {
		if err == nil && rec.Version() == o.rec.Version() {
			return rec.Verify()
		}
	}
	return ErrAbsent
}

// TestSyncFailsForGood: a disk that syncs nothing any more is not filled with copies.
func TestSyncFailsForGood(t *testing.T) {
	fsys := vfs.NewMem()
	_, s := openAll(t, fsys, testConfig())
	o := make1(t, events, t0, "k", t0*1e6, bytesOf(1, 500))
	mustPut(t, s, o)
	synced := map[string]bool{segmentsOf(t, fsys)[0]: true}
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind != vfs.OpSync || !strings.HasSuffix(op.Name, segSuffix) {
			return nil
		}
		if synced[op.Name] {
			return syscall.EIO
		}
		synced[op.Name] = true // when it is made
		return nil
	})
	for range 50 {
		if err := s.Sync(events, slotAt(t0)); !errors.Is(err, object.CodeDisk) {
			t.Fatalf("a sync: %v", err)
		}
	}
	if files := segmentsOf(t, fsys); len(files) > maxRewrites+1 {
		t.Errorf("%d segments", len(files))
	}
	if len(s.Doubts()) != 1 {
		t.Errorf("doubts %+v", s.Doubts())
	}
	mustGet(t, s, o)
}
