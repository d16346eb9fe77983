package aggregate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestAnyHistory drives a core through random events, late and early ones, pauses,
// outages, lost answers and a stop, and checks what a user relies on: every event
// taken in is stored exactly once or counted as dropped, a final is never wrong
// about what the index has, no final counts what readers do not expect, and at rest
// nothing is held.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		buffers, _ := object.Live()
		r := newRig(t, func(o *Options) { o.MaxBufferedBytes, o.MaxDCs = minBuffered, 3 })
		sent := make(map[string][]byte) // numbers of events by group
		number := byte(0)
		elapsed := begin.Sub(time.Unix(epoch0, 0))
		outage := errors.New("down")
		rt.Repeat(map[string]func(*rapid.T){
			"event": func(rt *rapid.T) {
				behind := rapid.SampledFrom([]int64{0, 0, 0, 0, 1, 2, 5, 9, 30, -1, -3}).Draw(rt, "behind")
				epoch := r.now.Unix() - behind
				dc := rapid.SampledFrom([]string{"eu", "eu", "us", "asia"}).Draw(rt, "dc")
				typ := rapid.SampledFrom([]string{"WEB", "LB"}).Draw(rt, "type")
				r.send(envelopeOf(epoch, dc, typ, "a", number))
				group := fmt.Sprintf("+%d %s %s:a", epoch-epoch0, dc, typ)
				sent[group] = append(sent[group], number)
				number++
			},
			"wait": func(rt *rapid.T) {
				elapsed += time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * ms
				r.at(elapsed)
			},
			"outage": func(*rapid.T) {
				r.store.fail = func(string) error { return outage }
				r.store.failIndex = func(event.IndexKey, index.Section) error { return outage }
			},
			"mend": func(*rapid.T) { r.store.fail, r.store.failIndex, r.store.lose = nil, nil, nil },
			"flaky": func(*rapid.T) {
				n := 0
				r.store.fail = func(string) error {
					if n++; n%3 != 0 {
						return object.Errorf(object.CodeOverload, object.NotDone, "busy")
					}
					return nil
				}
			},
			"answers lost": func(*rapid.T) {
				n := 0
				r.store.lose = func(string) error {
					if n++; n%2 != 0 {
						return object.Errorf(object.CodeDeadline, object.MaybeDone, "no answer")
					}
					return nil
				}
			},
			"": func(*rapid.T) { r.check() },
		})
		if r.counters.DroppedTotal() != 0 {
			rt.Fatalf("%d events dropped", r.counters.DroppedTotal())
		}
		r.store.fail, r.store.failIndex, r.store.lose = nil, nil, nil
		r.stop()
		r.at(elapsed + time.Minute)
		if !r.c.idle() || r.c.buffered != 0 || len(r.c.seconds) != 0 {
			rt.Fatalf("at rest: idle %v, %d bytes held, %d seconds unfinished", r.c.idle(), r.c.buffered, len(r.c.seconds))
		}
		if now, _ := object.Live(); now != buffers {
			rt.Fatalf("%d buffers were not released", now-buffers)
		}
		if len(r.store.broken) > 0 {
			rt.Fatal(r.store.broken)
		}
		wantStored(rt, r, sent)
		wantFinals(rt, r)
	})
}

// wantStored checks that exactly the events sent are stored, and acknowledged
// with the checksums of what is stored.
func wantStored(rt *rapid.T, r *rig, sent map[string][]byte) {
	got := r.store.events(r.t)
	for group, numbers := range sent {
		slices.Sort(numbers)
		if !slices.Equal(got[group], numbers) {
			rt.Fatalf("%s has events %v, want %v", group, got[group], numbers)
		}
	}
	if len(got) != len(sent) || len(r.acked) != len(r.store.blobs) {
		rt.Fatalf("%d groups, want %d; %d blobs acknowledged, %d stored", len(got), len(sent), len(r.acked), len(r.store.blobs))
	}
	for key, checksum := range r.acked {
		if sum := object.Checksum(r.store.blobs[key]); sum != checksum {
			rt.Fatalf("%s acknowledged with %x, stored with %x", key, checksum, sum)
		}
	}
}

// wantFinals checks every second against its final, by the rule readers use.
func wantFinals(rt *rapid.T, r *rig) {
	for key, row := range r.store.rows {
		if key.Late {
			continue
		}
		for _, s := range row.Sections {
			if s.Final == nil {
				continue
			}
			alone := index.Row{Sections: []index.Section{s}}
			if v := index.Evaluate(key.Epoch, alone, []index.Writer{s.Writer}, true, math.MaxInt32*2, 5); v.State != index.Complete {
				rt.Fatalf("%v: %v, though nothing was lost: %+v", key, v, s)
			}
		}
	}
}

// TestQueueModel holds the queue against a slice.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q queue[int]
		var ready []int
		var waiting []delayed[int]
		now, next := begin, 0
		push := func() int { next++; return next }
		rt.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) { n := push(); q.push(n); ready = append(ready, n) },
			"pushAt": func(rt *rapid.T) {
				n, at := push(), now.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "in")))
				q.pushAt(n, at)
				waiting = append(waiting, delayed[int]{at, n})
				slices.SortStableFunc(waiting, func(a, b delayed[int]) int { return a.at.Compare(b.at) })
			},
			"putBack": func(rt *rapid.T) {
				var items []int
				for range rapid.IntRange(0, 4).Draw(rt, "items") {
					items = append(items, push())
				}
				q.putBack(items)
				ready = append(items, ready...)
			},
			"due": func(*rapid.T) {
				now = now.Add(1)
				q.due(now)
				for len(waiting) > 0 && !waiting[0].at.After(now) {
					ready = append(ready, waiting[0].item)
					waiting = waiting[1:]
				}
			},
			"pop": func(rt *rapid.T) {
				got, ok := q.pop()
				if ok != (len(ready) > 0) || ok && got != ready[0] {
					rt.Fatalf("pop %d, %v; want the first of %v", got, ok, ready)
				}
				if ok {
					ready = ready[1:]
				}
			},
			"removeIf": func(rt *rapid.T) {
				of := rapid.IntRange(2, 5).Draw(rt, "multiples of")
				q.removeIf(func(n int) bool { return n%of == 0 })
				ready = slices.DeleteFunc(slices.Clone(ready), func(n int) bool { return n%of == 0 })
				waiting = slices.DeleteFunc(waiting, func(d delayed[int]) bool { return d.item%of == 0 })
			},
			"": func(rt *rapid.T) {
				if q.len() != len(ready)+len(waiting) || q.any(now) != (len(ready) > 0 || len(waiting) > 0 && !waiting[0].at.After(now)) {
					rt.Fatalf("len %d, any %v; want %d ready, %d waiting", q.len(), q.any(now), len(ready), len(waiting))
				}
				if at, ok := q.next(); ok != (len(waiting) > 0) || ok && !at.Equal(waiting[0].at) {
					rt.Fatalf("next at %v, %v", at, ok)
				}
			},
		})
	})
}
