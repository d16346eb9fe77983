package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// erratic is a replica that answers inline, from another goroutine, late, twice,
// or with a failure.
type erratic struct {
	*fake
	mu  sync.Mutex
	rnd *rand.Rand
}

func (e *erratic) roll(n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rnd.IntN(n)
}

// act runs do, which takes and gives an answer, in one of the ways.
func (e *erratic) act(do func(fails bool)) {
	switch roll := e.roll(20); {
	case roll < 8:
		do(false)
	case roll < 14:
		go do(false)
	case roll < 17:
		time.AfterFunc(time.Duration(e.roll(30_000))*time.Microsecond, func() { do(false) })
	case roll == 17:
		go func() {
			do(false)
			do(false)
		}()
	default:
		go do(true)
	}
}

func (e *erratic) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	keep := rec.Retain()
	var first sync.Once
	e.act(func(fails bool) {
		err := lost
		if !fails {
			err = nil
			first.Do(func() {
				err = e.take(keep)
				keep.Release()
			})
		} else {
			first.Do(keep.Release)
		}
		done(ask.Call, err)
	})
}

func (e *erratic) Get(ask Ask, bucketType, name, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	k := mapKey(bucketType, name, key)
	e.act(func(fails bool) {
		if fails {
			done(ask.Call, object.Record{}, false, lost)
			return
		}
		rec, err := e.look(k, body)
		done(ask.Call, rec, true, err)
	})
}

func (e *erratic) Row(ask Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	e.act(func(fails bool) {
		if fails {
			done(ask.Call, index.Row{}, false, lost)
			return
		}
		e.fake.Row(ask, key, done)
	})
}

// TestStress has many callers, some of whom leave, at erratic replicas: what is
// acknowledged is found, and nothing is left behind. The race detector watches.
func TestStress(t *testing.T) {
	for _, self := range []int{-1, 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, self, func(c *Config) {
				wrapped := map[Replica]Replica{}
				var mu sync.Mutex
				find := c.Replica
				c.Replica = func(id ring.NodeID) Replica {
					f := find(id)
					mu.Lock()
					defer mu.Unlock()
					if wrapped[f] == nil {
						wrapped[f] = &erratic{fake: f.(*fake), rnd: rand.New(rand.NewPCG(uint64(id[15]), 8))}
					}
					return wrapped[f]
				}
				c.PeerBytes, c.LingerBytes, c.RepairBytes = 20_000, 20_000, 4000
			})
			var wg sync.WaitGroup
			for w := range 16 {
				wg.Go(func() { stressor(t, r, w) })
			}
			wg.Wait()
			time.Sleep(20 * time.Second)
			r.close()
		})
	}
}

func stressor(t *testing.T, r *rig, w int) {
	rnd := rand.New(rand.NewPCG(uint64(w), 9))
	for i := range 150 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(40_000))*time.Microsecond)
		if rnd.IntN(8) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(2000))*time.Microsecond, cancel)
		}
		epoch := time.Now().Unix() - 40
		rec := blob(t, epoch, w*1000+i, fmt.Sprint("value", w, i))
		err := r.c.Put(ctx, rec)
		if i%10 == 0 {
			_ = r.c.PutBatch(ctx, []object.Record{rec, rec})
		}
		if rnd.IntN(4) == 0 {
			_, _, _ = r.c.Row(ctx, rowKey)
		}
		got, gotErr := r.c.Get(ctx, rec.Type, rec.Bucket, rec.Key)
		switch {
		case gotErr == nil:
			if string(got.Value()) != fmt.Sprint("value", w, i) {
				t.Errorf("found %q", got.Value())
			}
			got.Release()
		case err == nil && errors.Is(gotErr, object.CodeAbsent):
			t.Error("acknowledged and absent")
		}
		rec.Release()
		cancel()
	}
}
