package bitcask

import (
	"runtime"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

const (
	maxQueue      = 4096     // puts waiting for one file
	maxQueueBytes = 64 << 20 // their bytes
	maxBatch      = 256      // records joined in one write: three buffers each stay under IOV_MAX
	maxBatchBytes = 8 << 20
	maxRounds     = 4 // batches a put writes for others before one of them must
)

// appendOp writes op's record, at a place of its own, itself with the role, or led by
// another put, and waits for its policy.
func (l *lane) appendOp(op *putOp) error {
	l.mu.Lock()
	if l.reserveLocked(op) {
		l.mu.Unlock()
		return l.writeReserved(op)
	}
	if l.busy && !l.spinning && len(l.queue) == 0 && l.waiting == 0 {
		if l.spinLocked(); l.reserveLocked(op) {
			l.mu.Unlock()
			return l.writeReserved(op)
		}
	}
	queues := l.busy || l.waiting > 0 // then whoever gives the role up sees to the queue
	switch {
	case queues && (len(l.queue) >= maxQueue || l.queueBytes+op.size > maxQueueBytes):
		l.disclaimLocked(op)
		l.mu.Unlock()
		l.store.disk.stats.putsOverload.Add(1)
		return errOverload
	case queues:
		l.queue = append(l.queue, op)
		l.queueBytes += op.size
		l.mu.Unlock()
		<-op.wake
		if op.lead {
			l.leadBatches(op)
		}
	default:
		l.takeRoleLocked()
		l.batch = append(l.batch[:0], op)
		l.mu.Unlock()
		l.leadBatches(op)
	}
	if op.err == nil && op.sync == SyncAlways {
		return l.syncOp(op.seg, op.number)
	}
	return op.err
}

// spinRounds is how often a put looks for the role before it queues up: for
// somewhat longer than a small write takes.
const spinRounds = 3000

// manyCPUs: somebody else can be at work while one waits actively.
var manyCPUs = min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) > 1

// spinLocked waits a few microseconds for the role to become free. One put at a
// time does so, instead of going to sleep: to be woken costs more than a small
// write, and comes late where the processors are busy. The kernel's lock of a
// file does the same.
func (l *lane) spinLocked() {
	if !manyCPUs {
		return
	}
	was := l.freed.Load()
	l.spinning = true
	l.mu.Unlock()
	for i := 0; i < spinRounds && l.freed.Load() == was; i++ {
	}
	l.mu.Lock()
	l.spinning = false
}

// leadBatches writes the lane's batch, of which own is part, and then what has
// queued up meanwhile; after a few rounds the role passes to the first in the queue.
func (l *lane) leadBatches(own *putOp) {
	for round := 1; ; round++ {
		l.writeBatch()
		l.mu.Lock()
		for _, op := range l.batch {
			l.settleLocked(op)
		}
		for _, op := range l.batch {
			if op != own {
				op.wake <- struct{}{}
			}
		}
		clear(l.batch)
		if len(l.queue) == 0 || l.waiting > 0 {
			l.batch = l.batch[:0]
			l.releaseRoleLocked()
			l.mu.Unlock()
			return
		}
		l.nextBatchLocked()
		if round >= maxRounds {
			heir := l.batch[0]
			heir.lead = true
			l.mu.Unlock()
			heir.wake <- struct{}{}
			return
		}
		l.mu.Unlock()
	}
}

// releaseRoleLocked gives the role up: to those who wait for the role itself,
// or to the first put in the queue.
func (l *lane) releaseRoleLocked() {
	switch {
	case l.waiting > 0:
		l.busy = false
		l.freed.Add(1)
		l.changed.Broadcast()
	case len(l.queue) > 0:
		l.nextBatchLocked()
		l.batch[0].lead = true
		l.batch[0].wake <- struct{}{}
	default:
		l.busy = false
		l.freed.Add(1)
	}
}

