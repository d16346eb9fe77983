package vnode

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Repair takes what another replica has: a value, a tombstone, or, as a delta,
// an index row, of which it adds what is lacking here. What was acknowledged
// elsewhere is not judged again by the rules for those who put: a row's second
// may be closed, a value larger than is taken now. The greater version wins, in
// write-once buckets too; over is the version of another value that may so lose
// its key there, since the caller has seen to it that the value is kept. Any
// other value is a CodeConflict.
//
// What is here already, the same or what is in conflict with it, is read and verified,
// as who gives it may have found that it cannot be used: a damaged value is set aside,
// its slot doubted, and the record stored. So is the very same record if the disk
// fails to read it now: a second copy harms nobody.
//
// It returns when the record is as durable as its bucket's sync policy asks; see
// [Vnode.Sync]. CodeExpired says that nobody needs it any more.
func (v *Vnode) Repair(now time.Time, hash uint64, rec object.Record, over object.Version) (Ack, error) {
	v.checkHash(hash)
	r, err := v.set.rulebook.of(rec.Type, rec.Bucket)
	if err != nil {
		return 0, v.refuse(err)
	}
	unbounded := *r
	unbounded.MaxValueBytes = object.MaxValueBytes
	epoch, err := admit(&unbounded, &rec.Header, now, v.set.mostAhead())
	if err != nil {
		return 0, v.refuse(err)
	}
	if rec.Kind == object.Delta {
		return v.repairRow(r, hash, epoch, now, rec)
	}
	if err := rec.Verify(); err != nil { // or it might take the place of a whole one
		return 0, v.refuse(object.Errorf(object.CodeCorrupt, object.NotDone, "%w", err))
	}
	byRepair := func(writeOnce bool, old, next *object.Header) (bitcask.Action, conflict) {
		return decideRepair(writeOnce, over, old, next)
	}
	ack, err := v.putBy(r, hash, epoch, now, rec, byRepair)
	if err == nil && ack == Known || errors.Is(err, object.CodeConflict) {
		damaged, fault := v.store.Recheck(r.engine, hash, epoch, now.Unix(), rec.Key, rec.Version())
		if fault != nil {
			v.set.counters.failed.Add(1)
			return 0, fault
		}
		if damaged > 0 {
			ack, err = v.putBy(r, hash, epoch, now, rec, byRepair)
		}
	}
	if err == nil && ack == Stored {
		v.set.counters.repaired.Add(1)
	}
	return ack, err
}

// decideRepair is decide for what another replica has. It is pure.
//
//	bucket      stored                     next             becomes
//	any         nothing                    any              Append
//	write-once  another value, not over    a value          Conflict
//	any         a version at least as great                 Same
//	any         a lesser version           any              Append
//
// A lesser value is a conflict too, or its giver would think that it is kept here.
func decideRepair(writeOnce bool, over object.Version, old, next *object.Header) (bitcask.Action, conflict) {
	switch {
	case old == nil:
		return bitcask.Append, noConflict
	case writeOnce && old.Kind == object.Value && next.Kind == object.Value && !sameValue(old, next) && old.Version() != over:
		return bitcask.Conflict, otherBytes
	}
	return bitcask.Newest(old, next), noConflict
}

func sameValue(a, b *object.Header) bool {
	return a.Checksum == b.Checksum && a.ValueBytes == b.ValueBytes
}

