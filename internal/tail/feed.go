package tail

import (
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// A feed is the state of one subscription: what waits for its reader and what the
// reader has.
//
// Invariants: while it is live, all that the hub's window knows and the filter
// wants was delivered, or waits, or arrived before cursor.Low; queued holds the
// identities of what waits or is in the reader's hands, and nothing of it is in
// cursor but for what the reader has in place of another claim to its key.
type feed struct {
	filter
	withoutBodies bool
	maxItems      int
	maxBytes      int64

	live    bool
	closed  bool           // nobody will take from it any more
	cursor  *cursor.Cursor // what was delivered
	settled int64          // while behind: seconds before it were offered in full

	queue    ring
	queued   map[uint64]bool // identities; true: the reader has it, in place of another claim to its key
	bySecond map[int64]int   // how many of queued arrived in a second
	bytes    int64           // of the bodies that wait

	notify func() // called when a waiting reader should look again
}

func newFeed(cfg *Config, f filter, at *cursor.Cursor, withoutBodies bool) *feed {
	return &feed{
		filter: f, withoutBodies: withoutBodies, maxItems: cfg.QueueItems, maxBytes: cfg.QueueBytes,
		cursor: at, settled: at.Low(),
		queued: make(map[uint64]bool), bySecond: make(map[int64]int), notify: func() {},
	}
}

// A waiting is what waits for a reader: a blob, a mark or a gap.
type waiting struct {
	blob *blob
	body *object.Record // of the blob, retained; nil: to be read
	mark *mark
	gap  *Gap
}

func (q *waiting) id() uint64 {
	switch {
	case q.blob != nil:
		return q.blob.id
	case q.mark != nil:
		return q.mark.id(q.mark.verdict.State)
	}
	return 0
}

func (q *waiting) arrival() int64 {
	switch {
	case q.blob != nil:
		return q.blob.arrival
	case q.mark != nil:
		return q.mark.second
	}
	return q.gap.First
}

func (q *waiting) size() int64 {
	if q.body == nil {
		return 0
	}
	return int64(q.body.Buf.Cap())
}

// knows reports whether what has that identity was delivered or waits.
func (f *feed) knows(id uint64) bool {
	if _, ok := f.queued[id]; ok {
		return true
	}
	return f.cursor.Has(id)
}

// lacksBlob reports whether the blob is wanted and not known.
func (f *feed) lacksBlob(b *blob) bool {
	return b.arrival >= f.cursor.Low() && f.wantsDC(b.key.DC) && f.wants(b) && !f.knows(b.id)
}

// lacksMark reports whether the watermark is wanted and tells more than what the
// reader was told.
func (f *feed) lacksMark(m *mark) bool {
	if m.second < f.cursor.Low() || !f.wantsDC(m.dc) {
		return false
	}
	for s := index.Complete; s <= index.NoWriters; s++ {
		if knowledge(s) >= knowledge(m.verdict.State) && f.knows(m.id(s)) {
			return false
		}
	}
	return true
}

// offerBlob hands a blob to a live feed. body may be nil; room is how many bytes
// the hub may still hold for all feeds. It returns how many more it holds now.
func (f *feed) offerBlob(b *blob, body *object.Record, room int64) (held int64) {
	if !f.live || !f.lacksBlob(b) {
		return 0
	}
	q := waiting{blob: b}
	if body != nil && !f.withoutBodies {
		if size := int64(body.Buf.Cap()); size <= min(room, f.maxBytes-f.bytes) {
			q.body, held = body, size
		}
	}
	if !f.push(q) {
		return 0
	}
	if q.body != nil {
		q.body.Buf.Retain()
	}
	return held
}

// offerMark hands a watermark to a live feed.
func (f *feed) offerMark(m *mark) {
	if f.live && f.lacksMark(m) {
		f.push(waiting{mark: m})
	}
}

// push queues, or finds that the reader is too slow: then the feed is behind.
func (f *feed) push(q waiting) bool {
	if f.queue.len() >= f.maxItems {
		f.live = false
		return false
	}
	if f.queue.len() == 0 {
		f.notify()
	}
	f.queue.push(q)
	f.queued[q.id()] = false
	f.bySecond[q.arrival()]++
	f.bytes += q.size()
	return true
}

// pop takes what waits longest. It still counts as waiting until it is delivered.
func (f *feed) pop() (q waiting, ok bool) {
	if f.queue.len() == 0 {
		return waiting{}, false
	}
	q = f.queue.pop()
	f.bytes -= q.size()
	return q, true
}

// delivered notes that the reader has what was popped. For a body that is not the
// one the index spoke of, id is the identity of what it has.
func (f *feed) delivered(q *waiting, id uint64) {
	if q.gap != nil {
		f.cursor.Finish(q.gap.Last + 1)
		return
	}
	f.forget(q)
	f.cursor.Add(q.arrival(), q.id())
	f.cursor.Add(q.arrival(), id)
	if _, waits := f.queued[id]; waits {
		f.queued[id] = true // it may wait for longer than the cursor knows of this second
	}
}

// has reports whether what has that identity was delivered.
func (f *feed) has(id uint64) bool { return f.queued[id] || f.cursor.Has(id) }

// forget ends the waiting of what was popped.
func (f *feed) forget(q *waiting) {
	if _, ok := f.queued[q.id()]; !ok {
		return // it came from catching up
	}
	delete(f.queued, q.id())
	if f.bySecond[q.arrival()]--; f.bySecond[q.arrival()] == 0 {
		delete(f.bySecond, q.arrival())
	}
}

// settle raises the cursor to the lowest second that is not finished: everything
// before windowLow was offered to a live feed, but may still wait.
func (f *feed) settle(windowLow int64) {
	if f.live {
		f.settled = windowLow
	}
	low := f.settled
	if low <= f.cursor.Low() {
		return
	}
	for arrival := range f.bySecond {
		low = min(low, arrival)
	}
	f.cursor.Finish(low)
}

// drop lets go of everything that waits.
func (f *feed) drop() {
	for f.queue.len() > 0 {
		if q := f.queue.pop(); q.body != nil {
			q.body.Buf.Release()
		}
	}
	f.bytes = 0
	f.live = false
}

// A ring is a queue that reuses its room and gives most of it back when empty.
type ring struct {
	items []waiting // its length is zero or a power of two
	head  int       // index of the first
	n     int
}

const keptRoom = 1024 // items

func (r *ring) len() int { return r.n }

func (r *ring) push(q waiting) {
	if r.n == len(r.items) {
		grown := make([]waiting, max(16, 2*len(r.items)))
		for i := range r.n {
			grown[i] = r.items[(r.head+i)&(len(r.items)-1)]
		}
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.n)&(len(r.items)-1)] = q
	r.n++
}

func (r *ring) pop() waiting {
	q := r.items[r.head]
	r.items[r.head] = waiting{}
	r.head = (r.head + 1) & (len(r.items) - 1)
	if r.n--; r.n == 0 && len(r.items) > keptRoom {
		*r = ring{}
	}
	return q
}
