package tail

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

var (
	agg1 = index.Writer{Name: "agg-1", Incarnation: 1}
	agg2 = index.Writer{Name: "agg-2", Incarnation: 2}
)

// inBubble runs a test on fake time with a hub over a store, and checks that no
// buffer is left over.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, m *memStore, h *Hub)) {
	t.Helper()
	before, _ := object.Live()
	synctest.Test(t, func(t *testing.T) {
		m := newMemStore("ams")
		h := New(m, cfg, slog.New(slog.DiscardHandler))
		f(t, m, h)
		h.Close()
		m.close()
	})
	if after, _ := object.Live(); after != before {
		t.Errorf("%d buffers leaked", after-before)
	}
}

func subscribe(t *testing.T, h *Hub, o Options) *Subscription {
	t.Helper()
	s, err := h.Subscribe(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A pushed blob is with its reader at once, with the publisher's own bytes.
func TestPushIsImmediate(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		now := time.Now().Unix()
		start := time.Now()
		updates := m.put(agg1, blobKey(now, "ams", "web", 0), "hello")
		publish(h, updates)
		item := next(t, s, time.Second)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		if item.Kind != KindBlob || string(item.Blob.Record.Value()) != "hello" || item.Blob.Record.Buf != updates[0].Bodies[0].Buf {
			t.Errorf("got %s, %q", describe(&item), item.Blob.Record.Value())
		}
		if m.gets != 0 {
			t.Errorf("%d reads of bodies", m.gets)
		}
		item.Release()
	})
}

// What no push announced, the index brings a second later.
func TestMissedPushIsFound(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		now := time.Now().Unix()
		m.put(agg1, blobKey(now, "ams", "web", 0), "hello")
		item := next(t, s, 2*time.Second)
		if item.Kind != KindBlob || string(item.Blob.Record.Value()) != "hello" {
			t.Errorf("got %s", describe(&item))
		}
		item.Release()
		if n := h.Counters().Unannounced; n != 1 {
			t.Errorf("%d found", n)
		}
	})
}

// script drives one writer through seconds: hello in the second before, blobs,
// final.
func script(m *memStore, h *Hub, seconds int64, perSecond int) {
	first := time.Now().Unix() + 1
	publish(h, m.add(event.IndexKey{Epoch: first - 1, DC: "ams"}, hello(agg1)))
	for s := first; s < first+seconds; s++ {
		time.Sleep(time.Until(time.Unix(s+1, 0)) + 300*time.Millisecond)
		for n := range perSecond {
			publish(h, m.put(agg1, blobKey(s, "ams", "web", n), "v"))
		}
		key := event.IndexKey{Epoch: s, DC: "ams"}
		publish(h, m.add(key, m.finalOf(agg1, key)))
	}
}

// A second is told complete as soon as the last final is pushed, after its blobs.
func TestWatermarkFollowsFinal(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		start := time.Now().Unix()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { script(m, h, 3, 2) })
		for _, want := range []string{"web:nl:0", "web:nl:1", "complete"} {
			for epoch := start + 1; epoch <= start+1; epoch++ {
				item := next(t, s, 3*time.Second)
				if got := describe(&item); !strings.HasSuffix(got, want) {
					t.Errorf("got %s, want %s", got, want)
				}
				item.Release()
			}
		}
		if late := time.Since(time.Unix(start+2, 0)); late != 300*time.Millisecond {
			t.Errorf("complete after %v", late)
		}
	})
}

// collect reads items until the time is up, and releases them.
func collect(t *testing.T, s *Subscription, during time.Duration) (items []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	for {
		item, err := s.Next(ctx)
		if err != nil {
			return items
		}
		items = append(items, describe(&item))
		item.Release()
	}
}

func contains(items []string, part string) int {
	n := 0
	for _, i := range items {
		if strings.Contains(i, part) {
			n++
		}
	}
	return n
}

