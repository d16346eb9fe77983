package bitcask

import (
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Manual disk syncs when it is told the time has come, and not before; given
// the same bits, it writes the same bytes.
func TestManualDisk(t *testing.T) {
	run := func() (fsys *vfs.Mem, ops []vfs.Op) {
		fsys = vfs.NewMem()
		cfg := testConfig()
		cfg.Manual, cfg.SyncInterval = true, time.Second
		bits := uint64(0)
		cfg.Random = func() uint64 { bits++; return bits }
		d, s := openAll(t, fsys, cfg)
		if d.TickInterval() != time.Second/8 {
			t.Errorf("a tick every %v", d.TickInterval())
		}
		if _, err := s.putTest(make1(t, events.synced(SyncInterval), t0, "a", t0*1e6, []byte("v"))); err != nil {
			t.Fatal(err)
		}
		fsys.Inject(func(op vfs.Op) error { ops = append(ops, op); return nil })
		d.Tick()
		fsys.Inject(nil)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return fsys, ops
	}
	one, ops := run()
	synced := 0
	for _, op := range ops {
		if op.Kind == vfs.OpSync {
			synced++
		}
	}
	if synced != 1 {
		t.Errorf("a tick made %d syncs: %v", synced, ops)
	}
	two, _ := run()
	a, err := ReadIdentity(one)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := ReadIdentity(two); err != nil || a != b {
		t.Errorf("identities %v and %v, %v", a, b, err)
	}
}
