package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Merging gives the space back that replaced records of plain buckets take. It
// is done by Maintain, a slice at a time, within a budget of bytes; puts and
// gets go on and never wait for it. One merge at a time is under way on a Disk.
//
// What a few mostly dead segments (the sources) still hold is copied into a new
// one, written under a temporary name. Then, in this order: the open segments of
// the lane are synced, as they may hold what makes a record dead; the new
// segment is synced, its hint published, and it gets its name; one publication of
// the manifest lists it as sealed and the sources as buried; buried files are
// unlinked some seconds later, when no walk reads them any more. A crash before
// that publication leaves both: equal records twice, and versions decide. A
// crash after it leaves files that are never opened again. A source counts as
// merged when all it held is in published segments, so that after a restart a
// merge goes on about where it was.
//
// Nothing comes back: a tombstone is copied unless it is older than the grace
// period, the lane is not in doubt, and no other file of the lane has the key.
// What has expired is dropped, and with the same publication the drop horizon
// rises above it, so that a longer TTL shows nothing that it hid.

const (
	mergeAfterStart = 60       // seconds from the first Maintain on; never at start
	mergeRetry      = 60       // seconds after a failure
	buriedFor       = 10       // seconds until a merged file is unlinked: for gets under way
	mergeSlack      = 16 << 20 // bytes left free on a nearly full disk
	headCost        = 512      // bytes that reading a header counts as
)

// A merger is a Disk's merging. Maintain's goroutine owns it, and Close once no
// call is at work any more.
type merger struct {
	started   bool
	begun     int64 // when Maintain was first called, seconds
	last      int64 // when it was last called
	tokens    int64 // bytes that may be read and written now
	notBefore int64 // after a failure
	after     mergeTurn
	job       *mergeJob
}

// A mergeTurn is a lane whose turn has been.
type mergeTurn struct {
	partition Partition
	lane      laneID
}

// A plainLane is a lane of a plain bucket that is in use.
type plainLane struct {
	*lane
	turn mergeTurn
}

