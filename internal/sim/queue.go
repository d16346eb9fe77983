package sim

import "time"

// A queue is the simulation's clock and what is to happen: single-threaded, in
// the order of time, and of two things at one time in the order in which they were
// arranged.
type queue struct {
	now  time.Duration // since the simulation began
	seq  uint64
	heap []happening
}

type happening struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (a *happening) before(b *happening) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

// at arranges for do at a time, or now if that is past.
func (q *queue) at(t time.Duration, do func()) {
	q.seq++
	q.heap = append(q.heap, happening{max(t, q.now), q.seq, do})
	for i := len(q.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.heap[i].before(&q.heap[parent]) {
			break
		}
		q.heap[i], q.heap[parent] = q.heap[parent], q.heap[i]
		i = parent
	}
}

// after arranges for do when d has passed.
func (q *queue) after(d time.Duration, do func()) { q.at(q.now+d, do) }

// step makes the next thing happen; it reports false if there is none.
func (q *queue) step() bool {
	if len(q.heap) == 0 {
		return false
	}
	next := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = happening{}
	q.heap = q.heap[:last]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < last && q.heap[child].before(&q.heap[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
	q.now = next.at
	next.do()
	return true
}