// nextBatchLocked moves the head of the queue into the batch.
func (l *lane) nextBatchLocked() {
	l.batch = l.batch[:0]
	bytes := int64(0)
	for _, op := range l.queue {
		if len(l.batch) == maxBatch || len(l.batch) > 0 && bytes+op.size > maxBatchBytes {
			break
		}
		l.batch = append(l.batch, op)
		bytes += op.size
	}
	l.queue = slices.Delete(l.queue, 0, len(l.batch))
	l.queueBytes -= bytes
}

// settleLocked makes op's record visible, if it is written, and ends its claim.
func (l *lane) settleLocked(op *putOp) {
	if op.err == nil {
		l.insert(op, l.bucket.KeepAll)
		if op.now > l.lastPut { // once a second
			l.lastPut = op.now
		}
		op.stripe.records.Add(1)
	}
	l.disclaimLocked(op)
}

// writeBatch writes the batch with one system call and sets each op's result.
// The caller has the role.
func (l *lane) writeBatch() {
	seg, err := l.ready()
	if err != nil {
		l.failBatch(err)
		return
	}
	d := l.store.disk
	start := seg.end.Load()
	at := start
	for _, op := range l.batch {
		op.seg, op.offset = seg, at
		l.vector = op.frameIn(l.vector)
		at += op.size
	}
	d.allocate(seg, l.wantBlocks(seg, start, at))
	written, err := d.writev(l.batch[0].stripe, seg, l.vector, start)
	clear(l.vector)
	l.vector = l.vector[:0]
	if err != nil {
		at = l.writeFailed(seg, start+written, err)
	}
	seg.end.Store(at)
	number := seg.wrote()
	for _, op := range l.batch {
		op.number = number
	}
	l.queueSync(seg)
}

// frameIn appends to bufs what is to be written of op, whose segment is known.
func (op *putOp) frameIn(bufs [][]byte) [][]byte {
	putFrame(&op.frame, len(op.raw), op.seg.generation, op.version.HeaderCRC)
	bufs = append(bufs, op.frame[:], op.raw)
	if pad := op.size - frameSize - int64(len(op.raw)); pad > 0 {
		bufs = append(bufs, zeros[:pad])
	}
	return bufs
}

// failBatch gives every put of the batch the same error.
func (l *lane) failBatch(err error) {
	for _, op := range l.batch {
		op.err = err
	}
}

// writeFailed sets the results of a batch whose write ended at an offset, and
// returns where the segment now ends: records written whole are done, the others
// are not, and never can be, as no valid record is there. What is left of a
// broken one is cut off; where that fails too, or the disk does not say that it
// is merely full, nothing more is appended to the segment.
func (l *lane) writeFailed(seg *segment, reached int64, cause error) (end int64) {
	d := l.store.disk
	err := l.writeError(seg, cause)
	end = seg.end.Load()
	for _, op := range l.batch {
		if op.offset+op.size <= reached {
			end = op.offset + op.size
		} else {
			op.err = err
		}
	}
	d.stats.writeErrors.Add(1)
	if !vfs.IsNoSpace(cause) || d.truncate(seg, end) != nil {
		seg.retired = true
	}
	return end
}

// writeError is what puts are told whose writes failed.
func (l *lane) writeError(seg *segment, cause error) error {
	outcome := object.MaybeDone // a failing disk's word is not taken for it
	if vfs.IsNoSpace(cause) {
		l.store.disk.space.full()
		outcome = object.NotDone
	}
	return diskError(outcome, "writing "+l.store.disk.fs.Path(seg.data.name), cause)
}