// mergeRound does a slice of merging and of what else plain buckets need: it
// drops segments that have wholly expired and unlinks what is buried.
func (d *Disk) mergeRound(now int64, clockTrusted bool) error {
	m := &d.merger
	m.replenish(now, d.cfg.MergeBytesPerSecond)
	early := now < m.begun+d.cfg.mergeAfter
	var faults []error
	lanes := d.plainLanes()
	for _, l := range lanes {
		if clockTrusted {
			faults = append(faults, l.expirePlain(now))
		}
		faults = append(faults, l.unlinkBuried(now))
	}
	if early || d.cfg.MergeBytesPerSecond < 0 || now < m.notBefore {
		return errors.Join(faults...)
	}
	if clockTrusted && m.job == nil {
		faults = append(faults, d.loadExpiring())
	}
	if err := d.mergeSlice(lanes, now, clockTrusted); err != nil {
		m.notBefore = now + mergeRetry
		d.stats.mergeFailures.Add(1)
		d.noteFull(err)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// replenish fills the bucket of tokens with those of the time since the last
// round, at most a second's.
func (m *merger) replenish(now, perSecond int64) {
	if !m.started {
		m.started, m.begun, m.last = true, now, now
	}
	m.begun = min(m.begun, now)
	if passed := now - m.last; passed > 0 {
		m.tokens = min(m.tokens+min(passed, 60)*perSecond, perSecond)
	}
	m.last = now
}

// plainLanes returns the loaded lanes of plain buckets, in order.
func (d *Disk) plainLanes() (all []plainLane) {
	for _, s := range d.openStores() {
		for _, l := range s.lanesWhere(func(l *lane) bool {
			if l.timed {
				return false
			}
			l.mu.RLock()
			defer l.mu.RUnlock()
			return (l.loaded || len(l.buried) > 0) && !l.bucket.KeepAll
		}) {
			all = append(all, plainLane{l, mergeTurn{s.partition, l.id}})
		}
	}
	return all
}

// loadExpiring loads one lane that nobody has used since the start, of a bucket with
// a TTL or of a partition that nobody needs, so that what it has can go.
func (d *Disk) loadExpiring() error {
	for _, s := range d.openStores() {
		if err := s.listAll(); err != nil {
			return err
		}
		idle := s.lanesWhere(func(l *lane) bool {
			if l.timed || d.cfg.TTL(l.id.bucket) <= 0 && !s.unneeded() {
				return false
			}
			l.mu.RLock()
			defer l.mu.RUnlock()
			return !l.loaded
		})
		if len(idle) > 0 {
			return idle[0].load()
		}
	}
	return nil
}

// mergeSlice goes on with the merge that is under way, or begins the next one,
// until the tokens are spent.
func (d *Disk) mergeSlice(lanes []plainLane, now int64, clockTrusted bool) error {
	m := &d.merger
	first := 0
	for i, l := range lanes {
		if l.turn == m.after {
			first = i + 1
		}
	}
	defer func() { d.stats.merging.Store(m.job != nil) }()
	for i := 0; m.tokens > 0; {
		if m.job == nil {
			if i == len(lanes) {
				return nil // every lane had its turn
			}
			l := lanes[(first+i)%len(lanes)]
			i++
			m.after = l.turn
			job, err := l.beginMerge(m, now)
			if err != nil {
				return err
			}
			m.job = job
			continue
		}
		done, err := m.job.slice(m, now, clockTrusted)
		if err != nil {
			m.job.abort()
		}
		if done || err != nil {
			m.job = nil
		}
		if err != nil {
			return err
		}
	}
	d.stats.mergeWaits.Add(1)
	return nil
}

// closeMerge gives up the merge that is under way.
func (d *Disk) closeMerge() {
	if d.merger.job != nil {
		d.merger.job.abort()
		d.merger.job = nil
	}
}

// beginMerge looks for something to merge in the lane, nil if there is nothing.
func (l *lane) beginMerge(m *merger, now int64) (*mergeJob, error) {
	if !l.isLoaded() || l.knownBucket().Type == "" {
		return nil, nil // nothing says whose the files are: their headers are damaged
	}
	if l.activeWasteful() {
		if _, err := l.seal(true); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(l.snapshot(), (*segment).syncFailed) {
		return nil, nil // what makes a record dead may itself not last
	}
	if surveyed, err := l.survey(m); !surveyed || err != nil {
		return nil, err
	}
	candidates, segs := l.candidates(now)
	chosen := chooseMerge(candidates, l.maxBytes())
	if len(chosen) == 0 {
		return nil, nil
	}
	d := l.store.disk
	if live := liveBytes(candidates, chosen); d.space.low.Load() && live > d.space.free.Load()-mergeSlack {
		return nil, nil // there is no room for it
	}
	job := &mergeJob{lane: l, store: l.store}
	for _, i := range chosen {
		job.sources = append(job.sources, segs[i])
	}
	return job, nil
}

func liveBytes(all []mergeCandidate, chosen []int) (sum int64) {
	for _, i := range chosen {
		sum += all[i].sizeBytes - all[i].deadBytes
	}
	return sum
}

func (l *lane) isLoaded() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.loaded
}

// activeWasteful reports whether the active segment should be sealed early.
func (l *lane) activeWasteful() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.active != nil && wasteful(l.active.end.Load(), l.active.plain.dead, l.maxBytes())
}

// candidates returns the sealed segments that may be merged at now.
func (l *lane) candidates(now int64) (all []mergeCandidate, segs []*segment) {
	grace, mayReap := l.store.disk.cfg.TombstoneGraceSeconds, l.mayReap()
	l.mu.RLock()
	defer l.mu.RUnlock()
	header := int64((&segHeader{bucket: l.bucket}).size())
	for _, seg := range l.segs {
		p := &seg.plain
		if p.resident == nil || p.stuck {
			continue
		}
		c := mergeCandidate{sizeBytes: max(1, seg.end.Load()-header), deadBytes: p.dead, seq: seg.id.seq}
		if mayReap && !p.held && expiry.Expired(p.sum.newest, grace, now) {
			c.deadBytes += p.sum.tombstoneBytes
		}
		c.deadBytes = min(c.deadBytes, c.sizeBytes)
		all, segs = append(all, c), append(segs, seg)
	}
	return all, segs
}

// mayReap reports whether tombstones of the lane may go at all: no file that was
// taken out of use is still there, none that may come back is missing, and all that
// the others hold is known.
func (l *lane) mayReap() bool {
	l.mu.RLock()
	waits := len(l.buried) > 0 || slices.ContainsFunc(l.segs, func(seg *segment) bool { return seg.rescan != nil })
	l.mu.RUnlock()
	return !waits && !l.store.evidence.doubted(l.id)
}

// survey finds out, within the tokens, how much of the segments that were loaded
// from hints other segments have replaced; what happens since, the puts account
// for. It reports whether it is finished.
func (l *lane) survey(m *merger) (done bool, err error) {
	segs := l.snapshot()
	op := l.store.disk.newOp()
	defer l.store.disk.freeOp(op)
	for _, seg := range segs {
		for seg.plain.surveyAt < len(seg.plain.resident) { // only this goroutine changes it once it is set
			if m.tokens <= 0 {
				return false, nil
			}
			loc := seg.plain.resident[seg.plain.surveyAt]
			dead, cost, err := l.replaced(place{seg, loc}, segs, op)
			m.tokens -= cost
			if err != nil {
				dead = false // it is found out when it is copied
			}
			l.mu.Lock()
			seg.plain.surveyAt++
			if dead {
				seg.plain.dead += loc.size()
			}
			l.mu.Unlock()
		}
	}
	return true, nil
}

// replaced reports whether a greater version of the record's key, or a later
// copy of it, is elsewhere in segs, and how many bytes it took to find out.
func (l *lane) replaced(at place, segs []*segment, op *putOp) (dead bool, cost int64, err error) {
	if op.places, err = l.lookupAmong(op.places[:0], segs, at.hash); err != nil || len(op.places) < 2 {
		return false, 1, err
	}
	h, _, err := l.store.readHead(at, &op.scratch)
	if err != nil {
		return false, headCost, err
	}
	cost = headCost
	key, version := slices.Clone(h.Key), h.Version()
	for _, p := range op.places {
		if p == at || l.isCondemned(p) {
			continue
		}
		cost += headCost
		other, _, err := l.store.readHead(p, &op.scratch)
		if errors.Is(err, object.CodeCorrupt) {
			continue
		}
		if err != nil {
			return false, cost, err
		}
		if string(other.Key) != string(key) || !p.beats(other.Version(), at, version) {
			continue
		}
		if other.Version() == version { // the copy must be good before this one goes
			n, err := l.verifyAt(p)
			cost += n
			if err != nil {
				continue
			}
		}
		return true, cost, nil
	}
	return false, cost, nil
}

// verifyAt checks a whole record; it returns the bytes that took.
func (l *lane) verifyAt(at place) (int64, error) {
	rec, err := l.store.readRecord(at)
	if err != nil {
		return at.size(), err
	}
	defer rec.Release()
	return at.size(), rec.Verify()
}

// snapshot returns the lane's segments as they are now.
func (l *lane) snapshot() []*segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs
}

