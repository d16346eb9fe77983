package sim

import (
	"context"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
)

// upkeep recovers what the last stop left undone, and then seals and keeps up, for
// ever: what a node's upkeep goroutine does, as a task.
func (n *node) upkeep(t *task) {
	added, err := n.vnodes.Recover(t.ctx, n.now(), indexOf{n, t})
	if t.dead {
		return
	}
	n.s.trace.note(n.s.now, n.at, "has recovered", "", int64(added)<<8|outcome(err))
	for t.sleep(time.Second) {
		now := n.now()
		if len(n.clients) > 1000 {
			n.clients = slices.Clone(n.clients[len(n.clients)-500:]) // older ones are answered
		}
		err := n.vnodes.Maintain(t.ctx, now, indexOf{n, t})
		if t.dead {
			return
		}
		done, diskErr := n.disk.Maintain(now.Unix(), true)
		n.coord.Tick(n.now())
		if err != nil || diskErr != nil || done.Sealed > 0 {
			n.s.trace.note(n.s.now, n.at, "upkeep", "", int64(done.Sealed)<<16|outcome(err)<<8|outcome(diskErr))
		}
	}
}

// indexOf is the index as a node's upkeep reads it. It is a [vnode.Index].
type indexOf struct {
	n *node
	t *task
}

var errStopped = object.Errorf(object.CodeStopping, object.MaybeDone, "the node stops")

// Row implements vnode.Index.
func (i indexOf) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	return i.n.awaitRow(i.t, key, readTimeout+time.Second)
}

// Add implements vnode.Index.
func (i indexOf) Add(_ context.Context, key event.IndexKey, delta index.Row) error {
	var err *object.Error
	if !i.t.await(func(done func()) {
		i.n.addToRow(key, delta, nil, func(e *object.Error, _ bool) { err = e; done() })
	}) {
		return errStopped
	}
	if err == nil {
		return nil
	}
	return err
}

// awaitRow reads a row through the coordinator.
func (n *node) awaitRow(t *task, key event.IndexKey, limit time.Duration) (row index.Row, certain bool, err error) {
	fault := errLate
	if !t.await(func(done func()) {
		n.coord.BeginRow(key, func(r index.Row, c bool, e *object.Error) { row, certain, fault = r, c, e; done() })
		n.s.after(limit, done)
	}) {
		return index.Row{}, false, errStopped
	}
	if fault != nil {
		return index.Row{}, false, fault
	}
	return row, certain, nil
}

// A tailSource is what a node's hub reads. It is a [tail.Source]; its methods run in
// tasks.
type tailSource struct{ n *node }

// Row implements tail.Source.
func (t tailSource) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	return t.n.awaitRow(t.n.s.running, key, hubReadTimeout)
}

// Get implements tail.Source.
func (t tailSource) Get(_ context.Context, key event.Key) (object.Record, error) {
	var rec object.Record
	fault, late := errLate, false
	ok := t.n.s.running.await(func(done func()) {
		t.n.coord.BeginGet([]byte(bucket.DefaultType), []byte(bucket.Events), []byte(key.String()), true, func(r object.Record, e *object.Error) {
			if late {
				r.Release()
				return
			}
			rec, fault = r, e
			done()
		})
		t.n.s.after(readTimeout+time.Second, done)
	})
	late = true
	switch {
	case !ok:
		rec.Release()
		return object.Record{}, errStopped
	case fault != nil:
		return object.Record{}, fault
	}
	return rec, nil
}

// DCs implements tail.Source.
func (t tailSource) DCs() []string { return t.n.s.dcs }

// hubTime gives a hub the node's clock and the simulation's tasks. It is a
// [tail.Runtime].
type hubTime struct{ n *node }

// Now implements tail.Runtime.
func (h hubTime) Now() time.Time { return h.n.now() }

// Go implements tail.Runtime.
func (h hubTime) Go(f func()) { h.n.spawn(func(*task) { f() }) }

// pollEvery is how soon a task that pauses sees that it was woken.
const pollEvery = 50 * time.Millisecond

// Pause implements tail.Runtime.
func (h hubTime) Pause(ctx context.Context, closed, wake <-chan struct{}, d time.Duration) {
	t := h.n.s.running
	until := h.n.s.now + d
	for ctx.Err() == nil && (d == 0 || h.n.s.now < until) {
		select {
		case <-wake:
			return
		case <-closed:
			return
		default:
		}
		step := pollEvery
		if d > 0 {
			step = min(step, until-h.n.s.now)
		}
		if !t.sleep(step) {
			return
		}
	}
}

var _ tail.Runtime = hubTime{}
