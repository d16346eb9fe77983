package vnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const (
	// DefaultSealAfterSeconds is how long after a slot's end, or its last record,
	// its files are sealed.
	DefaultSealAfterSeconds = 120

	// EngineSealAfterSeconds is the bitcask.Config.SealAfterSeconds to go with it:
	// the engine seals what has no index, and comes after the vnode otherwise. If
	// it comes first, rows stay in as many records as they had deltas.
	EngineSealAfterSeconds = DefaultSealAfterSeconds + 60

	// A slot whose sealing failed waits, each time twice as long.
	firstRetrySeconds = 30
	maxRetrySeconds   = 3600
)

// A slotID names a slot of the index (rows) or of what is indexed.
type slotID struct {
	rows bool
	slot expiry.Slot
}

// slotWork is what is known of a slot that is to be sealed.
type slotWork struct {
	lastAppend int64 // Unix seconds; 0: none since the start
	notBefore  int64 // Unix seconds; after a failure
	waited     int64 // seconds, the last time
	late       bool  // opened again after it was sealed
}

// appended notes that a slot was written to.
func (v *Vnode) appended(r *rules, epoch int64, now time.Time) {
	if !r.Index && !r.Rows {
		return
	}
	id := slotID{r.Rows, expiry.SlotOf(epoch, v.set.cfg.SlotSeconds)}
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.work[id]
	if w == nil {
		w = &slotWork{late: v.set.endedLongAgo(id.slot, now)}
		v.work[id] = w
	}
	w.lastAppend = max(w.lastAppend, now.Unix())
}

// endedLongAgo reports whether a slot without late records is sealed by now.
func (s *Set) endedLongAgo(slot expiry.Slot, now time.Time) bool {
	return now.Unix() > slot.End(s.cfg.SlotSeconds)+s.cfg.SealAfterSeconds
}

func (v *Vnode) waiting() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.work)
}

// due returns the slots whose time to be sealed has come, oldest first.
func (v *Vnode) due(rows bool, now time.Time) []slotID {
	v.mu.Lock()
	defer v.mu.Unlock()
	var due []slotID
	for id, w := range v.work {
		quiet := max(id.slot.End(v.set.cfg.SlotSeconds), w.lastAppend) + v.set.cfg.SealAfterSeconds
		if id.rows == rows && now.Unix() >= max(quiet, w.notBefore) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b slotID) int { return int(a.slot - b.slot) })
	return due
}

// noteOpen notes the slots that were open when the process stopped: they are to
// be sealed.
func (v *Vnode) noteOpen() error {
	for _, r := range []*rules{v.set.rulebook.rows(), v.set.rulebook.indexed()} {
		slots, err := v.openSlots(r)
		if err != nil {
			return err
		}
		v.mu.Lock()
		for _, slot := range slots {
			if id := (slotID{r.Rows, slot}); v.work[id] == nil {
				v.work[id] = new(slotWork)
			}
		}
		v.mu.Unlock()
	}
	return nil
}

// recover adds the index entries that blobs of open slots lack, and those of
// sealed slots of which again says that the index may have lost something.
func (v *Vnode) recover(ctx context.Context, now time.Time, idx Index, again func(expiry.Slot) bool) (added int, err error) {
	r := v.set.rulebook.indexed()
	slots, err := v.store.Slots(r.engine)
	if err != nil {
		return 0, err
	}
	var faults []error
	for _, slot := range slots {
		if _, open := v.workOn(slotID{false, slot}); !open && !again(slot) || v.dead(r, slot, now) {
			continue
		}
		n, err := v.addMissing(ctx, now, slot, idx)
		added += n
		faults = append(faults, v.slotError(r, slot, err))
	}
	return added, errors.Join(faults...)
}

// openSlots returns the slots with a file that is not sealed.
func (v *Vnode) openSlots(r *rules) (open []expiry.Slot, err error) {
	slots, err := v.store.Slots(r.engine)
	if err != nil {
		return nil, err
	}
	for _, slot := range slots {
		sealed, err := v.store.Sealed(r.engine, slot)
		if err != nil {
			return nil, v.slotError(r, slot, err)
		}
		if !sealed {
			open = append(open, slot)
		}
	}
	return open, nil
}

func (v *Vnode) slotError(r *rules, slot expiry.Slot, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("partition %v, bucket %q, slot %d: %w", v.partition, r.Name, slot, err)
}

// dead reports whether nothing in the slot can be read any more.
func (v *Vnode) dead(r *rules, slot expiry.Slot, now time.Time) bool {
	length := v.set.cfg.SlotSeconds
	return expiry.SlotDead(slot, length, r.TTLSeconds, now.Unix()) ||
		slot.End(length) <= int64(v.store.Horizon(r.engine))
}

