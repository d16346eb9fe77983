package tail

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// When a row is read, by its age: the specification of the index traffic a hub
// causes.
func TestDueAt(t *testing.T) {
	cfg := DefaultConfig()
	w := newWindow(&cfg, 1000_000)
	for _, row := range []struct {
		name      string
		late      bool
		certainAt int64 // seconds after the row's second began; -1 never
		age       int64 // milliseconds since then
		want      int64 // seconds since then; -1 not due
	}{
		{"not before its second has ended", false, -1, 999, -1},
		{"as it ends", false, -1, 1000, 1},
		{"each second", false, 1, 2100, 2},
		{"while later watermarks need it", false, 10, 11_900, 11},
		{"then no more", false, 11, 15_000, 11},
		{"unless it was not certain", false, 10, 15_000, 15},
		{"until it can be finished", false, 11, 20_000, 20},
		{"again if that was not certain", false, 19, 21_000, 21},
		{"no more when it is finished", false, 20, 25_000, 20},
		{"less often after a while", false, 19, 34_000, 30},
		{"a late list each second", true, 1, 2000, 2},
		{"while it is open", true, 5, 9000, 5},
		{"and when it can be finished", true, 5, 20_500, 20},
	} {
		const T = 1000
		r := &rowState{key: event.IndexKey{Epoch: T, DC: "ams", Late: row.late}}
		if row.certainAt >= 0 {
			r.certainAt = (T + row.certainAt) * 1000
		}
		want := (T + row.want) * 1000
		if row.want < 0 {
			want = 0
		}
		if got := w.dueAt(r, T*1000+row.age); got != want {
			t.Errorf("%s: %d, want %d", row.name, got-T*1000, want-T*1000)
		}
	}
}

// A second leaves the window only when its watermark was told, however early its
// own rows were read.
func TestWatermarkBeforeFinish(t *testing.T) {
	cfg := DefaultConfig()
	c := newCore(cfg)
	const now = 1_000_000_000
	f := testFeed(&cfg, now/1000-20)
	c.subscribe(now, f)
	c.step(now, []string{"ams"})
	low := c.window.low
	answer := func(wanted func(event.IndexKey) bool) {
		for _, r := range c.window.inOrder(0) {
			if wanted(r.key) {
				c.answered(now, now, r.key, index.Row{}, true)
			}
		}
	}
	answer(func(k event.IndexKey) bool { return k.Epoch >= low })
	c.step(now, []string{"ams"})
	for q, ok, _ := c.take(f); ok; q, ok, _ = c.take(f) {
		if q.mark.second < low+index.ExpectedSeconds {
			t.Errorf("told of second %d: %v", q.mark.second-low, q.mark.verdict)
		}
	}
	if c.window.low != low {
		t.Errorf("low rose by %d s", c.window.low-low)
	}
	answer(func(k event.IndexKey) bool { return k.Epoch < low })
	c.step(now, []string{"ams"})
	if q, ok, _ := c.take(f); !ok || q.mark == nil || q.mark.second != low || q.mark.verdict.State != index.NoWriters {
		t.Errorf("got %+v", q.mark)
	}
	if c.window.low != low+1 {
		t.Errorf("low rose by %d s", c.window.low-low)
	}
}

// That nothing can be known is said when it was tried, not before.
func TestUnknownNeedsAnAttempt(t *testing.T) {
	cfg := DefaultConfig()
	c := newCore(cfg)
	const now = 1_000_000_000
	f := testFeed(&cfg, now/1000-20)
	c.subscribe(now, f)
	c.step(now, []string{"ams"})
	for _, key := range c.reads(1000) {
		if key.Epoch != now/1000-25 {
			c.answered(now, now, key, index.Row{}, key.Epoch >= now/1000-20)
		}
	}
	if q, ok, _ := c.take(f); ok && q.mark.second <= now/1000-15 {
		t.Errorf("told of second %d: %v", q.mark.second-now/1000, q.mark.verdict)
	}
	c.answered(now, now, event.IndexKey{Epoch: now/1000 - 25, DC: "ams"}, index.Row{}, false)
	if q, ok, _ := c.take(f); !ok || q.mark.verdict.State != index.Unknown {
		t.Errorf("got %+v", q.mark)
	}
}

