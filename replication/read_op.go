package replication

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A readKind is what a read is after.
type readKind uint8

const (
	readValue readKind = iota
	readHead
	readRow
)

// A readOp is one read under way: it performs what a [Read] or a [RowRead]
// decides. Its memory is used again when nobody has anything to do with it any
// more.
type readOp struct {
	c      *Coordinator
	gotRec func(uint64, object.Record, bool, *object.Error) // answered, for replicas
	gotRow func(uint64, index.Row, bool, *object.Error)     // the same
	wake   chan struct{}                                    // tells wait to look; capacity 1
	alarm  alarm                                            // the deadline, or before it the next hedge

	kind     readKind
	names    []byte         // type, bucket and key, copied
	typeEnd  int            // in names
	nameEnd  int            // in names
	row      event.IndexKey // of a row
	deadline time.Time
	reply    func(o *readOp) // nil: somebody calls wait; called with the result in place

	mu      sync.Mutex
	uses    int // open questions, the one who began it, the set or ringing alarm, and one until it is over
	calls   calls
	sent    [2][maxAsked]time.Time // when each was last asked
	state   Read
	room    [2*maxAsked + 2]ReadAction // for what a step returns
	rows    RowRead
	attempt int      // index into routes
	routes  [2]route // the second one when the history had changed
	recs    [maxAsked]object.Record
	waiting bool     // a caller will look at local
	local   question // for the caller to put to the local replica, if its call is not 0
	armed   bool     // the alarm is set, or ringing
	hedges  int      // times the alarm rang before the deadline
	over    bool
	told    bool

	result readResult
}

// A readResult is the answer to a read.
type readResult struct {
	rec     object.Record // a use for the caller
	row     index.Row
	certain bool
	err     *object.Error
}

// A question is to be put to an owner.
type question struct {
	call    uint64
	attempt int
	owner   int
	body    bool
}

// questions are those of one step: no owner is asked twice in it.
type questions struct {
	all [maxAsked]question
	n   int
}

// An answerTo is what an owner says to a question.
type answerTo struct {
	rec      object.Record // its use passes with it
	row      index.Row
	complete bool
	err      *object.Error
}

func newReadOp(c *Coordinator) *readOp {
	o := &readOp{c: c, wake: make(chan struct{}, 1)}
	o.gotRec = func(call uint64, rec object.Record, complete bool, err *object.Error) {
		o.answered(call, &answerTo{rec: rec, complete: complete, err: err})
	}
	o.gotRow = func(call uint64, row index.Row, complete bool, err *object.Error) {
		o.answered(call, &answerTo{row: row, complete: complete, err: err})
	}
	o.alarm.ring = o.rang
	return o
}

// beginRead makes the operation and asks the first owners. The caller has one use.
func (c *Coordinator) beginRead(kind readKind, bucketType, name, key []byte, row event.IndexKey, deadline time.Time, reply func(*readOp)) (*readOp, *object.Error) {
	rt, err := c.route(bucketType, name, key, false)
	if err == nil && !c.gate.enter() {
		err = errStopping
	}
	if err != nil {
		return nil, err
	}
	o := c.reads.Get().(*readOp)
	select {
	case <-o.wake:
	default:
	}
	now := c.cfg.Now()
	o.mu.Lock()
	o.kind, o.row = kind, row
	o.names = append(append(append(o.names[:0], bucketType...), name...), key...)
	o.typeEnd, o.nameEnd = len(bucketType), len(bucketType)+len(name)
	o.deadline = now.Add(c.cfg.ReadTimeout)
	if !deadline.IsZero() && deadline.Before(o.deadline) {
		o.deadline = deadline
	}
	o.reply, o.waiting = reply, reply == nil
	o.attempt, o.routes[0] = 0, rt
	o.uses = 2
	o.hedges, o.over, o.told, o.result = 0, false, false, readResult{}
	var ask questions
	o.beginLocked(now, &ask)
	o.unlock()
	o.put(&ask, true)
	return o, nil
}

