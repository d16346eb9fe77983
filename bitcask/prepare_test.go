package bitcask

import (
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A waits file system counts what makes its caller wait for the disk.
type waits struct {
	vfs.FS
	n *int
}

func (w waits) SyncDir(name string) error { *w.n++; return w.FS.SyncDir(name) }

func (w waits) Create(name string) (vfs.File, error) { return w.file(w.FS.Create(name)) }

func (w waits) OpenReadWrite(name string) (vfs.File, error) { return w.file(w.FS.OpenReadWrite(name)) }

func (w waits) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return waitsFile{f, w.n}, nil
}

type waitsFile struct {
	vfs.File
	n *int
}

func (f waitsFile) Sync() error { *f.n++; return f.File.Sync() }

// prepared returns a store in which a slot has taken puts of two buckets and the
// next one has been prepared.
func prepared(t *testing.T, policy Sync) (mem *vfs.Mem, d *Disk, s *Store, syncs *int) {
	mem, syncs = vfs.NewMem(), new(int)
	cfg := testConfig()
	d, s = openAll(t, waits{mem, syncs}, cfg)
	for _, b := range []Bucket{events, epochs, plain} {
		mustPut(t, s, make1(t, b.synced(policy), t0, "a", t0*1e6, bytesOf(1, 100)))
	}
	if err := s.CleanIdle(t0 + 2*cleanAfter); err != nil { // it is what puts ask for that counts
		t.Fatal(err)
	}
	if err := s.prepare(prepareAt(s.partition, t0+testSlot, testSlot) - 1); err != nil || d.Stats().SegmentsAhead != 0 {
		t.Fatalf("too early: %d segments, %v", d.Stats().SegmentsAhead, err)
	}
	*syncs = 0
	for range 2 { // the second time there is nothing to do
		if err := s.prepare(t0 + testSlot - 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.Stats().SegmentsAhead; n != 2 {
		t.Fatalf("%d segments were made ahead, want one of each timed bucket", n)
	}
	if want := 2*2 + 2; *syncs != want {
		t.Errorf("%d syncs, want %d: a file and its directory each, and one manifest", *syncs, want)
	}
	return mem, d, s, syncs
}

// The first put of a slot that was prepared waits for the disk only as its policy
// asks, and its record is as safe as any.
func TestFirstPutOfPreparedSlot(t *testing.T) {
	for _, policy := range []Sync{SyncNone, SyncInterval, SyncAlways} {
		mem, _, s, syncs := prepared(t, policy)
		*syncs = 0
		o := make1(t, events.synced(policy), t0+testSlot, "first", t0*1e6, bytesOf(2, 100))
		mustPut(t, s, o)
		want := 0
		if policy == SyncAlways {
			want = 1
		}
		if *syncs != want {
			t.Errorf("%v: the first put waits for %d syncs, want %d", policy, *syncs, want)
		}
		cfg := testConfig()
		cfg.BootID = "boot-2"
		for seed := range 20 {
			_, s := openAll(t, mem.PowerCut(newRand(seed)), cfg)
			err := s.getErr(o, t0)
			doubts := len(s.Doubts())
			if policy == SyncAlways && (err != nil || doubts != 0) || err != nil && doubts == 0 {
				t.Errorf("%v, seed %d: %v, %d doubts", policy, seed, err, doubts)
			}
		}
	}
}

// A slot that was prepared and not used does not show, here or after a restart,
// is not followed by another, and leaves nothing behind when it is sealed.
func TestPreparedAndNotUsed(t *testing.T) {
	mem, d, s, _ := prepared(t, SyncInterval)
	next := slotAt(t0 + testSlot)
	only := func(s *Store) {
		t.Helper()
		if slots, err := s.Slots(events); err != nil || len(slots) != 1 || slots[0] != slotAt(t0) {
			t.Errorf("slots %v, %v", slots, err)
		}
	}
	only(s)
	if err := s.prepare(t0 + 2*testSlot - 1); err != nil || d.Stats().SegmentsAhead != 2 {
		t.Errorf("an empty slot is followed by a prepared one: %d, %v", d.Stats().SegmentsAhead, err)
	}
	_, again := openAll(t, mem.Kill(), testConfig())
	only(again)
	if sealed, err := again.Sealed(events, next); err != nil || sealed { // loads it
		t.Errorf("sealed %v, %v", sealed, err)
	}
	only(again)
	if err := s.Seal(events, next); err != nil {
		t.Fatal(err)
	}
	for _, name := range segmentsOf(t, mem) {
		if strings.HasPrefix(name, bucketDir(events.ID)) && !strings.Contains(name, segName(segID{laneID{events.ID, slotAt(t0)}, 0}, s.partition)) {
			t.Errorf("%s is left", name)
		}
	}
	mustPut(t, s, make1(t, events, t0+testSlot, "late", t0*1e6, nil))
	if found, _ := checkAll(t, mem.Kill()); len(found) != 0 {
		t.Errorf("check says %+v", found)
	}
}

// A slot that nothing was put into for a minute after it began is marked clean, and
// not before.
func TestPreparedBecomesClean(t *testing.T) {
	_, _, s, _ := prepared(t, SyncNone)
	id := segID{laneID{events.ID, slotAt(t0 + testSlot)}, 0}
	if err := s.CleanIdle(t0 + testSlot + cleanAfter - 1); err != nil {
		t.Fatal(err)
	}
	if said, _ := s.evidence.segment(id); said.state != segDirty {
		t.Errorf("too early: state %d, want dirty", said.state)
	}
	if err := s.CleanIdle(t0 + testSlot + cleanAfter); err != nil {
		t.Fatal(err)
	}
	if said, _ := s.evidence.segment(id); said.state != segClean {
		t.Errorf("state %d, want clean", said.state)
	}
}

// Partitions take turns within the last two minutes of a slot, or the last
// quarter of a short one.
func TestPrepareAt(t *testing.T) {
	for _, c := range []struct {
		p          Partition
		slotLength int64
		before     int64
	}{
		{Partition{}, 3600, 120}, {Partition{6, 0}, 3600, 120}, {Partition{6, 32}, 3600, 75}, {Partition{6, 63}, 3600, 32},
		{Partition{6, 0}, 10, 2}, {Partition{6, 63}, 10, 2}, {Partition{32, 1<<32 - 1}, 3600, 31}, {Partition{6, 63}, 1, 0},
	} {
		if got := prepareAt(c.p, 1_000_000, c.slotLength); 1_000_000-got != c.before {
			t.Errorf("%v, slots of %d s: %d s before, want %d", c.p, c.slotLength, 1_000_000-got, c.before)
		}
	}
}

// preparing is a script of which much happens ahead of time.
func (l *life) preparing() error {
	for _, step := range l.preparingSteps() {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) preparingSteps() []func() error {
	const next, afterNext = t0 + testSlot, t0 + 2*testSlot
	return []func() error{
		l.open,
		func() error { return l.put(events, t0, "a", 100) },
		func() error { return l.put(epochs, t0, "dc", 40) },
		func() error { return l.s.prepare(next - 1) },
		func() error { return l.put(events, t0+1, "b", 3000) },
		func() error { return l.put(events, next, "c", 3000) },
		func() error { return l.s.prepare(afterNext - 1) },
		func() error { return l.seal(events, t0) },
		func() error { return l.put(epochs, next, "dc", 50) },
		func() error { return l.d.Close() },
		l.open,
		func() error { return l.put(events, next+1, "d", 10) },
		func() error { return l.s.prepare(afterNext - 1) },
		func() error { return l.s.CleanIdle(afterNext + cleanAfter) },
		func() error { return l.put(events, afterNext, "e", 200) },
		func() error { return l.seal(events, next) },
		func() error { return l.s.prepare(afterNext + testSlot - 1) },
		func() error { return l.seal(epochs, next) },
		func() error { return l.seal(events, afterNext+testSlot) },
		func() error { return l.put(events, afterNext+testSlot, "f", 1) },
	}
}

func TestCrashWhilePreparing(t *testing.T) { crashEverywhere(t, (*life).preparing, 100) }

func TestFaultsWhilePreparing(t *testing.T) { faultsEverywhere(t, (*life).preparingSteps) }

// What was made ahead and could not be listed takes no put until it is, and is not
// made again.
func TestPreparedAndNotListed(t *testing.T) {
	mem := vfs.NewMem()
	d, s := openAll(t, mem, testConfig())
	mustPut(t, s, make1(t, events, t0, "a", t0*1e6, nil))
	mem.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && op.To == manifestName(s.partition) {
			return syscall.EIO
		}
		return nil
	})
	for range 3 {
		if err := s.prepare(t0 + testSlot - 1); err == nil || d.Stats().SegmentsAhead != 0 {
			t.Fatalf("%d segments, %v", d.Stats().SegmentsAhead, err)
		}
	}
	if slots, err := s.Slots(events); err != nil || len(slots) != 1 {
		t.Errorf("slots %v, %v", slots, err)
	}
	mem.Inject(nil)
	if err := s.prepare(t0 + testSlot - 1); err != nil || d.Stats().SegmentsAhead != 1 {
		t.Fatalf("%d segments, %v", d.Stats().SegmentsAhead, err)
	}
	if files := segmentsOf(t, mem); len(files) != 2 {
		t.Errorf("there are %v", files)
	}
}

// A segment made ahead whose file cannot be removed when its slot is sealed goes when
// the slot expires.
func TestUnusedIsRemovedInTheEnd(t *testing.T) {
	mem, d, s, _ := prepared(t, SyncNone)
	mem.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, segSuffix) {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Seal(events, slotAt(t0+testSlot)); err == nil {
		t.Error("a file that cannot be removed is no error")
	}
	mem.Inject(nil)
	if _, err := d.Maintain(t0+2*testSlot+testTTL, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range segmentsOf(t, mem) {
		if strings.HasPrefix(name, bucketDir(events.ID)) {
			t.Errorf("%s is left", name)
		}
	}
}
