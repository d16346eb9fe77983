package agreed

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/ring"
)

// A gate that is asked by one at a time is a ring.Preparer, whose model is
// searched; but for epochs refused, both count the same ones.
func TestGateIsAPreparer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slot = 10
		stored := ring.Promise{}
		g, p := NewGate(slot, stored, ring.NoEpoch), ring.Preparer{Highest: ring.NoEpoch}
		agreed := ring.Change{}
		failing := errors.New("disk full")
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				epoch := rapid.Int64Range(-5, 80).Draw(t, "epoch")
				next, want := p.Admit(slot, epoch)
				p = next
				if vouches := g.Vouches(epoch); vouches != (want != ring.NotYet) {
					t.Fatalf("vouches for %d: %v, and the verdict is %v", epoch, vouches, want)
				}
				if got := g.Admit(epoch); got != want || g.Highest() != p.Highest {
					t.Fatalf("verdict on %d: %v, want %v; highest %d, want %d", epoch, got, want, g.Highest(), p.Highest)
				}
			},
			"agreed": func(t *rapid.T) {
				c := agreed
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0:
					c = ring.Change{Round: c.Round + 1, Phase: ring.Proposed, Boundary: rapid.Int64Range(0, 8).Draw(t, "boundary")}
				case 1:
					c.Phase = ring.Fixed
				case 2:
					c.Phase = ring.Idle
				}
				if agreed.Phase == ring.Proposed || c.Phase == ring.Proposed {
					agreed = c
				}
				next, persist, want := p.Agreed(agreed)
				var fails error
				if rapid.IntRange(0, 3).Draw(t, "the sync") == 0 {
					fails = failing
				}
				called := false
				got, err := g.Agreed(agreed, func(promise ring.Promise) error {
					if called = true; promise != next.Promise {
						t.Fatalf("persists %+v, want %+v", promise, next.Promise)
					}
					if fails == nil {
						stored = promise
					}
					return fails
				})
				p = next
				if called && fails != nil {
					if got != nil || !errors.Is(err, failing) {
						t.Fatalf("replied %+v, %v, although the promise was not synced", got, err)
					}
					return
				}
				if persist && !called || err != nil || (got == nil) != (want == nil) || got != nil && (*got != *want || stored != next.Promise) || g.Promise() != p.Promise {
					t.Fatalf("agreed %+v: reply %+v, %v, want %+v, to be persisted: %v; promise %+v, want %+v, stored %+v", agreed, got, err, want, persist, g.Promise(), p.Promise, stored)
				}
			},
			"restart": func(t *rapid.T) {
				g = NewGate(slot, stored, p.Highest)
				p = ring.Preparer{Promise: stored, Highest: p.Highest}
			},
		})
	})
}

// A promise and an epoch past its boundary meet, over and over: the epoch is
// refused, or reported with the promise.
func TestGateUnderLoad(t *testing.T) {
	const slot, boundary, rounds = 10, 5, 50_000
	gates := make([]*Gate, rounds)
	for i := range gates {
		gates[i] = NewGate(slot, ring.Promise{}, slot*boundary-2)
	}
	verdicts := make([]ring.Verdict, rounds)
	var turn atomic.Int64 // gates before it have met both
	var done sync.WaitGroup
	done.Go(func() {
		for i, g := range gates {
			for turn.Load() < int64(i) {
				runtime.Gosched()
			}
			for range i % 7 {
				g.Admit(0)
			}
			verdicts[i] = g.Admit(slot * boundary)
		}
	})
	c := ring.Change{Round: 1, Phase: ring.Proposed, Boundary: boundary}
	highest := make([]int64, rounds)
	for i, g := range gates {
		turn.Store(int64(i))
		for range i % 5 {
			g.Admit(0)
		}
		reply, err := g.Agreed(c, func(promised ring.Promise) error {
			if g.Vouches(slot * boundary) {
				t.Error("the promise is not in force while it is synced")
			}
			return nil
		})
		if err != nil || reply == nil {
			t.Fatal(reply, err)
		}
		highest[i] = reply.Highest
	}
	done.Wait()
	count := map[ring.Verdict]int{}
	for i, verdict := range verdicts {
		count[verdict]++
		if verdict == ring.OldRing && highest[i] < slot*boundary {
			t.Fatalf("gate %d: an epoch past the boundary was admitted, and %d reported as the highest", i, highest[i])
		}
		if verdict == ring.NewRing {
			t.Fatalf("gate %d: %v", i, verdict)
		}
	}
	t.Logf("%d were admitted first, %d refused", count[ring.OldRing], count[ring.NotYet])
}

func TestGateAfterARestart(t *testing.T) {
	none := func(ring.Promise) error { t.Error("persisted what was stored"); return nil }
	proposed := ring.Promise{Round: 3, Boundary: 7}
	g := NewGate(10, proposed, 65)
	if g.Admit(69) != ring.OldRing || g.Admit(70) != ring.NotYet || g.Highest() != 69 {
		t.Errorf("highest %d", g.Highest())
	}
	reply, err := g.Agreed(ring.Change{Round: 3, Phase: ring.Proposed, Boundary: 7}, none)
	if err != nil || reply == nil || *reply != (ring.Reply{Round: 3, Highest: 69}) {
		t.Errorf("%+v, %v", reply, err)
	}
	g = NewGate(10, ring.Promise{Round: 3, Boundary: 7, Fixed: true}, 65)
	if g.Admit(70) != ring.NewRing || g.Admit(69) != ring.OldRing || !g.Vouches(70) {
		t.Error("a fixed promise is not in force")
	}
	g = NewGate(10, ring.Promise{Round: 3, Boundary: 7, Lifted: true}, ring.NoEpoch)
	if g.Highest() != ring.NoEpoch || g.Admit(70) != ring.OldRing {
		t.Error("a lifted promise is in force")
	}
	for _, boundary := range []int64{-1 << 63, 1<<63 - 1} {
		g = NewGate(10, ring.Promise{Round: 1, Boundary: boundary}, ring.NoEpoch)
		if got, want := g.Admit(0), map[bool]ring.Verdict{true: ring.NotYet, false: ring.OldRing}[boundary < 0]; got != want {
			t.Errorf("boundary %d: %v, want %v", boundary, got, want)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	for name, promise := range map[string]ring.Promise{"no promise": {}, "promised": {Round: 1, Boundary: 1 << 40}} {
		b.Run(name, func(b *testing.B) {
			g := NewGate(3600, promise, ring.NoEpoch)
			b.ReportAllocs()
			epoch := int64(1_800_000_000)
			for b.Loop() {
				if epoch++; g.Admit(epoch) != ring.OldRing {
					b.Fatal("refused")
				}
			}
		})
	}
	b.Run("the same second, all at once", func(b *testing.B) {
		g := NewGate(3600, ring.Promise{}, ring.NoEpoch)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.Admit(1_800_000_000)
			}
		})
	})
}
