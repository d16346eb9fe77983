package tail

import (
	"context"
	"errors"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// deliver makes an item of current. It returns false if there is none to be made:
// then current was passed over, or is still there and will be tried again.
func (s *Subscription) deliver(ctx context.Context) (Item, bool, error) {
	q := &s.current
	item := Item{Arrival: q.arrival()}
	switch {
	case q.mark != nil:
		item.Kind = KindWatermark
		item.Watermark = Watermark{Epoch: q.mark.second, DC: q.mark.dc, Verdict: q.mark.verdict}
	case q.gap != nil:
		item.Kind, item.Gap = KindGap, *q.gap
	default:
		item.Kind = KindBlob
		item.Blob = Blob{Key: q.blob.key, Entry: q.blob.entry, Late: q.blob.entry.Flags&index.Late != 0}
		if ok, err := s.addBody(ctx, &item); !ok {
			return Item{}, false, err
		}
	}
	return s.hand(item)
}

// hand notes that current was delivered as item.
func (s *Subscription) hand(item Item) (Item, bool, error) {
	id := s.current.id()
	if item.Kind == KindBlob {
		id = item.ID()
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	twice := s.feed.has(id)
	if twice {
		id = s.current.id()
	}
	if item.Kind == KindGap {
		s.hub.core.counts.Gaps++
	}
	item.Low = s.hub.core.delivered(s.feed, &s.current, id)
	s.current, s.taken, s.attempts, s.pause = waiting{}, false, 0, 0
	if twice { // another claim to the key has led to the same value
		item.Release()
		return Item{}, false, nil
	}
	return item, true, nil
}

// passOver notes current as delivered without an item.
func (s *Subscription) passOver() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.core.delivered(s.feed, &s.current, s.current.id())
	s.current, s.taken, s.attempts, s.pause = waiting{}, false, 0, 0
}

// addBody gives the item of current its record, or makes it a gap. It returns
// false if there is nothing to deliver, now or ever.
func (s *Subscription) addBody(ctx context.Context, item *Item) (ok bool, err error) {
	q := &s.current
	switch {
	case s.feed.withoutBodies:
		return true, nil
	case q.body != nil:
		item.Blob.Record = *q.body
		return true, nil
	}
	ctx, done := s.reading(ctx)
	defer done()
	rec, err := s.get(ctx, q.blob)
	if err == nil {
		item.Blob.Record = rec
		if rec.Header.Checksum != q.blob.entry.Checksum { // another claim to the key has won
			item.Blob.Entry = wonEntry(&rec, item.Blob.Entry)
		}
		return true, nil
	}
	if fault := s.ended(ctx); fault != nil {
		return false, fault
	}
	if errors.Is(err, object.CodeAbsent) && s.erased(ctx, q.blob) {
		s.passOver()
		return false, nil
	}
	if again, fault := s.tryAgain(ctx, err); again {
		return false, fault
	}
	*item = Item{Kind: KindGap, Arrival: item.Arrival, Gap: Gap{First: item.Arrival, Last: item.Arrival, Key: q.blob.key, Err: object.AsError(err)}}
	return true, nil
}

// get reads the body of a blob.
func (s *Subscription) get(ctx context.Context, b *blob) (object.Record, error) {
	rec, err := s.hub.source.Get(ctx, b.key)
	s.hub.mu.Lock()
	s.hub.core.counts.BodyReads++
	if err != nil {
		s.hub.core.counts.ReadRetries++
	}
	s.hub.mu.Unlock()
	if err == nil && rec.Kind == object.Tombstone {
		rec.Release()
		err = object.Errorf(object.CodeAbsent, object.Done, "the blob %s was erased", b.key)
	}
	return rec, err
}

// tryAgain decides about a body that could not be read, and pauses if it is to be
// tried again. What the store says it does not have, or cannot read, is believed
// after some attempts; what it cannot tell or do now is waited for.
func (s *Subscription) tryAgain(ctx context.Context, err error) (again bool, fault error) {
	switch object.AsError(err).Code {
	case object.CodeExpired:
		return false, nil
	case object.CodeUnknown, object.CodeUnavailable, object.CodeOverload, object.CodeDeadline,
		object.CodeStopping, object.CodeWrongOwner, object.CodeLowSpace:
	default:
		if s.attempts++; s.attempts >= maxAttempts {
			return false, nil
		}
	}
	s.pause = min(max(2*s.pause, firstPause), maxPause)
	s.hub.time.Pause(ctx, nil, nil, s.pause)
	return true, s.ended(ctx)
}

// erased reports whether the index says that the blob was erased since its entry
// was read.
func (s *Subscription) erased(ctx context.Context, b *blob) bool {
	row, _, err := s.hub.source.Row(ctx, b.key.Index())
	if err != nil {
		return false
	}
	suffix := b.key.Suffix()
	for _, e := range row.All() {
		if e.Suffix == suffix && e.Flags&index.Erased != 0 {
			return true
		}
	}
	return false
}

// wonEntry describes the record that was read under the key of an entry.
func wonEntry(rec *object.Record, was index.Entry) index.Entry {
	was.Version, was.Checksum, was.Bytes, was.Events = rec.Version(), rec.Header.Checksum, rec.ValueBytes, rec.EventCount
	return was
}
