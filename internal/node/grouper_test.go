package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

func entryRow(n int) index.Row {
	return index.Row{Sections: []index.Section{{
		Writer:  index.Writer{Name: "w", Incarnation: 1},
		Entries: []index.Entry{{Suffix: fmt.Sprintf("WEB:app:%d", n), Version: object.Version{TimestampMicros: 1}}},
	}}}
}

// TestGrouperGroups: while one delta is being written, all that arrives waits
// for one other; nobody is acknowledged before his entry is written.
func TestGrouperGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var written index.Row
		writes := 0
		g := newGrouper(func(_ context.Context, _ event.IndexKey, d index.Row) error {
			time.Sleep(10 * time.Millisecond) // fake time: a slow disk
			mu.Lock()
			defer mu.Unlock()
			writes++
			written = index.Merge(written, d)
			return nil
		})
		key := event.IndexKey{Epoch: 100, DC: "ams"}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if err := g.add(t.Context(), key, entryRow(i)); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, e := range written.Blobs() {
					if e.Suffix == fmt.Sprintf("WEB:app:%d", i) {
						return
					}
				}
				t.Errorf("entry %d was acknowledged and not written", i)
			})
		}
		wg.Wait()
		if writes != 2 {
			t.Errorf("%d writes for a hundred entries at once, want 2", writes)
		}
		if g.gatherer.Busy() != 0 {
			t.Error("the row is still taken for busy")
		}
	})
}

// TestGrouperRowsAreApart: a slow row does not hold up another.
func TestGrouperRowsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrouper(func(_ context.Context, k event.IndexKey, _ index.Row) error {
			if k.DC == "slow" {
				time.Sleep(time.Minute)
			}
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { g.add(t.Context(), event.IndexKey{Epoch: 1, DC: "slow"}, entryRow(1)) })
		synctest.Wait()
		start := time.Now()
		g.add(t.Context(), event.IndexKey{Epoch: 1, DC: "fast"}, entryRow(1))
		if time.Since(start) != 0 {
			t.Error("one row waited for another")
		}
		wg.Wait()
	})
}

// TestGrouperErrorsReachAll: who shared a failed write learns of it; the next
// write is tried anew.
func TestGrouperErrorsReachAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the disk burns")
		var calls atomic.Int32
		g := newGrouper(func(context.Context, event.IndexKey, index.Row) error {
			time.Sleep(time.Millisecond)
			if calls.Add(1) == 2 {
				return broken
			}
			return nil
		})
		key := event.IndexKey{Epoch: 1, DC: "ams"}
		var failed atomic.Int32
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := g.add(t.Context(), key, entryRow(i)); errors.Is(err, broken) {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 9 {
			t.Errorf("%d of the 9 in the broken delta learned of it", failed.Load())
		}
		if err := g.add(t.Context(), key, entryRow(11)); err != nil {
			t.Errorf("after the failure: %v", err)
		}
	})
}

// TestGrouperOutlivesItsCallers: all who wait give up; what they brought is
// written all the same, and the row goes idle.
func TestGrouperOutlivesItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got index.Row
		g := newGrouper(func(ctx context.Context, _ event.IndexKey, d index.Row) error {
			time.Sleep(time.Second)
			if ctx.Err() != nil && len(got.Sections) > 0 {
				t.Error("a shared write runs under an ended context")
			}
			got = index.Merge(got, d)
			return nil
		})
		key := event.IndexKey{Epoch: 1, DC: "ams"}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				g.add(ctx, key, entryRow(i))
			})
			synctest.Wait()
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := got.Len(); n != 5 {
			t.Errorf("%d entries written, want 5", n)
		}
		if g.gatherer.Busy() != 0 {
			t.Error("the row is still taken for busy")
		}
	})
}
