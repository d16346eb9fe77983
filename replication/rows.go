package replication

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A RowRead unites an index row from its owners. The union of n-w+1 complete
// owners holds every acknowledged entry: it is certain. With fewer the answer is
// what could be had, marked uncertain; with none it is an error. An owner for
// which the row has expired has nothing left to tell; if all that answered have
// nothing and one says expired, so does the answer.
//
// All owners that must be asked are asked at once; when one fails, is
// incomplete or slow ([Hedge]), the next is asked too. While some owners are
// newcomers the rows before them count as well, as for a [Read].
type RowRead struct {
	n        int // owners
	all      int // who can be asked: owners, then sources
	present  Quorum
	earlier  []Quorum
	asked    uint32 // masks, as of a [Quorum]
	answered uint32
	complete uint32
	order    [maxAsked]uint8
	got      int
	expired  bool
	rows     []index.Row
	done     bool
}

// A RowEvent is something that happened to a row read. Its kinds are those of a
// [ReadEvent].
type RowEvent struct {
	Kind     ReadEventKind
	Owner    int           // for Replied
	Row      index.Row     // for Replied without Err
	Complete bool          // the owner vouches that it lacks nothing it acknowledged
	Err      *object.Error // for Replied: it could not answer, or CodeExpired
}

// A RowAction is something the driver must do.
type RowAction struct {
	Kind    RowActionKind
	Owner   int           // for AskRow
	Row     index.Row     // for ReplyRow
	Certain bool          // for ReplyRow
	Err     *object.Error // for ReplyRow: expired, or nobody answered
}

// A RowActionKind says what to do.
type RowActionKind uint8

const (
	// AskRow: ask the owner for its row.
	AskRow RowActionKind = iota + 1
	// ReplyRow: answer. It comes once and last.
	ReplyRow
)

// NewRowRead returns the state of reading a row that has n owners, written with
// a quorum that never was smaller than w. prefer is as in [NewRead].
func NewRowRead(n, w int, prefer []int) RowRead {
	if n < 1 || n > MaxOwners || w < 1 || w > n || len(prefer) != n {
		panic(fmt.Sprintf("replication: BUG: a row read from %d owners, w=%d, %d preferred", n, w, len(prefer)))
	}
	s := RowRead{n: n, all: n, present: Quorum{Members: 1<<n - 1, Need: n - w + 1}}
	for i, o := range prefer {
		s.order[i] = uint8(o)
	}
	return s
}

// With is [Read.With].
func (s RowRead) With(sources int, earlier []Quorum) RowRead {
	for i := range sources {
		s.order[s.n+i] = uint8(s.n + i)
	}
	s.all, s.earlier = s.n+sources, earlier
	return s
}

// Step takes one event and appends the actions it causes to out. After the
// reply nothing causes anything.
func (s *RowRead) Step(ev RowEvent, out []RowAction) []RowAction {
	if s.done {
		return out
	}
	switch ev.Kind {
	case Begin:
		return s.askMore(out)
	case Hedge:
		return s.askNext(out)
	case Over:
		return s.reply(out)
	}
	bit := uint32(1) << ev.Owner
	if s.asked&bit == 0 || s.answered&bit != 0 {
		return out
	}
	s.answered |= bit
	s.take(&ev, bit)
	if s.certain(s.complete) {
		return s.reply(out)
	}
	out = s.askMore(out)
	if s.asked == s.answered {
		return s.reply(out)
	}
	return out
}

func (s *RowRead) take(ev *RowEvent, bit uint32) {
	switch {
	case ev.Err == nil:
		s.got++
		s.rows = append(s.rows, ev.Row)
		if ev.Complete {
			s.complete |= bit
		}
	case ev.Err.Code == object.CodeExpired:
		s.got++
		s.complete |= bit
		s.expired = true
	}
}

// certain reports whether the union of these answers has every acknowledged entry.
func (s *RowRead) certain(complete uint32) bool {
	return provesAll(&s.present, s.earlier, complete)
}

// askMore asks until the open questions may make the row certain, if all goes well.
func (s *RowRead) askMore(out []RowAction) []RowAction {
	for !s.certain(s.complete | s.asked&^s.answered) {
		before := s.asked
		if out = s.askNext(out); s.asked == before {
			break
		}
	}
	return out
}

// askNext asks one more, if there is one.
func (s *RowRead) askNext(out []RowAction) []RowAction {
	for _, i := range s.order[:s.all] {
		if bit := uint32(1) << i; s.asked&bit == 0 {
			s.asked |= bit
			return append(out, RowAction{Kind: AskRow, Owner: int(i)})
		}
	}
	return out
}

func (s *RowRead) reply(out []RowAction) []RowAction {
	s.done = true
	a := RowAction{Kind: ReplyRow, Row: index.Merge(s.rows...), Certain: s.certain(s.complete)}
	switch {
	case s.expired && a.Row.Empty():
		a.Err = object.Errorf(object.CodeExpired, object.NotDone, "it has expired")
	case s.got == 0:
		a.Err = object.Errorf(object.CodeUnavailable, object.NotDone, "none of the row's %d owners answered; try again", s.n)
	}
	return append(out, a)
}
