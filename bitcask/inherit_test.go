package bitcask

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// heir opens a disk whose process before this one was killed with unsynced
// appends, and returns what those were.
func heir(t *testing.T) (*vfs.Mem, *Disk, *Store, *testObject) {
	t.Helper()
	cfg := testConfig()
	cfg.Manual, cfg.SyncInterval = true, time.Second
	fsys := vfs.NewMem()
	open := func() (*Disk, *Store) {
		d, err := OpenDisk(fsys, cfg, t0*1e6)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Store(Partition{})
		if err != nil {
			t.Fatal(err)
		}
		return d, s
	}
	before, s := open()
	o := make1(t, events.synced(SyncInterval), t0, "a", t0*1e6, bytesOf(1, 5000))
	mustPut(t, s, o)
	killed := fsys.Kill()
	if err := before.Close(); err != nil { // of the file system that nobody sees any more
		t.Fatal(err)
	}
	fsys = killed
	d, s := open()
	return fsys, d, s, o
}

// TestInheritedIsSynced: what a killed process left unsynced is safe from a power
// cut an interval after the next process began, whether or not anybody asks for it.
func TestInheritedIsSynced(t *testing.T) {
	for seed := range uint64(8) {
		fsys, d, _, o := heir(t)
		d.Tick()
		left := fsys.PowerCut(rand.New(rand.NewPCG(seed, 1)))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := testConfig()
		cfg.BootID = "boot-2"
		d, err := OpenDisk(left, cfg, t0*1e6)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Store(Partition{})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := s.Get(o.b, o.hash(), o.epoch, t0, o.rec.Key)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		rec.Release()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInheritedCannotBeSynced: then the slot is in doubt.
func TestInheritedCannotBeSynced(t *testing.T) {
	fsys, d, s, _ := heir(t)
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	d.Tick()
	fsys.Inject(nil)
	if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonSyncFailed {
		t.Errorf("the doubts are %+v", doubts)
	}
	if err := d.Close(); err != nil && !errors.Is(err, object.CodeDisk) {
		t.Error(err)
	}
}
