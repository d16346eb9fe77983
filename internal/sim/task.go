package sim

import (
	"context"
	"iter"
	"time"
)

// A task runs code that waits, such as a node's upkeep or the reader of a tail, in
// turns with everything else: it has the thread until it awaits something, and
// gets it back when a happening wakes it. It is a coroutine, not a goroutine that
// anything else could run beside.
type task struct {
	s      *Sim
	ctx    context.Context // ends when the task is stopped
	cancel context.CancelFunc
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	over   bool
	dead   bool // stopped: it awaits nothing any more
	settle func()
}

// spawn runs f as a task, from the next happening on. settle is called each time
// it has given the thread back.
func (s *Sim) spawn(settle func(), f func(*task)) *task {
	t := &task{s: s, settle: settle}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		f(t)
	})
	s.after(0, t.resume)
	return t
}

// resume gives the task the thread until it awaits something or ends.
func (t *task) resume() {
	if t.dead || t.over {
		return
	}
	was := t.s.running
	t.s.running = t
	_, more := t.next()
	t.s.running = was
	if t.over = !more; t.over {
		t.cancel()
	}
	t.settle()
}

// kill stops the task where it waits: what it awaits fails, and it must end.
func (t *task) kill() {
	if t.dead || t.over {
		return
	}
	t.dead = true
	t.cancel()
	was := t.s.running
	t.s.running = t
	t.stop()
	t.s.running = was
	t.over = true
}

// await calls begin, which must have done called in the end, and returns when it
// was. It returns false, perhaps without having called begin, when the task is
// stopped.
func (t *task) await(begin func(done func())) bool {
	if t.dead {
		return false
	}
	done, waiting := false, false
	begin(func() {
		if done {
			return
		}
		if done = true; waiting {
			t.s.after(0, t.resume)
		}
	})
	if waiting = true; done {
		return true
	}
	return t.yield(struct{}{}) && !t.dead
}

// sleep returns after d; false when the task is stopped.
func (t *task) sleep(d time.Duration) bool {
	return t.await(func(done func()) { t.s.after(d, done) })
}
