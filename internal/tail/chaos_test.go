package tail

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestChaos runs writers, a store and readers for some minutes of fake time: pushes
// get lost or come twice or without bodies, reads of the index are uncertain or
// fail, queues are small, readers pause, go away and resume with their cursor,
// blobs arrive late. In the end every reader must have had every blob that
// arrived since it began exactly once, and no watermark may have lied.
func TestChaos(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Attr("seed", strconv.FormatUint(seed, 10))
			before, _ := object.Live()
			synctest.Test(t, func(t *testing.T) { newChaos(seed).run(t) })
			if after, _ := object.Live(); after != before {
				t.Errorf("%d buffers leaked", after-before)
			}
		})
	}
}

type chaos struct {
	store *memStore
	hub   *Hub
	end   int64 // the last second written

	mu       sync.Mutex
	random   *rand.Rand
	arrivals map[event.Key]int64                   // of every blob
	finals   map[event.IndexKey]map[event.Key]bool // blobs that finals count
	bad      time.Time                             // until then the index is uncertain
}

func newChaos(seed uint64) *chaos {
	cfg := DefaultConfig()
	cfg.QueueItems, cfg.QueueBytes, cfg.Reads = 16, 4000, 3
	c := &chaos{store: newMemStore(), random: rand.New(rand.NewPCG(seed, 1)), arrivals: map[event.Key]int64{}, finals: map[event.IndexKey]map[event.Key]bool{}}
	c.hub = New(c.store, cfg, slog.New(slog.DiscardHandler))
	if seed%3 == 2 {
		c.hub.core.cfg.WindowBlobs = 100 // some five seconds, less than is sensible
	}
	c.store.certain = func(event.IndexKey) bool { return !time.Now().Before(c.bad) || c.roll(2) }
	c.store.rowErr = func(event.IndexKey) error {
		if time.Now().Before(c.bad) && c.roll(3) {
			return object.Errorf(object.CodeUnavailable, object.NotDone, "not now")
		}
		return nil
	}
	c.store.getErr = func(event.Key) error {
		if c.roll(10) {
			return object.Errorf(object.CodeOverload, object.NotDone, "not now")
		}
		return nil
	}
	return c
}

// roll is true once in n times.
func (c *chaos) roll(n int) bool { return c.intn(n) == 0 }

func (c *chaos) intn(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

func (c *chaos) run(t *testing.T) {
	start := time.Now().Unix()
	c.end = start + 90
	var wg sync.WaitGroup
	for i, dc := range []string{"ams", "fra"} {
		for j := range 2 {
			w := index.Writer{Name: fmt.Sprintf("%s-%d", dc, j), Incarnation: uint64(10*i + j + 1)}
			wg.Go(func() { c.write(w, dc) })
		}
	}
	wg.Go(func() {
		for time.Now().Unix() < c.end {
			time.Sleep(time.Duration(c.intn(40_000)) * time.Millisecond)
			c.store.mu.Lock() // certain and rowErr run under it
			c.bad = time.Now().Add(time.Duration(c.intn(9_000)) * time.Millisecond)
			c.store.mu.Unlock()
		}
	})
	for i := range 4 {
		wg.Go(func() { c.read(t, i, start) })
	}
	wg.Wait()
	t.Logf("%d blobs, %+v", len(c.arrivals), c.hub.Counters())
	c.hub.Close()
	c.store.close()
}

// write is one writer: hello, then second by second its blobs and final, some of
// them late by a little, some by much.
func (c *chaos) write(w index.Writer, dc string) {
	first := time.Now().Unix() + 1
	c.send(c.store.add(event.IndexKey{Epoch: first - 1, DC: dc}, hello(w)))
	for s := first; s <= c.end; s++ {
		time.Sleep(time.Until(time.Unix(s+1, 0)) + time.Duration(c.intn(900))*time.Millisecond)
		key := event.IndexKey{Epoch: s, DC: dc}
		for n := range c.intn(12) {
			c.put(w, event.Key{Epoch: s, DC: dc, Type: "web", Subtype: "x", Chunk: event.Chunk(w.Incarnation, uint64(n))})
		}
		c.noteFinal(w, key)
		c.send(c.store.add(key, c.store.finalOf(w, key)))
		if c.roll(5) {
			old := event.Key{Epoch: max(s-int64(c.intn(200)), 1), DC: dc, Type: "web", Subtype: "x", Chunk: event.Chunk(w.Incarnation, uint64(1000+s))}
			c.put(index.Writer{}, old) // what is outside its finals it stores without its name
		}
	}
	c.send(c.store.add(event.IndexKey{Epoch: c.end, DC: dc}, goodbye(w)))
}

func (c *chaos) noteFinal(w index.Writer, key event.IndexKey) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finals[key] == nil {
		c.finals[key] = map[event.Key]bool{}
	}
	if a := c.store.rows[key]; a != nil {
		if s := a.Row().Section(w); s != nil {
			for _, e := range s.Entries {
				k, _ := e.Key(key)
				c.finals[key][k] = true
			}
		}
	}
}