// unneeded reports whether nobody needs what a partition has in plain buckets.
func (s *Store) unneeded() bool {
	return s.disk.cfg.Unneeded != nil && s.disk.cfg.Unneeded(s.partition)
}

// expirePlain buries the segments whose every record is past the bucket's TTL, and
// all of a partition that nobody needs: nothing is rewritten for them. The horizon
// above what has expired comes first.
func (l *lane) expirePlain(now int64) error {
	s := l.store
	ttl, unneeded := s.disk.cfg.TTL(l.id.bucket), s.unneeded()
	if ttl <= 0 && !unneeded || !l.isLoaded() {
		return nil
	}
	l.mu.RLock()
	active := l.active != nil && l.active.keydir.len() > 0 && (unneeded || expiry.Expired(l.active.plain.sum.newest, ttl, now))
	l.mu.RUnlock()
	if active {
		if _, err := l.seal(true); err != nil {
			return err
		}
	}
	var dead []*segment
	l.mu.RLock()
	for _, seg := range l.segs {
		if seg.plain.resident != nil && (unneeded || expiry.Expired(seg.plain.sum.newest, ttl, now)) && !s.disk.merger.uses(seg) {
			dead = append(dead, seg)
		}
	}
	l.mu.RUnlock()
	if len(dead) == 0 {
		return nil
	}
	if unneeded {
		if !s.unneeded() { // what was put since may be among it
			return nil
		}
		s.disk.stats.plainUnneeded.Add(int64(len(dead)))
		return l.bury(dead, nil, now)
	}
	for _, seg := range dead {
		s.evidence.raiseLater(l.id.bucket, expiry.Horizon(seg.plain.sum.newest+1))
		s.disk.stats.plainExpired.Add(1)
	}
	return l.bury(dead, nil, now)
}

