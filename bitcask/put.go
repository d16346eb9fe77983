package bitcask

import (
	"cmp"
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// A putOp is one put on its way. It is reused.
type putOp struct {
	stripe *stripe // its own

	hash    uint64
	epoch   int64
	now     int64
	sync    Sync
	raw     []byte        // the record; the caller's
	next    object.Header // of raw
	version object.Version
	digest  uint32 // version.Short()

	old        place // the record it may replace
	oldHeader  object.Header
	oldVersion object.Version

	frame   [frameSize]byte
	vector  [3][]byte     // for writing it
	wake    chan struct{} // capacity 1
	lead    bool          // on waking: the role is yours, write the lane's batch
	awaited bool          // another put of the key waits for this one

	reserved bool // it has its place
	rewrite  bool // it is for a record that is there already

	chained *putOp // in the lane's claims
	group   uint8  // of the lane's flight
	blocks  blocks // to be allocated before writing

	seg    *segment // where it was written
	number uint64   // of the write, see segSyncer
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
	return &putOp{stripe: d.stripes.next(), wake: make(chan struct{}, 1)}
}

// freeReader gives back an op that only looked records up.
func (d *Disk) freeReader(op *putOp) {
	clear(op.places)
	op.places = op.places[:0]
	d.ops.Put(op)
}

// freeOp gives an op back without what it refers to.
func (d *Disk) freeOp(op *putOp) {
	clear(op.places)
	*op = putOp{stripe: op.stripe, wake: op.wake, places: op.places[:0], scratch: op.scratch, best: op.best}
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
// A Conflict is an answer, not an error. An error is an *object.Error that says
// what was done: CodeExpired (past the TTL or below the drop horizon),
// CodeBadRequest, CodeLowSpace, CodeOverload, CodeDisk, CodeStopping.
func (s *Store) Put(b Bucket, hash uint64, epoch, now int64, rec object.Record, decide Decide) (Action, error) {
	d := s.disk
	op := d.newOp()
	defer d.freeOp(op)
	if !op.stripe.gate.enter() {
		return 0, ErrStopping
	}
	defer op.stripe.gate.leave()
	id := laneOf(b, epoch, d.cfg.SlotSeconds)
	if r := s.recent[id.recent()].Load(); r != nil && r.id == id {
		r.lane.prefetch(hash)
	}
	epoch, err := s.admit(b, hash, epoch, now, &rec)
	if err != nil {
		return 0, err
	}
	l, err := s.lane(id, true)
	if err != nil {
		return 0, err
	}
	if decide == nil {
		decide = Newest
	}
	op.hash, op.epoch, op.now, op.sync = hash, epoch, now, b.Sync
	op.raw, op.next, op.version, op.size = rec.Raw(), rec.Header, rec.Version(), framedSize(len(rec.Raw()))
	op.digest = op.version.Short()
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
	return expiry.Limits{TTLSeconds: s.disk.cfg.TTL(b.ID), DropHorizon: s.evidence.horizon(b.ID)}
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
	sealed, err := l.claim(b, op, decide)
	if err != nil {
		return 0, err
	}
	if op.reserved {
		return Append, l.writeReserved(op)
	}
	old, err := l.current(op, sealed, b.KeepAll)
	if err == error(errMerged) {
		old, err = retryMerged(func() (*object.Header, error) { return l.currentAnew(op, b.KeepAll) })
	}
	if err != nil {
		l.disclaim(op)
		return 0, err
	}
	action := decide(old, &op.next)
	if action == Same && (op.sync == SyncAlways || op.rewrite && op.oldVersion == op.version) && op.old.seg != nil && op.old.seg.syncFailed() {
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

// claim makes op the only put of its key, waiting for the one before. Keys with
// one placement hash count as one. It sets op.places to what the keydirs know of
// the hash and returns the segments whose hints must be asked besides. Where there is
// nothing, and the record is to be appended, op is given a place to write to at once,
// if it may have one.
func (l *lane) claim(b Bucket, op *putOp, decide Decide) (sealed []*segment, err error) {
	for {
		l.mu.Lock()
		if l.loaded || l.dropped {
			break
		}
		l.mu.Unlock()
		if err := l.load(); err != nil {
			return nil, err
		}
	}
	defer l.mu.Unlock()
	for {
		if l.dropped {
			return nil, ErrExpired
		}
		other := l.claims.find(op.hash)
		if other == nil {
			break
		}
		other.awaited = true
		l.changed.Wait()
	}
	if err := l.adoptBucketLocked(b); err != nil {
		return nil, err
	}
	l.claims.add(op)
	op.places, sealed = l.findLocked(op.places[:0], op.wants(b.KeepAll))
	if len(op.places) == 0 && len(sealed) == 0 && l.mayReserveLocked(op) && decide(nil, &op.next) == Append {
		l.giveLocked(op)
		op.reserved = true
	}
	return sealed, nil
}

// disclaim ends a put that appended nothing.
func (l *lane) disclaim(op *putOp) {
	l.mu.Lock()
	l.disclaimLocked(op)
	l.mu.Unlock()
}

func (l *lane) disclaimLocked(op *putOp) {
	l.claims.remove(op)
	if op.awaited {
		l.changed.Broadcast()
	}
}

// wants says what op is compared with: the records of its key, or, where all are
// kept, that of its version. A row of an index has a record for each change to it.
func (op *putOp) wants(keepAll bool) wanted {
	return wanted{uint32(op.hash), op.digest, keepAll}
}

// current returns the header of what is stored under op's key and sets op.old.
// What is damaged counts as not there: it may be put again.
func (l *lane) current(op *putOp, sealed []*segment, keepAll bool) (*object.Header, error) {
	if err := l.lookupRest(op, sealed, op.hash); err != nil {
		return nil, err
	}
	if len(op.places) == 0 {
		return nil, nil
	}
	places := op.places
	if keepAll {
		places = slices.DeleteFunc(places, func(p place) bool { return p.digest != op.digest })
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

// currentAnew is current after what the claim found was merged away.
func (l *lane) currentAnew(op *putOp, keepAll bool) (*object.Header, error) {
	l.mu.RLock()
	found, sealed := l.findLocked(op.places[:0], op.wants(keepAll))
	l.mu.RUnlock()
	op.places = found
	return l.current(op, sealed, keepAll)
}

// greatest returns the header with the greatest version among the records of a
// key, and its place; a header without a key if there is none. It aliases op. What
// the disk fails to read is an error, unless it is a copy of what is returned.
func (s *Store) greatest(places []place, key []byte, op *putOp) (best object.Header, at place, err error) {
	var unread []place
	for _, p := range places {
		h, _, fault := s.readHead(p, &op.scratch)
		switch {
		case fault == nil:
		case errors.Is(fault, object.CodeCorrupt):
			continue
		case fault == error(ErrExpired), fault == error(errMerged):
			return object.Header{}, place{}, fault
		default:
			unread, err = append(unread, p), fault
			continue
		}
		if string(h.Key) != string(key) || best.Key != nil && !p.beats(h.Version(), at, best.Version()) {
			continue
		}
		best, at = h, p
		op.scratch, op.best = op.best, op.scratch // best aliases what is kept
	}
	for _, p := range unread {
		if best.Key == nil || p.digest != at.digest {
			return object.Header{}, place{}, err
		}
	}
	return best, at, nil
}

// beats reports whether the record at p, of version v, counts instead of the one
// at q, of version w: the greater version does. Of equal ones the later does: it
// was written because something was wrong with the earlier.
func (p place) beats(v object.Version, q place, w object.Version) bool {
	return cmp.Or(v.Compare(w), cmp.Compare(p.seg.id.seq, q.seg.id.seq), cmp.Compare(p.offset8, q.offset8)) > 0
}

// confirm makes the record that is already there as durable as a new one.
func (l *lane) confirm(op *putOp) error {
	if op.sync != SyncAlways || op.old.seg == nil {
		return nil
	}
	return l.syncOp(op.old.seg, op.old.seg.written.Load())
}

func (l *lane) syncOp(seg *segment, upTo uint64) error {
	err := seg.syncUpTo(l.store.disk, upTo)
	if err == nil {
		return nil
	}
	l.store.syncFailed(seg, err)
	return diskError(object.MaybeDone, "syncing "+l.store.disk.fs.Path(seg.data.name), err)
}