func TestWatermarkStates(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		start := time.Now().Unix()
		script(m, h, 2, 1) // start+1 and start+2; then the writer is silent
		items := collect(t, s, 20*time.Second)
		for _, want := range []struct {
			part string
			n    int
		}{
			{"watermark 946684800 ams no writers", 1},
			{"watermark 946684801 ams complete", 1},
			{"watermark 946684802 ams complete", 1},
			{"watermark 946684803 ams incomplete: agg-1/0000000000000001 is silent", 1},
			{"watermark 946684812 ams incomplete", 1}, // the tenth second after its last word
			{"watermark 946684813 ams no writers", 1},
		} {
			if got := contains(items, want.part); got != want.n {
				t.Errorf("%q came %d times, want %d", want.part, got, want.n)
			}
		}
		if start != 946684800 {
			t.Error("the bubble's time has changed")
		}
		if t.Failed() {
			t.Log(strings.Join(items, "\n"))
		}
	})
}

// A second that lacks a writer is never called complete, also not when all that
// said so has left the window.
func TestSilentWriterIsMissedToTheEnd(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{WithoutBodies: true})
		publish(h, m.add(event.IndexKey{Epoch: time.Now().Unix(), DC: "ams"}, hello(agg2))) // its only word
		script(m, h, 60, 1)
		items := collect(t, s, time.Minute)
		if n := contains(items, "incomplete: agg-2"); n != 10 {
			t.Errorf("incomplete came %d times", n)
		}
		for second := 946684801; second <= 946684810; second++ {
			if contains(items, fmt.Sprintf("watermark %d ams complete", second)) > 0 {
				t.Errorf("second %d was called complete", second)
			}
		}
		if n := contains(items, " complete"); n != 50 {
			t.Errorf("complete came %d times", n)
		}
	})
}

// Incomplete becomes complete when the blob turns up while the second is open; a
// reader is told both.
func TestIncompleteThenComplete(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{WithoutBodies: true})
		epoch := time.Now().Unix() + 1
		key := event.IndexKey{Epoch: epoch, DC: "ams"}
		publish(h, m.add(event.IndexKey{Epoch: epoch - 1, DC: "ams"}, hello(agg1)))
		rec := record(agg1, blobKey(epoch, "ams", "web", 0), "v")
		defer rec.Release()
		_, delta, _ := index.DeltaOf(&rec.Header)
		f := index.FinalOf(&delta.Sections[0])
		time.Sleep(2500 * time.Millisecond)
		publish(h, m.add(key, marks(agg1, func(s *index.Section) { s.Final = &f })))
		items := collect(t, s, 5*time.Second) // until 7.5 s, 6.5 s after its beginning
		publish(h, m.add(key, delta))
		items = append(items, collect(t, s, 100*time.Millisecond)...)
		items = slices.DeleteFunc(items, func(i string) bool { return !strings.Contains(i, "946684801") })
		want := []string{
			"watermark 946684801 ams incomplete: of agg-1/0000000000000001 0 of 1 blobs are at hand",
			"blob 946684801:ams:web:nl:0",
			"watermark 946684801 ams complete",
		}
		if !slices.Equal(items, want) {
			t.Errorf("got\n%s", strings.Join(items, "\n"))
		}
	})
}

// When rows cannot be read with certainty, that is what a tail says; it goes on
// delivering, and says more when they can.
func TestUncertainIndex(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		var until time.Time
		m.certain = func(event.IndexKey) bool { return time.Now().After(until) }
		until = time.Now().Add(12 * time.Second)
		s := subscribe(t, h, Options{WithoutBodies: true})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { script(m, h, 3, 1) })
		items := collect(t, s, 11*time.Second)
		if got := contains(items, "watermark 946684801 ams unknown"); got != 1 {
			t.Errorf("unknown came %d times", got)
		}
		if contains(items, "complete") > 0 || contains(items, "blob") != 3 {
			t.Errorf("got %v", items)
		}
		items = collect(t, s, 10*time.Second)
		if got := contains(items, "watermark 946684801 ams complete"); got != 1 {
			t.Errorf("complete came %d times in %v", got, items)
		}
	})
}

