package vnode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A ledger is what clients were told.
type ledger struct {
	acked map[string]string // blobs put, with their entry in the index
	sent  map[string]string // these and others that were on their way
	times map[int64]bool    // seconds in which something was done: late lists are of these
}

// day is a short life of a node: blobs with their entries, sealing, late blobs,
// and sealing again. It ends early when the file system crashes.
func (n *node) day(l *ledger) {
	put := func(key, value string) bool {
		rec := recordOf(n.t, object.Value, bucket.Events, key, value, n.now)
		l.sent[key], l.times[n.now.Unix()] = value, true
		if _, err := n.set.Put(n.now, rec); err != nil {
			return false
		}
		row, delta, err := index.DeltaOf(&rec.Header)
		if err != nil {
			n.t.Fatal(err)
		}
		if err := n.set.Add(n.now, row, delta); err != nil {
			return false
		}
		l.acked[key] = value
		return true
	}
	upkeep := func() bool {
		n.now = n.now.Add((DefaultSealAfterSeconds + testSlotSeconds + 10) * time.Second)
		l.times[n.now.Unix()] = true
		for range 3 {
			err := n.set.Maintain(n.t.Context(), n.now, n.set.Index(n.clock))
			if _, engineErr := n.sys.(*engine).disk.Maintain(n.now.Unix(), true); errors.Join(err, engineErr) != nil {
				return false
			}
		}
		return true
	}
	for i := range 5 {
		n.now = noon.Add(time.Duration(3*i) * time.Second)
		for j := range 2 {
			if !put(blobKey(n.now.Unix(), j), fmt.Sprint("value", i, j)) {
				return
			}
		}
	}
	if !upkeep() || !put(blobKey(noon.Unix(), 5), "late") || !put(blobKey(noon.Unix()+12, 5), "late") {
		return
	}
	upkeep()
}

// TestEveryCrash crashes a node at each operation of its day, kills the process
// or cuts the power, and starts it again: nothing acknowledged is missing,
// except what a policy that syncs later may lose in a power cut, and then the
// node does not say that it is absent; every blob that is there is in the index.
func TestEveryCrash(t *testing.T) {
	for _, sync := range []bucket.Sync{bucket.SyncInterval, bucket.SyncAlways} {
		t.Run(string(sync), func(t *testing.T) {
			stride := 1
			if testing.Short() || raceBuild {
				stride = 7
			}
			for k, ended := 0, false; !ended; k += stride {
				ended = crashAt(t, sync, k)
				if k > 5000 {
					t.Fatal("the day does not end")
				}
			}
		})
	}
}

// crashAt lives one day that crashes at operation k, and checks what is left of
// it. It reports whether the day ended before it could crash.
func crashAt(t *testing.T, sync bucket.Sync, k int) (ended bool) {
	l := &ledger{map[string]string{}, map[string]string{}, map[int64]bool{}}
	n := newCrashNode(t, sync, vfs.NewMem())
	mem := n.sys.(*engine).fs.(*vfs.Mem)
	mem.CrashAt(k)
	n.day(l)
	ended = !mem.Crashed()
	n.sys.(*engine).shut()
	t.Run(fmt.Sprintf("killed at %d", k), func(t *testing.T) {
		n.reborn(t, sync, mem.Kill(), "boot").check(l, true)
	})
	t.Run(fmt.Sprintf("power cut at %d", k), func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(k), 0))
		n.reborn(t, sync, mem.PowerCut(rng), "another boot").check(l, sync == bucket.SyncAlways)
	})
	return ended
}

// newCrashNode is a node on a file system that has not crashed yet; its disk was
// made before.
func newCrashNode(t *testing.T, sync bucket.Sync, mem *vfs.Mem) *node {
	t.Helper()
	n := newNode(t, 1, func(ttl func(uint64) int64) system { return newEngine(t, mem, ttl) })
	n.declare(bucket.Declaration{Name: bucket.Events, Sync: &sync})
	n.declare(bucket.Declaration{Name: bucket.Epochs, Sync: &sync})
	return n
}

// reborn starts the node on what is left of its disk.
func (n *node) reborn(t *testing.T, sync bucket.Sync, mem *vfs.Mem, boot string) *node {
	t.Helper()
	next := &node{t: t, history: n.history, now: n.now}
	next.buckets.Store(n.buckets.Load())
	e := &engine{t: t, fs: mem, cfg: engineConfig(TTLs(next.buckets.Load))}
	e.cfg.BootID = boot
	e.open()
	t.Cleanup(e.shut)
	next.sys = e
	next.cfg = n.cfg
	next.cfg.Buckets = next.buckets.Load
	next.open()
	return next
}

// check holds the node to what its former life has told.
func (n *node) check(l *ledger, nothingLost bool) {
	n.t.Helper()
	l.times[n.now.Unix()] = true
	n.recover()
	there := map[string]string{}
	for key, value := range l.sent {
		got := n.get(bucket.Events, key)
		switch _, acked := l.acked[key]; {
		case got == value:
			there[key] = value
		case acked && nothingLost:
			n.t.Errorf("%q was acknowledged and is %q", key, got)
		case acked && got != "unknown":
			n.t.Errorf("%q was acknowledged, may be lost, and is %q", key, got)
		case !acked && got != "absent" && got != "unknown":
			n.t.Errorf("%q was on its way and is %q", key, got)
		}
	}
	n.checkListed(there)
	if nothingLost {
		n.checkLists(l, there)
	}
	for key, value := range there {
		n.want("the same again", n.put(bucket.Events, key, value), "known")
		n.want("another value", n.put(bucket.Events, key, value+"!"), "conflict")
	}
	for range 3 { // a damaged index may not be certain: that must not keep it from being sealed for ever
		n.now = n.now.Add((DefaultSealAfterSeconds + testSlotSeconds + 10) * time.Second)
		for range 4 {
			n.maintain()
		}
	}
	n.checkListed(there)
}

// checkLists: what a row calls listed stands in the late list of a second.
func (n *node) checkLists(l *ledger, there map[string]string) {
	n.t.Helper()
	listed := map[string]bool{}
	for second := range l.times {
		a, err := n.set.Row(n.now, event.IndexKey{Epoch: second, DC: "ams", Late: true})
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range a.Row.Blobs() {
			listed[e.Suffix] = true
		}
	}
	for key := range there {
		k, err := event.ParseKey(key)
		if err != nil {
			n.t.Fatal(err)
		}
		a, err := n.set.Row(n.now, k.Index())
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range a.Row.Blobs() {
			if e.Flags&index.Listed != 0 && !listed[fmt.Sprintf("%d:%s", k.Epoch, e.Suffix)] {
				n.t.Errorf("row %v calls %q listed, and no late list has it", k.Index(), e.Suffix)
			}
		}
	}
}

// checkListed: every blob that is there is in the row of its second.
func (n *node) checkListed(there map[string]string) {
	n.t.Helper()
	for key := range there {
		k, err := event.ParseKey(key)
		if err != nil {
			n.t.Fatal(err)
		}
		a, err := n.set.Row(n.now, k.Index())
		if err != nil {
			n.t.Fatal(err)
		}
		listed := false
		for _, e := range a.Row.Blobs() {
			listed = listed || e.Suffix == k.Suffix()
		}
		if !listed {
			n.t.Errorf("%q is there and not in the index (complete: %v)", key, a.Complete)
		}
	}
}
