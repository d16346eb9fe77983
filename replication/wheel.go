package replication

import (
	"sync"
	"time"
)

const (
	wheelSlots = 512              // a turn takes half a second
	wheelTick  = time.Millisecond // resolution of an alarm
	never      = int64(1) << 62   // ticks
)

// A wheel calls back at set times: one for all operations of a coordinator. To
// set and to cancel an alarm cost some fifty nanoseconds, as most are cancelled. An
// alarm further off than one turn stays in its slot until its turn comes.
//
// Alarms ring up to one tick late, never early.
type wheel struct {
	start time.Time

	mu      sync.Mutex
	slots   [wheelSlots]alarm // heads of rings of alarms
	used    [wheelSlots / 64]uint64
	count   int
	done    int64 // all alarms up to this tick have rung
	planned int64 // the tick at which run looks next
	due     []*alarm

	poke chan struct{} // an alarm before planned was set; capacity 1
}

// An alarm belongs to one operation, which sets and cancels it under its lock.
type alarm struct {
	prev, next *alarm
	at         int64 // tick; 0 if it is not set
	ring       func(now time.Time)
}

func newWheel(start time.Time) *wheel {
	w := &wheel{start: start, planned: never, poke: make(chan struct{}, 1)}
	for i := range w.slots {
		h := &w.slots[i]
		h.prev, h.next = h, h
	}
	return w
}

// set arranges for a.ring to be called once at the given time. a must not be set.
func (w *wheel) set(a *alarm, at time.Time) {
	w.mu.Lock()
	if a.at != 0 {
		panic("replication: BUG: an alarm is set twice")
	}
	tick := max(int64((at.Sub(w.start)+wheelTick-1)/wheelTick), w.done+1)
	a.at = tick
	slot := tick % wheelSlots
	h := &w.slots[slot]
	a.prev, a.next = h.prev, h
	h.prev.next, h.prev = a, a
	w.used[slot/64] |= 1 << (slot % 64)
	w.count++
	sooner := tick < w.planned
	if sooner {
		w.planned = tick
	}
	w.mu.Unlock()
	if sooner {
		select {
		case w.poke <- struct{}{}:
		default:
		}
	}
}

// cancel takes an alarm back and reports whether it was set. If not, it was never
// set, or is ringing or has rung.
func (w *wheel) cancel(a *alarm) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.at == 0 {
		return false
	}
	w.removeLocked(a)
	return true
}

func (w *wheel) removeLocked(a *alarm) {
	a.prev.next, a.next.prev = a.next, a.prev
	slot := a.at % wheelSlots
	if h := &w.slots[slot]; h.next == h {
		w.used[slot/64] &^= 1 << (slot % 64)
	}
	a.prev, a.next, a.at = nil, nil, 0
	w.count--
}

// advance rings all alarms that are due. One goroutine calls it at a time.
func (w *wheel) advance(now time.Time) {
	w.mu.Lock()
	to := max(int64(now.Sub(w.start)/wheelTick), w.done)
	due := w.due[:0]
	for tick := max(w.done+1, to-wheelSlots+1); tick <= to; tick++ {
		slot := tick % wheelSlots
		if w.used[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		h := &w.slots[slot]
		for a := h.next; a != h; {
			next := a.next
			if a.at <= to {
				w.removeLocked(a)
				due = append(due, a)
			}
			a = next
		}
	}
	w.done = to
	w.planned = w.nextLocked()
	w.mu.Unlock()
	for _, a := range due {
		a.ring(now)
	}
	clear(due)
	w.due = due[:0]
}

// nextLocked is the first tick with an alarm in its slot, perhaps of a later turn.
func (w *wheel) nextLocked() int64 {
	if w.count == 0 {
		return never
	}
	for tick := w.done + 1; ; tick++ {
		slot := tick % wheelSlots
		if w.used[slot/64] == 0 {
			tick += 63 - slot%64 // none in these 64 slots
			continue
		}
		if w.used[slot/64]&(1<<(slot%64)) != 0 {
			return tick
		}
	}
}

// next returns when advance should be called; ok is false if no alarm is set.
func (w *wheel) next() (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.planned == never {
		return time.Time{}, false
	}
	return w.start.Add(time.Duration(w.planned) * wheelTick), true
}

// run rings alarms until stop is closed.
func (w *wheel) run(now func() time.Time, stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if at, ok := w.next(); ok {
			wait = max(at.Sub(now()), 0)
		}
		timer.Reset(wait)
		select {
		case <-stop:
			return
		case <-w.poke:
		case <-timer.C:
			w.advance(now())
		}
	}
}
