package bitcask

import (
	"iter"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// Walk yields the headers of a slot's records (of a plain bucket: of all, the
// slot being ignored), segment by segment in the order they came: in a KeepAll
// bucket all of them, elsewhere the greatest version of each key. What is put
// meanwhile may be among them or not. A header is valid until the next step
// unless its Buf is retained. What has expired at now is left out. A damaged
// record, or a failing disk, is yielded as an error, CodeCorrupt or CodeDisk, and the
// walk goes on; see [Store.Page].
func (s *Store) Walk(b Bucket, slot expiry.Slot, now int64) iter.Seq2[Head, error] {
	return func(yield func(Head, error) bool) {
		s.walk(b, slot, now, func(op *putOp, _ place, n int, err error) bool {
			if err != nil {
				return yield(Head{}, err)
			}
			h := newHead(op.scratch[frameSize : frameSize+n])
			more := yield(h, nil)
			h.Release()
			return more
		})
	}
}

// WalkRecords is [Store.Walk] with the values. A record is valid until the next
// step unless it is retained.
func (s *Store) WalkRecords(b Bucket, slot expiry.Slot, now int64) iter.Seq2[object.Record, error] {
	return func(yield func(object.Record, error) bool) {
		s.walk(b, slot, now, func(_ *putOp, at place, _ int, err error) bool {
			var rec object.Record
			if err == nil {
				rec, err = s.readRecord(at)
			}
			if err == error(ErrExpired) {
				return true // dropped meanwhile
			}
			more := yield(rec, err)
			rec.Release()
			return more
		})
	}
}

// walk visits the live records of a lane: with the header, n bytes long, in
// op.scratch behind the frame, or with an error.
func (s *Store) walk(b Bucket, slot expiry.Slot, now int64, visit func(op *putOp, at place, n int, err error) bool) {
	d := s.disk
	if !d.gate.enter() {
		visit(nil, place{}, 0, ErrStopping)
		return
	}
	defer d.gate.leave()
	op := d.newOp()
	defer d.freeOp(op)
	l, err := s.lane(laneFor(b, slot), false)
	if err == nil && l != nil {
		err = l.load()
	}
	if err != nil {
		visit(nil, place{}, 0, err)
		return
	}
	if l == nil {
		return
	}
	if err := l.partlyRead(); err != nil && !visit(nil, place{}, 0, err) {
		return
	}
	segs, unpin := l.pin()
	defer unpin()
	for _, seg := range segs {
		locations, err := l.locations(seg)
		if err != nil && !visit(nil, place{}, 0, err) {
			return
		}
		for _, loc := range locations {
			at := place{seg, loc}
			h, n, err := l.readListed(at, op)
			switch {
			case err == error(ErrExpired):
				return // dropped meanwhile
			case err == errCopied, err == nil && (s.hidden(b, &h, now) || !b.KeepAll && len(segs) > 1 && l.superseded(at, &h, segs)):
				continue
			}
			if !visit(op, at, n, err) {
				return
			}
		}
	}
}

// hidden reports whether a record's time has expired at now.
func (s *Store) hidden(b Bucket, h *object.Header, now int64) bool {
	if !b.Timed {
		return s.hiddenPlain(b, h, now)
	}
	epoch, ok := epochOf(h.Key)
	return ok && expiry.Hidden(epoch, now, s.limits(b))
}

// superseded reports whether the record that counts of a key is another one of
// those in segs. Segments made since are left out: what was there when a walk
// began is among what it yields.
func (l *lane) superseded(at place, h *object.Header, segs []*segment) bool {
	s, d := l.store, l.store.disk
	op := d.newOp()
	defer d.freeOp(op)
	var err error
	op.places, err = l.lookupAmong(op.places[:0], segs, uint32(d.cfg.Hash(h.Type, h.Bucket, h.Key)))
	if l.hasCondemned.Load() {
		op.places = l.dropCondemned(op.places)
	}
	if err != nil || len(op.places) < 2 {
		return false
	}
	best, where, err := s.greatest(op.places, h.Key, op)
	return err == nil && best.Key != nil && where != at
}

// locations returns a segment's entries in the order of the file.
func (l *lane) locations(seg *segment) ([]location, error) {
	const tries = 4 // see lookupSealed
	for range tries {
		l.mu.RLock()
		var all []location
		open := seg.keydir != nil || seg.plain.resident != nil
		switch {
		case seg.keydir != nil:
			all = slices.AppendSeq(make([]location, 0, seg.keydir.len()), seg.keydir.all())
		case open:
			all = slices.Clone(seg.plain.resident)
		}
		dropped := l.dropped
		l.mu.RUnlock()
		var err error
		hint := seg.sealed.Load()
		switch {
		case dropped:
			return nil, nil
		case !open:
			if all, err = l.store.disk.readHint(hint); err != nil && err != errGone {
				err = l.hintFailed(seg, hint, err)
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		if err == nil {
			all = l.withoutCondemned(seg, all)
			slices.SortFunc(all, func(a, b location) int { return int(int64(a.offset8) - int64(b.offset8)) })
			return all, nil
		}
	}
	return nil, object.Errorf(object.CodeDisk, object.NotDone, "%s cannot be read", l.store.disk.fs.Path(hintName(seg.data.name)))
}

func (d *Disk) readHint(hint *sealedHint) ([]location, error) {
	f, err := d.handles.acquire(&hint.file)
	if err != nil {
		return nil, err
	}
	defer d.handles.release(&hint.file)
	return loadHint(f, &hint.hintHeader)
}

// Digests returns the sums of a slot's records by minute, ascending: of every
// record that is listed. Of a plain bucket there is one sum, under minute 0, of the
// greatest version of each key; it costs a look at every record that was
// overwritten in another segment and is not merged yet.
func (s *Store) Digests(b Bucket, slot expiry.Slot) ([]MinuteDigest, error) {
	if !s.disk.gate.enter() {
		return nil, ErrStopping
	}
	defer s.disk.gate.leave()
	l, err := s.lane(laneFor(b, slot), false)
	if l == nil || err != nil {
		return nil, err
	}
	if err := l.load(); err != nil {
		return nil, err
	}
	if err := l.partlyRead(); err != nil {
		return nil, err
	}
	var sums minutes
	segs, unpin := l.pin()
	defer unpin()
	for _, seg := range segs {
		m, err := l.sumsOf(seg)
		if err != nil {
			return nil, err
		}
		sums.merge(m)
	}
	if !l.timed && !l.knownBucket().KeepAll && len(segs) > 1 {
		if sums, err = l.withoutReplaced(segs, sums); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(sums, func(d MinuteDigest) bool { return d.Count == 0 }), nil
}

func (l *lane) sumsOf(seg *segment) (minutes, error) {
	const tries = 4 // see lookupSealed
	for range tries {
		l.mu.RLock()
		if seg.keydir != nil || seg.plain.resident != nil {
			defer l.mu.RUnlock()
			return seg.allSums(), nil
		}
		dropped := l.dropped
		l.mu.RUnlock()
		if dropped {
			return nil, ErrExpired
		}
		hint := seg.sealed.Load()
		m, err := l.store.disk.readMinutes(hint)
		if err == nil {
			return m, nil
		}
		if err == errGone {
			continue
		}
		if err := l.hintFailed(seg, hint, err); err != nil {
			return nil, err
		}
	}
	return nil, object.Errorf(object.CodeDisk, object.NotDone, "%s cannot be read", l.store.disk.fs.Path(hintName(seg.data.name)))
}

func (d *Disk) readMinutes(hint *sealedHint) (minutes, error) {
	f, err := d.handles.acquire(&hint.file)
	if err != nil {
		return nil, err
	}
	defer d.handles.release(&hint.file)
	header := hint.hintHeader // the footer sets some of it
	return readHintMinutes(f, &header)
}
