package aggregate

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

const (
	opWorkers    = 2                     // additions to the index under way at once
	leastCharge  = 256                   // bytes: less than the kernel charges a socket's buffer for any datagram
	receivePause = 10 * time.Millisecond // after a receive that failed, so that a lasting fault does not spin
	warnEvery    = 10 * time.Second      // at most, that the sink fails
)

// receives takes datagrams from a socket until ctx ends, and then what the
// socket holds.
func (a *Aggregator) receives(ctx context.Context, s *socket) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }) // ends a waiting receive
	defer stop()
	var b batch
	for {
		err := s.receiver.receive(&b, true)
		if err == nil {
			a.deliver(&b)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		a.counters.ReceiveErrors.Add(1)
		a.log.Warn("a receive failed", "addr", s.conn.LocalAddr().String(), "err", err)
		pause(ctx, receivePause)
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	// No more than the buffer can have held: senders may not stop.
	for left := 2 * a.o.ReceiveBufferBytes / leastCharge; left > 0; left -= len(b.datagrams) + b.truncated {
		if s.receiver.receive(&b, false) != nil || b.empty() {
			return
		}
		a.deliver(&b)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// deliver hands a batch to the core.
func (a *Aggregator) deliver(b *batch) {
	a.mu.Lock()
	now := time.Now()
	for _, d := range b.datagrams {
		a.core.datagram(now, d)
	}
	if b.truncated > 0 {
		a.counters.Datagrams.Add(int64(b.truncated))
		a.core.drop(Truncated, int64(b.truncated))
	}
	a.counters.KernelDrops.Add(int64(b.dropped))
	a.unlock(now)
}

// next waits for work of one kind and takes it. It reports false when the worker
// is to end. mu is held when it returns true.
func next[T any](a *Aggregator, take func(now time.Time) (T, bool)) (work T, ok bool) {
	a.mu.Lock()
	for {
		if work, ok = take(time.Now()); ok {
			return work, true
		}
		if a.finished {
			a.mu.Unlock()
			return work, false
		}
		a.work.Wait()
	}
}

// seals makes blobs of groups.
func (a *Aggregator) seals() {
	s := sealer{writer: []byte(a.o.Writer), incarnation: a.o.Incarnation, next: &a.chunk}
	for {
		g, ok := next(a, func(time.Time) (*group, bool) { g := a.core.takeJob(); return g, g != nil })
		if !ok {
			return
		}
		a.mu.Unlock()
		blobs := s.seal(g)
		a.mu.Lock()
		a.core.sealed(g, blobs)
		a.unlock(time.Now())
	}
}

// puts stores blobs.
func (a *Aggregator) puts(ctx context.Context) {
	for {
		batch, ok := next(a, func(now time.Time) ([]*blob, bool) { b := a.core.takeBatch(now); return b, b != nil })
		if !ok {
			return
		}
		a.mu.Unlock()
		call, cancel := context.WithTimeout(ctx, a.o.CallTimeout)
		errs := a.sink.PutBatch(call, records(batch))
		cancel()
		a.mu.Lock()
		now := time.Now()
		acknowledged := a.core.batchDone(now, batch, errs)
		a.unlockAfterCall(now, errors.Join(errs...))
		if a.o.OnAck != nil {
			for _, b := range acknowledged {
				a.o.OnAck(b.key, b.events, b.record.Checksum)
			}
		}
	}
}

// appends tells the index of hellos, finals and goodbyes.
func (a *Aggregator) appends(ctx context.Context) {
	for {
		o, ok := next(a, func(now time.Time) (*op, bool) { o := a.core.takeOp(now); return o, o != nil })
		if !ok {
			return
		}
		a.mu.Unlock()
		call, cancel := context.WithTimeout(ctx, a.o.CallTimeout)
		err := a.sink.AppendIndex(call, o.key, o.delta)
		cancel()
		a.mu.Lock()
		now := time.Now()
		a.core.opDone(now, o, err)
		a.unlockAfterCall(now, err)
	}
}

// unlockAfterCall is unlock after a call to the sink: it also logs when the sink
// begins and ends to fail.
func (a *Aggregator) unlockAfterCall(now time.Time, err error) {
	failing, was := a.core.failures > 0, a.failing
	warn := failing && !was && now.Sub(a.warned) >= warnEvery
	if warn {
		a.warned = now
	}
	if warn || was && !failing {
		a.failing = failing
	}
	a.unlock(now)
	switch {
	case warn:
		a.log.Warn("the store takes nothing; trying again until it does", "err", err)
	case was && !failing:
		a.log.Info("the store takes blobs again")
	}
}
