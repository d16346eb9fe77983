package bitcask

import (
	"errors"

	"github.com/mayflydb/mayfly/internal/object"
)

// A sync that has failed is not tried again: the kernel may have dropped what it could
// not write, and say that all is well the next time. So the slot is doubted, nothing more
// is appended to the segment, and it is not sealed. Replicas that have the same
// records cannot give what is lacking: nothing is, as long as the kernel has it. Before a
// slot is called durable its records in such segments are therefore read, verified and
// put once more, into another segment.

// maxRewrites bounds how often in a row that is tried in vain: a disk that syncs nothing
// any more is not filled with copies. Where it does not sync a new segment's header either
// there are none.
const maxRewrites = 8

var errBroken = errors.New("a sync of it has failed")

// giveUpSyncs treats the open segments of a lane that is being loaded as those whose sync
// has failed, if one did before the process was started: which one it was is not known.
func (l *lane) giveUpSyncs(segs []*segment) {
	if l.store.evidence.reason(l.id) != ReasonSyncFailed {
		return
	}
	for _, seg := range segs {
		if seg.keydir != nil {
			seg.syncer.giveUp(errBroken)
		}
	}
}

// giveUpSyncs does it with one segment, if it is in use already.
func (s *Store) giveUpSyncs(id segID) {
	l, err := s.lane(id.laneID, false)
	if l == nil || err != nil {
		return
	}
	for _, seg := range l.snapshot() {
		if seg.id == id {
			seg.syncer.giveUp(errBroken)
		}
	}
}

// giveUp has no sync of the segment succeed any more.
func (y *segSyncer) giveUp(cause error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.failed = cause
	y.broken.Store(true)
	y.told.Store(true)
}

// syncAll syncs the lane. What segments hold whose sync failed it puts once more.
func (l *lane) syncAll() error {
	if err := l.load(); err != nil {
		return err
	}
	l.sealing.Lock() // one at a time
	defer l.sealing.Unlock()
	if err := l.clean(); err != nil {
		return err
	}
	broken := l.broken()
	if len(broken) == 0 {
		return nil
	}
	d := l.store.disk
	switch {
	case l.rewrites >= maxRewrites:
		return diskError(object.MaybeDone, "syncing "+d.fs.Path(broken[0].data.name), errBroken)
	case d.space.low.Load():
		return object.Errorf(object.CodeLowSpace, object.NotDone, "%s is nearly full: what %s holds cannot be written once more", d.fs.Path("."), broken[0].data.name)
	}
	for _, seg := range broken {
		all, err := l.locations(seg)
		if err != nil {
			return err
		}
		for _, loc := range all {
			if err := l.rewrite(place{seg, loc}); err != nil {
				return err
			}
		}
	}
	l.rewrites++ // what is put once more is lost if it cannot be synced, and before that none is put twice
	if err := l.clean(); err != nil {
		return err
	}
	for _, seg := range broken {
		seg.rewritten = true
	}
	if more := l.broken(); len(more) > 0 { // among them may be one that was put into
		for _, seg := range broken {
			seg.rewritten = false
		}
		return diskError(object.MaybeDone, "syncing "+d.fs.Path(more[0].data.name), errBroken)
	}
	l.rewrites = 0
	return nil
}

// broken returns the segments whose sync failed and whose records are not elsewhere. The
// caller has sealing.
func (l *lane) broken() (segs []*segment) {
	for _, seg := range l.snapshot() {
		if seg.syncFailed() && !seg.rewritten {
			segs = append(segs, seg)
		}
	}
	return segs
}

// rewrite puts a record once more if it counts: if no other segment has its version, or a
// greater one. One that is damaged is set aside.
func (l *lane) rewrite(at place) error {
	s := l.store
	rec, err := s.readRecord(at)
	if err == nil {
		defer rec.Release()
		err = rec.Verify()
	}
	switch {
	case err == error(ErrExpired), err == error(errMerged):
		return nil
	case errors.Is(err, object.CodeDisk):
		return err
	case err != nil:
		l.setAside(at, err)
		return nil
	}
	op := s.disk.newOp()
	defer s.disk.freeOp(op)
	op.hash, op.rewrite = s.disk.cfg.Hash(rec.Type, rec.Bucket, rec.Key), true
	if op.epoch = timestampEpoch(&rec.Header); l.timed {
		op.epoch, _ = epochOf(rec.Key)
	}
	op.raw, op.next, op.version, op.size = rec.Raw(), rec.Header, rec.Version(), framedSize(len(rec.Raw()))
	op.digest = op.version.Short()
	action, err := l.put(l.knownBucket(), op, Newest)
	if err == nil && action == Append {
		s.disk.stats.rewritten.Add(1)
	}
	return err
}
