package vnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

const (
	// DefaultSealAfterSeconds is how long after a slot's end, or its last record,
	// its files are sealed.
	DefaultSealAfterSeconds = 120

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
	var faults []error
	for _, r := range []*rules{v.set.rulebook.rows(), v.set.rulebook.indexed()} {
		slots, err := v.openSlots(r)
		faults = append(faults, err)
		v.mu.Lock()
		for _, slot := range slots {
			if id := (slotID{r.Rows, slot}); v.work[id] == nil {
				v.work[id] = new(slotWork)
			}
		}
		v.mu.Unlock()
	}
	return errors.Join(faults...)
}

// newestSlots is how many of a vnode's newest slots are compared with the index
// after a start although they are sealed: the engine may have done so just
// before the stop, while the vnode had not come to it.
const newestSlots = 2

// recover adds the index entries that blobs of open slots lack, of the newest
// ones, and of those of which again says that the index may have lost something.
func (v *Vnode) recover(ctx context.Context, now time.Time, idx Index, again func(expiry.Slot) bool) (added int, err error) {
	r := v.set.rulebook.indexed()
	slots, err := v.store.Slots(r.engine)
	if err != nil {
		return 0, err
	}
	var faults []error
	for i, slot := range slots {
		_, open := v.workOn(slotID{false, slot})
		newest := i >= len(slots)-newestSlots
		if !open && !newest && !again(slot) || v.dead(r, slot, now) {
			continue
		}
		n, err := v.addMissing(ctx, now, slot, idx)
		added += n
		faults = append(faults, v.slotError(r, slot, err))
	}
	return added, errors.Join(faults...)
}

// openSlots returns the slots with a file that is not sealed, as far as they can
// be told.
func (v *Vnode) openSlots(r *rules) (open []expiry.Slot, err error) {
	slots, err := v.store.Slots(r.engine)
	faults := []error{err}
	for _, slot := range slots {
		sealed, err := v.store.Sealed(r.engine, slot)
		if err == nil && !sealed {
			open = append(open, slot)
		}
		faults = append(faults, v.slotError(r, slot, err))
	}
	return open, errors.Join(faults...)
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