// Where nobody was expected a final may decide, but only with what was read once the
// row is closed everywhere: until then others may send theirs.
func TestUnexpectedFinalWaitsForRead(t *testing.T) {
	c := newCore(DefaultConfig())
	now := int64(1_000_000_000)
	f := testFeed(&c.cfg, now/1000)
	key := event.IndexKey{Epoch: now / 1000, DC: "ams"}
	c.subscribe(now, f)
	u := Update{Index: key, Delta: marks(agg1, func(s *index.Section) { s.Final = &index.Final{} })}
	readAll := func() {
		for _, k := range c.reads(1000) {
			c.answered(now, now, k, index.Row{}, true)
		}
	}
	state := func() (s index.State) {
		if r := c.window.rows[key]; r != nil && r.mark != nil {
			s = r.mark.verdict.State
		}
		return s
	}
	c.publish(now, &u)
	for range c.cfg.finishSeconds() {
		c.step(now, []string{"ams"})
		readAll()
		if s := state(); s != 0 {
			t.Fatalf("told to be %v while others could come", s)
		}
		now += 1000
	}
	c.step(now, []string{"ams"}) // it is closed everywhere, the row not read since
	if s := state(); s != 0 {
		t.Errorf("told to be %v before it was read", s)
	}
	readAll()
	if s := state(); s != index.Complete {
		t.Errorf("told to be %v", s)
	}
}

// Who is expected in a second counts when the rows that tell were read once it was
// over: a writer's clock may be a little behind, and what it said before the second
// began by that is there then.
func TestExpectedIsReadWhenTheSecondIsOver(t *testing.T) {
	const second = 1_000_000
	key := event.IndexKey{Epoch: second, DC: "ams"}
	hello := marks(agg1, func(s *index.Section) { s.Hello = true })
	final := marks(agg1, func(s *index.Section) { s.Final = &index.Final{} })
	for readAfterMillis, complete := range map[int64]bool{0: false, 999: false, 1000: true} {
		w := newWindow(new(DefaultConfig()), second*1000)
		c := newCatchup(new(DefaultConfig()))
		w.cover(second*1000, []string{"ams"})
		readAt := int64(second*1000 + readAfterMillis)
		for _, k := range c.begin(readAt, second, []string{"ams"}) {
			row := index.Row{}
			switch k.Epoch {
			case second - 1:
				row = hello
			case second:
				if k.Late {
					break
				}
				row = final
			}
			w.answered(k, readAt, row, true, func(*blob) {})
			c.answered(k, row, true)
		}
		m := w.judge(w.rows[key], second*1000+1600)
		if got := m != nil && m.verdict.State == index.Complete; got != complete {
			t.Errorf("read %d ms after it began: %+v, want complete %t", readAfterMillis, m, complete)
		}
		m, _ = c.judge(key, c.rows[key])
		if got := m != nil && m.verdict.State == index.Complete; got != complete {
			t.Errorf("read %d ms after it began, behind: %+v, want complete %t", readAfterMillis, m, complete)
		}
	}
}

// Where nobody was expected, a final waits for a reader that is behind too.
func TestCatchupUnexpectedFinal(t *testing.T) {
	cfg := DefaultConfig()
	const second = 1_000_000
	key := event.IndexKey{Epoch: second, DC: "ams"}
	final := marks(agg1, func(s *index.Section) { s.Final = &index.Final{} })
	for ageMillis, complete := range map[int64]bool{cfg.LatenessSeconds * 1000: false, cfg.finishSeconds()*1000 - 1: false, cfg.finishSeconds() * 1000: true} {
		c := newCatchup(&cfg)
		c.startedMillis = second*1000 + ageMillis
		for s := int64(second - index.ExpectedSeconds); s < second; s++ {
			c.known[event.IndexKey{Epoch: s, DC: "ams"}] = past{certainAt: c.startedMillis}
		}
		m, settled := c.judge(key, answer{row: final, certain: true})
		if got := m != nil && m.verdict.State == index.Complete; got != complete || !settled {
			t.Errorf("%d ms after it began: %+v, settled %t, want complete %t", ageMillis, m, settled, complete)
		}
	}
}

