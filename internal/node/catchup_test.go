package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// TestCatcher: many who wait cost one question; who waits for more asks once more;
// a deadline is kept, and nobody is forgotten at the end.
func TestCatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := func(i uint64) ring.Version { return ring.Version{Era: 1, Index: i} }
		var have atomic.Pointer[ring.Version]
		have.Store(new(v(1)))
		var asked []ring.Version
		gives := true
		c := newCatcher(func() ring.Version { return *have.Load() }, func(ctx context.Context, want ring.Version, _ ring.NodeID) error {
			asked = append(asked, want)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !gives {
				return errors.New("no way")
			}
			have.Store(new(want))
			return nil
		})
		if err := c.await(t.Context(), v(1), ring.NodeID{1}); err != nil || len(asked) != 0 {
			t.Fatalf("what it has is asked for: %v, %v", asked, err)
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := c.await(t.Context(), v(2), ring.NodeID{1}); err != nil {
					t.Error(err)
				}
			})
		}
		told := 0
		c.later(v(2), ring.NodeID{1}, time.Time{}, func() { told++ })
		wg.Wait()
		synctest.Wait()
		if len(asked) != 1 || told != 1 {
			t.Errorf("asked %v, told %d", asked, told)
		}
		// Two versions at once: the second is asked for after the first.
		wg.Go(func() { _ = c.await(t.Context(), v(3), ring.NodeID{1}) })
		synctest.Wait()
		if err := c.await(t.Context(), v(4), ring.NodeID{2}); err != nil || len(asked) != 3 {
			t.Errorf("asked %v, %v", asked, err)
		}
		wg.Wait()

		gives = false
		if err := c.await(t.Context(), v(5), ring.NodeID{1}); err == nil {
			t.Error("what nobody gives is there")
		}
		began := time.Now()
		c.later(v(5), ring.NodeID{1}, began.Add(100*time.Millisecond), func() { told = int(time.Since(began).Milliseconds()) })
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if told != 100 {
			t.Errorf("told after %d ms, the deadline was 100", told)
		}
		ended := false
		c.later(v(9), ring.NodeID{1}, time.Time{}, func() { ended = true })
		c.close()
		if !ended {
			t.Error("who waited at the end was not told")
		}
		c.later(v(9), ring.NodeID{1}, time.Time{}, func() { ended = false })
		if ended {
			t.Error("who came after the end was not told")
		}
		if err := c.await(t.Context(), v(9), ring.NodeID{1}); !errors.Is(err, object.CodeStopping) {
			t.Errorf("after the end: %v", err)
		}
	})
}
