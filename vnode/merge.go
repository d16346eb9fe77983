package vnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

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
	for _, key := range slices.Sorted(maps.Keys(keys)) { // in order, so that a replay writes the same files
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if keys[key] > 1 {
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
	hash := ring.Hash(r.Type, r.Name, key)
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
