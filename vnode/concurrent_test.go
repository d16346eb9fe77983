package vnode

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestManyAtOnce lets many goroutines put blobs, the same ones with the same and
// with other values, write their entries, and read, while the slot is sealed
// again and again and there is hardly any room for rows. Of each key one value
// was acknowledged and no other; whoever was told that his entry is written finds
// it.
func TestManyAtOnce(t *testing.T) {
	const writers, seconds, perSecond = 8, 6, 6
	onSystems(t, func(t *testing.T, n *node) {
		n.cfg.RowCacheBytes = 6 << 10
		n.open()
		var mu sync.Mutex
		values := map[string]string{} // acknowledged
		acked := func(key, value string) {
			mu.Lock()
			defer mu.Unlock()
			if had, known := values[key]; known && had != value {
				t.Errorf("%q was acknowledged as %q and as %q", key, had, value)
			}
			values[key] = value
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range seconds * perSecond {
					epoch := noon.Unix() + int64(i/perSecond)
					key := blobKey(epoch, (i+w)%perSecond)
					value := fmt.Sprint("value", w%2) // half of them disagree with the other half
					if !concurrentPut(t, n, key, value) {
						continue // the other half was first
					}
					acked(key, value)
					row := event.IndexKey{Epoch: epoch, DC: "ams"}
					a, err := n.set.Row(n.now, row)
					if err != nil {
						t.Error(err)
					}
					if k, err := event.ParseKey(key); err != nil || !lists(a.Row.Section(index.Writer{Name: "agg", Incarnation: 7}), &index.Entry{Suffix: k.Suffix()}) {
						t.Errorf("%q was acknowledged and is not listed", key)
					}
				}
			})
		}
		var stop atomic.Bool
		var upkeep sync.WaitGroup
		upkeep.Go(func() {
			for !stop.Load() {
				for _, v := range n.set.Vnodes() {
					for _, r := range []*rules{n.set.rulebook.rows(), n.set.rulebook.indexed()} {
						if err := errors.Join(v.mergeRows(t.Context(), n.now, n.set.rulebook.rows(), 176371200), v.store.Seal(r.engine, 176371200)); err != nil {
							t.Error(err)
						}
					}
				}
				n.set.rows.tidy(func(string) bool { return true })
				n.set.Stats()
			}
		})
		wg.Wait()
		stop.Store(true)
		upkeep.Wait()

		for range 2 {
			for key, value := range values {
				n.want("get "+key, n.get(bucket.Events, key), value)
			}
			if len(values) != seconds*perSecond {
				t.Errorf("%d keys were acknowledged, want %d", len(values), seconds*perSecond)
			}
			n.checkListed(values)
			n.restart()
		}
	})
}

// concurrentPut puts a blob and its entry and reports whether both were
// acknowledged, or the key holds another value.
func concurrentPut(t *testing.T, n *node, key, value string) bool {
	rec, err := object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: noon.UnixMicro(), Writer: []byte("agg"), Incarnation: 7,
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key),
	}, []byte(value))
	if err != nil {
		t.Error(err)
		return false
	}
	defer rec.Release()
	_, err = n.set.Put(n.now, rec)
	if errors.Is(err, object.CodeConflict) {
		return false
	}
	row, delta, deltaErr := index.DeltaOf(&rec.Header)
	if err = errors.Join(err, deltaErr); err == nil {
		err = n.set.Add(n.now, row, delta)
	}
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// A row that is read for the first time while entries are written to it misses
// none of them, neither those the reading met nor those it did not.
func TestLoadingMeetsAppending(t *testing.T) {
	const rounds, writers = 30, 4
	onSystems(t, func(t *testing.T, n *node) {
		for round := range rounds {
			key := event.IndexKey{Epoch: noon.Unix() + int64(round%5), DC: fmt.Sprint("dc", round)}
			n.append(key, deltaOf(t, key.Epoch, 100))
			n.open() // a Set that knows no rows
			var wg sync.WaitGroup
			for w := range writers {
				delta := deltaOf(t, key.Epoch, w)
				wg.Go(func() {
					if _, err := n.set.AppendDelta(n.now, key, delta); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if _, err := n.set.Row(n.now, key); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			n.wantRow(key, suffix(0), suffix(1), suffix(2), suffix(3), suffix(100))
		}
	})
}

// Reading fails for all who wait for it, and is tried again by the next.
func TestLoadingFails(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.append(noonRow, deltaOf(t, noon.Unix(), 1))
	n.open()
	v, _, err := n.set.rowVnode(noonRow)
	if err != nil {
		t.Fatal(err)
	}
	store := v.store.(*fakeStore)
	store.mu.Lock() // the reading waits
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 4 {
		wg.Go(func() {
			if _, err := n.set.AppendDelta(n.now, noonRow, deltaOf(t, noon.Unix(), 2)); errors.Is(err, object.CodeDisk) {
				failed.Add(1)
			}
		})
	}
	store.fail = func(op string, _ []byte) error {
		if op == "each" {
			return object.Errorf(object.CodeDisk, object.NotDone, "the disk failed")
		}
		return nil
	}
	store.mu.Unlock()
	wg.Wait()
	if failed.Load() != 4 {
		t.Errorf("%d of 4 appends failed with the reading", failed.Load())
	}
	store.fail = nil
	n.wantRow(noonRow, suffix(1))
	n.now = n.now.Add(time.Millisecond)
	n.append(noonRow, deltaOf(t, noon.Unix(), 2))
	n.wantRow(noonRow, suffix(1), suffix(2))
	if c, p, _ := n.set.rows.size(); c+p != 1 {
		t.Errorf("%d rows are kept, want 1", c+p)
	}
}

// hooked is Storage that lets something happen before a put.
type hooked struct {
	Storage
	before func()
}

func (s *hooked) Put(b bitcask.Bucket, hash uint64, epoch, now int64, rec object.Record, decide bitcask.Decide) (bitcask.Action, error) {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	return s.Storage.Put(b, hash, epoch, now, rec, decide)
}

// A row that is being written to stays the one that everybody reads, however
// many others are read meanwhile.
func TestRowInUseIsNotForgotten(t *testing.T) {
	n := newNode(t, 0, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
	n.cfg.RowCacheBytes = 3 << 10
	n.open()
	v, _, err := n.set.rowVnode(noonRow)
	if err != nil {
		t.Fatal(err)
	}
	n.append(noonRow, deltaOf(t, noon.Unix(), 1))
	v.store = &hooked{v.store, func() {
		for i := range 20 {
			n.wantRow(event.IndexKey{Epoch: noon.Unix() + int64(i%5), DC: fmt.Sprint("dc", i)})
		}
		n.wantRow(noonRow, suffix(1))
	}}
	n.now = n.now.Add(time.Millisecond)
	n.append(noonRow, deltaOf(t, noon.Unix(), 2))
	n.wantRow(noonRow, suffix(1), suffix(2))
}