// repairRow adds to a row what it lacks of another replica's. While the slot is in
// doubt that is what its records lack: the row in the cache may have what was lost
// since with a record, and would be without it after a restart.
func (v *Vnode) repairRow(r *rules, hash uint64, epoch int64, now time.Time, rec object.Record) (Ack, error) {
	theirs, err := v.parseDelta(r, &rec)
	if err != nil {
		return 0, v.refuse(err)
	}
	cached, err := v.row(r, hash, epoch, now, rec.Key)
	if err != nil {
		v.set.counters.failed.Add(1)
		return 0, err
	}
	defer v.set.rows.release(cached)
	have, _, _ := cached.read()
	news := index.Lacking(have, theirs)
	lacking := news
	if v.doubted(r, v.set.slotOf(r, epoch)) {
		stored, _, err := v.storedRow(r, hash, epoch, now, rec.Key)
		if err != nil {
			v.set.counters.failed.Add(1)
			return 0, err
		}
		lacking = index.Lacking(stored, theirs)
	}
	if lacking.Empty() {
		return Known, nil
	}
	delta, err := encodeRow(rec.Key, lacking, rec.TimestampMicros)
	if err != nil {
		return 0, err
	}
	defer delta.Release()
	ack, err := v.putDelta(cached, r, hash, epoch, now, delta, news)
	if err == nil {
		v.set.counters.repaired.Add(1)
	}
	return ack, err
}

// storedRow returns what the records of a row that can be read say, whatever the
// cache has, and whether some are damaged.
func (v *Vnode) storedRow(r *rules, hash uint64, epoch int64, now time.Time, key []byte) (row index.Row, damaged bool, err error) {
	var rows index.Accumulator
	err = v.eachDelta(r, hash, epoch, now, key, func(_ *object.Record, row index.Row, fault error) {
		if fault != nil {
			damaged = true
			return
		}
		rows.Add(row)
	})
	return rows.Row(), damaged, err
}

// Buckets returns the buckets of which something is stored here.
func (v *Vnode) Buckets() ([]bitcask.Bucket, error) { return v.store.Buckets() }

// Horizon returns a bucket's drop horizon.
func (v *Vnode) Horizon(bucketType, bucket []byte) (expiry.Horizon, error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil || !r.Timed {
		return 0, err
	}
	return v.store.Horizon(r.engine), nil
}

// RaiseHorizon raises a timed bucket's drop horizon to another replica's,
// durably.
func (v *Vnode) RaiseHorizon(bucketType, bucket []byte, to expiry.Horizon) error {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil || !r.Timed || to <= v.store.Horizon(r.engine) {
		return err
	}
	return v.store.RaiseHorizon(r.engine, to)
}

// Sync makes all records of a slot durable, whatever the bucket's policy.
func (v *Vnode) Sync(bucketType, bucket []byte, slot expiry.Slot) error {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil {
		return err
	}
	return v.store.Sync(r.engine, slot)
}

// Complete reports whether nothing speaks against the vnode having every record
// it acknowledged for a slot; that of a plain bucket is -1.
func (v *Vnode) Complete(bucketType, bucket []byte, slot expiry.Slot) (bool, error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil {
		return false, err
	}
	return v.completeIn(r, slot), nil
}

// Page visits what a slot holds, by position: see [bitcask.Store.Page]. damaged
// tells that some of it could not be read. Of an index the rows are visited, each
// with a header that has its key and kind only, and the digest of the merged row.
func (v *Vnode) Page(now time.Time, bucketType, bucket []byte, slot expiry.Slot, from uint64,
	visit func(position uint64, h *object.Header, row object.Digest) (more bool)) (next uint64, damaged bool, err error) {
	r, err := v.set.rulebook.of(bucketType, bucket)
	if err != nil {
		return from, false, err
	}
	if r.Rows {
		return v.pageRows(now, r, slot, from, visit)
	}
	var fault error
	next, err = v.store.Page(r.engine, slot, now.Unix(), from, func(head bitcask.Head, err error) bool {
		switch {
		case err == nil:
			return visit(position(ring.Hash(head.Type, head.Bucket, head.Key)), &head.Header, object.Digest{})
		case errors.Is(err, object.CodeCorrupt):
			damaged = true
			return true
		}
		fault = err
		return false
	})
	if err == nil {
		err = fault
	}
	return next, damaged, err
}

// position is where a page has an object.
func position(hash uint64) uint64 { return uint64(uint32(hash)) }