func (c *chaos) put(w index.Writer, key event.Key) {
	updates := c.store.put(w, key, "value of "+key.String())
	c.mu.Lock()
	c.arrivals[key] = updates[0].Index.Epoch
	c.mu.Unlock()
	c.send(updates)
}

// send publishes, more or less.
func (c *chaos) send(updates []Update) {
	for _, u := range updates {
		if c.roll(4) {
			u.Bodies = nil
		}
		if c.roll(8) {
			continue
		}
		c.hub.Publish(u)
		if c.roll(8) {
			c.hub.Publish(u)
		}
	}
}

// read is one reader, over all its subscriptions.
func (c *chaos) read(t *testing.T, n int, start int64) {
	begin := start + int64(20*n)
	time.Sleep(time.Until(time.Unix(start+int64(c.intn(80)), 0)))
	if time.Now().Unix() < begin {
		begin = time.Now().Unix()
	}
	got := map[event.Key]bool{}
	states := map[event.IndexKey]int{}
	o := Options{From: begin}
	var low int64
	for low <= c.end+5 {
		s, err := c.hub.Subscribe(o)
		if err != nil {
			t.Error(err)
			return
		}
		low = c.readOn(t, s, got, states)
		o = Options{Cursor: s.Cursor()}
		s.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, arrival := range c.arrivals {
		if arrival >= begin && !got[key] {
			t.Errorf("reader %d, from %d: %s, arrival %d, was not delivered", n, begin-start, key, arrival-start)
		}
	}
	for s := begin; s <= c.end; s++ {
		for _, dc := range []string{"ams", "fra"} {
			if states[event.IndexKey{Epoch: s, DC: dc}] == 0 {
				t.Errorf("reader %d: no watermark of %d %s", n, s-start, dc)
			}
		}
	}
}

// readOn reads from one subscription for a while.
func (c *chaos) readOn(t *testing.T, s *Subscription, got map[event.Key]bool, states map[event.IndexKey]int) (low int64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+c.intn(30))*time.Second)
	defer cancel()
	for {
		item, err := s.Next(ctx)
		if err != nil {
			return low
		}
		low = item.Low
		switch item.Kind {
		case KindBlob:
			if got[item.Blob.Key] {
				t.Errorf("%s came twice", item.Blob.Key)
			}
			got[item.Blob.Key] = true
			if v := string(item.Blob.Record.Value()); v != "value of "+item.Blob.Key.String() {
				t.Errorf("%s has %q", item.Blob.Key, v)
			}
		case KindWatermark:
			c.checkWatermark(t, &item.Watermark, got, states)
		default:
			t.Error(describe(&item))
		}
		item.Release()
		if c.roll(100) {
			time.Sleep(time.Duration(c.intn(8000)) * time.Millisecond)
		}
	}
}

func (c *chaos) checkWatermark(t *testing.T, w *Watermark, got map[event.Key]bool, states map[event.IndexKey]int) {
	m := event.IndexKey{Epoch: w.Epoch, DC: w.DC}
	k := knowledge(w.Verdict.State)
	if k <= states[m] {
		t.Errorf("%d %s: %v after one that knew as much", w.Epoch, w.DC, w.Verdict)
	}
	states[m] = k
	if w.Verdict.State != index.Complete {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.finals[event.IndexKey{Epoch: w.Epoch, DC: w.DC}] {
		if !got[key] {
			t.Errorf("%d %s is called complete before %s was delivered", w.Epoch, w.DC, key)
		}
	}
}
