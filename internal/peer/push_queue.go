package peer

// A pushQueue is what waits for one subscriber, oldest first. It never grows past
// its bounds and never waits: bodies go first, since whoever knows of a blob can
// read it, then deltas, which the index tells later.
//
// It is for one goroutine at a time.
type pushQueue struct {
	maxItems int
	maxBytes int64

	items  []push
	bodies int   // of items
	bytes  int64 // that items cost
}

// A dropped tells what found no room.
type dropped struct{ deltas, bodies int }

// add takes over a push, and tells what was dropped: this one, or bodies that
// waited, so that a delta fits.
func (q *pushQueue) add(p push) (d dropped) {
	if !q.fits(&p) && !p.body && q.bodies > 0 {
		d.bodies = q.dropBodies()
	}
	if q.fits(&p) {
		q.items = append(q.items, p)
		q.bytes += p.size()
		if p.body {
			q.bodies++
		}
		return d
	}
	p.piece.Release()
	if p.body {
		d.bodies++
	} else {
		d.deltas++
	}
	return d
}

func (q *pushQueue) fits(p *push) bool {
	return len(q.items) < q.maxItems && q.bytes+p.size() <= q.maxBytes
}

// dropBodies lets go of all bodies that wait and returns how many there were.
func (q *pushQueue) dropBodies() (n int) {
	kept := q.items[:0]
	for _, p := range q.items {
		if !p.body {
			kept = append(kept, p)
			continue
		}
		q.bytes -= p.size()
		p.piece.Release()
	}
	clear(q.items[len(kept):])
	n, q.items, q.bodies = q.bodies, kept, 0
	return n
}

// next gives out what waits longest.
func (q *pushQueue) next() (p push, ok bool) {
	if len(q.items) == 0 {
		return push{}, false
	}
	p = q.items[0]
	q.items[0] = push{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil // the room of a burst is not kept
	}
	q.bytes -= p.size()
	if p.body {
		q.bodies--
	}
	return p, true
}

// drop lets go of everything.
func (q *pushQueue) drop() {
	for p, ok := q.next(); ok; p, ok = q.next() {
		p.piece.Release()
	}
}
