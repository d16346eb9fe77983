package bitcask

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Of many puts of one key at once exactly one is appended, whatever else goes
// on; of different values in a write-once bucket exactly one wins.
func TestOneDecisionAtATime(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	once := func(old, next *object.Header) Action {
		switch {
		case old == nil:
			return Append
		case old.Checksum == next.Checksum:
			return Same
		}
		return Conflict
	}
	for round := range 50 {
		var appended, same, conflict atomic.Int64
		var wg sync.WaitGroup
		for writer := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("key%d", round)
				if round%2 == 1 {
					name = "same" + name // one hash for all of these
				}
				o := make1(t, events, t0, name, t0*1e6, []byte{byte(writer % 3)})
				action, err := s.Put(events, o.hash(), t0, t0, o.rec, once)
				switch {
				case err != nil:
					t.Error(err)
				case action == Append:
					appended.Add(1)
				case action == Same:
					same.Add(1)
				default:
					conflict.Add(1)
				}
			})
		}
		wg.Wait()
		if appended.Load() != 1 || same.Load() > 2 || same.Load()+conflict.Load() != 7 {
			t.Fatalf("round %d: %d appended, %d same, %d conflicts", round, appended.Load(), same.Load(), conflict.Load())
		}
	}
}

// A put of a key decides only when the one before has ended, and goes on the
// state that one has left.
func TestSecondPutWaits(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	mustPut(t, s, make1(t, events, t0, "other", t0*1e6, nil))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.takeRoleLocked() // as if a write were under way
	l.mu.Unlock()
	o := make1(t, events, t0, "key", t0*1e6, []byte("x"))
	results := make(chan Action, 2)
	put := func() {
		action, err := s.putTest(o)
		if err != nil {
			t.Error(err)
		}
		results <- action
	}
	go put()
	waitQueue(l, 1)
	go put()
	for {
		l.mu.Lock()
		first := l.claims.find(o.hash())
		waits, queued := first != nil && first.awaited, len(l.queue)
		l.mu.Unlock()
		if queued == 2 {
			t.Error("both decided at once")
			break
		}
		if waits {
			break
		}
	}
	l.mu.Lock()
	l.releaseRoleLocked()
	l.mu.Unlock()
	if a, b := <-results, <-results; a+b != Append+Same {
		t.Errorf("%v and %v, want one append", a, b)
	}
}

// What is acknowledged as there already is as durable as a new record.
func TestSameIsDurable(t *testing.T) {
	fsys := vfs.NewMem()
	_, s := openAll(t, fsys, testConfig())
	o := make1(t, events.synced(SyncNone), t0, "key", t0*1e6, bytesOf(1, 5000))
	mustPut(t, s, o)
	o.b.Sync = SyncAlways
	if action, err := s.putTest(o); err != nil || action != Same {
		t.Fatalf("%v, %v", action, err)
	}
	cfg := testConfig()
	cfg.BootID = "boot-2"
	for seed := range 10 {
		_, s := openAll(t, fsys.PowerCut(newRand(seed)), cfg)
		mustGet(t, s, o)
	}
}

// A put that queues while its slot is dropped is refused, and leaves no file.
func TestDropBeforeQueuedPut(t *testing.T) {
	fsys := vfs.NewMem()
	_, s := openAll(t, fsys, testConfig())
	mustPut(t, s, make1(t, events, t0, "first", t0*1e6, nil))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.takeRoleLocked() // as if a write were under way
	l.mu.Unlock()
	put, dropped := make(chan error), make(chan error)
	go func() {
		_, err := s.putTest(make1(t, events, t0, "late", t0*1e6, nil))
		put <- err
	}()
	waitQueue(l, 1)
	go func() {
		_, err := s.Expire(t0+1000, 100)
		dropped <- err
	}()
	for waiting := int32(0); waiting == 0; {
		l.mu.Lock()
		waiting = l.waiting
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.releaseRoleLocked()
	l.mu.Unlock()
	wantErr(t, <-put, ErrExpired, "a put to a dropped slot")
	if err := <-dropped; err != nil {
		t.Fatal(err)
	}
	if n := countFiles(t, fsys, laneDir(events.ID, Partition{})); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// Writers, readers, sealing, expiry and maintenance at once: what was put is
// found at any time, until it expires.
func TestEverythingAtOnce(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHandles = 8
	cfg.MaxSegmentBytes = 64 << 10
	cfg.SyncInterval = 5 * time.Millisecond
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, cfg)
	const writers, each = 6, 150
	var wg sync.WaitGroup
	var newest [writers]atomic.Int64
	object := func(w, i int) *testObject {
		b := events.synced(Sync(i % 3))
		return make1(t, b, t0+int64(i%40), fmt.Sprintf("w%d:%d", w, i), t0*1e6, bytesOf(uint64(w*each+i), i*13%4000))
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				o := object(w, i)
				if action, err := s.putTest(o); err != nil || action != Append {
					t.Errorf("put %q: %v, %v", o.key, action, err)
					return
				}
				newest[w].Store(int64(i + 1))
				o.rec.Release()
			}
		})
		wg.Go(func() {
			for i := 0; i < each; {
				if n := int(newest[w].Load()); n > i {
					o := object(w, i+(n-i)/2)
					if err := s.getErr(o, t0); err != nil {
						t.Errorf("get %q: %v", o.key, err)
						return
					}
					o.rec.Release()
					i++
				}
			}
		})
	}
	stop := make(chan struct{})
	var upkeep sync.WaitGroup
	upkeep.Go(func() {
		for now := t0; ; now++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Seal(events, slotAt(t0+now%40)); err != nil {
				t.Errorf("seal: %v", err)
			}
			if _, err := d.Maintain(t0, true); err != nil {
				t.Errorf("maintain: %v", err)
			}
			for _, err := range s.Walk(events, slotAt(t0+now%40), t0) {
				if err != nil {
					t.Errorf("walk: %v", err)
				}
			}
			_ = d.Stats()
		}
	})
	wg.Wait()
	close(stop)
	upkeep.Wait()
	n := 0
	for i := range int64(4) {
		for _, err := range s.WalkRecords(events, slotAt(t0+10*i), t0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if n != writers*each {
		t.Errorf("walked %d records, want %d", n, writers*each)
	}
	if open, _, _ := d.handles.counts(); open > cfg.MaxHandles {
		t.Errorf("%d files are open, at most %d should be", open, cfg.MaxHandles)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if found, totals := checkAll(t, fsys); totals.Damage != 0 || totals.Records != writers*each {
		t.Errorf("check: %+v, %+v", totals, found)
	}
}

// countOps returns a rule that counts operations on segments by kind.
func countOps(counts *[16]atomic.Int64) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if strings.HasSuffix(op.Name, segSuffix) {
			counts[op.Kind].Add(1)
		}
		return nil
	}
}

