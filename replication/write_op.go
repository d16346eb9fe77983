package replication

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// A writeOp is one write under way: it performs what a [Write] decides. Its
// memory is used again when nobody has anything to do with it any more.
//
// What is set before its first question is not changed while it is in use,
// and read without the lock.
type writeOp struct {
	c     *Coordinator
	done  func(call uint64, err *object.Error) // answered, for replicas
	wake  chan struct{}                        // tells wait to look; capacity 1
	alarm alarm                                // the owners' deadline

	rec      object.Record // a use of its own, until the write is finished
	size     int64
	deadline time.Time               // the owners'
	reply    func(err *object.Error) // nil: somebody calls wait

	mu       sync.Mutex
	uses     int // open questions, the one who began it, the set or ringing alarm, and one until it is finished
	calls    calls
	state    Write
	room     [MaxOwners + 2]WriteAction // for what a step returns
	attempt  int                        // index into routes
	routes   [2]route                   // the second one when the history had changed
	waiting  bool                       // a caller will look at local
	local    bool                       // the caller is to ask the local replica
	replied  bool
	told     bool // the reply was passed on
	lingers  bool // it counts in the coordinator's linger
	armed    bool // the alarm is set, or ringing
	finished bool
	owes     uint32        // bit i: owner i of the present route is owed its copy
	err      *object.Error // the reply
}

func newWriteOp(c *Coordinator) *writeOp {
	o := &writeOp{c: c, wake: make(chan struct{}, 1)}
	o.done = func(call uint64, err *object.Error) { o.answered(call, err, true) }
	o.alarm.ring = o.rang
	return o
}

// beginWrite makes the operation; nothing is sent yet. The caller has one use.
func (c *Coordinator) beginWrite(rec object.Record, reply func(*object.Error)) (*writeOp, *object.Error) {
	c.counters.writes.Add(1)
	rt, err := c.route(rec.Type, rec.Bucket, rec.Key, true)
	if err == nil && (rec.Kind == object.Delta) != rt.bucket.Rows {
		err = object.Errorf(object.CodeBadRequest, object.NotDone, "index rows take deltas, and nothing else does")
	}
	if err == nil && !c.gate.enter() {
		err = errStopping
	}
	if err != nil {
		c.counters.writesFailed.Add(1)
		return nil, err
	}
	o := c.writes.Get().(*writeOp)
	select {
	case <-o.wake:
	default:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rec, o.size = own(rec), int64(len(rec.Raw()))
	o.deadline = c.cfg.Now().Add(c.cfg.WriteTimeout)
	o.reply, o.waiting = reply, reply == nil
	o.state, o.attempt, o.routes[0] = NewWrite(rt.n, rt.w), 0, rt
	o.uses = 2
	o.replied, o.told, o.lingers, o.finished, o.local, o.owes, o.err = false, false, false, false, false, 0, nil
	return o, nil
}

// own returns a use of the record that lasts: of its Buffer, or of a copy if its
// bytes are the caller's.
func own(rec object.Record) object.Record {
	if rec.Buf != nil {
		return rec.Retain()
	}
	buf := object.NewBuffer(len(rec.Raw()))
	copy(buf.Bytes(), rec.Raw())
	copied, err := object.ParseBuffer(buf)
	if err != nil {
		panic("replication: BUG: a parsed record does not parse: " + err.Error())
	}
	return copied
}

// sendRemote asks all owners but the local one, and sets the alarm.
func (o *writeOp) sendRemote(attempt int) {
	rt := &o.routes[attempt]
	for i := range rt.n {
		if rt.owners[i] != o.c.cfg.Self {
			o.send(attempt, i)
		}
	}
	o.arm()
}

// sendLocal asks the local replica, if it is an owner, on this goroutine.
func (o *writeOp) sendLocal(attempt int) {
	rt := &o.routes[attempt]
	for i := range rt.n {
		if rt.owners[i] == o.c.cfg.Self {
			o.send(attempt, i)
		}
	}
	o.arm()
}

// arm sets the alarm if there is still something to wait for.
func (o *writeOp) arm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := false
	for i := range o.routes[o.attempt].n {
		asked = asked || o.calls.isOpen(o.attempt, i)
	}
	if o.finished || o.armed || !asked {
		return
	}
	o.armed = true
	o.uses++
	o.c.wheel.set(&o.alarm, o.deadline)
}

// send asks one owner to take the record.
func (o *writeOp) send(attempt, owner int) {
	o.mu.Lock()
	if o.finished || o.attempt != attempt {
		o.mu.Unlock()
		return
	}
	rt := &o.routes[attempt]
	call := o.calls.open(attempt, owner)
	o.uses++
	rec := o.rec.Retain() // the write may be over before Put returns
	o.mu.Unlock()
	defer rec.Release()

	id := rt.owners[owner]
	to := o.c.cfg.Replica(id)
	switch {
	case to == nil:
		o.answered(call, errNoWay, false)
		return
	case id != o.c.cfg.Self && !o.c.peers.of(id).admit(o.size, o.c.cfg.PeerBytes):
		o.c.counters.refused.Add(1)
		o.answered(call, errTooMuch, false)
		return
	}
	to.Put(Ask{Call: call, Hash: rt.hash, History: rt.history, Deadline: o.deadline}, rec, o.done)
}

var (
	errNoWay   = &object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone, Message: "there is no connection to it"}
	errTooMuch = &object.Error{Code: object.CodeOverload, Outcome: object.NotDone, Message: "too much is under way to it"}
)

