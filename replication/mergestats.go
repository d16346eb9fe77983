package replication

import (
	"sync/atomic"

	"github.com/mayflydb/mayfly/ring"
)

type mergeCounters struct {
	lanes, failed, verified, unverified, skipped    atomic.Uint64
	pulled, pushed, pulledBytes, pushedBytes        atomic.Uint64
	rescued, unpushed, cleared, uncertain           atomic.Uint64
	debtsPaid, copiesPaid, debtsFailed              atomic.Uint64
	completions, completionsFailed                  atomic.Uint64
	partitionsInDoubt, partitionsUnattainable       atomic.Int64
	partitionsToGet, slotsToGet, lanesThatHadToMove atomic.Int64
}

// MergerStats are the counts of a Merger since it was made.
type MergerStats struct {
	Lanes           uint64 // slots walked to the end, or skipped, and regained or taken over
	LanesFailed     uint64 // slots that will be walked again
	LanesVerified   uint64 // slots of which digests, or another walk, show that nothing is left
	LanesUnverified uint64 // slots in which things were put all the while, so that they could not show it
	LanesSkipped    uint64 // of the verified, those that digests showed to be equal before a walk
	Pulled          uint64 // records given to this node
	Pushed          uint64 // records given to others
	PulledBytes     uint64 // of values
	PushedBytes     uint64
	Rescued         uint64 // values that lost their key and were kept under another name
	Unpushed        uint64 // records that others could not be given
	DoubtsCleared   uint64
	Uncertain       uint64 // of these, those for which too few other owners were complete: what all lost is lost
	DebtsPaid       uint64 // places that were given all they were owed
	DebtsFailed     uint64 // attempts that ended before
	CopiesPaid      uint64 // records given to pay

	Completions       uint64 // brought to agreement: what this node has taken over
	CompletionsFailed uint64 // attempts

	PartitionsInDoubt      int64 // now: partitions for which this node is not complete
	PartitionsUnattainable int64 // now: partitions for which too few other owners are reachable
	PartitionsToGet        int64 // now: partitions with something to merge
	SlotsToGet             int64 // now: slots of buckets in these, as far as is known
	BytesToGet             int64 // now: of values in these, estimated by those that were merged
	BytesPerSecond         int64 // now: the bound
}

// Stats returns the counts. Any goroutine may call it.
func (m *Merger) Stats() MergerStats {
	c := &m.counters
	s := MergerStats{
		Lanes: c.lanes.Load(), LanesFailed: c.failed.Load(),
		LanesVerified: c.verified.Load(), LanesUnverified: c.unverified.Load(), LanesSkipped: c.skipped.Load(),
		Pulled: c.pulled.Load(), Pushed: c.pushed.Load(), PulledBytes: c.pulledBytes.Load(), PushedBytes: c.pushedBytes.Load(),
		Rescued: c.rescued.Load(), Unpushed: c.unpushed.Load(), DoubtsCleared: c.cleared.Load(), Uncertain: c.uncertain.Load(),
		DebtsPaid: c.debtsPaid.Load(), DebtsFailed: c.debtsFailed.Load(), CopiesPaid: c.copiesPaid.Load(),
		Completions: c.completions.Load(), CompletionsFailed: c.completionsFailed.Load(),
		PartitionsInDoubt: c.partitionsInDoubt.Load(), PartitionsUnattainable: c.partitionsUnattainable.Load(),
		PartitionsToGet: c.partitionsToGet.Load(), SlotsToGet: c.slotsToGet.Load(), BytesPerSecond: m.rate.Load(),
	}
	if walked := c.lanesThatHadToMove.Load(); walked > 0 {
		s.BytesToGet = int64(float64(s.PulledBytes) / float64(walked) * float64(s.SlotsToGet))
	}
	return s
}

// count adds what one merge did.
func (m *Merger) count(r *MergeResult) {
	c := &m.counters
	c.pulled.Add(r.Pulled)
	c.pushed.Add(r.Pushed)
	c.pulledBytes.Add(r.PulledBytes)
	c.pushedBytes.Add(r.PushedBytes)
	c.rescued.Add(r.Rescued)
	c.unpushed.Add(r.Unpushed)
	switch {
	case r.Skipped:
		c.skipped.Add(1)
	case r.Regained || r.TakenOver:
		c.lanesThatHadToMove.Add(1)
	}
	if r.Verified {
		c.verified.Add(1)
	}
}

// countToGet sums up what is left of the partitions with something to do.
func (m *Merger) countToGet(work []ring.Partition) {
	left := int64(0)
	known := make(map[ring.Partition]int64, len(work))
	for _, p := range work {
		if m.cfg.Own.InDoubt(p) || m.hasDuty(p) {
			known[p] = m.toGet[p]
			left += m.toGet[p]
		}
	}
	m.toGet = known
	m.counters.partitionsToGet.Store(int64(len(known)))
	m.counters.slotsToGet.Store(left)
}