// pageRowsMost bounds the rows that are merged for one page.
const pageRowsMost = 1024

func (v *Vnode) pageRows(now time.Time, r *rules, slot expiry.Slot, from uint64,
	visit func(uint64, *object.Header, object.Digest) bool) (next uint64, damaged bool, err error) {
	rows, damaged, err := v.rowsFrom(now, r, slot, from)
	if err != nil {
		return from, damaged, err
	}
	for i := 0; i < len(rows); {
		at, more := rows[i].position, i < pageRowsMost
		for ; i < len(rows) && rows[i].position == at; i++ {
			digest, found, lacking, err := v.pagedDigest(r, slot, now, &rows[i])
			if err != nil {
				return from, damaged, v.slotError(r, slot, err)
			}
			damaged = damaged || lacking
			if !found {
				continue
			}
			h := object.Header{Kind: object.Delta, Type: []byte(r.Type), Bucket: []byte(r.Name), Key: []byte(rows[i].text)}
			more = visit(at, &h, digest) && more
		}
		if !more {
			return at + 1, damaged, nil
		}
	}
	return bitcask.PageEnd, damaged, nil
}

// pagedDigest returns the digest of a row as a page shows it: while the slot is in
// doubt that of its records, see repairRow. lacking tells that some of these are
// damaged.
func (v *Vnode) pagedDigest(r *rules, slot expiry.Slot, now time.Time, p *pagedRow) (digest object.Digest, found, lacking bool, err error) {
	if v.doubted(r, slot) {
		row, lacking, err := v.storedRow(r, p.hash, p.key.Epoch, now, []byte(p.text))
		return row.Digest(), !row.Empty(), lacking, err
	}
	vouched := v.completeIn(r, slot)
	a, _, err := v.readRow(r, p.hash, p.key.Epoch, now, []byte(p.text))
	lacking = vouched && !a.Complete
	if err != nil || a.State != Found {
		return object.Digest{}, false, lacking, err
	}
	return a.Row.Digest(), true, lacking, nil
}

// putDelta appends a delta to a row that is in the cache, which lacks news of it.
func (v *Vnode) putDelta(cached *row, r *rules, hash uint64, epoch int64, now time.Time, rec object.Record, news index.Row) (Ack, error) {
	if !cached.reserve(news) {
		return 0, v.refuse(object.Errorf(object.CodeTooLarge, object.NotDone,
			"the index row %q would outgrow %d bytes: put fewer and larger blobs", rec.Key, index.MaxRowBytes))
	}
	ack, err := v.put(r, hash, epoch, now, rec)
	if err != nil {
		cached.release(news)
		return 0, err
	}
	cached.add(news, rec.TimestampMicros)
	return ack, nil
}

// A pagedRow is a row that a page may show.
type pagedRow struct {
	position, hash uint64
	text           string
	key            event.IndexKey
}

// rowsFrom returns the rows of a slot from a position on, ascending. damaged
// tells that some record was not to be read, so that one may be missing.
func (v *Vnode) rowsFrom(now time.Time, r *rules, slot expiry.Slot, from uint64) (rows []pagedRow, damaged bool, err error) {
	seen := make(map[string]bool)
	for head, err := range v.store.Walk(r.engine, slot, now.Unix()) {
		switch {
		case errors.Is(err, object.CodeCorrupt):
			damaged = true
			continue
		case err != nil:
			return nil, damaged, err
		case seen[string(head.Key)]:
			continue
		}
		text := string(head.Key)
		seen[text] = true
		key, err := parseRowKey(head.Key)
		if err != nil {
			continue // not a row's key: none is admitted
		}
		hash := ring.Hash(r.Type, r.Name, text)
		if position(hash) >= from {
			rows = append(rows, pagedRow{position(hash), hash, text, key})
		}
	}
	slices.SortFunc(rows, func(a, b pagedRow) int {
		return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.text, b.text))
	})
	return rows, damaged, nil
}
