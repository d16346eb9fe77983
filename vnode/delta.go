package vnode

import (
	"errors"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// EncodeDelta builds the record of a delta of an index row: what AppendDelta
// takes, and what is sent to other replicas. delta must be valid and not empty.
// The caller releases the record.
func EncodeDelta(key event.IndexKey, delta index.Row, stampMicros int64) (object.Record, error) {
	return encodeRow(key.AppendTo(nil), delta, stampMicros)
}

func encodeRow(key []byte, row index.Row, stampMicros int64) (object.Record, error) {
	scratch := object.NewBuffer(row.Size())
	defer scratch.Release()
	return object.Encode(object.Header{
		Kind: object.Delta, TimestampMicros: stampMicros,
		Type: []byte(bucket.DefaultType), Bucket: []byte(bucket.Epochs), Key: key,
	}, index.AppendRow(scratch.Bytes()[:0], row))
}

// RowHash returns the placement hash of an index row.
func RowHash(key event.IndexKey) uint64 {
	var room [128]byte
	return ring.Hash(bucket.DefaultType, bucket.Epochs, key.AppendTo(room[:0]))
}

// AppendDelta adds to an index row. rec is a delta, hash its placement hash. It
// returns what the delta says, when it is as durable as the index's sync policy
// asks; from then on the row has it, here and after a restart.
//
// A delta for a second that is closed is refused with an error that wraps
// [ErrClosed]; other refusals are as for [Vnode.Put]. None of them was done.
func (v *Vnode) AppendDelta(now time.Time, hash uint64, rec object.Record) (index.Row, Ack, error) {
	r, epoch, err := v.admit(now, hash, &rec.Header)
	if err != nil {
		return index.Row{}, 0, err
	}
	delta, err := v.admitDelta(r, now, &rec)
	if err != nil {
		return index.Row{}, 0, v.refuse(err)
	}
	cached, err := v.row(r, hash, epoch, now, rec.Key)
	if err != nil {
		v.set.counters.failed.Add(1)
		return index.Row{}, 0, err
	}
	defer v.set.rows.release(cached)
	ack, err := v.putDelta(cached, r, hash, epoch, now, rec, delta)
	if err != nil {
		return index.Row{}, 0, err
	}
	return delta, ack, nil
}

// admitDelta decodes a delta and checks it against its row's key and the time.
func (v *Vnode) admitDelta(r *rules, now time.Time, rec *object.Record) (index.Row, error) {
	delta, err := v.parseDelta(r, rec)
	if err != nil {
		return index.Row{}, err
	}
	key, err := parseRowKey(rec.Key)
	if err != nil {
		return index.Row{}, err
	}
	if err := checkOpen(key, delta, now.Unix(), v.set.cfg.LatenessSeconds); err != nil {
		v.set.counters.closed.Add(1)
		return index.Row{}, err
	}
	return delta, nil
}

// parseDelta decodes a delta and checks it against its row's key.
func (v *Vnode) parseDelta(r *rules, rec *object.Record) (index.Row, error) {
	if rec.Kind != object.Delta {
		return index.Row{}, badRequest("an object of the bucket %q was sent as a delta of the index", r.Name)
	}
	if err := rec.Verify(); err != nil {
		return index.Row{}, object.Errorf(object.CodeCorrupt, object.NotDone, "%w", err)
	}
	delta, err := index.ParseRow(rec.Value())
	if err != nil {
		return index.Row{}, badRequest("a delta for %q: %w", rec.Key, err)
	}
	if delta.Empty() {
		return index.Row{}, badRequest("a delta for %q says nothing", rec.Key)
	}
	key, err := parseRowKey(rec.Key)
	if err != nil {
		return index.Row{}, err
	}
	if err := delta.ValidateFor(key); err != nil {
		return index.Row{}, badRequest("a delta for %q: %w", rec.Key, err)
	}
	return delta, nil
}

// Row returns the index row of a second, the union of all that was ever added
// to it here.
func (v *Vnode) Row(now time.Time, key event.IndexKey) (RowAnswer, error) {
	var room [128]byte
	text := key.AppendTo(room[:0])
	hash := ring.Hash(bucket.DefaultType, bucket.Epochs, text)
	v.checkHash(hash)
	if err := key.Validate(); err != nil {
		return RowAnswer{}, badRequest("%w", err)
	}
	a, _, err := v.readRow(v.set.rulebook.rows(), hash, key.Epoch, now, text)
	return a, err
}

// readRow returns a row and the greatest timestamp of its records.
func (v *Vnode) readRow(r *rules, hash uint64, epoch int64, now time.Time, key []byte) (a RowAnswer, stampMicros int64, err error) {
	v.set.counters.rowReads.Add(1)
	if r.hidden(epoch, now.Unix()) || v.store.Horizon(r.engine).Covers(epoch) {
		return RowAnswer{State: Expired, Complete: true}, 0, nil
	}
	cached, err := v.row(r, hash, epoch, now, key)
	if err != nil {
		v.set.counters.readErrors.Add(1)
		return RowAnswer{}, 0, err
	}
	defer v.set.rows.release(cached)
	row, stampMicros, damaged := cached.read()
	a = RowAnswer{State: Found, Complete: v.complete(r, epoch) && !damaged, Row: row}
	if row.Empty() {
		a.State = Absent
	}
	return a, stampMicros, nil
}

// rowAsObject answers a get of an index row: the merged row as one record, with
// the timestamp of the newest delta.
func (v *Vnode) rowAsObject(r *rules, ref Ref, now time.Time) (Answer, error) {
	key, err := parseRowKey(ref.Key)
	if err != nil {
		return Answer{}, err
	}
	row, stamp, err := v.readRow(r, ref.Hash, key.Epoch, now, ref.Key)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{State: v.count(row.State), Complete: row.Complete}
	if row.State == Found {
		a.Record, err = encodeRow(ref.Key, row.Row, stamp)
	}
	return a, err
}

// row returns a row in the cache, loaded. The caller releases it.
func (v *Vnode) row(r *rules, hash uint64, epoch int64, now time.Time, key []byte) (*row, error) {
	cache := v.set.rows
	cached, load := cache.acquire(v.partition, key)
	if load {
		v.set.counters.rowLoads.Add(1)
		cached.err = v.load(cached, r, hash, epoch, now, key)
		if cached.err != nil {
			cache.forget(cached)
		}
		close(cached.loaded)
	} else {
		<-cached.loaded
	}
	if cached.err != nil {
		cache.release(cached)
		return nil, cached.err
	}
	return cached, nil
}

// load reads a row's records. Those that are damaged are counted and leave the
// row incomplete: what they said may still be found on other replicas. They are set
// aside and their slot doubted, so that it is looked for there.
func (v *Vnode) load(into *row, r *rules, hash uint64, epoch int64, now time.Time, key []byte) error {
	rows := new(index.Accumulator)
	stamp, damaged := int64(0), false
	err := v.eachDelta(r, hash, epoch, now, key, func(rec *object.Record, row index.Row, fault error) {
		if fault != nil {
			damaged = true
			return
		}
		rows.Add(row)
		stamp = max(stamp, rec.TimestampMicros)
	})
	if err == nil && damaged {
		_, err = v.store.Recheck(r.engine, hash, epoch, now.Unix(), key, object.Version{})
	}
	if err != nil {
		return err
	}
	into.mu.Lock()
	into.changing, into.stampMicros, into.damaged = rows, stamp, damaged
	into.mu.Unlock()
	if !damaged && v.set.settled(key, now) {
		into.pack()
	}
	return nil
}

// eachDelta calls yield with every record of a row, decoded, or with what is
// wrong with it. The error is the storage's: the records could not all be
// looked at.
func (v *Vnode) eachDelta(r *rules, hash uint64, epoch int64, now time.Time, key []byte,
	yield func(rec *object.Record, row index.Row, fault error)) error {
	for rec, err := range v.store.Each(r.engine, hash, epoch, now.Unix(), key) {
		switch {
		case errors.Is(err, object.CodeCorrupt):
		case errors.Is(err, object.CodeAbsent), errors.Is(err, object.CodeExpired):
			return nil
		case err != nil:
			return err
		default:
			err = rec.Verify()
		}
		var row index.Row
		if err == nil {
			row, err = index.ParseRow(rec.Value())
		}
		if err != nil {
			v.set.counters.rowDamage.Add(1)
		}
		yield(&rec, row, err)
	}
	return nil
}
