package replication

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A duty is something this node is a newcomer of: a partition in some slots, or of
// plain data. It is done when the node has all that those before it could have
// acknowledged, durably, and over when the history does not name it any more.
type duty struct {
	what     ring.Completion
	since    ring.Version // of the history in which it was first seen
	under    ring.Version // of the history under which the first of it was merged
	merged   map[Lane]bool
	done     bool
	reported time.Time // when it was last brought to agreement
}

// reportAgain is after how long a duty that was brought to agreement is reported
// again, if it is still there; and the longest pause after a report that failed. That
// may be because of what was changed meanwhile, and then everything is compared again:
// old nodes wait for it.
const reportAgain = 10 * time.Second

// maxReported bounds how many are brought to agreement at once.
const maxReported = 256

// A dutyBook is what this node is a newcomer of, by the last history that was
// looked at.
type dutyBook struct {
	history *ring.History
	oldest  int64
	of      map[ring.Partition][]*duty // each newest slots first, plain data last
}

// noteDuties keeps up with the history. A duty that is in the new one as well goes
// on where it was.
func (m *Merger) noteDuties(h *ring.History) {
	book := &m.duties
	if m.cfg.Completed == nil || book.history == h && book.oldest == m.held.oldest {
		return
	}
	known := make(map[ring.Completion]*duty)
	for d := range book.all() {
		known[d.what] = d
	}
	*book = dutyBook{h, m.held.oldest, make(map[ring.Partition][]*duty)}
	for _, c := range h.Duties(m.cfg.Self) {
		if !c.Plain && c.Until <= m.held.oldest {
			continue // it has expired
		}
		d := known[c]
		if d == nil {
			d = &duty{what: c, since: h.Version(), merged: make(map[Lane]bool)}
			if old := trimmed(known, c); old != nil {
				d.since, d.under, d.merged = old.since, old.under, old.merged
			}
		}
		book.of[c.Partition] = append(book.of[c.Partition], d)
	}
}

// trimmed returns the duty that became this one when its first slots expired, nil if
// there is none. Whether it is done is looked at again.
func trimmed(known map[ring.Completion]*duty, c ring.Completion) (was *duty) {
	for old, d := range known {
		same := old.From < c.From && old.Partition == c.Partition && old.Plain == c.Plain && old.Until == c.Until
		if same && (was == nil || was.what.From < old.From) {
			was = d
		}
	}
	return was
}

