package bitcask

import (
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// TestTarget: what a put prefetches is where it goes, whatever became of the segment
// that took the one before. It changes nothing else, so nothing else would tell.
func TestTarget(t *testing.T) {
	_, s := openAll(t, vfs.NewMem(), testConfig())
	check := func(when string, records int) *lane {
		t.Helper()
		l, err := s.lane(laneOf(events, t0, testSlot), false)
		if err != nil || l == nil {
			t.Fatalf("%s: %v, %v", when, l, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		got := l.target.Load()
		if l.active == nil {
			if got != nil {
				t.Errorf("%s: puts go nowhere, and %v is shown", when, got.seg.id)
			}
			return l
		}
		k := l.active.keydir
		if got == nil || got.seg != l.active || got.keydir != k || got.homes != k.homes || len(got.places) != len(k.places) ||
			len(k.places) > 0 && &got.places[0] != &k.places[0] || k.len() != records {
			t.Fatalf("%s: puts go to %v with %d records, and %+v is shown", when, l.active.id, k.len(), got)
		}
		return l
	}
	for i := range 500 {
		mustPut(t, s, make1(t, events, t0, fmt.Sprint("k", i), t0*1e6, nil))
		check(fmt.Sprint("after put ", i), i+1)
	}
	l := check("before sealing", 500)
	if n, err := l.seal(true); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	check("sealed", 0)
	mustPut(t, s, make1(t, events, t0, "another", t0*1e6, nil))
	check("a put after that", 1)
	if err := s.RaiseHorizon(events, expiry.Horizon(slotAt(t0).End(testSlot))); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Expire(t0, 1); err != nil || !done.More {
		t.Fatalf("%+v, %v: a step should leave some", done, err)
	}
	check("expired, and not yet unlinked", 0) // its keydir is not kept
}