// The window does not move past what could not be read, and a reader's cursor
// neither.
func TestUncertainIsNotFinished(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		start := time.Now().Unix()
		m.certain = func(k event.IndexKey) bool { return k.Epoch != start+3 || !k.Late }
		s := subscribe(t, h, Options{})
		collect(t, s, 40*time.Second)
		if low := cursorOf(t, s).Low(); low != start+3 {
			t.Errorf("the cursor is at %d, want %d", low-start, 3)
		}
		m.mu.Lock()
		m.certain = nil
		m.mu.Unlock()
		collect(t, s, 10*time.Second)
		if low := cursorOf(t, s).Low(); low < start+20 {
			t.Errorf("the cursor is at %d", low-start)
		}
	})
}

func cursorOf(t *testing.T, s *Subscription) *cursor.Cursor {
	t.Helper()
	c, err := cursor.Parse(s.Cursor())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A blob that comes after its second was closed is delivered with the second it
// arrived in; who resumes from an older cursor gets it once.
func TestLateArrival(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		old := blobKey(time.Now().Unix()-500, "ams", "web", 0)
		from := time.Now().Unix()
		time.Sleep(time.Second)
		publish(h, m.put(agg1, old, "late"))
		item := next(t, s, time.Second)
		if got := describe(&item); got != "blob "+old.String()+" late" || item.Arrival != from+1 {
			t.Errorf("got %s, arrival %d", got, item.Arrival-from)
		}
		item.Release()
		time.Sleep(time.Minute)
		for name, o := range map[string]Options{
			"from its own second":  {From: old.Epoch, WithoutBodies: true},
			"from just before":     {From: from, WithoutBodies: true},
			"from its own arrival": {From: from + 1, WithoutBodies: true},
		} {
			s := subscribe(t, h, o)
			if got := contains(collect(t, s, 5*time.Second), "blob"); got != 1 {
				t.Errorf("%s it came %d times", name, got)
			}
			s.Close()
		}
		s2 := subscribe(t, h, Options{From: from + 2})
		if got := contains(collect(t, s2, 5*time.Second), "blob"); got != 0 {
			t.Errorf("from after its arrival it came %d times", got)
		}
	})
}

// A blob that was put in time, and again when its second was closed, stands in two
// rows. Whoever began behind the first, or has passed it, takes it from the second;
// whoever has it does not get it twice.
func TestPutAgainLate(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		blobs := func(name string, s *Subscription, during time.Duration) {
			t.Helper()
			if items := collect(t, s, during); contains(items, "blob") != 1 {
				t.Errorf("a tail that begins %s got %v", name, items)
			}
		}
		first := subscribe(t, h, Options{WithoutBodies: true})
		key := blobKey(time.Now().Unix(), "ams", "web", 0)
		publish(h, m.put(agg1, key, "v"))
		behind := subscribe(t, h, Options{From: key.Epoch + 1, WithoutBodies: true})
		time.Sleep(12 * time.Second)
		publish(h, m.put(agg1, key, "v")) // its writer did not hear of it
		arrival := time.Now().Unix()
		time.Sleep(3 * time.Second)
		blobs("before it was put", first, time.Second)
		blobs("behind its second, before it was put again", behind, time.Second)
		blobs("with its second, late", subscribe(t, h, Options{From: key.Epoch, WithoutBodies: true}), time.Second)
		blobs("behind its second, late", subscribe(t, h, Options{From: key.Epoch + 1, WithoutBodies: true}), time.Second)
		time.Sleep(5 * time.Second) // its second is over, that of its arrival is not
		blobs("with its arrival", subscribe(t, h, Options{From: arrival, WithoutBodies: true}), time.Second)
	})
}

