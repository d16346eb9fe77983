package sim

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
)

// A network carries messages between nodes: each takes its own time, so that they
// overtake each other; a cut loses them, at either end of their way.
type network struct {
	cut   [][]bool // from, to
	burst bool     // messages take long
}

// grow makes room for one more node.
func (n *network) grow() {
	for i := range n.cut {
		n.cut[i] = append(n.cut[i], false)
	}
	n.cut = append(n.cut, make([]bool, len(n.cut)+1))
}

// delay is how long a message takes.
func (s *Sim) delay() time.Duration {
	d := 100*time.Microsecond + time.Duration(s.rng.Int64N(int64(time.Millisecond)))
	switch n := s.rng.IntN(100); {
	case s.net.burst && n < 50:
		d += time.Duration(s.rng.Int64N(int64(1500 * time.Millisecond)))
	case n < 3:
		d += time.Duration(s.rng.Int64N(int64(30 * time.Millisecond)))
	}
	return d
}

// send carries a message, and calls exactly one of arrive and lost, some time
// later.
func (s *Sim) send(from, to int, arrive, lost func()) {
	begun := s.net.cut[from][to]
	s.after(s.delay(), func() {
		if begun || s.net.cut[from][to] {
			s.count(&s.lostMessages)
			lost()
			return
		}
		arrive()
	})
}

// An outcall is a request to another node that has not been answered.
type outcall struct {
	from, to         *node
	fromLife, toLife int
	over             bool
	fail             func(*object.Error)
}

// finish ends a call, unless it is over, and runs f if the asker still lives. It
// reports whether f was run.
func (c *outcall) finish(f func()) bool {
	if c.over {
		return false
	}
	c.over = true
	if c.from.life != c.fromLife || !c.from.up {
		return false
	}
	f()
	c.from.settle()
	return true
}

// failAfter has the call fail some time later, as the loss of a connection does.
func (c *outcall) failAfter(d time.Duration, err *object.Error) {
	c.from.s.after(d, func() { c.finish(func() { c.fail(err) }) })
}

var (
	errRefused = object.Errorf(object.CodeUnavailable, object.NotDone, "the node cannot be reached")
	errReset   = object.Errorf(object.CodeUnavailable, object.MaybeDone, "the connection was lost")
	errLate    = object.Errorf(object.CodeDeadline, object.MaybeDone, "no answer in time")
)

// call sends a request: serve runs at the other node, if it gets there, and may
// run twice where that does no harm. fail is called, once, if no answer comes. The
// result ends the call.
func (n *node) call(to *node, deadline time.Time, serve func(c *outcall), dropped func(), fail func(*object.Error)) {
	s := n.s
	c := &outcall{from: n, to: to, fromLife: n.life, fail: fail}
	limit := max(deadline.Sub(n.now()), 0) + 20*time.Millisecond
	version := n.history().Version()
	s.send(n.at, to.at, func() {
		if !to.up {
			dropped()
			c.failAfter(s.delay(), errRefused)
			return
		}
		c.toLife = to.life
		to.hears(n, version)
		to.inbound = append(to.inbound, c)
		if len(to.inbound) > 2*to.inboundLive+64 {
			to.pruneInbound()
		}
		serve(c)
		to.settle()
	}, func() {
		dropped()
		c.failAfter(min(limit, 300*time.Millisecond+time.Duration(s.rng.Int64N(int64(3*time.Second)))), errReset)
	})
	s.after(limit, func() { c.finish(func() { fail(errLate) }) })
}

// answer carries an answer back; drop is called instead of take if nobody is there
// to take it.
func (c *outcall) answer(take, drop func()) {
	s := c.from.s
	version := c.to.history().Version()
	s.send(c.to.at, c.from.at, func() {
		if !c.finish(func() {
			c.from.hears(c.to, version)
			take()
		}) {
			drop()
		}
	}, func() {
		drop()
		c.failAfter(300*time.Millisecond+time.Duration(s.rng.Int64N(int64(3*time.Second))), errReset)
	})
}

// pruneInbound forgets the calls that are over.
func (n *node) pruneInbound() {
	kept := n.inbound[:0]
	for _, c := range n.inbound {
		if !c.over {
			kept = append(kept, c)
		}
	}
	clear(n.inbound[len(kept):])
	n.inbound, n.inboundLive = kept, len(kept)
}

// A remote is another node as a coordinator asks it. It is a
// [replication.Replica].
type remote struct{ from, to *node }

