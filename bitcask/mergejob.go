package bitcask

import (
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A mergeJob copies what some sealed segments of a plain lane still hold into
// new ones.
type mergeJob struct {
	lane    *lane
	store   *Store
	sources []*segment // those not yet buried
	entries []location // of the source that is being copied, in the order of its file
	next    int        // of entries
	opened  bool       // entries are those of sources[copied]
	copied  int        // sources wholly copied into published segments or out

	out *mergeOutput // nil while nothing has been copied since the last publication

	dropped, reaped expiry.Horizon // above what was left out as expired, and as a tombstone
}

// A mergeOutput is a segment being made.
type mergeOutput struct {
	seg    *segment
	file   vfs.File
	temp   string // its name until it is finished
	end    int64  // with what is in buf
	buf    []byte // not yet written
	keydir keydir
	sums   minutes
	sum    plainSummary
	held   bool // it has a tombstone that is old enough to go and could not
}

const mergeBuffer = 1 << 20 // bytes

// slice copies until the tokens are spent; done says that the job is finished.
// After an error the job is to be aborted.
func (j *mergeJob) slice(m *merger, now int64, clockTrusted bool) (done bool, err error) {
	op := j.store.disk.newOp()
	defer j.store.disk.freeOp(op)
	for m.tokens > 0 {
		if j.copied == len(j.sources) {
			return true, j.end(now)
		}
		if !j.opened {
			j.open()
		}
		if j.next == len(j.entries) {
			j.copied, j.opened = j.copied+1, false
			continue
		}
		cost, err := j.copyNext(now, clockTrusted, op)
		m.tokens -= cost
		if err != nil {
			return false, err
		}
	}
	return false, j.flush(true)
}

// open lists the records of the next source.
func (j *mergeJob) open() {
	seg := j.sources[j.copied]
	j.entries, j.next, j.opened = slices.Clone(seg.plain.resident), 0, true
	slices.SortFunc(j.entries, func(a, b location) int { return int(int64(a.offset8) - int64(b.offset8)) })
}

// copyNext copies one record, unless it may go. A source with a record that is
// damaged and counts is left as it is; one that was put anew does not.
func (j *mergeJob) copyNext(now int64, clockTrusted bool, op *putOp) (cost int64, err error) {
	l, s := j.lane, j.store
	at := place{j.sources[j.copied], j.entries[j.next]}
	dead, cost, err := l.replaced(at, l.snapshot(), op)
	if err != nil && l.hasCopy(at) {
		dead, err = true, nil
	}
	if err != nil {
		j.skipSource()
		return cost, nil
	}
	if dead {
		j.next++
		return cost, nil
	}
	cost += at.size()
	s.disk.stats.mergeRead.Add(at.size())
	rec, err := s.readRecord(at)
	if err == nil {
		defer rec.Release()
		if err = rec.Verify(); err != nil {
			s.noteUnreadable(at, err)
		}
	}
	if err != nil || l.isCondemned(at) {
		j.skipSource()
		return cost, nil
	}
	epoch := timestampEpoch(&rec.Header)
	ttl := s.disk.cfg.TTL(l.id.bucket)
	switch {
	case clockTrusted && expiry.Hidden(epoch, now, expiry.Limits{TTLSeconds: ttl, DropHorizon: s.evidence.horizon(l.id.bucket)}):
		j.dropped.Raise(expiry.Horizon(epoch + 1))
		j.next++
		return cost, nil
	case clockTrusted && rec.Kind == object.Tombstone && expiry.Expired(epoch, s.disk.cfg.TombstoneGraceSeconds, now):
		if j.mayReap(at) {
			j.reaped.Raise(expiry.Horizon(epoch + 1))
			s.disk.stats.tombstonesReaped.Add(1)
			j.next++
			return cost, nil
		}
	}
	n, err := j.append(&rec, at, now)
	if err == nil {
		j.next++
	}
	return cost + n, err
}

// mayReap reports whether a tombstone may go: the lane's may, and no other file has
// anything under its hash.
func (j *mergeJob) mayReap(at place) bool {
	l := j.lane
	if !l.mayReap() {
		return false
	}
	found, err := l.lookupAmong(nil, l.snapshot(), at.hash)
	return err == nil && len(found) == 1
}

// skipSource leaves the source that is being copied as it is, until the Disk is
// opened anew. What was copied of it is there twice, which harms nobody.
func (j *mergeJob) skipSource() {
	j.lane.mu.Lock()
	j.sources[j.copied].plain.stuck = true
	j.lane.mu.Unlock()
	j.sources = slices.Delete(slices.Clone(j.sources), j.copied, j.copied+1)
	j.opened = false
	j.store.disk.stats.mergeSkipped.Add(1)
}

// append adds a record to the output; it returns the bytes written. A full
// output is published first.
func (j *mergeJob) append(rec *object.Record, at place, now int64) (int64, error) {
	size := at.size()
	if j.out != nil && j.out.end+size > j.lane.maxBytes() {
		if err := j.commit(now); err != nil {
			return 0, err
		}
	}
	if j.out == nil {
		if err := j.create(now); err != nil {
			return 0, err
		}
	}
	o := j.out
	var frame [frameSize]byte
	putFrame(&frame, len(rec.Raw()), o.seg.generation, rec.CRC)
	o.buf = append(append(o.buf, frame[:]...), rec.Raw()...)
	o.buf = append(o.buf, zeros[:size-frameSize-int64(len(rec.Raw()))]...)
	o.keydir.insert(location{at.hash, uint32(o.end / align), at.size8, at.digest})
	o.sums.at(0).add(j.store.disk.cfg.Hash(rec.Type, rec.Bucket, rec.Key), rec.Version())
	epoch := timestampEpoch(&rec.Header)
	o.sum.newest = max(o.sum.newest, epoch)
	if rec.Kind == object.Tombstone {
		o.sum.tombstoneBytes += size
		o.held = o.held || expiry.Expired(epoch, j.store.disk.cfg.TombstoneGraceSeconds, now) && j.lane.mayReap()
	}
	o.end += size
	if len(o.buf) < mergeBuffer {
		return size, nil
	}
	return size, j.flush(false)
}

// create begins an output.
func (j *mergeJob) create(now int64) error {
	s, l := j.store, j.lane
	seg := newSegment(segID{l.id, l.takeSeq()}, s.partition)
	seg.generation = uint32(s.disk.cfg.Random()%(1<<32-2)) + 1
	h := segHeader{
		cluster: s.disk.cfg.Cluster, node: s.disk.cfg.Node, bucket: l.knownBucket(), slot: l.id.slot,
		partition: s.partition, generation: seg.generation, seq: seg.id.seq, created: now,
	}
	o := &mergeOutput{seg: seg, temp: seg.data.name + vfs.TempSuffix, end: int64(h.size())}
	f, err := s.disk.fs.Create(o.temp)
	if err != nil {
		return diskError(object.NotDone, "making "+s.disk.fs.Path(o.temp), err)
	}
	o.file, o.buf = f, appendSegHeader(make([]byte, 0, 64<<10), &h)
	j.out = o
	return nil
}

// takeSeq returns a number for another segment. It waits for the put that is
// being written, and no put waits for more than that.
func (l *lane) takeSeq() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRoleLocked()
	seq := l.nextSeq
	l.nextSeq++
	l.releaseRoleLocked()
	return seq
}

