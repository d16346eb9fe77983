package tail

import (
	"cmp"
	"slices"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// aheadOfClock is how many seconds ahead of the hub's clock pushes are taken in:
// what is admitted, and a margin for clocks. What lies further ahead is found in
// the index when its time comes.
const aheadOfClock = 15

// A window is what a hub knows of the newest seconds of arrival: low and all
// later ones. For the index.ExpectedSeconds before low it knows who was present,
// which the watermarks of the window need.
//
// Invariants: all seconds before low were finished or given up; every row that is
// not before low has all its blobs, whichever other row has them too, for a reader
// may have begun behind the other, or passed it.
type window struct {
	lateness, finish int64 // seconds
	maxBlobs         int

	low  int64 // seconds since the Unix epoch, UTC
	rows map[event.IndexKey]*rowState
	held int // blobs of all rows
}

// A rowState is what is known of one index row.
type rowState struct {
	key   event.IndexKey
	acc   index.Accumulator   // of pushes and reads
	last  index.Row           // what was read last
	blobs []*blob             // in the order they became known
	seen  map[uint64]struct{} // their identities

	presence      index.Presence
	presenceStale bool

	// The time at which the newest read was begun that was answered with
	// certainty, and that was answered at all; milliseconds since the Unix epoch.
	certainAt, triedAt int64
	reading            bool

	mark         *mark // the last one told; nil: none yet
	judgeEntries bool  // all expected finals are there, entries lack
}

func newWindow(cfg *Config, nowMillis int64) *window {
	w := &window{lateness: cfg.LatenessSeconds, finish: cfg.finishSeconds(), maxBlobs: cfg.WindowBlobs}
	w.reset(nowMillis)
	return w
}

// reset forgets everything and begins with the oldest second that may not be
// finished.
func (w *window) reset(nowMillis int64) {
	w.low = nowMillis/1000 - w.finish
	w.rows = make(map[event.IndexKey]*rowState)
	w.held = 0
}

func (w *window) row(key event.IndexKey) *rowState {
	r := w.rows[key]
	if r == nil {
		r = &rowState{key: key}
		w.rows[key] = r
	}
	return r
}

// cover makes sure that the rows of those dcs are known of, for all seconds up to
// now and those before low that watermarks need.
func (w *window) cover(nowMillis int64, dcs []string) {
	for s := w.low - index.ExpectedSeconds; s <= nowMillis/1000; s++ {
		for _, dc := range dcs {
			w.row(event.IndexKey{Epoch: s, DC: dc})
			if s >= w.low {
				w.row(event.IndexKey{Epoch: s, DC: dc, Late: true})
			}
		}
	}
}

// admits reports whether pushes for that second of arrival are taken in.
func (w *window) admits(arrival, nowMillis int64) bool {
	return arrival >= w.low && arrival <= nowMillis/1000+aheadOfClock
}

// add merges what a push or a read says of a row, and yields the blobs that are
// new in it: another row may have them too, that of their own second if they were
// put again when it was closed. The second must not be before low.
func (w *window) add(r *rowState, row index.Row, yield func(*blob)) {
	if !r.acc.Add(row) {
		return
	}
	r.presenceStale = true
	blobsOf(r.key, row, func(b *blob) {
		if _, ok := r.seen[b.id]; ok {
			return
		}
		if r.seen == nil {
			r.seen = make(map[uint64]struct{})
		}
		r.seen[b.id] = struct{}{}
		r.blobs = append(r.blobs, b)
		w.held++
		yield(b)
	})
}

// due returns the rows to be read now, those first that have waited longest for an
// answer: however slow the reads, every row gets its turn. A row is read as its
// second ends and at each of the seconds that follow, while those of whom the
// watermarks of later seconds tell may still come into it; a late list while it is
// open; both once more when they can be finished.
func (w *window) due(nowMillis int64) []event.IndexKey {
	var rows []*rowState
	for _, r := range w.rows {
		if !r.reading && r.triedAt < w.dueAt(r, nowMillis) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *rowState) int {
		return cmp.Or(cmp.Compare(a.triedAt, b.triedAt), compareKeys(a.key, b.key))
	})
	keys := make([]event.IndexKey, len(rows))
	for i, r := range rows {
		keys[i] = r.key
	}
	return keys
}