// uses reports whether the merge under way reads a segment.
func (m *merger) uses(seg *segment) bool {
	return m.job != nil && slices.Contains(m.job.sources, seg)
}

// bury takes segments out of use, and one made from them into use, and says so in
// the manifest with one publication. Where that fails, they stay out of use, and
// are unlinked once a later publication has said it.
func (l *lane) bury(old []*segment, made *segment, now int64) error {
	s := l.store
	l.mu.Lock()
	segs := slices.DeleteFunc(slices.Clone(l.segs), func(seg *segment) bool { return slices.Contains(old, seg) })
	if made != nil {
		segs = append(segs, made)
		slices.SortFunc(segs, func(a, b *segment) int { return compareSegs(a.id, b.id) })
	}
	l.segs = segs
	for _, seg := range segs {
		seg.plain.held = seg == made && seg.plain.held
	}
	for _, seg := range old {
		seg.plain.buried.Store(true)
		seg.buriedAt = now
	}
	l.buried = append(l.buried, old...)
	l.mu.Unlock()
	for _, seg := range old {
		s.evidence.setLater(seg.id, segRecord{state: segBuried})
	}
	return s.publish("burying what was merged or has expired")
}

// unlinkBuried unlinks a buried segment for which the time has come.
func (l *lane) unlinkBuried(now int64) error {
	s, d := l.store, l.store.disk
	l.mu.RLock()
	var seg *segment
	for _, b := range l.buried {
		if b.plain.walks.Load() == 0 && (now >= b.buriedAt+buriedFor || now < b.buriedAt) {
			seg = b
			break
		}
	}
	l.mu.RUnlock()
	if seg == nil {
		return nil
	}
	if err := s.publish("burying what was merged or has expired"); err != nil {
		return err // not before the manifest says that nobody misses it
	}
	d.handles.drop(&seg.data)
	if hint := seg.sealed.Load(); hint != nil {
		d.handles.drop(&hint.file)
	}
	for _, name := range []string{hintName(seg.data.name), seg.data.name} {
		freed, more, err := d.freeStep(name)
		if err != nil {
			return diskError(object.NotDone, "removing "+d.fs.Path(name), err)
		}
		if more {
			return nil
		}
		if freed > 0 {
			d.stats.filesExpired.Add(1)
		}
	}
	if err := d.fs.SyncDir(laneDir(l.id.bucket, s.partition)); err != nil && !vfs.IsNotExist(err) {
		return diskError(object.MaybeDone, "removing "+d.fs.Path(seg.data.name), err)
	}
	s.evidence.removeLater(seg.id)
	l.mu.Lock()
	l.buried = slices.DeleteFunc(l.buried, func(b *segment) bool { return b == seg })
	l.mu.Unlock()
	return nil
}
