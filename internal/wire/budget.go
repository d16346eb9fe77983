package wire

import (
	"sync"
	"time"
)

// A Budget bounds bytes in flight. Whoever wants more than is left waits, first
// come first served. A request larger than the whole budget is granted when
// nothing else is out, so that a small bound slows large objects but does not
// shut them out. Any number of goroutines may use it at once.
type Budget struct {
	mu    sync.Mutex
	limit int64
	used  int64
	queue []*claim // waiting, oldest first
}

// NewBudget returns a budget of limit bytes, all of them free.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// TryAcquire takes n bytes at once if they are free, and tells whether it has them.
func (b *Budget) TryAcquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || !b.fitsLocked(n) {
		return false
	}
	b.used += n
	return true
}

type claim struct {
	n       int64
	granted chan struct{} // closed under mu when the bytes are the claimant's
}

// Acquire takes n bytes, waiting until quit is closed or the timeout has passed;
// a timeout of 0 never does. It tells whether it has them.
func (b *Budget) Acquire(n int64, quit <-chan struct{}, timeout time.Duration) bool {
	if b.TryAcquire(n) {
		return true
	}
	b.mu.Lock()
	c := &claim{n: n, granted: make(chan struct{})}
	b.queue = append(b.queue, c)
	b.grantLocked() // what was out may have come back meanwhile
	b.mu.Unlock()

	var late <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.granted:
		return true
	case <-quit:
	case <-late:
	}
	return b.withdraw(c)
}

// withdraw takes a claim back, unless it was granted meanwhile, and tells so.
func (b *Budget) withdraw(c *claim) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, q := range b.queue {
		if q == c {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			b.grantLocked() // the next in line may be smaller
			return false
		}
	}
	return true
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used -= n; b.used < 0 {
		panic("wire: BUG: more bytes in flight released than taken")
	}
	b.grantLocked()
}

func (b *Budget) grantLocked() {
	for len(b.queue) > 0 && b.fitsLocked(b.queue[0].n) {
		b.used += b.queue[0].n
		close(b.queue[0].granted)
		b.queue = b.queue[1:]
	}
}

func (b *Budget) fitsLocked(n int64) bool { return b.used == 0 || b.used+n <= b.limit }

// InUse returns the bytes that are out.
func (b *Budget) InUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