// flush writes what is buffered, and has it synced so that the last sync finds
// little to do.
func (j *mergeJob) flush(sync bool) error {
	o := j.out
	if o == nil {
		return nil
	}
	d := j.store.disk
	fail := func(err error) error { return diskError(object.NotDone, "writing "+d.fs.Path(o.temp), err) }
	if len(o.buf) > 0 {
		n, err := o.file.WritevAt([][]byte{o.buf}, o.end-int64(len(o.buf)))
		d.stats.mergeWritten.Add(n)
		if err != nil {
			return fail(err)
		}
		o.buf = o.buf[:0]
	}
	if sync {
		if err := o.file.Sync(); err != nil {
			return fail(err)
		}
	}
	return nil
}

// end publishes what is left to publish. Copies of which no source has gone are of
// no use.
func (j *mergeJob) end(now int64) error {
	if j.copied == 0 {
		j.abort()
		return nil
	}
	return j.commit(now)
}

// commit publishes the output, if there is one, and buries the sources that are
// wholly copied.
func (j *mergeJob) commit(now int64) error {
	l, s := j.lane, j.store
	if err := l.syncOpen(); err != nil {
		return err
	}
	var made *segment
	if j.out != nil {
		if err := j.finish(); err != nil {
			return err
		}
		made = j.out.seg
		s.evidence.setLater(made.id, segRecord{state: segSealed, length: made.end.Load()})
	}
	s.evidence.raiseLater(l.id.bucket, j.dropped)
	s.evidence.reapedLater(l.id.bucket, j.reaped)
	done := j.sources[:j.copied:j.copied]
	j.sources, j.copied, j.out = j.sources[j.copied:], 0, nil
	s.disk.stats.merges.Add(1)
	s.disk.stats.mergedSegments.Add(int64(len(done)))
	return l.bury(done, made, now)
}