// An uncontended put is one write, a get one read; nothing else touches the
// segment, except the sync of SyncAlways.
func TestOneCallEach(t *testing.T) {
	fsys := vfs.NewMem()
	_, s := openAll(t, fsys, testConfig())
	mustPut(t, s, make1(t, events, t0, "first", t0*1e6, nil))
	for _, tc := range []struct {
		sync  Sync
		syncs int64
	}{{SyncNone, 0}, {SyncInterval, 0}, {SyncAlways, 1}} {
		var counts [16]atomic.Int64
		fsys.Inject(countOps(&counts))
		o := make1(t, events.synced(tc.sync), t0, tc.sync.String(), t0*1e6, bytesOf(1, 100_000))
		mustPut(t, s, o)
		if w, y, r := counts[vfs.OpWrite].Load(), counts[vfs.OpSync].Load(), counts[vfs.OpRead].Load(); w != 1 || y != tc.syncs || r != 0 {
			t.Errorf("%v: a put is %d writes, %d syncs, %d reads", tc.sync, w, y, r)
		}
		mustGet(t, s, o)
		if r := counts[vfs.OpRead].Load(); r != 1 {
			t.Errorf("%v: a get is %d reads", tc.sync, r)
		}
	}
}

// Puts that wait are written together, and one sync serves all that were
// written before it began.
func TestGroupCommit(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	b := events.synced(SyncAlways)
	mustPut(t, s, make1(t, b, t0, "first", t0*1e6, nil))
	l, err := s.lane(laneOf(b, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.takeRoleLocked()
	l.mu.Unlock()
	before := d.Stats()
	var wg sync.WaitGroup
	for i := range 20 {
		o := make1(t, b, t0, fmt.Sprint("k", i), t0*1e6, bytesOf(1, 100))
		wg.Go(func() { mustPut(t, s, o) })
	}
	waitQueue(l, 20)
	l.mu.Lock()
	l.releaseRoleLocked()
	l.mu.Unlock()
	wg.Wait()
	after := d.Stats()
	if writes := after.Appends - before.Appends; writes != 1 || after.Records-before.Records != 20 {
		t.Errorf("%d records in %d writes", after.Records-before.Records, writes)
	}
	if syncs := after.Syncs - before.Syncs; syncs > 20 || syncs < 1 {
		t.Errorf("%d syncs", syncs)
	}
}

// A queue that is full refuses at once, and says that nothing was done.
func TestOverload(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	mustPut(t, s, make1(t, events, t0, "first", t0*1e6, nil))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.takeRoleLocked()
	l.queueBytes += maxQueueBytes
	l.mu.Unlock()
	o := make1(t, events, t0, "refused", t0*1e6, nil)
	_, err = s.putTest(o)
	wantErr(t, err, object.CodeOverload, "a put to a full queue")
	l.mu.Lock()
	l.queueBytes -= maxQueueBytes
	l.releaseRoleLocked()
	l.mu.Unlock()
	mustPut(t, s, o)
}

// Under SyncInterval what was put is durable an interval later, and not before
// for no reason: a power cut then loses nothing.
func TestSyncInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.SyncInterval = time.Second
		fsys := vfs.NewMem()
		d, s := openAll(t, fsys, cfg)
		b := events.synced(SyncInterval)
		var all []*testObject
		for i := range 100 {
			o := make1(t, b, t0+int64(i), "a", t0*1e6, bytesOf(1, 100))
			mustPut(t, s, o)
			all = append(all, o)
		}
		before := d.Stats().Syncs
		time.Sleep(cfg.SyncInterval / 2)
		synctest.Wait()
		if half := d.Stats().Syncs - before; half == 0 || half > 8 {
			t.Errorf("%d of 10 segments are synced after half an interval: not staggered", half)
		}
		time.Sleep(cfg.SyncInterval/2 + cfg.SyncInterval/syncSteps)
		synctest.Wait()
		cut := fsys.PowerCut(newRand(1))
		if syncs := d.Stats().Syncs - before; syncs != 10 {
			t.Errorf("%d syncs of 10 segments", syncs)
		}
		cfg.BootID = "boot-2"
		d2, s2 := openAll(t, cut, cfg)
		for _, o := range all {
			mustGet(t, s2, o)
		}
		if err := d2.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * cfg.SyncInterval)
		if syncs := d.Stats().Syncs - before; syncs != 10 {
			t.Errorf("%d syncs: clean segments are synced", syncs)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
