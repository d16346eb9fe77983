package replication

import (
	"cmp"
	"context"
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
	seen     time.Time    // when
	under    ring.Version // of the history under which the first of it was merged
	merged   map[Lane]bool
	done     bool
	reported time.Time // when it was last brought to agreement
}

// reportAgain is after how long a duty that was brought to agreement is reported
// again, if it is still there.
const reportAgain = 10 * time.Second

// maxReported bounds how many are brought to agreement at once.
const maxReported = 256

// noteDuties keeps up with the history.
func (m *Merger) noteDuties(h *ring.History) {
	if m.cfg.Completed == nil {
		return
	}
	present := make(map[ring.Completion]bool)
	for _, c := range h.Duties(m.cfg.Self) {
		if !c.Plain && c.Until <= m.held.oldest {
			continue // it has expired
		}
		present[c] = true
		if m.duties[c] == nil {
			m.duties[c] = &duty{what: c, since: h.Version(), seen: m.cfg.Now(), merged: make(map[Lane]bool)}
		}
	}
	maps.DeleteFunc(m.duties, func(c ring.Completion, _ *duty) bool { return !present[c] })
}

// hasDuty reports whether a partition has a duty that is not done.
func (m *Merger) hasDuty(p ring.Partition) bool {
	for c, d := range m.duties {
		if c.Partition == p && !d.done {
			return true
		}
	}
	return false
}

// dutiesOf returns the duties of a partition that are not done, newest slots first,
// plain data last.
func (m *Merger) dutiesOf(p ring.Partition) (all []*duty) {
	for c, d := range m.duties {
		if c.Partition == p && !d.done {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *duty) int {
		return cmp.Or(compareBools(a.what.Plain, b.what.Plain), cmp.Compare(b.what.Until, a.what.Until), cmp.Compare(b.what.From, a.what.From))
	})
	return all
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
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

// dutyIsRipe reports whether all that was put under the histories before is over:
// here, and on those that were reached. What they have of it is final.
func (m *Merger) dutyIsRipe(view *MergeView, d *duty) bool {
	now := m.cfg.Now()
	ripe := now.Sub(d.seen) >= m.cfg.Grace
	for id := range view.Others {
		since, heard := m.heard.since(id, d.since)
		ripe = ripe && heard && now.Sub(since) >= m.cfg.Grace
	}
	return ripe
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
	var done []ring.Completion
	var under ring.Version
	for c, d := range m.duties {
		if !d.done || !d.reported.IsZero() && now.Sub(d.reported) < reportAgain {
			continue
		}
		if len(done) == 0 || d.under.Before(under) {
			under = d.under
		}
		done = append(done, c)
	}
	if len(done) == 0 {
		return false, false
	}
	if now.Before(m.report.at) {
		return false, true
	}
	slices.SortFunc(done, func(a, b ring.Completion) int {
		return cmp.Or(compareBools(a.Plain, b.Plain), a.Partition.Compare(b.Partition), cmp.Compare(a.From, b.From), cmp.Compare(a.Until, b.Until))
	})
	done = done[:min(len(done), maxReported)]
	timed, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	err := m.cfg.Completed(timed, under, done)
	cancel()
	if err != nil {
		m.counters.completionsFailed.Add(1)
		again := object.AsError(err).Code == object.CodeWrongOwner
		for _, c := range done {
			if again { // what was merged before may not be all any more
				d := m.duties[c]
				d.done, d.under, d.merged = false, ring.Version{}, make(map[Lane]bool)
			}
		}
		wait := min(max(retryLeast, 2*m.report.wait), retryMost)
		m.report = retry{now.Add(wait), wait}
		m.cfg.Log.Warn("what this node has taken over could not be brought to agreement; it is tried again", "completions", len(done), "error", err)
		return false, true
	}
	m.report = retry{}
	m.counters.completions.Add(uint64(len(done)))
	for _, c := range done {
		m.duties[c].reported = now
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
