package bitcask

import (
	"iter"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// A Head is a record's header without its value. Its bytes belong to Buf.
type Head struct {
	object.Header
	Buf *object.Buffer
	raw []byte
}

// RawHeader returns the encoded header.
func (h *Head) RawHeader() []byte { return h.raw }

// Record returns the header as a record without value, which takes over the use
// of Buf.
func (h *Head) Record() object.Record { return object.HeadRecord(h.Header, h.raw, h.Buf) }

// Release ends one use of the header. Its slices must not be touched after it.
func (h *Head) Release() {
	if h.Buf != nil {
		h.Buf.Release()
	}
}

// Get returns the record with the greatest version under a key, tombstones
// included, in a Buffer that the caller releases. Its header and key are
// checked, its value is not: see [object.Record.Verify]. epoch is the one that
// begins the key, and ignored in a plain bucket.
//
// An error is an *object.Error: ErrAbsent, ErrExpired, ErrStopping, or one with
// CodeCorrupt (there is a record, but it is damaged) or CodeDisk.
func (s *Store) Get(b Bucket, hash uint64, epoch, now int64, key []byte) (object.Record, error) {
	d := s.disk
	op := d.newOp()
	defer d.freeReader(op)
	if !op.stripe.gate.enter() {
		return object.Record{}, ErrStopping
	}
	defer op.stripe.gate.leave()
	op.stripe.gets.Add(1)
	return retryMerged(func() (object.Record, error) { return s.get(b, hash, epoch, now, key, op) })
}

// retryMerged calls read again if what it found was merged into another file
// before it was read.
func retryMerged[T any](read func() (T, error)) (result T, err error) {
	const tries = 4
	for range tries {
		if result, err = read(); err != error(errMerged) {
			break
		}
	}
	return result, err
}

func (s *Store) get(b Bucket, hash uint64, epoch, now int64, key []byte, op *putOp) (object.Record, error) {
	if err := s.find(b, hash, epoch, now, op); err != nil {
		return object.Record{}, err
	}
	at := op.places[0]
	if len(op.places) > 1 {
		var err error
		if _, at, err = s.pick(op, key); err != nil {
			return object.Record{}, err
		}
	}
	rec, err := s.readRecord(at)
	if err == nil && string(rec.Key) != string(key) {
		rec.Release()
		return object.Record{}, ErrAbsent
	}
	if err == nil && s.hiddenPlain(b, &rec.Header, now) {
		rec.Release()
		return object.Record{}, ErrExpired
	}
	return rec, err
}

// find sets op.places to where the records with that hash are; there is at
// least one unless it returns an error.
func (s *Store) find(b Bucket, hash uint64, epoch, now int64, op *putOp) error {
	if b.Timed && expiry.Hidden(epoch, now, s.limits(b)) {
		return ErrExpired
	}
	l, err := s.lane(laneOf(b, epoch, s.disk.cfg.SlotSeconds), false)
	if err != nil {
		return err
	}
	if l == nil {
		return ErrAbsent
	}
	err = l.lookup(op, hash)
	if err == nil && len(op.places) == 0 {
		return ErrAbsent
	}
	return err
}

// pick returns the record with the key's greatest version among op.places, and
// its header, whose bytes are in op.best.
func (s *Store) pick(op *putOp, key []byte) (object.Header, place, error) {
	best, at, err := s.greatest(op.places, key, op)
	if err != nil || best.Key != nil {
		return best, at, err
	}
	for _, p := range op.places { // none is the key's: or the one that is, is damaged
		if _, _, err := s.readHead(p, &op.scratch); err != nil {
			return object.Header{}, place{}, err
		}
	}
	return object.Header{}, place{}, ErrAbsent
}

// hiddenPlain applies the TTL of a plain bucket, where an object's time is its
// timestamp.
func (s *Store) hiddenPlain(b Bucket, h *object.Header, now int64) bool {
	return !b.Timed && expiry.Hidden(timestampEpoch(h), now, s.limits(b))
}

// Head is [Store.Get] without the value: nothing but the header is read.
func (s *Store) Head(b Bucket, hash uint64, epoch, now int64, key []byte) (Head, error) {
	d := s.disk
	op := d.newOp()
	defer d.freeReader(op)
	if !op.stripe.gate.enter() {
		return Head{}, ErrStopping
	}
	defer op.stripe.gate.leave()
	op.stripe.heads.Add(1)
	h, err := retryMerged(func() (object.Header, error) {
		if err := s.find(b, hash, epoch, now, op); err != nil {
			return object.Header{}, err
		}
		h, _, err := s.pick(op, key)
		return h, err
	})
	switch {
	case err != nil:
		return Head{}, err
	case s.hiddenPlain(b, &h, now):
		return Head{}, ErrExpired
	}
	return copyHead(h, op.best[frameSize:]), nil
}

// newHead copies an encoded header that has been checked.
func newHead(raw []byte) Head {
	h, _, err := object.ParseHeader(raw)
	if err != nil {
		panic("bitcask: BUG: a checked header does not parse: " + err.Error())
	}
	return copyHead(h, raw)
}

// copyHead copies a header with its encoding, which b begins with.
func copyHead(h object.Header, b []byte) Head {
	buf := object.NewBuffer(h.Size())
	raw := buf.Bytes()
	copy(raw, b)
	return Head{Header: h.In(raw), Buf: buf, raw: raw}
}

// Each yields every record of a key, in no order: all that were put in a
// KeepAll bucket; elsewhere the greatest version and what lesser ones are still
// there. A record is valid until the next step unless it is retained. A damaged
// record, or a failing disk, is yielded as an error, and the walk goes on;
// ErrExpired is the only thing yielded if the key's time has expired.
func (s *Store) Each(b Bucket, hash uint64, epoch, now int64, key []byte) iter.Seq2[object.Record, error] {
	return func(yield func(object.Record, error) bool) {
		d := s.disk
		if !d.gate.enter() {
			yield(object.Record{}, ErrStopping)
			return
		}
		defer d.gate.leave()
		op := d.newOp()
		defer d.freeReader(op)
		if err := s.find(b, hash, epoch, now, op); err != nil {
			if err != error(ErrAbsent) {
				yield(object.Record{}, err)
			}
			return
		}
		for _, at := range op.places {
			rec, err := s.readRecord(at)
			if err == nil && (string(rec.Key) != string(key) || s.hiddenPlain(b, &rec.Header, now)) {
				rec.Release()
				continue
			}
			if err != nil && s.hasCopy(at) {
				continue
			}
			more := yield(rec, err)
			rec.Release()
			if !more {
				return
			}
		}
	}
}
