package bitcask

import (
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
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

// A putOp is one put on its way. It is reused.
type putOp struct {
	hash    uint64
	epoch   int64
	now     int64
	sync    Sync
	raw     []byte        // the record; the caller's
	next    object.Header // of raw
	version object.Version

	old        place // the record it may replace
	oldHeader  object.Header
	oldVersion object.Version

	frame   [frameSize]byte
	wake    chan struct{} // capacity 1
	lead    bool          // on waking: the role is yours, write the lane's batch
	awaited bool          // another put of the key waits for this one

	seg    *segment // where it was written
	offset int64
	size   int64 // framed
	err    error

	places  []place
	scratch []byte // for headers
	best    []byte // the same, for the greatest so far
}

func (d *Disk) newOp() *putOp {
	if op, ok := d.ops.Get().(*putOp); ok {
		return op
	}
	return &putOp{wake: make(chan struct{}, 1)}
}

// freeOp gives an op back without what it refers to.
func (d *Disk) freeOp(op *putOp) {
	clear(op.places)
	*op = putOp{wake: op.wake, places: op.places[:0], scratch: op.scratch, best: op.best}
	d.ops.Put(op)
}

// Put stores a record, unless decide says otherwise (nil means [Newest]), and
// returns what decide said. It returns when the record is appended and visible
// and, under SyncAlways, durable; Same is acknowledged as durably. It allocates
// nothing that lasts and copies no value; rec's bytes are read until it returns.
//
// epoch is the one that begins the record's key, and ignored in a plain bucket;
// now is the caller's clock; both are Unix seconds. hash is the key's placement
// hash.
//
// A Conflict is an answer, not an error. An error is an *object.Error that says what was
// done: CodeExpired (past the TTL or below the drop horizon), CodeBadRequest,
// CodeLowSpace, CodeOverload, CodeDisk, CodeStopping.
func (s *Store) Put(b Bucket, hash uint64, epoch, now int64, rec object.Record, decide Decide) (Action, error) {
	d := s.disk
	if !d.gate.enter() {
		return 0, ErrStopping
	}
	defer d.gate.leave()
	epoch, err := s.admit(b, hash, epoch, now, &rec)
	if err != nil {
		return 0, err
	}
	l, err := s.lane(laneOf(b, epoch, d.cfg.SlotSeconds), true)
	if err != nil {
		return 0, err
	}
	if decide == nil {
		decide = Newest
	}
	op := d.newOp()
	defer d.freeOp(op)
	op.hash, op.epoch, op.now, op.sync = hash, epoch, now, b.Sync
	op.raw, op.next, op.version, op.size = rec.Raw(), rec.Header, rec.Version(), framedSize(len(rec.Raw()))
	return l.put(b, op, decide)
}

// admit refuses what may not be stored here now. It returns the record's epoch,
// which in a plain bucket is its timestamp.
func (s *Store) admit(b Bucket, hash uint64, epoch, now int64, rec *object.Record) (int64, error) {
	d := s.disk
	if !s.partition.Holds(hash) {
		return 0, object.Errorf(object.CodeBadRequest, object.NotDone, "placement hash %016x is not in partition %v", hash, s.partition)
	}
	if string(rec.Type) != b.Type || string(rec.Bucket) != b.Name {
		return 0, object.Errorf(object.CodeBadRequest, object.NotDone, "a record of bucket %q %q is put into %q %q", rec.Type, rec.Bucket, b.Type, b.Name)
	}
	if !b.Timed {
		epoch = timestampEpoch(&rec.Header)
	} else if e, ok := epochOf(rec.Key); !ok || e != epoch {
		return 0, object.Errorf(object.CodeBadRequest, object.NotDone, "key %q does not begin with the epoch %d: timed keys read <epoch>:…", clip(rec.Key), epoch)
	}
	if expiry.Hidden(epoch, now, s.limits(b)) {
		d.stats.putsExpired.Add(1)
		return 0, ErrExpired
	}
	if d.space.low.Load() {
		d.stats.putsLowSpace.Add(1)
		return 0, object.Errorf(object.CodeLowSpace, object.NotDone,
			"%s is nearly full (under %d MiB free): puts are refused until data expires or space is freed", d.fs.Path("."), d.space.minFree>>20)
	}
	return epoch, nil
}

// limits returns what decides whether an epoch is still shown or taken in.
func (s *Store) limits(b Bucket) expiry.Limits {
	l := expiry.Limits{TTLSeconds: s.disk.cfg.TTL(b.ID)}
	if b.Timed {
		l.DropHorizon = s.evidence.horizon(b.ID)
	}
	return l
}

// timestampEpoch returns a plain object's time in whole seconds, rounded up:
// nothing is hidden before its TTL has wholly passed.
func timestampEpoch(h *object.Header) int64 {
	const micros = 1_000_000
	sec := h.TimestampMicros / micros
	if h.TimestampMicros%micros > 0 {
		sec++
	}
	return sec
}

func laneOf(b Bucket, epoch, slotSeconds int64) laneID {
	if !b.Timed {
		return laneID{b.ID, plainSlot}
	}
	return laneID{b.ID, expiry.SlotOf(epoch, slotSeconds)}
}

// put decides and appends. From claim to the end no other put of the key comes
// in between.
func (l *lane) put(b Bucket, op *putOp, decide Decide) (Action, error) {
	if err := l.claim(b, op); err != nil {
		return 0, err
	}
	old, err := l.current(op, b.KeepAll)
	if err != nil {
		l.disclaim(op)
		return 0, err
	}
	action := decide(old, &op.next)
	if action == Same && op.sync == SyncAlways && op.old.seg != nil && op.old.seg.syncFailed() {
		action = Append // what is there cannot be made durable any more
	}
	switch action {
	case Append:
		return Append, l.appendOp(op)
	case Same:
		l.disclaim(op)
		l.store.disk.stats.putsSame.Add(1)
		return Same, l.confirm(op)
	case Conflict:
		l.disclaim(op)
		l.store.disk.stats.putsConflict.Add(1)
		return Conflict, nil
	default:
		l.disclaim(op)
		panic("bitcask: BUG: a Decide returned " + action.String())
	}
}

// claim makes op the only put of its key, waiting for the one before, and looks
// the key up in the keydirs. Keys with one placement hash count as one.
func (l *lane) claim(b Bucket, op *putOp) error {
	for {
		l.mu.Lock()
		if l.loaded || l.dropped {
			break
		}
		l.mu.Unlock()
		if err := l.load(); err != nil {
			return err
		}
	}
	defer l.mu.Unlock()
	for {
		if l.dropped {
			return ErrExpired
		}
		other := l.inflight[op.hash]
		if other == nil {
			break
		}
		other.awaited = true
		l.changed.Wait()
	}
	if err := l.adoptBucketLocked(b); err != nil {
		return err
	}
	l.inflight[op.hash] = op
	return nil
}

// disclaim ends a put that appended nothing.
func (l *lane) disclaim(op *putOp) {
	l.mu.Lock()
	l.disclaimLocked(op)
	l.mu.Unlock()
}

func (l *lane) disclaimLocked(op *putOp) {
	delete(l.inflight, op.hash)
	if op.awaited {
		l.changed.Broadcast()
	}
}

// current returns the header of what is stored under op's key and sets op.old.
// What is damaged counts as not there: it may be put again.
func (l *lane) current(op *putOp, keepAll bool) (*object.Header, error) {
	var err error
	if op.places, err = l.lookup(op.places[:0], op.hash); err != nil {
		return nil, err
	}
	places := op.places
	if keepAll {
		digest := op.version.Short()
		places = slices.DeleteFunc(places, func(p place) bool { return p.digest != digest })
	}
	best, at, err := l.store.greatest(places, op.next.Key, op)
	if err != nil || best.Key == nil {
		return nil, err
	}
	if keepAll && best.Version() != op.version {
		return nil, nil
	}
	op.old, op.oldHeader, op.oldVersion = at, best, best.Version()
	return &op.oldHeader, nil
}

// greatest returns the header with the greatest version among the records of a
// key, and its place; a header without a key if there is none. It aliases op.
func (s *Store) greatest(places []place, key []byte, op *putOp) (best object.Header, at place, err error) {
	for _, p := range places {
		h, _, err := s.readHead(p, &op.scratch)
		if err != nil && errors.Is(err, object.CodeCorrupt) {
			continue
		}
		if err != nil {
			return object.Header{}, place{}, err
		}
		// Of equal versions the later one was written because something was wrong
		// with the earlier.
		if string(h.Key) != string(key) || best.Key != nil && h.Version().Compare(best.Version()) < 0 {
			continue
		}
		best, at = h, p
		op.scratch, op.best = op.best, op.scratch // best aliases what is kept
	}
	return best, at, nil
}

// confirm makes the record that is already there as durable as a new one.
func (l *lane) confirm(op *putOp) error {
	if op.sync != SyncAlways || op.old.seg == nil {
		return nil
	}
	return l.syncOp(op.old.seg, op.old.offset()+op.old.size())
}

func (l *lane) syncOp(seg *segment, upTo int64) error {
	err := seg.sync(l.store.disk, upTo)
	if err == nil {
		return nil
	}
	l.store.syncFailed(seg, err)
	return diskError(object.MaybeDone, "syncing "+l.store.disk.fs.Path(seg.data.name), err)
}

// appendOp writes op's record, itself or led by another put, and waits for its
// policy.
func (l *lane) appendOp(op *putOp) error {
	l.mu.Lock()
	switch {
	case l.busy && (len(l.queue) >= maxQueue || l.queueBytes+op.size > maxQueueBytes):
		l.disclaimLocked(op)
		l.mu.Unlock()
		l.store.disk.stats.putsOverload.Add(1)
		return errOverload
	case l.busy:
		l.queue = append(l.queue, op)
		l.queueBytes += op.size
		l.mu.Unlock()
		<-op.wake
		if op.lead {
			l.leadBatches(op)
		}
	default:
		l.busy = true
		l.batch = append(l.batch[:0], op)
		l.mu.Unlock()
		l.leadBatches(op)
	}
	if op.err == nil && op.sync == SyncAlways {
		return l.syncOp(op.seg, op.offset+op.size)
	}
	return op.err
}

// leadBatches writes the lane's batch, of which own is part, and then what has
// queued up meanwhile; after a few rounds the role passes to the first in the queue.
func (l *lane) leadBatches(own *putOp) {
	for round := 1; ; round++ {
		l.writeBatch()
		l.mu.Lock()
		l.settleLocked()
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
		l.changed.Broadcast()
	case len(l.queue) > 0:
		l.nextBatchLocked()
		l.batch[0].lead = true
		l.batch[0].wake <- struct{}{}
	default:
		l.busy = false
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

// settleLocked makes the batch's written records visible and ends its claims.
func (l *lane) settleLocked() {
	for _, op := range l.batch {
		if op.err == nil {
			l.insert(op, l.bucket.KeepAll)
			l.lastPut = max(l.lastPut, op.now)
			l.store.disk.stats.records.Add(1)
		}
		l.disclaimLocked(op)
	}
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
		putFrame(&op.frame, len(op.raw), seg.generation, op.version.HeaderCRC)
		pad := op.size - frameSize - int64(len(op.raw))
		l.vector = append(l.vector, op.frame[:], op.raw)
		if pad > 0 {
			l.vector = append(l.vector, zeros[:pad])
		}
		op.seg, op.offset = seg, at
		at += op.size
	}
	written, err := d.writev(seg, l.vector, start)
	clear(l.vector)
	l.vector = l.vector[:0]
	if err != nil {
		at = l.writeFailed(seg, start+written, err)
	}
	seg.end.Store(at)
	d.stats.appends.Add(1)
	l.queueSync(seg)
}

// failBatch gives every put of the batch the same error.
func (l *lane) failBatch(err error) {
	for _, op := range l.batch {
		op.err = err
	}
}

// writeFailed sets the results of a batch whose write ended at an offset, and
// returns where the segment now ends: records written whole are done, the
// others are not, and never can be, as no valid record is there. What is left of
// a broken one is cut off; where that fails too, or the disk does not say that it is merely
// full, nothing more is appended to the segment.
func (l *lane) writeFailed(seg *segment, reached int64, cause error) (end int64) {
	d := l.store.disk
	full := vfs.IsNoSpace(cause)
	outcome := object.NotDone
	if full {
		d.space.full()
	} else {
		outcome = object.MaybeDone // a failing disk's word is not taken for it
	}
	err := diskError(outcome, "writing "+d.fs.Path(seg.data.name), cause)
	end = seg.end.Load()
	for _, op := range l.batch {
		if op.offset+op.size <= reached {
			end = op.offset + op.size
		} else {
			op.err = err
		}
	}
	d.stats.writeErrors.Add(1)
	if !full || d.truncate(seg, end) != nil {
		seg.retired = true
	}
	return end
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
	d, seg := l.store.disk, l.active
	if seg != nil && (seg.retired || seg.syncFailed() || seg.end.Load()+bytes > d.cfg.MaxSegmentBytes) {
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
}

// create makes a new segment. Its header, its name and its mention in the
// manifest are durable before anything is appended to it.
func (l *lane) create(careless bool) (*segment, error) {
	s := l.store
	seg := newSegment(segID{l.id, l.nextSeq}, s.partition)
	l.nextSeq++
	seg.generation = rand.Uint32N(1<<32-2) + 1
	seg.keydir = &keydir{}
	h := segHeader{
		cluster: s.disk.cfg.Cluster, node: s.disk.cfg.Node, bucket: l.knownBucket(), slot: l.id.slot,
		partition: s.partition, generation: seg.generation, seq: seg.id.seq, created: l.batch[0].now,
	}
	if l.timed {
		h.slotSeconds = s.disk.cfg.SlotSeconds
	}
	if err := s.disk.createSegment(seg, laneDir(l.id.bucket, s.partition), &h); err != nil {
		s.disk.noteFull(err)
		return nil, diskError(object.NotDone, "making "+s.disk.fs.Path(seg.data.name), err)
	}
	seg.end.Store(int64(h.size()))
	seg.syncer.synced = int64(h.size())
	state := segClean
	if careless {
		state = segDirty
	}
	s.evidence.setLater(seg.id, segRecord{state: state})
	if err := s.evidence.publish(); err != nil {
		s.disk.noteFull(err)
		s.abandon(seg)
		return nil, diskError(object.NotDone, "writing the manifest", err)
	}
	l.dirty = careless
	l.setActive(seg)
	return seg, nil
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