// A reader that begins in the past gets all of it, with watermarks, and is live
// afterwards.
func TestFromAnEpoch(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		start := time.Now().Unix()
		script(m, h, 50, 3)
		s := subscribe(t, h, Options{From: start})
		items := collect(t, s, time.Second)
		if blobs, complete := contains(items, "blob"), contains(items, " complete"); blobs != 150 || complete != 50 {
			t.Errorf("%d blobs, %d complete seconds", blobs, complete)
		}
		if h.Counters().Behind != 0 || h.Counters().CatchUpSeconds == 0 {
			t.Errorf("%+v", h.Counters())
		}
		publish(h, m.put(agg2, blobKey(time.Now().Unix(), "ams", "cron", 0), "now"))
		item := next(t, s, 10*time.Millisecond)
		if got := describe(&item); !strings.Contains(got, ":cron:") {
			t.Errorf("got %s", got)
		}
		item.Release()
	})
}

// Cutting a tail anywhere and resuming it with its cursor gives what one tail
// gives, each item once.
func TestResumeAnywhere(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		start := time.Now().Unix()
		whole := subscribe(t, h, Options{WithoutBodies: true})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { script(m, h, 30, 2) })
		want := collect(t, whole, 60*time.Second)
		for _, step := range []int{1, 3, 7} {
			var got []string
			o := Options{From: start, WithoutBodies: true}
			for range 400 {
				s := subscribe(t, h, o)
				for range step {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					item, err := s.Next(ctx)
					cancel()
					if err != nil {
						break
					}
					got = append(got, describe(&item))
				}
				o = Options{Cursor: s.Cursor(), WithoutBodies: true}
				s.Close()
			}
			if got, want := until(start+50, got), until(start+50, want); !slices.Equal(got, want) {
				t.Errorf("in steps of %d: %d items, want %d", step, len(got), len(want))
			}
		}
	})
}

// A reader that keeps its own cursor from the items resumes as well.
func TestReadersOwnCursor(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		own := cursor.New(time.Now().Unix())
		s := subscribe(t, h, Options{})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { script(m, h, 30, 2) })
		for range 50 {
			item := next(t, s, 10*time.Second)
			own.Add(item.Arrival, item.ID())
			own.Finish(item.Low)
			item.Release()
		}
		time.Sleep(time.Minute)
		rest := collect(t, subscribe(t, h, Options{Cursor: own.String(), WithoutBodies: true}), time.Second)
		same := collect(t, s, time.Second)
		if rest, same := until(own.Low()+50, rest), until(own.Low()+50, same); !slices.Equal(rest, same) {
			t.Errorf("resumed: %d items, went on: %d", len(rest), len(same))
		}
	})
}

// until sorts items, without the watermarks from that second on: time goes on
// while one test compares several tails.
func until(second int64, items []string) []string {
	return sorted(slices.DeleteFunc(slices.Clone(items), func(i string) bool {
		var epoch int64
		n, _ := fmt.Sscanf(i, "watermark %d", &epoch)
		return n == 1 && epoch >= second
	}))
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// A reader that stops loses nothing: its queue overflows, it reads the index when
// it comes back, and ends up live.
func TestSlowReaderCatchesUp(t *testing.T) {
	cfg := DefaultConfig()
	cfg.QueueItems, cfg.QueueBytes = 16, 1000
	inBubble(t, cfg, func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		script(m, h, 100, 5)
		if n := h.Counters(); n.Overflows != 1 || n.WaitingItems > 16 || n.WaitingBytes > 1000 || n.Behind != 1 {
			t.Errorf("%+v", n)
		}
		items := collect(t, s, 10*time.Second)
		if got, unique := contains(items, "blob"), len(slices.Compact(sorted(items))); got != 500 || unique != len(items) {
			t.Errorf("%d blobs, %d items, %d unique", got, len(items), unique)
		}
		if n := h.Counters(); n.Behind != 0 || n.WaitingItems != 0 || n.WaitingBytes != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// What waits for a reader is not behind its cursor: who goes away with a full
// queue and resumes gets it.
func TestCursorOfSlowReader(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		script(m, h, 60, 2)
		item := next(t, s, time.Second)
		item.Release()
		if low := cursorOf(t, s).Low(); low > item.Arrival {
			t.Errorf("the cursor is at %d, the reader at %d", low, item.Arrival)
		}
		rest := collect(t, subscribe(t, h, Options{Cursor: s.Cursor()}), time.Second)
		if got := contains(rest, "blob"); got != 119 {
			t.Errorf("%d blobs are left", got)
		}
	})
}

// Rows of a dc that nobody wants any more are not read.
func TestUnwantedDC(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		m.dcs = append(m.dcs, "fra")
		subscribe(t, h, Options{DC: "ams"})
		fra := subscribe(t, h, Options{DC: "fra"})
		time.Sleep(5500 * time.Millisecond)
		fra.Close()
		reads := func(dc string) (n int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for key, k := range m.reads {
				if key.DC == dc {
					n += k
				}
			}
			return n
		}
		fraReads, amsReads := reads("fra"), reads("ams")
		time.Sleep(30 * time.Second)
		if reads("fra") > fraReads || reads("ams") == amsReads {
			t.Errorf("%d reads of fra and %d of ams since", reads("fra")-fraReads, reads("ams")-amsReads)
		}
		if fraReads == 0 {
			t.Error("fra was not read at all")
		}
	})
}