// all yields the duties, in the order of their partitions.
func (b *dutyBook) all() iter.Seq[*duty] {
	return func(yield func(*duty) bool) {
		for _, p := range slices.SortedFunc(maps.Keys(b.of), ring.Partition.Compare) {
			for _, d := range b.of[p] {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// hasDuty reports whether a partition has a duty that is not done.
func (m *Merger) hasDuty(p ring.Partition) bool {
	return slices.ContainsFunc(m.duties.of[p], func(d *duty) bool { return !d.done })
}

// takeOver does some of a duty: slots that are not merged yet, newest first, and
// when all are, what is said at the end.
func (m *Merger) takeOver(ctx context.Context, view *MergeView, d *duty, w *partWork, sum *roundSum) {
	if !m.dutyIsRipe(view, d) {
		w.toGet += int64(len(view.lanesOf(&d.what)))
		return
	}
	if d.under == (ring.Version{}) {
		d.under = view.History.Version()
	}
	slot, whole := int64(-2), true
	for _, lane := range view.lanesOf(&d.what) {
		if d.merged[lane] {
			continue
		}
		if lane.Slot != slot {
			if slot, w.left = lane.Slot, w.left-1; w.left < 0 {
				whole = false
			}
		}
		if !whole {
			w.toGet++ // other partitions have newer slots
			continue
		}
		res, mine := m.laneOf(ctx, view, lane, sum)
		switch {
		case ctx.Err() != nil:
			return
		case mine && !res.TakenOver, mine && !res.Verified && !m.moving(view, lane):
			m.counters.failed.Add(1)
			w.toGet++
			w.failed, whole = true, false
			m.cfg.Log.Warn("a slot cannot be taken over yet from those who had it before", "partition", view.Partition.String(), "slot", lane.Slot, "error", res.Err)
			continue
		case mine && !res.Verified:
			m.counters.unverified.Add(1)
		}
		d.merged[lane] = true
		w.did = true
		m.counters.lanes.Add(1)
		sum.lanes++
	}
	if !whole || !view.takenOver(&d.what) {
		return
	}
	for _, h := range view.horizons() {
		if err := m.cfg.Own.RaiseHorizon(view.Partition, h.Type, h.Bucket, h.Horizon); err != nil {
			w.failed = true
			return
		}
	}
	d.done, w.did = true, true
}

// dutyIsRipe reports whether all that was put under the histories before is over on
// those that were reached. What they have of it is final.
func (m *Merger) dutyIsRipe(view *MergeView, d *duty) bool {
	now := m.cfg.Now()
	for id := range view.Others {
		if since, heard := m.heard.since(id, d.since); !heard || now.Sub(since) < m.cfg.Grace {
			return false
		}
	}
	return true
}

// moving reports whether things may be put into a lane all the time, so that no two
// replicas have the same at the same moment.
func (m *Merger) moving(view *MergeView, lane Lane) bool {
	end := (lane.Slot + 1) * view.History.SlotSeconds()
	return !lane.Timed || m.cfg.Now().Unix() < end+2*settleSeconds
}

// reportDone brings to agreement what was done.
func (m *Merger) reportDone(ctx context.Context) (reported, waits bool) {
	now := m.cfg.Now()
	var done []*duty
	for d := range m.duties.all() {
		if d.done && (d.reported.IsZero() || now.Sub(d.reported) >= reportAgain) {
			done = append(done, d)
		}
	}
	switch {
	case len(done) == 0:
		return false, false
	case now.Before(m.report.at):
		return false, true
	}
	done = done[:min(len(done), maxReported)]
	under, what := done[0].under, make([]ring.Completion, len(done))
	for i, d := range done {
		what[i] = d.what
		if d.under.Before(under) {
			under = d.under
		}
	}
	timed, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	err := m.cfg.Completed(timed, under, what)
	cancel()
	if err != nil {
		m.counters.completionsFailed.Add(1)
		again := object.AsError(err).Code == object.CodeWrongOwner
		for _, d := range done {
			if again { // what was merged before may not be all any more
				d.done, d.under, d.merged = false, ring.Version{}, make(map[Lane]bool)
			}
		}
		wait := min(max(retryLeast, 2*m.report.wait), reportAgain)
		m.report = retry{now.Add(wait), wait}
		m.cfg.Log.Warn("what this node has taken over could not be brought to agreement; it is tried again", "completions", len(done), "error", err)
		return false, true
	}
	m.report = retry{}
	m.counters.completions.Add(uint64(len(done)))
	for _, d := range done {
		d.reported = now
	}
	m.cfg.Log.Info("this node has everything of what it took over", "completions", len(done))
	return true, false
}

// A hearsay remembers since when nodes are known to have learnt histories.
type hearsay map[ring.NodeID][]learnt

type learnt struct {
	version ring.Version
	at      time.Time
}

// add notes that a node has answered a request of that version.
func (h hearsay) add(id ring.NodeID, v ring.Version, now time.Time, grace time.Duration) {
	all := h[id]
	if n := len(all); n > 0 && !all[n-1].version.Before(v) {
		return
	}
	all = append(all, learnt{v, now})
	// Of those that are long past the newest tells for all before.
	for len(all) > 1 && now.Sub(all[1].at) >= grace {
		all = all[1:]
	}
	if len(all) > maxLearnt {
		all = slices.Delete(all, 1, 2) // it was known no earlier than the next
	}
	h[id] = all
}

const maxLearnt = 64 // versions remembered of one node

// since returns when a node was first known to have learnt a version.
func (h hearsay) since(id ring.NodeID, v ring.Version) (at time.Time, heard bool) {
	for _, l := range h[id] {
		if !l.version.Before(v) {
			return l.at, true
		}
	}
	return at, false
}
