package tail

import (
	"slices"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A core is all that a hub decides: it is told what was published, what time it
// is and what reads have answered, and says which reads are wanted. It has no
// clock, no source and no goroutine; its methods must not run at once. What it does
// depends on nothing else: not on the order of a map either.
type core struct {
	cfg    Config
	window *window // nil while nobody subscribes
	feeds  []*feed // in the order they came
	toRead []event.IndexKey
	held   int64 // bytes of bodies that wait in all feeds
	counts Counters

	demanded func() // called when feeds has changed
}

func newCore(cfg Config) *core { return &core{cfg: cfg, demanded: func() {}} }

// publish offers what is new in a delta to the feeds that are live.
func (c *core) publish(nowMillis int64, u *Update) {
	c.counts.Published++
	if c.window == nil || !c.wanted(u.Index.DC) {
		return
	}
	if !c.window.admits(u.Index.Epoch, nowMillis) {
		c.counts.Unpushed++
		return
	}
	r := c.window.row(u.Index)
	hint := 0
	c.window.add(r, u.Delta, func(b *blob) {
		body := bodyOf(b, u.Bodies, &hint)
		if body != nil {
			kept := *body // one copy for all feeds, and none of the caller's slice
			body = &kept
		}
		c.offer(b, body)
	})
	if r.worthJudging(u.Delta) {
		c.judge(r, nowMillis)
	}
}

// wanted reports whether any feed wants a dc.
func (c *core) wanted(dc string) bool {
	for _, f := range c.feeds {
		if f.wantsDC(dc) {
			return true
		}
	}
	return false
}

// step moves the window with the time. It is called at least once a second; dcs
// are all there are.
func (c *core) step(nowMillis int64, dcs []string) {
	if c.window == nil {
		return
	}
	c.window.keep(c.wanted)
	if oldest := c.window.oldest(nowMillis); c.window.low < oldest {
		c.giveUp(oldest)
	}
	c.window.cover(nowMillis, slices.DeleteFunc(slices.Clone(dcs), func(dc string) bool { return !c.wanted(dc) }))
	c.window.finishSeconds(nowMillis)
	for c.window.overfull() {
		c.giveUp(c.window.low + 1)
	}
	for _, f := range c.feeds {
		f.settle(c.window.low)
	}
	for _, r := range c.window.inOrder(c.window.low) {
		c.judge(r, nowMillis)
	}
	c.toRead = c.window.due(nowMillis)
}

// giveUp drops unfinished seconds from the window. Feeds that relied on it read
// them themselves.
func (c *core) giveUp(low int64) {
	c.counts.GivenUpSeconds += low - c.window.low
	for _, f := range c.feeds {
		f.settle(c.window.low)
		if f.live {
			c.fallBehind(f)
		}
	}
	c.window.raise(low)
}

func (c *core) fallBehind(f *feed) {
	f.live = false
	c.counts.Overflows++
	f.notify()
}

// reads returns at most limit of the rows that the last step found due. Each must
// be answered.
func (c *core) reads(limit int) (keys []event.IndexKey) {
	for len(c.toRead) > 0 && len(keys) < limit {
		key := c.toRead[0]
		c.toRead = c.toRead[1:]
		if r := c.window.rows[key]; r != nil { // else it has left the window
			r.reading = true
			keys = append(keys, key)
		}
	}
	return keys
}

// answered takes in what a read of an index row gave that began at startedMillis;
// after an error, row is empty and not certain.
func (c *core) answered(nowMillis, startedMillis int64, key event.IndexKey, row index.Row, certain bool) {
	c.counts.RowReads++
	if !certain {
		c.counts.UncertainReads++
	}
	if c.window == nil {
		return
	}
	c.window.answered(key, startedMillis, row, certain, func(b *blob) {
		c.counts.Unannounced++
		c.offer(b, nil)
	})
	for s := key.Epoch; s <= key.Epoch+index.ExpectedSeconds; s++ {
		if r := c.window.rows[event.IndexKey{Epoch: s, DC: key.DC}]; r != nil {
			c.judge(r, nowMillis)
		}
	}
}

// offer hands a blob to all feeds that are live.
func (c *core) offer(b *blob, body *object.Record) {
	for _, f := range c.feeds {
		wasLive := f.live
		c.held += f.offerBlob(b, body, c.cfg.TotalBytes-c.held)
		if wasLive && !f.live {
			c.counts.Overflows++
		}
	}
}

// judge tells the feeds if a second's watermark has changed.
func (c *core) judge(r *rowState, nowMillis int64) {
	m := c.window.judge(r, nowMillis)
	if m == nil {
		return
	}
	c.counts.Watermarks++
	for _, f := range c.feeds {
		wasLive := f.live
		f.offerMark(m)
		if wasLive && !f.live {
			c.counts.Overflows++
		}
	}
}

// subscribe adds a feed. It is live at once if it begins within the window.
func (c *core) subscribe(nowMillis int64, f *feed) bool {
	if len(c.feeds) >= c.cfg.Subscriptions {
		return false
	}
	if c.window == nil {
		c.window = newWindow(&c.cfg, nowMillis)
	}
	c.feeds = append(c.feeds, f)
	c.join(f)
	c.demanded()
	return true
}

// unsubscribe removes a feed and lets go of what waits for it.
func (c *core) unsubscribe(f *feed) {
	i := slices.Index(c.feeds, f)
	if i < 0 {
		return
	}
	c.feeds = slices.Delete(c.feeds, i, i+1)
	f.closed = true
	c.held -= f.bytes
	f.drop()
	if len(c.feeds) == 0 {
		c.window, c.toRead = nil, nil
	}
	c.demanded()
}

// join makes a feed live that has reached the window: it is offered what it lacks
// of it. If that does not fit, it stays behind and may join again when its reader
// has taken some. It reports whether anything came of it.
func (c *core) join(f *feed) bool {
	f.settle(c.window.low)
	if f.cursor.Low() < c.window.low {
		return false
	}
	f.live = true
	for _, r := range c.window.inOrder(max(f.cursor.Low(), c.window.low)) {
		for _, b := range r.blobs {
			f.offerBlob(b, nil, 0)
		}
		if r.mark != nil {
			f.offerMark(r.mark)
		}
		if !f.live {
			break
		}
	}
	f.settle(c.window.low)
	return true
}

// take gives the reader of a feed what waits longest. If nothing waits, live says
// whether something will come by itself; otherwise the reader is to read the
// second f.cursor.Low itself.
func (c *core) take(f *feed) (q waiting, ok, live bool) {
	if f.closed {
		return waiting{}, false, true
	}
	for {
		held := f.bytes
		if q, ok = f.pop(); ok {
			c.held -= held - f.bytes
			return q, true, true
		}
		if f.live {
			f.settle(c.window.low)
			return waiting{}, false, true
		}
		if !c.join(f) {
			return waiting{}, false, false
		}
	}
}

// delivered notes that a reader has what take gave it, or what it has read itself.
func (c *core) delivered(f *feed, q *waiting, id uint64) (low int64) {
	f.delivered(q, id)
	if c.window != nil {
		f.settle(c.window.low)
	}
	return f.cursor.Low()
}