// syncOpen syncs the lane's open segments: the records that make others dead are
// durable before those go.
func (l *lane) syncOpen() error {
	for _, seg := range l.snapshot() {
		if seg.plain.resident != nil {
			continue
		}
		if err := seg.sync(l.store.disk); err != nil {
			l.store.syncFailed(seg, err)
			return diskError(object.NotDone, "syncing "+l.store.disk.fs.Path(seg.data.name), err)
		}
	}
	return nil
}

// finish makes the output a sealed segment with its hint and its name.
func (j *mergeJob) finish() error {
	o, d := j.out, j.store.disk
	if err := j.flush(true); err != nil {
		return err
	}
	sorted := slices.AppendSeq(make([]location, 0, o.keydir.len()), o.keydir.all())
	hint := &sealedHint{
		hintHeader: hintHeader{segID: o.seg.id, partition: j.store.partition, generation: o.seg.generation, records: len(sorted), sealedLength: o.end, minutes: len(o.sums), plain: o.sum},
		number:     d.hints.number(),
		file:       handle{name: hintName(o.seg.data.name)},
	}
	name := o.seg.data.name
	err := vfs.Publish(d.fs, hint.file.name, func(f vfs.File) error { return writeHint(f, &hint.hintHeader, sorted, o.sums) })
	if err == nil {
		err = d.fs.Rename(o.temp, name)
	}
	if err == nil {
		err = d.fs.SyncDir(laneDir(j.lane.id.bucket, j.store.partition))
	}
	if err != nil {
		return diskError(object.NotDone, "making "+d.fs.Path(name), err)
	}
	if _, err := d.handles.adopt(&o.seg.data, o.file); err != nil {
		return err
	}
	d.handles.release(&o.seg.data)
	o.file = nil
	o.seg.end.Store(o.end)
	o.seg.sealed.Store(hint)
	o.seg.sums = o.sums
	o.seg.plain.resident, o.seg.plain.surveyAt = sorted, len(sorted)
	o.seg.plain.sum, o.seg.plain.held = o.sum, o.held
	return nil
}

// abort removes an output that is not finished. If it already has its name and
// cannot be removed, it is buried: it must not come into use when what it holds
// has been deleted since.
func (j *mergeJob) abort() {
	o, d := j.out, j.store.disk
	if o == nil {
		return
	}
	j.out = nil
	if o.file != nil {
		_ = o.file.Close()
	}
	var faults []error
	for _, name := range []string{o.temp, o.seg.data.name, hintName(o.seg.data.name)} {
		if err := d.fs.Remove(name); err != nil && !vfs.IsNotExist(err) {
			faults = append(faults, err)
		}
	}
	faults = append(faults, d.fs.SyncDir(laneDir(j.lane.id.bucket, j.store.partition)))
	if errors.Join(faults...) == nil {
		return
	}
	l := j.lane
	l.mu.Lock()
	o.seg.plain.buried.Store(true)
	l.buried = append(l.buried, o.seg)
	l.mu.Unlock()
	j.store.evidence.setLater(o.seg.id, segRecord{state: segBuried})
}
