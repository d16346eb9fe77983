package tail

import (
	"context"
	"time"
)

// A Subscription is one tail. Next and Cursor are for one goroutine at a time;
// Close may be called by any.
type Subscription struct {
	hub    *Hub
	feed   *feed         // guarded by hub.mu
	wake   chan struct{} // capacity 1: the reader should look again
	closed context.Context
	stop   context.CancelCauseFunc // ends closed

	// The reader's own: what it is behind with, and what it took and could not
	// deliver yet.
	catchup  *catchup
	backlog  []waiting
	finishTo int64 // once the backlog is delivered, all before it is finished; 0: nothing is
	current  waiting
	taken    bool // there is a current
	attempts int  // in vain, to read current's body
	pause    time.Duration
}

// Between attempts in vain the reader pauses twice as long each time.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

func newSubscription(h *Hub, f *feed) *Subscription {
	s := &Subscription{hub: h, feed: f, wake: make(chan struct{}, 1), catchup: newCatchup(&h.cfg)}
	s.closed, s.stop = context.WithCancelCause(h.closed)
	f.notify = func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return s
}

// Next waits for the next item. The caller releases it with [Item.Release]. The
// item counts as delivered when Next returns: what [Subscription.Cursor] says
// afterwards includes it.
//
// Nothing that was acknowledged is passed over in silence, and nothing comes twice
// that the cursor knows. Reads that fail for now are repeated until they succeed,
// however long it takes; what can be read by no means becomes a gap.
//
// The error is the cause of ctx's end, ErrClosed, or an *object.Error that says why
// the source refuses. After any of them but ErrClosed, Next may be called again
// and goes on where it was.
func (s *Subscription) Next(ctx context.Context) (Item, error) {
	for {
		if err := s.ended(ctx); err != nil {
			return Item{}, err
		}
		if !s.taken {
			live, err := s.take(ctx)
			if err != nil {
				return Item{}, err
			}
			if !s.taken {
				if err := s.wait(ctx, live); err != nil {
					return Item{}, err
				}
				continue
			}
		}
		if item, ok, err := s.deliver(ctx); err != nil || ok {
			return item, err
		}
	}
}

// Cursor returns the position after the items that Next has returned: a
// subscription that begins with it continues from there.
func (s *Subscription) Cursor() string {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.feed.cursor.String()
}

// Close ends the subscription. A Next that waits returns ErrClosed.
func (s *Subscription) Close() {
	s.stop(ErrClosed)
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.subs, s)
	s.hub.core.unsubscribe(s.feed)
}

// ended returns why the reader should stop, if it should.
func (s *Subscription) ended(ctx context.Context) error {
	switch {
	case s.closed.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// take fills current if anything is to be had without waiting. live tells that
// what comes next will come by itself.
func (s *Subscription) take(ctx context.Context) (live bool, err error) {
	for {
		if len(s.backlog) > 0 {
			s.current, s.taken = s.backlog[0], true
			s.backlog = s.backlog[1:]
			return false, nil
		}
		second, live := s.takeQueued()
		if s.taken || live {
			return live, nil
		}
		if err := s.ended(ctx); err != nil {
			return false, err
		}
		if err := s.readSecond(ctx, second); err != nil {
			return false, err
		}
		if len(s.backlog) == 0 && s.finishTo == 0 {
			return false, nil // too early, or uncertain: again after a pause
		}
		s.pause = 0
	}
}

// takeQueued takes from the feed. If it has nothing, the reader waits for it, if
// it is live, or is to read that second itself.
func (s *Subscription) takeQueued() (second int64, live bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.finishTo > 0 {
		s.feed.cursor.Finish(s.finishTo)
		s.finishTo = 0
	}
	s.current, s.taken, live = s.hub.core.take(s.feed)
	return s.feed.cursor.Low(), live
}

// wait returns when it is worth looking again: when the feed says so, and for one
// that is not live after a pause.
func (s *Subscription) wait(ctx context.Context, live bool) error {
	again := time.Duration(0) // it is woken
	if !live {
		s.pause = min(max(2*s.pause, firstPause), maxPause)
		again = s.pause
	}
	s.hub.time.Pause(ctx, s.closed.Done(), s.wake, again)
	return s.ended(ctx)
}