// dueAt returns the newest time at or before now from which a row's read is
// wanted, in milliseconds since the Unix epoch; 0: none yet. A read that was not
// certain is repeated every second, after a while every fifth.
func (w *window) dueAt(r *rowState, nowMillis int64) int64 {
	now := nowMillis / 1000
	first, busy := r.key.Epoch+1, r.key.Epoch+max(index.ExpectedSeconds+1, w.lateness)
	if r.key.Late {
		busy = r.key.Epoch + w.lateness
	}
	last := r.key.Epoch + w.finish
	var wanted int64
	switch {
	case now < first:
		return 0
	case now <= busy:
		return now * 1000
	case now < last:
		wanted = busy * 1000
	default:
		wanted = last * 1000
	}
	switch {
	case r.certainAt >= wanted:
		return wanted
	case now > last+10:
		return now / 5 * 5 * 1000
	}
	return now * 1000
}

// answered takes in the answer to a read that began at startedMillis.
func (w *window) answered(key event.IndexKey, startedMillis int64, row index.Row, certain bool, yield func(*blob)) {
	r := w.rows[key]
	if r == nil {
		return // given up meanwhile
	}
	r.reading = false
	r.triedAt = max(r.triedAt, startedMillis)
	if certain {
		r.certainAt = max(r.certainAt, startedMillis)
	}
	if sameRow(row, r.last) {
		return
	}
	r.last = row
	if key.Epoch >= w.low {
		w.add(r, row, yield)
	} else if r.acc.Add(row) {
		r.presenceStale = true
	}
}

// sameRow reports whether two rows are one in memory; rows are not modified.
func sameRow(a, b index.Row) bool {
	return len(a.Sections) == len(b.Sections) && (len(a.Sections) == 0 || &a.Sections[0] == &b.Sections[0])
}

// finishSeconds moves low past what is finished. cover must have been called for
// the present, so that no row is overlooked.
func (w *window) finishSeconds(nowMillis int64) {
	unfinished := make(map[int64]bool)
	for key, r := range w.rows {
		if !r.finished(w.finish) || !key.Late && r.mark == nil {
			unfinished[key.Epoch] = true
		}
	}
	low := w.low
	for low <= nowMillis/1000-w.finish && !unfinished[low] {
		low++
	}
	if low > w.low {
		w.raise(low)
	}
}

// maxStuckSeconds is how much longer than it should be the window may become
// because rows cannot be read with certainty.
const maxStuckSeconds = 300

// oldest returns the lowest second the window should still have, whether those
// before it are finished or not.
func (w *window) oldest(nowMillis int64) int64 {
	return nowMillis/1000 - w.finish - maxStuckSeconds
}

// overfull reports whether the window remembers too many blobs.
func (w *window) overfull() bool { return w.held > w.maxBlobs }

// keep forgets the rows of dcs that are not wanted.
func (w *window) keep(wanted func(dc string) bool) {
	verdicts := make(map[string]bool)
	for key, r := range w.rows {
		keep, ok := verdicts[key.DC]
		if !ok {
			keep = wanted(key.DC)
			verdicts[key.DC] = keep
		}
		if !keep {
			w.drop(r)
		}
	}
}

// drop forgets a row.
func (w *window) drop(r *rowState) {
	w.dropBlobs(r)
	delete(w.rows, r.key)
}

func (w *window) dropBlobs(r *rowState) {
	w.held -= len(r.blobs)
	r.blobs, r.seen = nil, nil
}

// raise moves low, keeping of the seconds before it only who was present, and
// that only as long as it is needed.
func (w *window) raise(low int64) {
	w.low = low
	for key, r := range w.rows {
		if key.Epoch >= low {
			continue
		}
		if key.Late || key.Epoch < low-index.ExpectedSeconds {
			w.drop(r)
			continue
		}
		w.dropBlobs(r)
		r.present()
		r.last = index.Row{}
		if r.finished(w.finish) {
			r.acc = index.Accumulator{} // its presence is all that is needed
		}
	}
}

// finished reports whether nothing can be new in the row any more.
func (r *rowState) finished(finish int64) bool { return r.certainAt >= (r.key.Epoch+finish)*1000 }

// present returns who was present in the row.
func (r *rowState) present() index.Presence {
	if r.presenceStale {
		r.presence, r.presenceStale = index.PresenceOf(r.acc.Row()), false
	}
	return r.presence
}

// inOrder returns the rows from a second on, by second and dc, the late list last:
// the order in which things are told.
func (w *window) inOrder(from int64) []*rowState {
	rows := make([]*rowState, 0, len(w.rows))
	for key, r := range w.rows {
		if key.Epoch >= from {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *rowState) int { return compareKeys(a.key, b.key) })
	return rows
}