// ready returns the segment to append the batch to, made or made anew if
// necessary, after the manifest says what it must say first.
func (l *lane) ready() (*segment, error) {
	l.mu.RLock()
	dropped := l.dropped
	l.mu.RUnlock()
	if dropped {
		return nil, ErrExpired
	}
	bytes, careless := int64(0), false
	for _, op := range l.batch {
		bytes += op.size
		careless = careless || op.sync != SyncAlways
	}
	l.careless = careless
	seg := l.active
	if seg != nil && (seg.retired || seg.syncFailed() || seg.end.Load()+bytes > l.maxBytes()) {
		l.setActive(nil)
		seg = nil
	}
	if seg == nil {
		return l.create(careless)
	}
	if careless && !l.dirty {
		if err := l.markDirty(seg); err != nil {
			return nil, err
		}
	}
	return seg, nil
}

// markDirty says durably, before the first of them, that appends may be unsynced.
func (l *lane) markDirty(seg *segment) error {
	l.store.evidence.setLater(seg.id, segRecord{state: segDirty})
	if err := l.store.evidence.publish(); err != nil {
		l.store.disk.noteFull(err)
		return diskError(object.NotDone, "writing the manifest", err)
	}
	l.dirty = true
	return nil
}

func (l *lane) setActive(seg *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = seg
	if seg != nil {
		l.segs = append(slices.Clip(l.segs), seg)
	}
	l.showTargetLocked()
}

// create makes a new segment. Its header, its name and its mention in the
// manifest are durable before anything is appended to it.
func (l *lane) create(careless bool) (*segment, error) {
	s := l.store
	seg, err := l.make(careless, l.batch[0].now)
	if err != nil {
		return nil, err
	}
	if err := s.evidence.publish(); err != nil {
		s.disk.noteFull(err)
		l.keepSpare(seg)
		return nil, diskError(object.NotDone, "writing the manifest", err)
	}
	l.dirty = careless
	l.setActive(seg)
	return seg, nil
}

// make returns a segment that is not in use and notes it for the manifest's next
// publication, before which nothing may be appended to it. The caller has the role.
func (l *lane) make(careless bool, now int64) (*segment, error) {
	seg, err := l.nextSegment(now)
	if err != nil {
		return nil, err
	}
	state := segClean
	if careless {
		state = segDirty
	}
	l.store.evidence.setLater(seg.id, segRecord{state: state})
	return seg, nil
}

// keepSpare keeps what make returned for the next one who needs a segment, as the
// manifest could not be written: the file is there, and the manifest may say so.
func (l *lane) keepSpare(seg *segment) {
	l.setSpare(seg)
	l.store.evidence.setLater(seg.id, segRecord{state: segClean})
}

// nextSegment returns a segment that is not in use: the spare one, or a new one.
func (l *lane) nextSegment(now int64) (*segment, error) {
	s := l.store
	if seg := l.spare; seg != nil {
		l.setSpare(nil)
		return seg, nil
	}
	seg := newSegment(segID{l.id, l.nextSeq}, s.partition)
	l.nextSeq++
	seg.generation = uint32(s.disk.cfg.Random()%(1<<32-2)) + 1
	seg.keydir = &keydir{}
	h := segHeader{
		cluster: s.disk.cfg.Cluster, node: s.disk.cfg.Node, bucket: l.knownBucket(), slot: l.id.slot,
		partition: s.partition, generation: seg.generation, seq: seg.id.seq, created: now,
	}
	if l.timed {
		h.slotSeconds = s.disk.cfg.SlotSeconds
	}
	if err := s.disk.createSegment(seg, laneDir(l.id.bucket, s.partition), &h); err != nil {
		s.disk.noteFull(err)
		return nil, diskError(object.NotDone, "making "+s.disk.fs.Path(seg.data.name), err)
	}
	seg.headerEnd = int64(h.size())
	seg.end.Store(seg.headerEnd)
	return seg, nil
}

func (l *lane) setSpare(seg *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = seg
}

func (l *lane) knownBucket() Bucket {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.bucket
}

// queueSync has the segment synced in time, if a put of the batch asks for it.
func (l *lane) queueSync(seg *segment) {
	for _, op := range l.batch {
		if op.sync == SyncInterval && op.err == nil {
			l.store.disk.syncLater(l.store, seg)
			return
		}
	}
}
