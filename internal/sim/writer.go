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
// were and which.
type writer struct {
	w      *workload
	who    index.Writer
	dc     string
	second int64 // the next one
	chunk  uint64
}

func (w *workload) newWriter(dc string) {
	w.writers++
	a := &writer{w: w, who: index.Writer{Name: fmt.Sprintf("agg-%d", w.writers), Incarnation: uint64(w.writers)}, dc: dc}
	a.hello(w.s.timeAt(w.s.now).Unix())
}

func (a *writer) row(second int64, section index.Section) (event.IndexKey, index.Row) {
	section.Writer = a.who
	return event.IndexKey{Epoch: second, DC: a.dc}, index.Row{Sections: []index.Section{section}}
}

// hello begins with the second after the next one, once hello is acknowledged.
func (a *writer) hello(second int64) {
	s := a.w.s
	s.ops.add("hello", 1)
	key, row := a.row(second+1, index.Section{Hello: true})
	s.word(key, row, a.w.turn(), func(err *object.Error) {
		now := s.timeAt(s.now).Unix()
		if err != nil || now > second+1 { // not before its first second: again
			if s.now < a.w.end {
				a.hello(now)
			}
			return
		}
		a.second = second + 2
		a.next()
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
			a.w.newWriter(a.dc)
			return
		case n < 4:
			a.goodbye()
			a.w.newWriter(a.dc)
			return
		}
		a.push(a.second)
		a.second++
		a.next()
	})
}

func (a *writer) push(second int64) {
	s := a.w.s
	var recs []object.Record
	for range s.rng.IntN(4) {
		a.chunk++
		key := event.Key{Epoch: second, DC: a.dc, Type: "WEB", Subtype: "app", Chunk: event.Chunk(a.who.Incarnation, a.chunk)}
		recs = append(recs, a.w.encode(object.Header{
			Kind: object.Value, TimestampMicros: a.w.nextStamp(), EventCount: 1, Bucket: []byte(bucket.Events), Key: []byte(key.String()),
			Writer: []byte(a.who.Name), Incarnation: a.who.Incarnation,
		}, a.w.value()))
	}
	if len(recs) == 0 {
		a.final(second, nil, nil)
		return
	}
	s.ops.add("push", 1)
	s.put(recs, a.w.turn(), func(recs []object.Record, fates []putAnswer) { a.final(second, recs, fates) })
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
	s.word(key, row, a.w.turn(), func(*object.Error) {})
}

func (a *writer) goodbye() {
	s := a.w.s
	s.ops.add("goodbye", 1)
	key, row := a.row(a.second-1, index.Section{Goodbye: true})
	s.word(key, row, a.w.turn(), func(*object.Error) {})
}
