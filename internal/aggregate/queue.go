package aggregate

import (
	"slices"
	"time"
)

// A queue holds work in order, and work that is to be tried again at a time.
type queue[T any] struct {
	items   []T // in order; those before head are taken
	head    int
	waiting []delayed[T] // ascending by time
}

type delayed[T any] struct {
	at   time.Time
	item T
}

// len is the number of items, waiting ones included.
func (q *queue[T]) len() int { return len(q.items) - q.head + len(q.waiting) }

// push adds an item at the end.
func (q *queue[T]) push(item T) {
	if q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// putBack adds items at the front, in their order.
func (q *queue[T]) putBack(items []T) {
	if q.head < len(items) {
		q.items = slices.Insert(q.items, q.head, items...)
		return
	}
	q.head -= len(items)
	copy(q.items[q.head:], items)
}

// pushAt adds an item that joins the end of the queue at a time.
func (q *queue[T]) pushAt(item T, at time.Time) {
	i, _ := slices.BinarySearchFunc(q.waiting, at, func(d delayed[T], at time.Time) int {
		if d.at.After(at) {
			return 1
		}
		return -1 // behind those of the same time
	})
	q.waiting = slices.Insert(q.waiting, i, delayed[T]{at, item})
}

// due moves the items whose time has come to the end of the queue.
func (q *queue[T]) due(now time.Time) {
	n := 0
	for n < len(q.waiting) && !q.waiting[n].at.After(now) {
		q.push(q.waiting[n].item)
		n++
	}
	q.waiting = slices.Delete(q.waiting, 0, n)
}

// next is the time of the first waiting item.
func (q *queue[T]) next() (at time.Time, ok bool) {
	if len(q.waiting) == 0 {
		return time.Time{}, false
	}
	return q.waiting[0].at, true
}

// peek is the first item that does not wait.
func (q *queue[T]) peek() (item T, ok bool) {
	if q.head == len(q.items) {
		return item, false
	}
	return q.items[q.head], true
}

// pop takes what peek shows.
func (q *queue[T]) pop() (item T, ok bool) {
	item, ok = q.peek()
	if ok {
		var none T
		q.items[q.head] = none
		q.head++
	}
	return item, ok
}

// removeIf removes items, waiting ones included.
func (q *queue[T]) removeIf(remove func(T) bool) {
	q.items = slices.Delete(q.items, 0, q.head)
	q.head = 0
	q.items = slices.DeleteFunc(q.items, remove)
	q.waiting = slices.DeleteFunc(q.waiting, func(d delayed[T]) bool { return remove(d.item) })
}

// any tells whether there is an item to be had at now.
func (q *queue[T]) any(now time.Time) bool {
	return q.head < len(q.items) || len(q.waiting) > 0 && !q.waiting[0].at.After(now)
}
