package sim

import (
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A writer pushes a second's blobs as an aggregator does: it says hello before its
// first second, and of each second, when its puts are answered, how many there
// were and which. In a second in which it has no standing it gives no name.
type writer struct {
	w        *workload
	who      index.Writer
	dc       string
	standing index.Standing
	second   int64 // the next one; 0: it has not begun
	chunk    uint64
	greeting bool // its hello, said again, is under way
	gone     bool
}

func (w *workload) newWriter(dc string) {
	w.writers++
	a := &writer{w: w, who: index.Writer{Name: fmt.Sprintf("agg-%d", w.writers), Incarnation: uint64(w.writers)}, dc: dc}
	a.hello()
}

func (a *writer) row(second int64, section index.Section) (event.IndexKey, index.Row) {
	section.Writer = a.who
	return event.IndexKey{Epoch: second, DC: a.dc}, index.Row{Sections: []index.Section{section}}
}

// hello says hello until it is expected in the next second, and then begins with
// that, unless it had begun.
func (a *writer) hello() {
	s := a.w.s
	s.ops.add("hello", 1)
	key, row := a.row(s.timeAt(s.now).Unix(), index.Section{Hello: true})
	s.word(key, row, a.w.turn(), func(err *object.Error) {
		now := s.timeAt(s.now).Unix()
		if err == nil {
			a.standing.Acknowledged(key.Epoch, now)
		}
		switch {
		case a.standing.Lapses(now):
			if s.now < a.w.end && !a.gone {
				a.hello()
			}
		case a.second == 0:
			a.second = now + 1
			a.next()
		default:
			a.greeting = false
		}
	})
}

// next arranges for the next second's push, half a second after its end.
func (a *writer) next() {
	s := a.w.s
	at := time.Unix(a.second+1, 0).Sub(s.timeAt(0)) + 500*time.Millisecond
	if at > a.w.end {
		a.goodbye()
		return
	}
	s.at(at, func() {
		switch n := s.rng.IntN(100); {
		case n < 2: // it dies without a word
			a.gone = true
			a.w.newWriter(a.dc)
			return
		case n < 4:
			a.goodbye()
			a.w.newWriter(a.dc)
			return
		}
		a.push(a.second)
		a.second++
		if !a.greeting && a.standing.Lapses(s.timeAt(s.now).Unix()) {
			a.greeting = true
			a.hello()
		}
		a.next()
	})
}

func (a *writer) push(second int64) {
	s := a.w.s
	var recs []object.Record
	expected := a.standing.Holds(second)
	for range s.rng.IntN(4) {
		a.chunk++
		key := event.Key{Epoch: second, DC: a.dc, Type: "WEB", Subtype: "app", Chunk: event.Chunk(a.who.Incarnation, a.chunk)}
		h := object.Header{Kind: object.Value, TimestampMicros: a.w.nextStamp(), EventCount: 1, Bucket: []byte(bucket.Events), Key: []byte(key.String())}
		if expected {
			h.Writer, h.Incarnation = []byte(a.who.Name), a.who.Incarnation
		}
		recs = append(recs, a.w.encode(h, a.w.value()))
	}
	finish := func(recs []object.Record, fates []putAnswer) {
		if expected {
			a.final(second, recs, fates)
		}
	}
	if !expected {
		s.notes.add("seconds of writers nobody expected", 1)
	}
	if len(recs) == 0 {
		finish(nil, nil)
		return
	}
	s.ops.add("push", 1)
	s.put(recs, a.w.turn(), finish)
}

// final says what the second has: the blobs that are stored, or may be.
func (a *writer) final(second int64, recs []object.Record, fates []putAnswer) {
	s := a.w.s
	s.ops.add("final", 1)
	var f index.Final
	for i := range recs {
		if err := fates[i].err; err != nil && err.Outcome == object.NotDone || fates[i].late {
			continue
		}
		if _, e, err := index.EntryOf(&recs[i].Header); err == nil {
			f.Add(e)
		}
	}
	key, row := a.row(second, index.Section{Final: &f})
	s.word(key, row, a.w.turn(), func(err *object.Error) {
		if err == nil {
			a.standing.Acknowledged(second, s.timeAt(s.now).Unix())
		}
	})
}

func (a *writer) goodbye() {
	s := a.w.s
	a.gone = true
	s.ops.add("goodbye", 1)
	key, row := a.row(a.second-1, index.Section{Goodbye: true})
	s.word(key, row, a.w.turn(), func(*object.Error) {})
}
