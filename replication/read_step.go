package replication

import (
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// stepLocked makes a step, does what it says at once and notes what to ask.
func (o *readOp) stepLocked(kind ReadEventKind, owner int, a *answerTo, now time.Time, ask *questions) {
	if o.over {
		return // the deadline and the caller's end came together
	}
	if o.kind == readRow {
		o.stepRowLocked(kind, owner, a, now, ask)
		return
	}
	ev := ReadEvent{Kind: kind, Owner: owner}
	if a != nil {
		ev.Answer = o.takeLocked(owner, a)
	}
	for _, act := range o.state.Step(ev, o.room[:0]) {
		switch act.Kind {
		case AskBody, AskHead:
			o.noteLocked(act.Owner, act.Kind == AskBody, now, ask)
		case ReplyFound:
			o.result.rec = o.recs[act.Owner].Retain()
		case ReplyError:
			o.result.err = act.Err
		case Mend:
			o.mendLocked(act.Owner, &o.recs[act.From], now)
		}
	}
	if o.state.Done() {
		o.overLocked()
	}
}

// takeLocked keeps an owner's record and says what it means.
func (o *readOp) takeLocked(owner int, a *answerTo) ReadAnswer {
	r := ReadAnswer{Complete: a.complete, Err: a.err}
	switch {
	case a.err == nil:
		r.Status, r.Version, r.Body = Found, a.rec.Version(), len(a.rec.Raw()) > 0
		if o.recs[owner].Buf != nil {
			o.recs[owner].Release()
		}
		o.recs[owner] = a.rec
	case a.err.Code == object.CodeAbsent:
		r.Status = Absent
	case a.err.Code == object.CodeExpired:
		r.Status = Expired
	}
	return r
}

func (o *readOp) stepRowLocked(kind ReadEventKind, owner int, a *answerTo, now time.Time, ask *questions) {
	ev := RowEvent{Kind: kind, Owner: owner}
	if a != nil {
		ev.Row, ev.Complete, ev.Err = a.row, a.complete, a.err
	}
	var room [maxAsked + 1]RowAction
	over := false
	for _, act := range o.rows.Step(ev, room[:0]) {
		if act.Kind == AskRow {
			o.noteLocked(act.Owner, false, now, ask)
			continue
		}
		o.result.row, o.result.certain, o.result.err = act.Row, act.Certain, act.Err
		over = true
	}
	if over {
		o.overLocked()
	}
}

// noteLocked opens a question.
func (o *readOp) noteLocked(owner int, body bool, now time.Time, ask *questions) {
	o.uses++
	o.sent[o.attempt][owner] = now
	ask.all[ask.n] = question{o.calls.open(o.attempt, owner), o.attempt, owner, body}
	ask.n++
}

// mendLocked has an owner given what it lacks, if that is not too new.
func (o *readOp) mendLocked(owner int, rec *object.Record, now time.Time) {
	rt := &o.routes[o.attempt]
	if mendable(rt.bucket.Timed, rt.epoch, rec.TimestampMicros, now.Unix()) {
		o.c.mender.offer(rt, owner, *rec)
	}
}

func (o *readOp) overLocked() {
	if o.over || o.uses < 1 {
		panic("replication: BUG: a read is over twice")
	}
	o.over = true
	if o.c.wheel.cancel(&o.alarm) {
		o.armed = false
		o.uses--
	}
	o.clearLocked()
	o.rows = RowRead{}
	o.uses--
	o.c.gate.leave()
}
