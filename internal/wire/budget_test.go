package wire

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetIsFirstComeFirstServed: small wants do not overtake a large one that
// waits, and a wait that is given up lets the next ones through.
func TestBudgetIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		if !b.TryAcquire(60) {
			t.Fatal("60 of 100 are not to be had")
		}
		var order []int64
		var mu sync.Mutex
		var wg sync.WaitGroup
		giveUp := make(chan struct{})
		want := func(n int64, quit chan struct{}) {
			wg.Go(func() {
				if b.Acquire(n, quit, 0) {
					mu.Lock()
					order = append(order, n)
					mu.Unlock()
				}
			})
			synctest.Wait()
		}
		want(90, giveUp)
		want(10, nil)
		want(20, nil)
		want(70, nil)
		if len(order) > 0 || b.TryAcquire(1) {
			t.Errorf("%v overtook the one who wants 90", order)
		}
		close(giveUp)
		synctest.Wait()
		if len(order) != 2 || order[0]+order[1] != 30 {
			t.Errorf("after the first gave up, %v were served, want 10 and 20", order)
		}
		b.Release(60)
		wg.Wait()
		if b.InUse() != 100 {
			t.Errorf("%d in use, want 100", b.InUse())
		}
	})
}

func TestBudgetTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		if !b.Acquire(50, nil, time.Second) {
			t.Error("more than the whole budget is not to be had although nothing is out")
		}
		start := time.Now()
		if b.Acquire(1, nil, time.Second) || time.Since(start) != time.Second {
			t.Errorf("waited %v for nothing", time.Since(start))
		}
		b.Release(50)
		if !b.TryAcquire(10) || b.TryAcquire(1) {
			t.Error("the bound is not 10")
		}
	})
}

// TestBudgetHolds lets many take, wait and give up at random: the bound is never
// passed and nothing is lost.
func TestBudgetHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1000)
		var out atomic.Int64
		var wg sync.WaitGroup
		for seed := range 50 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(seed), 7))
				for range 100 {
					n := 1 + rng.Int64N(600)
					if !b.Acquire(n, nil, time.Duration(1+rng.IntN(20))*time.Millisecond) {
						continue
					}
					if now := out.Add(n); now > 1000 {
						t.Errorf("%d bytes are out", now)
					}
					time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
					out.Add(-n)
					b.Release(n)
				}
			})
		}
		wg.Wait()
		if b.InUse() != 0 || len(b.queue) != 0 {
			t.Errorf("%d bytes and %d claims are left", b.InUse(), len(b.queue))
		}
	})
}