// A reader that is behind and reaches a second that is still open delivers what is
// there, and does not call the second finished.
func TestCatchupDoesNotFinishOpenSeconds(t *testing.T) {
	cfg := DefaultConfig()
	const second = 1_000_000
	row := pushOf(second, 0).Delta
	for _, r := range []struct {
		ageMillis int64
		finished  bool
	}{{1000, false}, {19_999, false}, {20_000, true}} {
		c, f := newCatchup(&cfg), testFeed(&cfg, second)
		for _, key := range c.begin(second*1000+r.ageMillis, second, []string{"ams"}) {
			if key == (event.IndexKey{Epoch: second, DC: "ams"}) {
				c.answered(key, row, true)
			} else {
				c.answered(key, index.Row{}, true)
			}
		}
		backlog, finished := c.conclude(f)
		if finished != r.finished || len(backlog) == 0 || backlog[0].blob == nil {
			t.Errorf("after %d ms: finished %v, backlog %d", r.ageMillis, finished, len(backlog))
		}
	}
}

// Nor is a second finished while it is not known who was present before it, unless
// that has expired.
func TestCatchupNeedsThePast(t *testing.T) {
	cfg := DefaultConfig()
	const second = 1_000_000
	for _, r := range []struct {
		past     func(c *catchup, key event.IndexKey)
		finished bool
		state    index.State
	}{
		{func(c *catchup, key event.IndexKey) { c.answered(key, index.Row{}, true) }, true, index.NoWriters},
		{func(c *catchup, key event.IndexKey) { c.answered(key, index.Row{}, false) }, false, index.Unknown},
		{func(c *catchup, key event.IndexKey) { c.expired(key) }, true, index.Unknown},
	} {
		c, f := newCatchup(&cfg), testFeed(&cfg, second)
		for _, key := range c.begin(second*1000+60_000, second, []string{"ams"}) {
			if key.Epoch == second-4 {
				r.past(c, key)
			} else {
				c.answered(key, index.Row{}, true)
			}
		}
		backlog, finished := c.conclude(f)
		if finished != r.finished || len(backlog) != 1 || backlog[0].mark.verdict.State != r.state {
			t.Errorf("want %v: finished %v, backlog %+v", r.state, finished, backlog)
		}
	}
}

// When seconds are given up, who relied on the window reads them; it does not
// count them as finished.
func TestGivingUpSeconds(t *testing.T) {
	cfg := DefaultConfig()
	cfg.WindowBlobs = 3
	c := newCore(cfg)
	const now = 1_000_000_000
	f := testFeed(&c.cfg, now/1000-10)
	c.subscribe(now, f)
	if !f.live {
		t.Fatal("it begins in the window and is not live")
	}
	for n := range 5 {
		u := pushOf(now/1000-10+int64(n), n)
		c.publish(now, &u)
	}
	c.step(now, []string{"ams"})
	if c.window.low != now/1000-8 || f.live {
		t.Errorf("low is at %d, live %v", c.window.low-now/1000, f.live)
	}
	for q, ok, _ := c.take(f); ok; q, ok, _ = c.take(f) {
		c.delivered(f, &q, q.id())
	}
	if low := f.cursor.Low(); low != now/1000-10 {
		t.Errorf("the cursor is at %d", low-now/1000)
	}
}

// A reader may come for more while its feed is closed.
func TestTakeAfterUnsubscribe(t *testing.T) {
	c := newCore(DefaultConfig())
	f := testFeed(&c.cfg, 1_000_000)
	c.subscribe(1_000_000_000, f)
	c.unsubscribe(f)
	c.unsubscribe(f)
	if _, ok, live := c.take(f); ok || !live {
		t.Error("a closed feed sends its reader to read")
	}
}