// crossed is a record as it comes out of the socket at the other end: its bytes as
// they are at that time, in a buffer of their own. The sender's use ends.
func (s *Sim) crossed(rec object.Record) (object.Record, bool) {
	defer rec.Release()
	raw := rec.Raw()
	if raw == nil {
		raw = object.AppendHeader(nil, &rec.Header)
	}
	buf := object.NewBuffer(len(raw))
	copy(buf.Bytes(), raw)
	if rec.Raw() == nil {
		h, _, err := object.ParseHeader(buf.Bytes())
		if err != nil {
			buf.Release()
			s.breach("buffers", "", "a header was damaged on its way: %v: its buffer was given back too early", err)
			return object.Record{}, false
		}
		return object.Record{Header: h, Buf: buf}, true
	}
	got, err := object.ParseBuffer(buf)
	if err != nil {
		buf.Release()
		s.breach("buffers", "", "a record was damaged on its way: %v: its buffer was given back too early", err)
		return object.Record{}, false
	}
	return got, true
}

// refuse carries a refusal back. Who asked gets the newer document before it hears
// of it.
func (r remote) refuse(c *outcall, err *object.Error, tell func()) {
	theirs := r.to.history().Version()
	c.answer(func() { r.from.learnsBefore(err, r.to, theirs, tell) }, nothing)
}

// Put implements replication.Replica.
func (r remote) Put(ask replication.Ask, rec object.Record, done func(uint64, *object.Error)) {
	rec = rec.Retain()
	s := r.from.s
	r.from.call(r.to, ask.Deadline, func(c *outcall) {
		got, ok := s.crossed(rec)
		if !ok {
			return
		}
		again := s.rng.IntN(50) == 0
		r.to.takes(r.from, ask, got, func(err *object.Error) {
			r.refuse(c, err, func() { done(ask.Call, err) })
			if again && err == nil { // it does no harm, whenever it comes
				s.count(&s.repeated)
				twice := got.Retain()
				r.to.after(s.delay(), func() {
					r.to.takes(r.from, ask, twice, func(*object.Error) { twice.Release() })
				}, func() { twice.Release() })
			}
			got.Release()
		})
	}, func() { rec.Release() }, func(err *object.Error) { done(ask.Call, err) })
}

// takes stores what another node has sent, if the owners are those it thinks.
func (n *node) takes(from *node, ask replication.Ask, rec object.Record, done func(*object.Error)) {
	o, _, _ := n.placed(rec.Type, rec.Bucket, ask.Hash, rec.Key)
	n.judged(from, ask.History, o, true, func() {
		n.servePut(ask, o, rec, true, done)
	}, done)
}

// Get implements replication.Replica.
func (r remote) Get(ask replication.Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	ref := refOf(bucketType, bucket, key, ask.Hash)
	s := r.from.s
	r.from.call(r.to, ask.Deadline, func(c *outcall) {
		o, _, _ := r.to.placed(ref.Type, ref.Bucket, ref.Hash, ref.Key)
		r.to.judged(r.from, ask.History, o, false, func() {
			r.to.serveGet(ref, body, func(rec object.Record, complete bool, err *object.Error) {
				c.answer(func() {
					if err == nil {
						var ok bool
						if rec, ok = s.crossed(rec); !ok {
							err = errReset
						}
					}
					done(ask.Call, rec, complete, err)
				}, rec.Release)
			})
		}, func(err *object.Error) {
			r.refuse(c, err, func() { done(ask.Call, object.Record{}, false, err) })
		})
	}, func() {}, func(err *object.Error) { done(ask.Call, object.Record{}, false, err) })
}

// Row implements replication.Replica.
func (r remote) Row(ask replication.Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	r.from.call(r.to, ask.Deadline, func(c *outcall) {
		o := ring.Placed{Timed: true, Hash: ask.Hash, Epoch: key.Epoch, N: r.to.buckets().Lookup(bucket.DefaultType, bucket.Epochs).N}
		r.to.judged(r.from, ask.History, o, false, func() {
			r.to.serveRow(key, func(row index.Row, complete bool, err *object.Error) {
				c.answer(func() { done(ask.Call, row, complete, err) }, func() {})
			})
		}, func(err *object.Error) {
			r.refuse(c, err, func() { done(ask.Call, index.Row{}, false, err) })
		})
	}, func() {}, func(err *object.Error) { done(ask.Call, index.Row{}, false, err) })
}
