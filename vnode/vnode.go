package vnode

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Vnode is one partition on one node. It is made by [Set.Vnode].
//
// A replica's methods take the placement hash with the names; it must be
// ring.Hash of them and lie in the partition.
type Vnode struct {
	partition ring.Partition
	store     Storage
	set       *Set // for what all vnodes of a node share
	since     atomic.Pointer[Since]

	mu   sync.Mutex
	work map[slotID]*slotWork // slots with something to do before they are sealed
}

// A Ref names an object and says where it belongs.
type Ref struct {
	Type, Bucket, Key []byte
	Hash              uint64 // ring.Hash of the three
}

// RefOf returns the Ref of a bucket's key. It aliases the arguments.
func RefOf(bucketType, bucket, key []byte) Ref {
	return Ref{bucketType, bucket, key, ring.Hash(bucketType, bucket, key)}
}

// Partition returns the vnode's partition.
func (v *Vnode) Partition() ring.Partition { return v.partition }

// Put stores a value, or a tombstone, which deletes. It returns when the record
// is as durable as its bucket's sync policy asks. hash is the record's placement
// hash.
//
// What is refused for its form, size, time or stamp, or by a write-once key, was
// not done (CodeBadRequest, CodeTooLarge, CodeTooFarAhead, CodeExpired,
// CodeConflict). Other errors are the storage's and say what may be assumed. A
// delta is put with [Vnode.AppendDelta].
func (v *Vnode) Put(now time.Time, hash uint64, rec object.Record) (Ack, error) {
	r, epoch, err := v.admit(now, hash, &rec.Header)
	if err != nil {
		return 0, err
	}
	if rec.Kind == object.Delta {
		return 0, v.refuse(badRequest("a delta of the index was sent as an object"))
	}
	return v.put(r, hash, epoch, now, rec)
}

// admit finds a record's rules and checks what does not depend on what is stored.
func (v *Vnode) admit(now time.Time, hash uint64, h *object.Header) (*rules, int64, error) {
	v.checkHash(hash)
	r, err := v.set.rulebook.of(h.Type, h.Bucket)
	if err != nil {
		return nil, 0, v.refuse(err)
	}
	epoch, err := admit(r, h, now, v.set.ahead())
	if err == nil && r.Timed {
		err = v.set.cfg.Admit(epoch)
	}
	if err != nil {
		return nil, 0, v.refuse(err)
	}
	return r, epoch, nil
}

func (v *Vnode) refuse(err error) error {
	v.set.counters.refused.Add(1)
	return err
}

func (v *Vnode) checkHash(hash uint64) {
	if !v.partition.Contains(hash) {
		panic("vnode: BUG: a hash outside partition " + v.partition.String())
	}
}

// put lets the storage decide, by the rules for clients, and write.
func (v *Vnode) put(r *rules, hash uint64, epoch int64, now time.Time, rec object.Record) (Ack, error) {
	return v.putBy(r, hash, epoch, now, rec, decide)
}

// putBy is put by other rules.
func (v *Vnode) putBy(r *rules, hash uint64, epoch int64, now time.Time, rec object.Record,
	decide func(writeOnce bool, old, next *object.Header) (bitcask.Action, conflict)) (Ack, error) {
	c := &v.set.counters
	seconds := now.Unix()
	var why conflict
	action, err := v.store.Put(r.engine, hash, epoch, seconds, rec, func(old, next *object.Header) (a bitcask.Action) {
		if old != nil && r.pastTTL(old, seconds) {
			old = nil // nobody can see it any more
		}
		a, why = decide(r.WriteOnce, old, next)
		return a
	})
	switch {
	case errors.Is(err, object.CodeExpired):
		return 0, v.refuse(err)
	case err != nil:
		c.failed.Add(1)
		return 0, err
	}
	switch action {
	case bitcask.Append:
		v.appended(r, epoch, now)
		if rec.Kind == object.Delta {
			c.deltas.Add(1)
		} else {
			c.stored.Add(1)
		}
		return Stored, nil
	case bitcask.Same:
		c.known.Add(1)
		return Known, nil
	}
	c.conflicts.Add(1)
	return 0, conflictError(why, &rec.Header)
}