// answered takes an owner's answer. admitted says that the record's bytes count
// as under way to it.
func (o *writeOp) answered(call uint64, err *object.Error, admitted bool) {
	o.mu.Lock()
	attempt, owner, ok := o.calls.close(call)
	if !ok {
		o.mu.Unlock()
		o.c.counters.stray.Add(1)
		return
	}
	o.uses--
	if id := o.routes[attempt].owners[owner]; admitted && id != o.c.cfg.Self {
		o.c.peers.of(id).inFlight.Add(-o.size)
		o.c.judge(id, err)
	}
	again := false
	switch {
	case o.finished || attempt != o.attempt:
		o.c.counters.late.Add(1)
	case o.rerouteLocked(err):
		again = true
		o.uses++
	default:
		o.stepLocked(WriteEvent{Kind: Answered, Owner: owner, Err: err})
	}
	inline := !o.local
	o.unlock()
	if again {
		o.resend(inline)
	}
}

// rerouteLocked begins the write again if an owner's refusal says that the
// history has changed, and it has. That is done once, and not after the reply.
func (o *writeOp) rerouteLocked(err *object.Error) bool {
	if err == nil || err.Code != object.CodeWrongOwner || o.attempt > 0 || o.replied {
		return false
	}
	rt, fault := o.c.route(o.rec.Type, o.rec.Bucket, o.rec.Key, true)
	if fault != nil || !o.routes[0].history.Before(rt.history) {
		return false
	}
	o.c.counters.reroutes.Add(1)
	o.attempt, o.routes[1], o.state, o.owes = 1, rt, NewWrite(rt.n, rt.w), 0
	if o.local = o.waiting; o.local {
		o.wakeLocked()
	}
	return true
}

// resend asks the owners under the new history, but for the local one if the
// caller does that. It gives up one use.
func (o *writeOp) resend(inline bool) {
	o.sendRemote(1)
	if inline {
		o.sendLocal(1)
	}
	o.drop()
}

// rang is called when the owners' time is over.
func (o *writeOp) rang(time.Time) {
	o.mu.Lock()
	o.uses--
	o.armed = false
	if !o.finished {
		o.stepLocked(WriteEvent{Kind: GiveUp})
	}
	o.unlock()
}

// stepLocked makes a step and does what it says. After the reply, what is still
// open must fit into the bytes that may linger.
func (o *writeOp) stepLocked(ev WriteEvent) {
	for _, a := range o.state.Step(ev, o.room[:0]) {
		switch a.Kind {
		case Reply:
			o.replied, o.err = true, a.Err
			if a.Err != nil {
				o.c.counters.writesFailed.Add(1)
			}
		case Owe:
			o.owes |= 1 << a.Owner
		case Finish:
			o.oweLocked()
			o.finishLocked()
		}
	}
	if o.replied && !o.finished && !o.lingers && !o.lingerLocked() {
		o.c.counters.abandoned.Add(1)
		o.stepLocked(WriteEvent{Kind: GiveUp})
	}
}

// oweLocked notes the copies that owners lack, now that the write is over. Before,
// the others may not have the record yet: who pays a debt would find nothing to
// give, and call it paid.
func (o *writeOp) oweLocked() {
	rt := &o.routes[o.attempt]
	for owner := range rt.n {
		if o.owes&(1<<owner) != 0 {
			o.c.owed.Add(rt.place(owner), o.rec.Key)
		}
	}
}

// lingerLocked takes room for a write that was answered and is not finished.
func (o *writeOp) lingerLocked() bool {
	if now := o.c.linger.Add(o.size); now > o.c.cfg.LingerBytes {
		o.c.linger.Add(-o.size)
		return false
	}
	o.lingers = true
	return true
}

func (o *writeOp) finishLocked() {
	o.finished = true
	if o.lingers {
		o.c.linger.Add(-o.size)
	}
	if o.c.wheel.cancel(&o.alarm) {
		o.armed = false
		o.uses--
	}
	o.rec.Release()
	o.rec = object.Record{}
	o.uses--
	o.c.gate.leave()
}

func (o *writeOp) wakeLocked() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// unlock passes a new reply on, and gives the memory back after the last use.
func (o *writeOp) unlock() {
	var tell func(*object.Error)
	if o.replied && !o.told {
		o.told = true
		o.wakeLocked()
		tell = o.reply
	}
	if o.uses < 0 {
		panic("replication: BUG: a write is given up more often than taken")
	}
	err, free := o.err, o.uses == 0
	if free {
		o.reply, o.err, o.routes = nil, nil, [2]route{}
	}
	o.mu.Unlock()
	if tell != nil {
		tell(err)
	}
	if free {
		o.c.writes.Put(o)
	}
}

// drop gives up one use.
func (o *writeOp) drop() {
	o.mu.Lock()
	o.uses--
	o.unlock()
}

// wait returns the reply, or an error when ctx ends; the write goes on. It gives
// up the beginner's use.
func (o *writeOp) wait(ctx context.Context) *object.Error {
	for {
		o.mu.Lock()
		switch {
		case o.local:
			o.local = false
			o.mu.Unlock()
			o.sendLocal(1)
			continue
		case o.replied:
			o.waiting = false
			err := o.err
			o.uses--
			o.unlock()
			return err
		}
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-ctx.Done():
			o.mu.Lock()
			o.stepLocked(WriteEvent{Kind: OutOfTime})
			o.mu.Unlock()
		}
	}
}