// seal does what is to be done before a slot is sealed, and seals it. What fails
// is tried again later. A put that comes meanwhile makes the slot wait anew.
func (v *Vnode) seal(ctx context.Context, now time.Time, id slotID, idx Index) (added int, err error) {
	r := v.set.rulebook.indexed()
	if id.rows {
		r = v.set.rulebook.rows()
	}
	before, known := v.workOn(id)
	if !known || v.dead(r, id.slot, now) {
		v.finish(id, before)
		return 0, nil
	}
	switch {
	case !id.rows:
		added, err = v.addMissing(ctx, now, id.slot, idx)
	case !before.late:
		err = v.mergeRows(ctx, now, r, id.slot)
	}
	if err == nil && v.finish(id, before) {
		if err = v.store.Seal(r.engine, id.slot); err == nil {
			v.set.counters.seals.Add(1)
		}
	}
	if err != nil && !errors.Is(err, object.CodeExpired) {
		v.postpone(id, now)
		return added, v.slotError(r, id.slot, err)
	}
	return added, nil
}

func (v *Vnode) workOn(id slotID) (slotWork, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.work[id]
	if w == nil {
		return slotWork{}, false
	}
	return *w, true
}

// finish forgets a slot unless it was written to since before.
func (v *Vnode) finish(id slotID, before slotWork) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w := v.work[id]; w != nil && *w != before {
		return false
	}
	delete(v.work, id)
	return true
}

func (v *Vnode) postpone(id slotID, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.work[id]
	if w == nil {
		w = new(slotWork)
		v.work[id] = w
	}
	w.waited = min(max(firstRetrySeconds, 2*w.waited), maxRetrySeconds)
	w.notBefore = now.Unix() + w.waited
}

// mergeRows writes each row of a slot that has several records as one more, with
// all they say: canonical bytes under the greatest of their timestamps, so that
// replicas with the same deltas write the same record. The others stay.
func (v *Vnode) mergeRows(ctx context.Context, now time.Time, r *rules, slot expiry.Slot) error {
	if sealed, err := v.store.Sealed(r.engine, slot); sealed || err != nil {
		return err
	}
	keys, err := v.keysOf(r, slot, now)
	if err != nil {
		return err
	}
	for key, records := range keys {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if records > 1 {
			if err := v.mergeRow(now, r, []byte(key)); err != nil && !errors.Is(err, object.CodeExpired) {
				return fmt.Errorf("row %q: %w", key, err)
			}
		}
	}
	return nil
}

// keysOf returns the keys of a slot with the number of their records.
func (v *Vnode) keysOf(r *rules, slot expiry.Slot, now time.Time) (map[string]int, error) {
	keys := make(map[string]int)
	for head, err := range v.store.Walk(r.engine, slot, now.Unix()) {
		switch {
		case errors.Is(err, object.CodeCorrupt):
		case err != nil:
			return nil, err
		default:
			keys[string(head.Key)]++
		}
	}
	return keys, nil
}

func (v *Vnode) mergeRow(now time.Time, r *rules, key []byte) error {
	k, err := parseRowKey(key)
	if err != nil {
		return nil // not a row's key: none is admitted
	}
	hash := ring.Hash([]byte(r.Type), []byte(r.Name), key)
	type content struct {
		checksum uint64
		bytes    uint32
	}
	var (
		rows    index.Accumulator
		stamp   int64
		damaged bool
		have    = make(map[content]bool)
	)
	err = v.eachDelta(r, hash, k.Epoch, now, key, func(rec *object.Record, row index.Row, fault error) {
		if fault != nil {
			damaged = true
			return
		}
		rows.Add(row)
		stamp = max(stamp, rec.TimestampMicros)
		have[content{rec.Checksum, rec.ValueBytes}] = true
	})
	if err != nil || damaged || rows.Size() > index.MaxRowBytes {
		return err
	}
	rec, err := encodeRow(key, rows.Row(), stamp)
	if err != nil {
		return err
	}
	defer rec.Release()
	if have[content{rec.Checksum, rec.ValueBytes}] {
		return nil // one of the records says it all
	}
	_, err = v.store.Put(r.engine, hash, k.Epoch, now.Unix(), rec, func(old, next *object.Header) bitcask.Action {
		action, _ := decide(false, old, next)
		return action
	})
	if err == nil {
		v.set.counters.mergedRows.Add(1)
	}
	return err
}