// Get returns what is stored under a key, with its value. Of the index it
// returns the row, merged, as one record. An error says that it cannot be told,
// or that the request makes no sense; what the storage says of a key is never
// an error.
func (v *Vnode) Get(now time.Time, ref Ref) (Answer, error) {
	r, epoch, err := v.locate(ref)
	switch {
	case err != nil:
		return Answer{}, err
	case r.Rows:
		return v.rowAsObject(r, ref, now)
	}
	rec, err := v.store.Get(r.engine, ref.Hash, epoch, now.Unix(), ref.Key)
	state, err := v.stateOf(err)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{State: state, Complete: v.complete(r, epoch)}
	if state == Found {
		a.Record = rec
	}
	return a, nil
}

// Head is Get without the value: of an object's record only the header is read.
func (v *Vnode) Head(now time.Time, ref Ref) (HeadAnswer, error) {
	r, epoch, err := v.locate(ref)
	switch {
	case err != nil:
		return HeadAnswer{}, err
	case r.Rows:
		return HeadAnswer{}, badRequest("an index row has no header of its own: read the row")
	}
	head, err := v.store.Head(r.engine, ref.Hash, epoch, now.Unix(), ref.Key)
	state, err := v.stateOf(err)
	if err != nil {
		return HeadAnswer{}, err
	}
	a := HeadAnswer{State: state, Complete: v.complete(r, epoch)}
	if state == Found {
		a.Head = head
	}
	return a, nil
}

// locate finds the rules and the epoch of a key that is read. Whether its time
// is over, the storage tells.
func (v *Vnode) locate(ref Ref) (r *rules, epoch int64, err error) {
	v.checkHash(ref.Hash)
	if r, err = v.set.rulebook.of(ref.Type, ref.Bucket); err != nil {
		return nil, 0, err
	}
	if r.Timed {
		epoch, err = timedEpoch(r, ref.Key)
	}
	return r, epoch, err
}

// pastTTL reports whether a plain object is past its bucket's TTL.
func (r *rules) pastTTL(h *object.Header, nowSeconds int64) bool {
	return !r.Timed && r.hidden(stampSeconds(h), nowSeconds)
}

// stateOf sorts the storage's errors into what it says of a key and what it
// cannot say.
func (v *Vnode) stateOf(err error) (State, error) {
	switch {
	case err == nil:
		return v.count(Found), nil
	case errors.Is(err, object.CodeAbsent):
		return v.count(Absent), nil
	case errors.Is(err, object.CodeExpired):
		return v.count(Expired), nil
	}
	v.set.counters.readErrors.Add(1)
	return 0, err
}

func (v *Vnode) count(s State) State {
	switch s {
	case Found:
		v.set.counters.found.Add(1)
	case Absent:
		v.set.counters.absent.Add(1)
	case Expired:
		v.set.counters.expired.Add(1)
	}
	return s
}

// complete reports whether nothing speaks against the vnode having every record
// it acknowledged for the bucket and the epoch's slot, nor against being asked
// for it.
func (v *Vnode) complete(r *rules, epoch int64) bool {
	return v.completeIn(r, v.set.slotOf(r, epoch))
}

func (v *Vnode) completeIn(r *rules, slot expiry.Slot) bool {
	known := !r.Timed || v.set.cfg.Vouches(slot.Start(v.set.cfg.SlotSeconds))
	return known && v.Since().Covers(slot) && !v.doubted(r, slot)
}

// doubted reports whether the engine may have lost something of a slot.
func (v *Vnode) doubted(r *rules, slot expiry.Slot) bool {
	for _, d := range v.store.Doubts() {
		if d.All || d.Bucket == r.engine.ID && d.Slot == slot {
			return true
		}
	}
	return false
}

// plainSlot is what the engine calls the slot of a plain bucket.
const plainSlot expiry.Slot = -1

func (s *Set) slotOf(r *rules, epoch int64) expiry.Slot {
	if !r.Timed {
		return plainSlot
	}
	return expiry.SlotOf(epoch, s.cfg.SlotSeconds)
}

// Doubts returns what speaks against the vnode being complete.
func (v *Vnode) Doubts() []bitcask.Doubt { return v.store.Doubts() }

// ClearDoubt takes a doubt back, durably. The caller has merged the slot with
// replicas that had everything, or knows that there are none.
func (v *Vnode) ClearDoubt(d bitcask.Doubt) error { return v.store.ClearDoubt(d) }