// A slow reader costs the others nothing, and bodies that do not fit are read
// again.
func TestBodiesThatDoNotFit(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TotalBytes = 2000
	inBubble(t, cfg, func(t *testing.T, m *memStore, h *Hub) {
		slow, quick := subscribe(t, h, Options{}), subscribe(t, h, Options{})
		now := time.Now().Unix()
		for n := range 20 {
			publish(h, m.put(agg1, blobKey(now, "ams", "web", n), "value"))
			item := next(t, quick, time.Millisecond)
			item.Release()
		}
		if n := h.Counters(); n.WaitingBytes > 2000 || n.WaitingItems != 20 || n.Overflows != 0 {
			t.Errorf("%+v", n)
		}
		for range 20 {
			item := next(t, slow, time.Millisecond)
			if string(item.Blob.Record.Value()) != "value" {
				t.Errorf("got %s", describe(&item))
			}
			item.Release()
		}
		if m.gets == 0 {
			t.Error("no body was read again")
		}
	})
}

func TestFilters(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		m.dcs = append(m.dcs, "fra")
		now := time.Now().Unix()
		subs := map[string]*Subscription{
			"all":      subscribe(t, h, Options{From: now}),
			"fra":      subscribe(t, h, Options{From: now, DC: "f*"}),
			"web,cron": subscribe(t, h, Options{From: now, Type: "web,cron", DC: "ams"}),
			"none":     subscribe(t, h, Options{From: now, Subtype: "de"}),
		}
		for _, kind := range []string{"web", "cron", "lb"} {
			for _, dc := range []string{"ams", "fra"} {
				publish(h, m.put(agg1, blobKey(now, dc, kind, 0), "v"))
			}
		}
		for name, want := range map[string]int{"all": 6, "fra": 3, "web,cron": 2, "none": 0} {
			items := collect(t, subs[name], 10*time.Second)
			if got := contains(items, "blob"); got != want {
				t.Errorf("%s: %d blobs, want %d", name, got, want)
			}
			if got := contains(items, " fra "); (got > 0) != (name != "web,cron") {
				t.Errorf("%s: %d watermarks of fra", name, got)
			}
		}
	})
}

// The shards of a tail are disjoint and together everything.
func TestShards(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		now := time.Now().Unix()
		var subs []*Subscription
		for i := range 3 {
			subs = append(subs, subscribe(t, h, Options{From: now, Shard: i, Shards: 3, WithoutBodies: true}))
		}
		for n := range 60 {
			publish(h, m.put(agg1, blobKey(now, "ams", "web", n), "v"))
		}
		total := 0
		for i, s := range subs {
			for _, item := range collect(t, s, time.Millisecond) {
				key, err := event.ParseKey(strings.TrimPrefix(item, "blob "))
				if err != nil || Shard(key, 3) != i {
					t.Errorf("shard %d got %s", i, item)
				}
				total++
			}
		}
		if total != 60 {
			t.Errorf("%d blobs in all", total)
		}
	})
}
