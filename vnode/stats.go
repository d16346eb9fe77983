package vnode

import "sync/atomic"

// counters count what the vnodes of a Set did.
type counters struct {
	stored, known, conflicts, refused, failed atomic.Uint64
	deltas, closed                            atomic.Uint64
	found, absent, expired, readErrors        atomic.Uint64
	rowReads, rowLoads, rowDamage             atomic.Uint64
	mergedRows, repairedEntries, seals        atomic.Uint64
	repaired                                  atomic.Uint64
}

// Stats are what the vnodes of a Set did since it was made, and what its rows
// take now.
type Stats struct {
	Stored    uint64 // puts and deletes written; index deltas are not counted here
	Known     uint64 // puts acknowledged because the same or newer was there
	Conflicts uint64 // puts that a write-once key refused
	Refused   uint64 // puts and deltas refused for their form, size, time or stamp
	Failed    uint64 // puts and deltas the storage failed

	Deltas uint64 // index deltas written
	Closed uint64 // index deltas refused because their second was closed

	Found, Absent, Expired uint64 // answers to gets and heads
	ReadErrors             uint64 // gets, heads and row reads the storage failed

	RowReads  uint64 // rows asked for
	RowLoads  uint64 // of these, and of those written to, rows that had to be read from storage
	RowDamage uint64 // records of rows that could not be read, each time they were met

	MergedRows      uint64 // rows written as one record when their slot was sealed
	RepairedEntries uint64 // entries of blobs that rows lacked and were given
	Repaired        uint64 // records of other replicas that were lacking here
	Seals           uint64 // slots of the index and of what it indexes that were sealed

	Vnodes        int   // open now
	ChangingRows  int   // kept merged in memory now
	PackedRows    int   // kept packed now
	RowCacheBytes int64 // what both take, estimated
	WaitingSlots  int   // to be sealed, now
}

// Stats returns the counters. It may be called by any goroutine at any time.
func (s *Set) Stats() Stats {
	c := &s.counters
	st := Stats{
		Stored: c.stored.Load(), Known: c.known.Load(), Conflicts: c.conflicts.Load(),
		Refused: c.refused.Load(), Failed: c.failed.Load(),
		Deltas: c.deltas.Load(), Closed: c.closed.Load(),
		Found: c.found.Load(), Absent: c.absent.Load(), Expired: c.expired.Load(), ReadErrors: c.readErrors.Load(),
		RowReads: c.rowReads.Load(), RowLoads: c.rowLoads.Load(), RowDamage: c.rowDamage.Load(),
		MergedRows: c.mergedRows.Load(), RepairedEntries: c.repairedEntries.Load(), Seals: c.seals.Load(),
		Repaired: c.repaired.Load(),
	}
	st.ChangingRows, st.PackedRows, st.RowCacheBytes = s.rows.size()
	for _, v := range s.Vnodes() {
		st.Vnodes++
		st.WaitingSlots += v.waiting()
	}
	return st
}