// beginLocked makes the first step under the present attempt's route.
func (o *readOp) beginLocked(now time.Time, ask *questions) {
	rt := &o.routes[o.attempt]
	var room [MaxOwners]int
	prefer := o.c.prefer(rt, now, room[:0])
	sources := len(rt.cast.nodes) - rt.n
	switch o.kind {
	case readValue:
		o.state = NewRead(rt.n, rt.r, rt.absentW, rt.bucket.WriteOnce, prefer).With(sources, rt.cast.earlier)
	case readHead:
		o.state = NewHead(rt.n, rt.r, rt.absentW, rt.bucket.WriteOnce, prefer).With(sources, rt.cast.earlier)
	case readRow:
		o.rows = NewRowRead(rt.n, rt.absentW, prefer).With(sources, rt.cast.earlier)
	}
	o.stepLocked(Begin, 0, nil, now, ask)
}

// answered takes an owner's answer.
func (o *readOp) answered(call uint64, a *answerTo) {
	o.mu.Lock()
	attempt, owner, ok := o.calls.close(call)
	if !ok {
		o.mu.Unlock()
		a.rec.Release()
		o.c.counters.stray.Add(1)
		return
	}
	o.uses--
	now := o.c.cfg.Now()
	if id := o.routes[attempt].cast.nodes[owner]; id != o.c.cfg.Self {
		o.c.judge(id, a.err)
		if a.err == nil || a.err.Code == object.CodeAbsent || a.err.Code == object.CodeExpired {
			o.c.delays[o.kind].Observe(now.Sub(o.sent[attempt][owner]))
		}
	}
	var ask questions
	switch {
	case o.over || attempt != o.attempt:
		a.rec.Release()
		o.c.counters.late.Add(1)
	case o.rerouteLocked(a.err, now, &ask):
		a.rec.Release()
	default:
		o.stepLocked(Replied, owner, a, now, &ask)
	}
	if ask.n == 0 {
		o.unlock()
		return
	}
	o.uses++ // while the questions are put
	o.unlock()
	o.put(&ask, false)
	o.drop()
}

// rerouteLocked begins the read again if an owner's refusal says that the
// history has changed, and it has. That is done once.
func (o *readOp) rerouteLocked(err *object.Error, now time.Time, ask *questions) bool {
	if err == nil || err.Code != object.CodeWrongOwner || o.attempt > 0 {
		return false
	}
	rt, fault := o.c.route(o.names[:o.typeEnd], o.names[o.typeEnd:o.nameEnd], o.names[o.nameEnd:], false)
	if fault != nil || !o.routes[0].history.Before(rt.history) {
		return false
	}
	o.c.counters.reroutes.Add(1)
	o.clearLocked()
	o.attempt, o.routes[1] = 1, rt
	o.beginLocked(now, ask)
	return true
}

// clearLocked gives back the records at hand and takes back the question that
// nobody has put yet.
func (o *readOp) clearLocked() {
	for i := range o.recs {
		if o.recs[i].Buf != nil {
			o.recs[i].Release()
		}
		o.recs[i] = object.Record{}
	}
	if o.local.call != 0 {
		if _, _, ok := o.calls.close(o.local.call); ok {
			o.uses--
		}
		o.local = question{}
	}
}

func (o *readOp) wakeLocked() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// unlock passes a new reply on, and gives the memory back after the last use.
func (o *readOp) unlock() {
	if o.over && !o.told {
		o.told = true
		o.wakeLocked()
		if tell := o.reply; tell != nil {
			o.uses++ // for the one who is told
			o.mu.Unlock()
			tell(o)
			o.mu.Lock()
			o.uses--
		}
	}
	if o.uses < 0 {
		panic("replication: BUG: a read is given up more often than taken")
	}
	free := o.uses == 0
	if free {
		o.reply, o.result, o.routes, o.row = nil, readResult{}, [2]route{}, event.IndexKey{}
	}
	o.mu.Unlock()
	if free {
		o.c.reads.Put(o)
	}
}

// drop gives up one use.
func (o *readOp) drop() {
	o.mu.Lock()
	o.uses--
	o.unlock()
}

// wait returns the result; its record is the caller's. When ctx ends, so does
// the read. It gives up the beginner's use.
func (o *readOp) wait(ctx context.Context) readResult {
	for {
		o.mu.Lock()
		if o.over {
			o.waiting = false
			result := o.result
			o.result = readResult{}
			o.uses--
			o.unlock()
			return result
		}
		if q := o.local; q.call != 0 {
			o.local = question{}
			o.mu.Unlock()
			o.send(&q)
			o.arm()
			continue
		}
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-ctx.Done():
			o.mu.Lock()
			var none questions
			o.stepLocked(Over, 0, nil, o.c.cfg.Now(), &none)
			o.mu.Unlock()
		}
	}
}
