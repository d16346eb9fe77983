package tail

import (
	"context"
	"errors"
	"sort"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

// maxAttempts is how often a body is read that the index names and the store says
// it does not have or cannot read. Other failures pass.
const maxAttempts = 5

// reading returns a context for reads that also ends with the subscription, and
// what to call when they are done.
func (s *Subscription) reading(ctx context.Context) (context.Context, func()) {
	if s.hub.manual {
		return ctx, func() {} // the Source bounds its reads itself
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.closed, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// readSecond makes a pass over one second of arrival: it fills the backlog, and
// finishTo if the second is finished then.
func (s *Subscription) readSecond(ctx context.Context, second int64) error {
	ctx, done := s.reading(ctx)
	defer done()
	dcs := s.dcs()
	for _, key := range s.catchup.begin(s.hub.time.Now().UnixMilli(), second, dcs) {
		row, certain, err := s.hub.row(ctx, key)
		switch {
		case err == nil:
		case s.ended(ctx) != nil:
			return s.ended(ctx)
		case errors.Is(err, object.CodeExpired) && key.Epoch < second:
			s.catchup.expired(key)
			continue
		case errors.Is(err, object.CodeExpired) && second < s.hub.time.Now().Unix():
			return s.skipExpired(ctx, key)
		case !passing(err) && !errors.Is(err, object.CodeExpired):
			return object.AsError(err)
		}
		s.catchup.answered(key, row, certain)
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	backlog, finished := s.catchup.conclude(s.feed)
	s.backlog = backlog
	if finished {
		s.finishTo = second + 1
		s.hub.core.counts.CatchUpSeconds++
	} else {
		s.hub.core.counts.ReadRetries++
	}
	return nil
}

// dcs returns the dcs the subscription wants.
func (s *Subscription) dcs() (wanted []string) {
	for _, dc := range s.hub.source.DCs() {
		if s.feed.wantsDC(dc) { // never changes: no lock is needed
			wanted = append(wanted, dc)
		}
	}
	return wanted
}

// passing reports whether a failed read may succeed when repeated.
func passing(err error) bool { return object.AsError(err).Code.Retryable() }

// skipExpired finds the first second whose row is still there, by halving, and
// tells the reader of the gap.
func (s *Subscription) skipExpired(ctx context.Context, key event.IndexKey) error {
	first, last := key.Epoch, s.hub.time.Now().Unix()
	var fault error
	n := sort.Search(int(max(last-first, 1)), func(i int) bool {
		if fault != nil {
			return true
		}
		key.Epoch = first + int64(i)
		_, _, err := s.hub.source.Row(ctx, key)
		if err != nil && s.ended(ctx) != nil {
			fault = s.ended(ctx)
		}
		return !errors.Is(err, object.CodeExpired)
	})
	if fault != nil {
		return fault
	}
	next := first + int64(max(n, 1))
	s.backlog = []waiting{{gap: &Gap{First: first, Last: next - 1, Err: object.Errorf(object.CodeExpired, object.Done,
		"the seconds %d to %d have expired and cannot be tailed any more", first, next-1)}}}
	s.finishTo = next
	return nil
}
