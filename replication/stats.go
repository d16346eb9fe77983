package replication

import (
	"sync/atomic"
	"time"
)

// Stats are what a coordinator did since it was made, and what it holds now.
type Stats struct {
	Writes, WritesFailed uint64 // puts, deletes and deltas, and those answered with an error
	Reads, ReadsUnknown  uint64 // gets and heads, and those for which it could not be told
	Rows, RowsUncertain  uint64 // index rows read, and those not certain or failed

	CopiesRefused   uint64 // copies not sent because too much was under way to a node
	CopiesAbandoned uint64 // copies not waited for because too much was under way in all
	Late            uint64 // answers that nobody waited for any more
	Stray           uint64 // answers to questions that were not open: a replica's mistake
	Hedges          uint64 // questions asked because others were slow
	Reroutes        uint64 // requests begun again because the owners had changed
	Mended          uint64 // copies given to owners by read repair
	MendsFailed     uint64 // and those that could not be
	MendConflicts   uint64 // of these, those whose owners had another value of a write-once key

	Owed OwedStats

	Active      int   // requests not over
	LingerBytes int64 // records whose writers have been answered and that are still under way
	FlightBytes int64 // records under way to all nodes, once for each
	RepairBytes int64 // records in read repair

	GetDelay, HeadDelay, RowDelay time.Duration // after which one more owner is asked
}

// counters are the counting part of Stats.
type counters struct {
	writes, writesFailed, reads, readsUnknown, rows, rowsUncertain atomic.Uint64
	refused, abandoned, late, stray, hedges, reroutes              atomic.Uint64
	mended, mendsFailed, mendConflicts                             atomic.Uint64
}

// Stats returns the counters. Any goroutine may call it at any time.
func (c *Coordinator) Stats() Stats {
	n := &c.counters
	s := Stats{
		Writes: n.writes.Load(), WritesFailed: n.writesFailed.Load(),
		Reads: n.reads.Load(), ReadsUnknown: n.readsUnknown.Load(),
		Rows: n.rows.Load(), RowsUncertain: n.rowsUncertain.Load(),
		CopiesRefused: n.refused.Load(), CopiesAbandoned: n.abandoned.Load(),
		Late: n.late.Load(), Stray: n.stray.Load(), Hedges: n.hedges.Load(), Reroutes: n.reroutes.Load(),
		Mended: n.mended.Load(), MendsFailed: n.mendsFailed.Load(), MendConflicts: n.mendConflicts.Load(),
		Owed: c.owed.Stats(), LingerBytes: c.linger.Load(), RepairBytes: c.mender.bytes.Load(),
		GetDelay: c.delay(readValue), HeadDelay: c.delay(readHead), RowDelay: c.delay(readRow),
	}
	c.gate.mu.Lock()
	s.Active = c.gate.inside
	c.gate.mu.Unlock()
	if all := c.peers.all.Load(); all != nil {
		for _, p := range *all {
			s.FlightBytes += p.inFlight.Load()
		}
	}
	return s
}

func (c *Coordinator) delay(k readKind) time.Duration {
	return c.delays[k].Delay(hedgeFirst, c.cfg.HedgeLeast, c.cfg.HedgeMost)
}
