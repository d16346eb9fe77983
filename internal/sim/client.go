package sim

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// What a client allows for, as package client does, in short.
const (
	attemptTime = 5 * time.Second
	callTime    = 20 * time.Second
	firstPause  = 20 * time.Millisecond
	maxPause    = time.Second
)

// A request is one operation of a client: a machine of attempts. The same bytes go
// to one node after the other until one answers for good or the time is up.
type request struct {
	s *Sim
	// try makes an attempt at a node. answered is called when it has an answer, which
	// travels back: at the client take is run, or drop if nobody waits for it.
	try func(n *node, answered func(take func() *object.Error, drop func()))
	// over is called at the end, with nil or the error of the last attempt.
	over func(err *object.Error)

	until time.Duration
	pause time.Duration
	turn  int
	maybe bool // some attempt may have been done
}

func nothing() {}

// do begins a request. turn says which node is asked first.
func (s *Sim) do(r *request, turn int) {
	r.s, r.turn, r.pause = s, turn, firstPause
	r.until = s.now + callTime
	s.pending++
	r.attempt()
}

func (r *request) attempt() {
	s := r.s
	doors := s.members()
	n := doors[r.turn%len(doors)]
	r.turn++
	over := false
	answer := func(take func() *object.Error, drop func()) {
		if over {
			drop()
			return
		}
		over = true
		r.answered(take())
	}
	fail := func(err *object.Error) { answer(func() *object.Error { return err }, nothing) }
	s.after(s.delay(), func() {
		if !n.up {
			s.after(s.delay(), func() { fail(errRefused) })
			return
		}
		life := n.life
		n.clients = append(n.clients, func() { s.after(s.delay(), func() { fail(errReset) }) })
		r.try(n, func(take func() *object.Error, drop func()) {
			if n.life != life || !n.up {
				drop()
				return
			}
			s.after(s.delay(), func() { answer(take, drop) })
		})
		n.settle()
	})
	s.after(attemptTime, func() { fail(errLate) })
}

func (r *request) answered(err *object.Error) {
	s := r.s
	r.maybe = r.maybe || err != nil && err.Outcome != object.NotDone
	if err == nil || !err.Code.Retryable() {
		r.end(err)
		return
	}
	wait := r.pause/2 + s.upTo(r.pause/2)
	r.pause = min(2*r.pause, maxPause)
	if s.now+wait >= r.until {
		r.end(err)
		return
	}
	s.after(wait, r.attempt)
}

func (r *request) end(err *object.Error) {
	r.s.pending--
	r.over(err)
}

// mayBe returns err, with the outcome that holds when an earlier attempt may have
// been done.
func mayBe(err *object.Error) *object.Error {
	e := *err
	e.Outcome = object.MaybeDone
	return &e
}

// put puts records side by side, identical in every attempt, until each is answered
// for good. The records are the request's; over learns each one's fate.
func (s *Sim) put(recs []object.Record, turn int, over func(recs []object.Record, fates []putAnswer)) {
	fates := make([]putAnswer, len(recs))
	maybe := make([]bool, len(recs))
	open := make([]int, len(recs)) // those that are to be sent still
	for i := range recs {
		open[i] = i
		s.model.sends(&recs[i])
	}
	r := &request{}
	r.try = func(n *node, answered func(func() *object.Error, func())) {
		sent := open
		arrived := make([]object.Record, len(sent))
		for j, i := range sent {
			arrived[j], _ = s.crossed(recs[i].Retain())
		}
		n.put(arrived, func(answers []putAnswer) {
			for j := range arrived {
				arrived[j].Release()
			}
			answered(func() (fault *object.Error) {
				var again []int
				for j, i := range sent {
					fates[i] = answers[j]
					err := fates[i].err
					maybe[i] = maybe[i] || err != nil && err.Outcome != object.NotDone
					if err != nil && err.Code.Retryable() {
						again, fault = append(again, i), err
					}
				}
				open = again
				return fault
			}, nothing)
		})
	}
	r.over = func(err *object.Error) {
		for _, i := range open {
			fates[i].err = err
			maybe[i] = maybe[i] || r.maybe
		}
		for i := range recs {
			if e := fates[i].err; e != nil && (maybe[i] || r.maybe) {
				fates[i].err = mayBe(e)
			}
			s.trace.note(s.now, -1, "put", string(recs[i].Key), outcomeOf(fates[i].err))
			s.model.put(&recs[i], fates[i])
		}
		over(recs, fates)
		for i := range recs {
			recs[i].Release()
		}
	}
	s.do(r, turn)
}

func outcomeOf(err *object.Error) int64 {
	if err == nil {
		return 0
	}
	return int64(err.Code)<<2 | int64(err.Outcome)
}

// get reads an object, or its header. The record is valid during over.
func (s *Sim) get(name, key string, body bool, turn int, over func(rec object.Record, err *object.Error)) {
	var got object.Record
	r := &request{}
	r.try = func(n *node, answered func(func() *object.Error, func())) {
		n.coord.BeginGet([]byte("default"), []byte(name), []byte(key), body, func(rec object.Record, err *object.Error) {
			if err == nil {
				var ok bool
				if rec, ok = s.crossed(rec); !ok {
					return
				}
			}
			answered(func() *object.Error {
				if err == nil && body {
					if fault := rec.Verify(); fault != nil {
						rec.Release()
						s.notes.add("damaged bodies read", 1)
						return object.Errorf(object.CodeCorrupt, object.NotDone, "%w", fault)
					}
				}
				got = rec
				return err
			}, func() { rec.Release() })
		})
	}
	r.over = func(err *object.Error) {
		s.trace.note(s.now, -1, "get", key, outcomeOf(err))
		over(got, err)
		got.Release()
	}
	s.do(r, turn)
}

// row reads an index row.
func (s *Sim) row(key event.IndexKey, turn int, over func(row index.Row, certain bool, err *object.Error)) {
	var row index.Row
	var certain bool
	r := &request{}
	r.try = func(n *node, answered func(func() *object.Error, func())) {
		n.coord.BeginRow(key, func(got index.Row, c bool, err *object.Error) {
			answered(func() *object.Error { row, certain = got, c; return err }, nothing)
		})
	}
	r.over = func(err *object.Error) {
		s.trace.note(s.now, -1, "row", key.String(), outcomeOf(err))
		over(row, certain, err)
	}
	s.do(r, turn)
}

// word adds a writer's word to a row: hello, final, goodbye.
func (s *Sim) word(key event.IndexKey, delta index.Row, turn int, over func(err *object.Error)) {
	r := &request{}
	r.try = func(n *node, answered func(func() *object.Error, func())) {
		n.appendIndex(key, delta, func(err *object.Error) {
			answered(func() *object.Error { return err }, nothing)
		})
	}
	r.over = func(err *object.Error) {
		s.trace.note(s.now, -1, "word", key.String(), outcomeOf(err))
		over(err)
	}
	s.do(r, turn)
}
