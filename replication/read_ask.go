package replication

import "time"

// prefer appends the owners' places in the order in which to ask them: this
// node, then the others in the ring's order, and last who was slow or failed.
// Newcomers, which prove less, come behind all of these.
func (c *Coordinator) prefer(rt *route, now time.Time, out []int) []int {
	var last [MaxOwners]int
	doubted := last[:0]
	newcomers := rt.cast.newcomers()
	var behind [MaxOwners]int
	late := behind[:0]
	for i, id := range rt.owners {
		if id == c.cfg.Self && newcomers>>i&1 == 0 {
			out = append(out, i)
		}
	}
	for i, id := range rt.owners {
		switch {
		case newcomers>>i&1 != 0:
			late = append(late, i)
		case id == c.cfg.Self:
		case c.peers.of(id).suspected(now):
			doubted = append(doubted, i)
		default:
			out = append(out, i)
		}
	}
	return append(append(out, doubted...), late...)
}

// put puts questions to their owners, remote ones first. The local replica is
// asked here if the caller says so or nobody waits, else by the one who waits.
func (o *readOp) put(ask *questions, inline bool) {
	self := -1
	for i := range ask.n {
		if q := &ask.all[i]; o.isLocal(q) {
			self = i
		} else {
			o.send(q)
		}
	}
	o.arm()
	if self < 0 {
		return
	}
	q := &ask.all[self]
	if !inline && o.leave(q) {
		return
	}
	o.send(q)
	o.arm()
}

func (o *readOp) isLocal(q *question) bool {
	return o.routes[q.attempt].cast.nodes[q.owner] == o.c.cfg.Self
}

// leave leaves a question to the waiting caller, or takes it back if the read is
// over. It reports false if it must be put here.
func (o *readOp) leave(q *question) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.over:
		o.calls.close(q.call)
		o.uses--
	case o.waiting:
		o.local = *q
		o.wakeLocked()
	default:
		return false
	}
	return true
}

// send puts one question. The question's use of the operation keeps it alive.
func (o *readOp) send(q *question) {
	rt := &o.routes[q.attempt]
	id := rt.cast.nodes[q.owner]
	to := o.c.cfg.Replica(id)
	if to == nil {
		o.answered(q.call, &answerTo{err: errNoWay})
		return
	}
	ask := Ask{Call: q.call, Hash: rt.hash, History: rt.history, Deadline: o.deadline}
	if o.kind == readRow {
		to.Row(ask, o.row, o.gotRow)
		return
	}
	to.Get(ask, o.names[:o.typeEnd], o.names[o.typeEnd:o.nameEnd], o.names[o.nameEnd:], q.body, o.gotRec)
}

// arm sets the alarm for the next hedge, or the deadline, if there is something
// to wait for.
func (o *readOp) arm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || o.armed || !o.openLocked() {
		return
	}
	o.armLocked(o.c.cfg.Now())
}

func (o *readOp) armLocked(now time.Time) {
	at := now.Add(min(o.c.delay(o.kind)<<min(o.hedges, 10), o.c.cfg.HedgeMost))
	if at.After(o.deadline) {
		at = o.deadline
	}
	o.armed = true
	o.uses++
	o.c.wheel.set(&o.alarm, at)
}

func (o *readOp) openLocked() bool {
	for i := range o.routes[o.attempt].cast.nodes {
		if o.calls.isOpen(o.attempt, i) {
			return true
		}
	}
	return false
}

// rang is called at the deadline, and before it when an answer takes long: then
// who has not answered is doubted and one more owner is asked.
func (o *readOp) rang(now time.Time) {
	o.mu.Lock()
	o.armed = false
	var ask questions
	switch {
	case o.over:
	case now.Before(o.deadline):
		o.hedges++
		o.doubtLocked(now)
		o.stepLocked(Hedge, 0, nil, now, &ask)
		o.c.counters.hedges.Add(uint64(ask.n))
		o.armLocked(now)
	default:
		o.stepLocked(Over, 0, nil, now, &ask)
	}
	if ask.n == 0 {
		o.uses--
		o.unlock()
		return
	}
	o.unlock()
	o.put(&ask, false)
	o.drop()
}

func (o *readOp) doubtLocked(now time.Time) {
	rt := &o.routes[o.attempt]
	for i, id := range rt.cast.nodes {
		if o.calls.isOpen(o.attempt, i) && id != o.c.cfg.Self {
			o.c.peers.of(id).doubt(now)
		}
	}
}