// The same row is not read twice at once, no more than allowed are, and those that
// have waited longest come first.
func TestReadsAreBoundedAndFair(t *testing.T) {
	c := newCore(DefaultConfig())
	now := int64(1_000_000_000)
	c.subscribe(now, testFeed(&c.cfg, now/1000))
	c.step(now, []string{"ams"})
	seen := map[event.IndexKey]bool{}
	for {
		keys := c.reads(3)
		if len(keys) > 3 {
			t.Fatalf("%d at once", len(keys))
		}
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			if seen[k] {
				t.Errorf("%v twice", k)
			}
			seen[k] = true
		}
		c.step(now, []string{"ams"}) // finds those due that are not under way
	}
	if want := 30 + 20; len(seen) != want { // with the ten seconds before, and 20 late lists
		t.Errorf("%d rows, want %d", len(seen), want)
	}

	// With room for four reads a second, each in vain, every row is tried in turn.
	for key := range seen {
		c.answered(now, now, key, index.Row{}, false)
	}
	clear(seen)
	for range 30 {
		now += 1000
		c.step(now, []string{"ams"})
		for _, key := range c.reads(4) {
			c.answered(now, now, key, index.Row{}, false)
			seen[key] = true
		}
	}
	for key, r := range c.window.rows {
		if key.Epoch < now/1000-30 && !seen[key] {
			t.Errorf("%v was not tried, last at %d", key, r.triedAt)
		}
	}
}

// The core is a function of what it is told: twice the same story, twice the same
// reads and the same items in the same order.
func TestCoreIsDeterministic(t *testing.T) {
	run := func() (story []string) {
		c := newCore(DefaultConfig())
		c.cfg.TotalBytes = 3000
		now := int64(1_000_000_000)
		feeds := []*feed{testFeed(&c.cfg, now/1000-20), testFeed(&c.cfg, now/1000-5), testFeed(&c.cfg, now/1000)}
		for _, f := range feeds {
			c.subscribe(now, f)
		}
		for n := range 40 {
			now += 700
			u := pushOf(now/1000-int64(n%7), n)
			c.publish(now, &u)
			c.step(now, []string{"fra", "ams", "lon"})
			for _, key := range c.reads(5 + n%20) {
				story = append(story, "read "+key.String())
				c.answered(now, now, key, index.Row{}, n%3 > 0)
			}
			for i, f := range feeds {
				for q, ok, _ := c.take(f); ok; q, ok, _ = c.take(f) {
					story = append(story, fmt.Sprint(i, " ", q.arrival(), " ", q.id()))
					c.delivered(f, &q, q.id())
				}
			}
		}
		return story
	}
	first := run()
	for range 5 {
		if again := run(); !slices.Equal(again, first) {
			t.Fatal("the same story ended otherwise")
		}
	}
	if len(first) < 200 {
		t.Errorf("only %d things happened", len(first))
	}
}

// After any sequence of pushes, answers and steps, the window knows what it
// remembers, and low only rises.
func TestWindowInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.WindowBlobs = 12
		c := newCore(cfg)
		now := int64(1_000_000_000)
		f := testFeed(&cfg, now/1000)
		c.subscribe(now, f)
		low := c.window.low
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				u := pushOf(now/1000-rapid.Int64Range(0, 30).Draw(t, "ago"), n)
				n++
				c.publish(now, &u)
			},
			"time": func(t *rapid.T) { now += rapid.Int64Range(0, 3000).Draw(t, "millis") },
			"jump": func(t *rapid.T) { now += rapid.SampledFrom([]int64{-5000, 30_000, 1_000_000}).Draw(t, "jump") },
			"step": func(t *rapid.T) {
				c.step(now, []string{"ams"})
				for _, key := range c.reads(rapid.IntRange(0, 80).Draw(t, "limit")) {
					c.answered(now, now, key, index.Row{}, rapid.Bool().Draw(t, "certain"))
				}
			},
			"seconds": func(t *rapid.T) { // all goes well for a while
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					now += 1000
					u := pushOf(now/1000-1, n)
					n++
					c.publish(now, &u)
					c.step(now, []string{"ams"})
					for _, key := range c.reads(100) {
						c.answered(now, now, key, index.Row{}, true)
					}
				}
			},
			"read": func(t *rapid.T) {
				if q, ok, _ := c.take(f); ok {
					c.delivered(f, &q, q.id())
				}
			},
			"": func(t *rapid.T) { checkCore(t, c, f, &low) },
		})
	})
}

