package vnode

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Digests sums up what a slot of a bucket holds, minute by minute, ascending:
// replicas with equal digests hold the same. Minutes without anything are left
// out; of a plain bucket the slot is ignored and everything is minute 0.
//
// Of the index, the merged rows are summed up and never their records, of which
// each replica has others: a row counts as one object, under its placement hash,
// whose version is made from the row's digest (the low half in place of the
// timestamp, half of the high one in place of the header's CRC).
func (v *Vnode) Digests(now time.Time, bucketType, bucket []byte, slot expiry.Slot) ([]bitcask.MinuteDigest, error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil {
		return nil, err
	}
	minutes, _, err := v.digests(now, r, slot)
	return minutes, err
}

// A Sum is what a slot of a bucket, or all of a plain bucket, holds: for who
// compares replicas.
type Sum struct {
	Complete bool // the vnode vouched for it before and after it was summed up
	Horizon  expiry.Horizon
	Minutes  []bitcask.MinuteDigest // as of [Vnode.Digests]
}

// Sum sums up what a slot holds; that of a plain bucket is -1.
func (v *Vnode) Sum(now time.Time, bucketType, bucket []byte, slot expiry.Slot) (Sum, error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil {
		return Sum{}, err
	}
	before := v.completeIn(r, slot)
	minutes, readable, err := v.digests(now, r, slot)
	if err != nil {
		return Sum{}, err
	}
	s := Sum{Complete: before && readable && v.completeIn(r, slot), Minutes: minutes}
	if r.Timed {
		s.Horizon = v.store.Horizon(r.engine)
	}
	return s, nil
}

// digests returns the sums of a slot's minutes, and whether all of it could be read.
func (v *Vnode) digests(now time.Time, r *rules, slot expiry.Slot) (minutes []bitcask.MinuteDigest, readable bool, err error) {
	if r.Rows {
		return v.rowDigests(now, r, slot)
	}
	minutes, err = v.store.Digests(r.engine, slot)
	return minutes, true, err
}

func (v *Vnode) rowDigests(now time.Time, r *rules, slot expiry.Slot) (sums []bitcask.MinuteDigest, readable bool, err error) {
	keys, err := v.keysOf(r, slot, now)
	if err != nil {
		return nil, false, err
	}
	readable = true
	minutes := make(map[int64]bitcask.MinuteDigest)
	for key := range keys {
		k, err := parseRowKey([]byte(key))
		if err != nil {
			continue // not a row's key: none is admitted
		}
		hash := ring.Hash(r.Type, r.Name, key)
		row, _, err := v.readRow(r, hash, k.Epoch, now, []byte(key))
		if err != nil {
			return nil, false, v.slotError(r, slot, err)
		}
		readable = readable && (row.Complete || row.State == Expired || !v.completeIn(r, slot))
		if row.State != Found {
			continue
		}
		d := row.Row.Digest()
		m := minutes[k.Epoch/60]
		m.Minute = k.Epoch / 60
		m.Count++
		m.Digest.Add(hash, object.Version{TimestampMicros: int64(d.Lo), HeaderCRC: uint32(d.Hi)})
		minutes[m.Minute] = m
	}
	return slices.SortedFunc(maps.Values(minutes), func(a, b bitcask.MinuteDigest) int {
		return cmp.Compare(a.Minute, b.Minute)
	}), readable, nil
}

// Slots returns the slots of a timed bucket of which something is stored,
// ascending.
func (v *Vnode) Slots(bucketType, bucket []byte) ([]expiry.Slot, error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil || !r.Timed {
		return nil, err
	}
	return v.store.Slots(r.engine)
}
