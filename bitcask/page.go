package bitcask

import (
	"cmp"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
)

// PageEnd is the position behind all records, see [Store.Page].
const PageEnd = uint64(1) << 32

// pageLocations bounds how many records one call of Page looks at, beyond those
// at its last position.
const pageLocations = 4096

// Page visits the headers of a slot's records (of a plain bucket: of all, the
// slot being ignored) by position: the low 32 bits of the placement hash,
// ascending, from the given position on. Of each key it visits the greatest
// version, of a KeepAll bucket every record. What has expired at now is left
// out. A damaged record is visited as an error, once: its slot is doubted.
//
// A failing disk is an error of CodeDisk, visited or returned: the page is not what
// the slot holds. After ten minutes of it, it is: the slot was doubted.
//
// It ends after a bounded number of records, or after the position at which
// visit returned false, and returns the position to go on from: a position is
// visited whole or not at all, and what lies before next and from on was all
// visited. What is put meanwhile may be among it or not.
//
// A header is valid until visit returns unless its Buf is retained.
func (s *Store) Page(b Bucket, slot expiry.Slot, now int64, from uint64, visit func(Head, error) (more bool)) (next uint64, err error) {
	d := s.disk
	if !d.gate.enter() {
		return from, ErrStopping
	}
	defer d.gate.leave()
	l, err := s.lane(laneFor(b, slot), false)
	if err == nil && l != nil {
		err = l.load()
	}
	if err != nil {
		return from, err
	}
	if l == nil || from >= PageEnd {
		return PageEnd, nil
	}
	if err := l.partlyRead(); err != nil {
		return from, err
	}
	places, next, err := l.placesFrom(from)
	if err != nil {
		return from, err
	}
	op := d.newOp()
	defer d.freeOp(op)
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].hash == places[0].hash {
			n++
		}
		more, err := l.visitPosition(b, now, op, places[:n], visit)
		if err == error(ErrExpired) {
			return PageEnd, nil // dropped meanwhile
		}
		if err != nil {
			return from, err
		}
		if !more {
			return uint64(places[0].hash) + 1, nil
		}
		places = places[n:]
	}
	return next, nil
}

// placesFrom returns the lane's places from a position on, ascending, as far as
// one page goes, and the position behind them.
func (l *lane) placesFrom(from uint64) (places []place, next uint64, err error) {
	next = PageEnd
	most := 4 * pageLocations // places kept before the greatest are let go
	byHash := func(a, b place) int { return cmp.Compare(a.hash, b.hash) }
	cut := func() { // keeps the least ones, and only whole positions
		if len(places) <= pageLocations {
			return
		}
		slices.SortStableFunc(places, byHash)
		last := places[pageLocations].hash
		end, _ := slices.BinarySearchFunc(places, last, func(p place, h uint32) int { return cmp.Compare(p.hash, h) })
		if end == 0 { // one position with more than a page: it is visited alone
			end = len(places)
			for end > 0 && places[end-1].hash != last {
				end--
			}
			last++
		}
		clear(places[end:])
		places, next = places[:end], uint64(last)
	}
	for _, seg := range l.snapshot() {
		locations, err := l.locations(seg)
		if err != nil {
			return nil, from, err
		}
		for _, loc := range locations {
			if h := uint64(loc.hash); h < from || h >= next {
				continue
			}
			places = append(places, place{seg, loc})
			if len(places) >= most {
				cut()
				most = max(most, 2*len(places))
			}
		}
	}
	cut()
	slices.SortStableFunc(places, byHash)
	return places, next, nil
}

// visitPosition visits the records of one position.
func (l *lane) visitPosition(b Bucket, now int64, op *putOp, places []place, visit func(Head, error) bool) (more bool, err error) {
	s := l.store
	more = true
	if b.KeepAll || len(places) == 1 {
		for _, p := range places {
			h, n, err := l.readListed(p, op)
			switch {
			case err == errCopied:
			case err == error(ErrExpired):
				return false, err
			case err != nil:
				more = visit(Head{}, err) && more
			case !s.hidden(b, &h, now):
				head := newHead(op.scratch[frameSize : frameSize+n])
				more = visit(head, nil) && more
				head.Release()
			}
		}
		return more, nil
	}
	best := map[string]int{} // by key: index in places
	heads := make([]Head, len(places))
	defer func() {
		for i := range heads {
			heads[i].Release()
		}
	}()
	var keys []string
	for i, p := range places {
		_, n, err := l.readListed(p, op)
		if err == errCopied {
			continue
		}
		if err == error(ErrExpired) {
			return false, err
		}
		if err != nil {
			more = visit(Head{}, err) && more
			continue
		}
		heads[i] = newHead(op.scratch[frameSize : frameSize+n])
		key := string(heads[i].Key)
		j, known := best[key]
		if !known {
			keys = append(keys, key)
		}
		if !known || p.beats(heads[i].Version(), places[j], heads[j].Version()) {
			best[key] = i
		}
	}
	for _, key := range keys {
		if head := heads[best[key]]; !s.hidden(b, &head.Header, now) {
			more = visit(head, nil) && more
		}
	}
	return more, nil
}

// Sync makes what a slot's records are now durable, whatever their bucket's
// policy, and whichever sync has failed before. The slot is ignored in a plain bucket.
func (s *Store) Sync(b Bucket, slot expiry.Slot) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	l, err := s.lane(laneFor(b, slot), false)
	if l == nil || err != nil {
		return err
	}
	if err := l.syncAll(); err != nil {
		return err
	}
	return s.publish("marking a slot clean")
}

// Known reports whether a usable manifest was found when the store was opened:
// if not, nothing here tells what the partition once held.
func (s *Store) Known() bool { return s.evidence.known }
