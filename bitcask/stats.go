package bitcask

import "sync/atomic"

// counters are the Disk's running counts, but for those of every call, see stripe.
type counters struct {
	putsSame, putsConflict, putsExpired, putsLowSpace, putsOverload                                                    atomic.Int64
	writeErrors, syncs, syncErrors, badReads, givenUp, rewritten                                                       atomic.Int64
	merges, mergedSegments, mergeRead, mergeWritten                                                                    atomic.Int64
	mergeWaits, mergeFailures, mergeSkipped, tombstonesReaped, plainExpired, plainUnneeded                             atomic.Int64
	segmentsMade, segmentsAhead, allocations, sealed, recoveries, tornTails, holes, damage, filesExpired, bytesExpired atomic.Int64
	merging                                                                                                            atomic.Bool
}

// Stats are counts since the Disk was opened, and what there is now.
type Stats struct {
	Appends, AppendedBytes     int64 // write calls to segments, and their bytes; Records/Appends is how well puts are joined
	Records                    int64 // appended
	PutsSame, PutsConflict     int64
	PutsExpired, PutsLowSpace  int64 // refused
	PutsOverload               int64 // refused
	WriteErrors                int64
	Syncs, SyncErrors          int64 // of segments
	Gets, Heads, HintLookups   int64
	HintPageHits               int64 // pages of hints that lookups found in memory
	HintPageMisses             int64 // and those they did not
	HintCacheBytes             int64 // of memory for them
	BadReads                   int64 // records that fail their checks, or cannot be read
	GivenUp                    int64 // records that could not be read for too long, and count as damaged
	Rewritten                  int64 // records put once more, as a sync of their segment had failed
	Damage                     int64 // stretches set aside, see Store.Damage
	TornTails                  int64 // cut off
	Holes                      int64 // puts that a killed process did not finish, found and marked
	SegmentsMade, Sealed       int64
	SegmentsAhead              int64 // of those made, before their slot's first put
	Allocations                int64 // calls for blocks ahead of a segment's end
	Recoveries                 int64 // segments scanned
	FilesExpired, BytesExpired int64

	Merges, MergedSegments int64 // publications of merges of plain buckets, and the segments they replaced
	MergeReadBytes         int64 // of records that were copied or dropped
	MergeWrittenBytes      int64 // rewritten
	MergeWaits             int64 // rounds that ended because their bytes were spent
	MergeFailures          int64 // merges given up, to be tried again
	MergeSkipped           int64 // segments left alone as they are damaged
	TombstonesReaped       int64
	PlainExpired           int64 // segments of plain buckets dropped whole by their TTL
	PlainUnneeded          int64 // segments of plain buckets dropped because nobody needs their partition here

	PlainBytes, PlainDeadBytes int64 // of plain buckets in use: their segments, and how much of them is known to be replaced
	PlainKeys                  int64 // records of sealed plain segments, listed in memory
	BuriedSegments             int   // merged or expired, and not unlinked yet
	Merging                    bool  // a merge is under way

	OpenFiles                int // kept open now
	FilesOpened, FilesClosed int64
	FreeBytes, TotalBytes    int64 // of the file system, as last seen
	LowSpace                 bool
	Stores                   int   // open partitions
	OpenSegments             int   // with a keydir in memory
	OpenKeys                 int64 // in those
	KeydirBytes              int64
	Doubts                   int // slots that may lack records
	UnreadRecords            int // that the disk failed to read, and that are tried again
	UnreadSegments           int // the same
}

// Stats returns the Disk's counts. It costs a walk over the slots in use.
func (d *Disk) Stats() Stats {
	c := &d.stats
	count := d.stripes.sum
	st := Stats{
		Appends: count(func(t *stripe) *atomic.Int64 { return &t.appends }), AppendedBytes: count(func(t *stripe) *atomic.Int64 { return &t.appendedBytes }),
		Records: count(func(t *stripe) *atomic.Int64 { return &t.records }), HintLookups: count(func(t *stripe) *atomic.Int64 { return &t.hintLookups }),
		Gets: count(func(t *stripe) *atomic.Int64 { return &t.gets }), Heads: count(func(t *stripe) *atomic.Int64 { return &t.heads }),
		PutsSame: c.putsSame.Load(), PutsConflict: c.putsConflict.Load(), PutsExpired: c.putsExpired.Load(),
		PutsLowSpace: c.putsLowSpace.Load(), PutsOverload: c.putsOverload.Load(), WriteErrors: c.writeErrors.Load(),
		Syncs: c.syncs.Load(), SyncErrors: c.syncErrors.Load(),
		BadReads: c.badReads.Load(), GivenUp: c.givenUp.Load(), Rewritten: c.rewritten.Load(), Damage: c.damage.Load(), TornTails: c.tornTails.Load(), Holes: c.holes.Load(),
		Merges: c.merges.Load(), MergedSegments: c.mergedSegments.Load(), MergeReadBytes: c.mergeRead.Load(), MergeWrittenBytes: c.mergeWritten.Load(),
		MergeWaits: c.mergeWaits.Load(), MergeFailures: c.mergeFailures.Load(), MergeSkipped: c.mergeSkipped.Load(),
		TombstonesReaped: c.tombstonesReaped.Load(), PlainExpired: c.plainExpired.Load(), PlainUnneeded: c.plainUnneeded.Load(), Merging: c.merging.Load(),
		SegmentsMade: c.segmentsMade.Load(), SegmentsAhead: c.segmentsAhead.Load(), Allocations: c.allocations.Load(), Sealed: c.sealed.Load(), Recoveries: c.recoveries.Load(),
		FilesExpired: c.filesExpired.Load(), BytesExpired: c.bytesExpired.Load(),
		FreeBytes: d.space.free.Load(), TotalBytes: d.space.total.Load(), LowSpace: d.space.low.Load(),
	}
	pages := d.hints.stats()
	st.HintPageHits, st.HintPageMisses, st.HintCacheBytes = pages.hits, pages.misses, pages.sizeBytes
	open, opened, closed := d.handles.counts()
	st.OpenFiles, st.FilesOpened, st.FilesClosed = open, int64(opened), int64(closed)
	for _, s := range d.openStores() {
		st.Stores++
		st.Doubts += len(s.Doubts())
		for _, l := range s.lanesWhere(anyLane) {
			l.addStats(&st)
		}
	}
	return st
}

func (l *lane) addStats(st *Stats) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st.BuriedSegments += len(l.buried)
	st.UnreadRecords += len(l.unreadRecords)
	for _, seg := range l.segs {
		if seg.rescan != nil {
			st.UnreadSegments++
		}
		if !l.timed {
			st.PlainBytes += seg.end.Load()
			st.PlainDeadBytes += seg.plain.dead
			st.PlainKeys += int64(len(seg.plain.resident))
			st.KeydirBytes += int64(cap(seg.plain.resident)) * 16
		}
		if seg.keydir != nil {
			st.OpenSegments++
			st.OpenKeys += int64(seg.keydir.len())
			st.KeydirBytes += seg.keydir.sizeBytes()
		}
	}
}
