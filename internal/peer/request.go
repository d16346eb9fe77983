package peer

import (
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A request is one question under way to the peer. One of the done functions is
// set. Its memory is used again.
type request struct {
	p        *Peer
	op       uint8
	admitted bool // it counts as under way, with size
	size     int64
	ask      Ask
	meta     []byte
	call     wire.Call
	piece    [1]wire.Piece
	answered func(wire.Reply, error) // reply, bound once
	caughtUp func()                  // refuse, bound once

	donePut func(uint64, *object.Error)
	doneGet func(uint64, object.Record, bool, *object.Error)
	doneRow func(uint64, index.Row, bool, *object.Error)

	refusal *object.Error // given out when the newer history is here
}

func makeRequest() any {
	q := new(request)
	q.answered, q.caughtUp = q.reply, q.refuse
	return q
}

func newRequest(p *Peer, op uint8, ask Ask) *request {
	q := p.pool.Get().(*request)
	q.p, q.op, q.ask = p, op, ask
	return q
}

// recycle ends the request, whose answer is on its way to the coordinator.
func (q *request) recycle() {
	p := q.p
	q.p, q.donePut, q.doneGet, q.doneRow, q.refusal = nil, nil, nil, nil, nil
	q.call, q.piece[0] = wire.Call{}, wire.Piece{}
	q.meta = q.meta[:0]
	p.pool.Put(q)
}

var (
	errTooMuch  = &object.Error{Code: object.CodeOverload, Outcome: object.NotDone, Message: "too much is under way to the node: send again a little later"}
	errLongName = &object.Error{Code: object.CodeBadRequest, Outcome: object.NotDone, Message: "a name or a key is longer than any object's"}
)

// admit counts a request, and its bytes, as under way, unless that is too much. A
// record larger than the bound goes alone.
func (p *Peer) admit(size int64) bool {
	if p.requests.Add(1) > int64(p.cfg.MaxRequests) {
		p.requests.Add(-1)
		return false
	}
	if now := p.bytes.Add(size); now > p.cfg.MaxBytes && now > size {
		p.bytes.Add(-size)
		p.requests.Add(-1)
		return false
	}
	return true
}

// begin sends the request, or answers it at once.
func (q *request) begin(class wire.Class, body wire.Piece) {
	p := q.p
	size := len(body.Bytes)
	conn, why := p.pick(class == wire.Repair || size >= p.cfg.BulkBytes, p.start)
	if conn == nil {
		p.counters.disconnected.Add(1)
		q.end(why)
		return
	}
	if !p.admit(int64(size)) {
		p.counters.overloads.Add(1)
		q.end(errTooMuch)
		return
	}
	q.admitted, q.size = true, int64(size)
	q.call = wire.Call{Op: q.op, Class: class, History: wire.History(q.ask.History), Meta: q.meta}
	if size > 0 {
		q.piece[0] = body
		q.call.Body = q.piece[:]
	}
	conn.Begin(&q.call, q.ask.Deadline, q.answered)
}

// leave takes the request out of what is under way.
func (q *request) leave() {
	if q.admitted {
		q.p.bytes.Add(-q.size)
		q.p.requests.Add(-1)
		q.admitted, q.size = false, 0
	}
}

// reply takes the peer's answer.
func (q *request) reply(r wire.Reply, err error) {
	q.leave()
	newer := q.p.learn(ring.Version(r.History))
	e := object.AsError(err)
	if e != nil && e.Code == object.CodeWrongOwner {
		q.p.counters.wrongOwner.Add(1)
		if q.ask.History.Before(ring.Version(r.History)) {
			q.refusal = e
			q.p.cfg.CatchUp(ring.Version(r.History), q.ask.Deadline, q.caughtUp)
			return
		}
	}
	if newer {
		q.p.cfg.CatchUp(ring.Version(r.History), q.ask.Deadline, func() {})
	}
	if e != nil {
		q.end(e)
		return
	}
	q.give(r)
}

// learn reports whether the peer has shown a newer history than ever before.
func (p *Peer) learn(v ring.Version) bool {
	for {
		old := p.seen.Load()
		if !old.Before(v) {
			return false
		}
		if p.seen.CompareAndSwap(old, new(v)) {
			return true
		}
	}
}

// refuse ends a request that the peer does not own, now that this node may know
// who does.
func (q *request) refuse() { q.end(q.refusal) }

// end answers the request with an error.
func (q *request) end(err *object.Error) {
	if err.Code != object.CodeAbsent && err.Code != object.CodeExpired {
		q.p.counters.failed.Add(1)
	}
	call, put, get, row := q.ask.Call, q.donePut, q.doneGet, q.doneRow
	q.recycle()
	switch {
	case put != nil:
		put(call, err)
	case get != nil:
		get(call, object.Record{}, false, err)
	default:
		row(call, index.Row{}, false, err)
	}
}

// give answers the request with what the peer said.
func (q *request) give(r wire.Reply) {
	switch {
	case q.donePut != nil:
		q.givePut(r)
	case q.doneGet != nil:
		q.giveRecord(r)
	default:
		q.giveRow(r)
	}
}

func (q *request) givePut(r wire.Reply) {
	odd := len(r.Meta)+len(r.Body) > 0
	r.Release()
	if odd {
		q.p.counters.badAnswers.Add(1)
		q.end(badAnswer(object.MaybeDone, malformed("bytes in the answer to a put")))
		return
	}
	call, done := q.ask.Call, q.donePut
	q.recycle()
	done(call, nil)
}

var (
	errAbsent  = &object.Error{Code: object.CodeAbsent, Outcome: object.NotDone, Message: "it is not there"}
	errExpired = &object.Error{Code: object.CodeExpired, Outcome: object.NotDone, Message: "it has expired"}
)

func (q *request) giveRecord(r wire.Reply) {
	rec, v, err := q.parseRecord(r)
	if err != nil {
		r.Release()
		q.p.counters.badAnswers.Add(1)
		q.end(badAnswer(object.NotDone, err))
		return
	}
	call, done := q.ask.Call, q.doneGet
	q.recycle()
	if v.state == found {
		done(call, rec, v.complete, nil)
		return
	}
	r.Release()
	done(call, object.Record{}, v.complete, v.asError())
}

// parseRecord decodes the answer to a get or a head. If it is a record that has
// taken over the use of the answer's Buffer.
func (q *request) parseRecord(r wire.Reply) (rec object.Record, v verdict, err error) {
	v, err = parseVerdict(r.Meta)
	switch {
	case err != nil:
		return rec, v, err
	case v.state != found && len(r.Body) > 0:
		return rec, v, malformed("a record that was not found")
	case v.state != found:
		return rec, v, nil
	}
	if q.op == OpGet {
		rec, err = object.ParseRecord(r.Body)
	} else {
		rec.Header, err = parseWholeHeader(r.Body)
	}
	if err == nil && ring.Hash(rec.Type, rec.Bucket, rec.Key) != q.ask.Hash {
		err = malformed("a record of another key than was asked for")
	}
	rec.Buf = r.Buf
	return rec, v, err
}

func parseWholeHeader(b []byte) (object.Header, error) {
	h, n, err := object.ParseHeader(b)
	if err == nil && n != len(b) {
		err = malformed("bytes behind a header")
	}
	return h, err
}

func (q *request) giveRow(r wire.Reply) {
	row, v, err := parseRow(r)
	r.Release()
	if err != nil {
		q.p.counters.badAnswers.Add(1)
		q.end(badAnswer(object.NotDone, err))
		return
	}
	call, done := q.ask.Call, q.doneRow
	q.recycle()
	var e *object.Error
	if v.state == expired {
		e = errExpired
	}
	done(call, row, v.complete, e)
}

// parseRow decodes the answer to a row. The row does not alias it.
func parseRow(r wire.Reply) (row index.Row, v verdict, err error) {
	v, err = parseRowMeta(r.Meta, r.Body)
	switch {
	case err != nil:
	case v.state != found && len(r.Body) > 0:
		err = malformed("a row that was not found")
	case v.state == found:
		row, err = index.ParseRow(r.Body)
	}
	return row, v, err
}

func (v verdict) asError() *object.Error {
	if v.state == expired {
		return errExpired
	}
	return errAbsent
}

// badAnswer is the error of a request whose answer is none.
func badAnswer(outcome object.Outcome, err error) *object.Error {
	return object.Errorf(object.CodeCorrupt, outcome, "the node's answer cannot be used: %w", err)
}