func checkCore(t *rapid.T, c *core, f *feed, low *int64) {
	w := c.window
	if w.low < *low {
		t.Fatalf("low went back by %d s", *low-w.low)
	}
	*low = w.low
	blobs := 0
	for key, r := range w.rows {
		if key != r.key || key.Epoch < w.low && (len(r.blobs) > 0 || key.Late) || key.Epoch < w.low-index.ExpectedSeconds {
			t.Fatalf("row %v with %d blobs, low %d", key, len(r.blobs), w.low)
		}
		for _, b := range r.blobs {
			if _, ok := r.seen[b.id]; !ok {
				t.Fatalf("%v is not seen", b.key)
			}
			blobs++
			if f.live && f.lacksBlob(b) {
				t.Fatalf("a live feed lacks %v", b.key)
			}
		}
	}
	if blobs != w.held {
		t.Fatalf("%d blobs, %d held", blobs, w.held)
	}
	if f.live && f.cursor.Low() > max(w.low, 1_000_000) {
		t.Fatalf("the cursor is at %d, the window at %d", f.cursor.Low(), w.low)
	}
	for id := range f.queued {
		if f.cursor.Has(id) {
			t.Fatal("delivered and waiting")
		}
	}
	if f.queue.len() != len(f.queued) {
		t.Fatalf("%d wait, %d queued", f.queue.len(), len(f.queued))
	}
}

// pushOf is an update with one blob.
func pushOf(epoch int64, n int) Update {
	rec := record(agg1, blobKey(epoch, "ams", "web", n), "v")
	defer rec.Release()
	key, delta, err := index.DeltaOf(&rec.Header)
	if err != nil {
		panic(err)
	}
	return Update{Index: key, Delta: delta}
}

// The ring is a queue, whatever its room.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var m []int64
		n := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 900).Draw(t, "n") {
					n++
					r.push(waiting{gap: &Gap{First: n}})
					m = append(m, n)
				}
			},
			"pop": func(t *rapid.T) {
				for range min(len(m), rapid.IntRange(1, 2000).Draw(t, "n")) {
					if got := r.pop().gap.First; got != m[0] {
						t.Fatalf("got %d, want %d", got, m[0])
					}
					m = m[1:]
				}
			},
			"": func(t *rapid.T) {
				if r.len() != len(m) || len(m) == 0 && len(r.items) > keptRoom {
					t.Fatalf("%d of %d, room %d", r.len(), len(m), len(r.items))
				}
			},
		})
	})
}

// What a reader that is behind has read of the past for one second need not tell who
// is expected in the next one: that was not over yet.
func TestCatchupReadsThePastAgain(t *testing.T) {
	const second = 1_000_000
	for readAfterMillis, again := range map[int64]bool{1000: true, 1999: true, 2000: false} {
		c := newCatchup(new(DefaultConfig()))
		for _, k := range c.begin(second*1000+readAfterMillis, second, []string{"ams"}) {
			c.answered(k, index.Row{}, true)
		}
		keys := c.begin((second+30)*1000, second+1, []string{"ams"})
		if got := slices.Contains(keys, event.IndexKey{Epoch: second - 1, DC: "ams"}); got != again {
			t.Errorf("read %d ms after the second before began, again %t, want %t", readAfterMillis, got, again)
		}
	}
}
