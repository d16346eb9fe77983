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
// incomplete or slow ([Hedge]), the next is asked too.
type RowRead struct {
	n, need  int
	asked    [MaxOwners]bool
	answered [MaxOwners]bool
	order    [MaxOwners]uint8
	complete int
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
	s := RowRead{n: n, need: n - w + 1}
	for i, o := range prefer {
		s.order[i] = uint8(o)
	}
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
		return s.askUpTo(s.need, out)
	case Hedge:
		return s.askUpTo(s.open()+1, out)
	case Over:
		return s.reply(out)
	}
	if !s.asked[ev.Owner] || s.answered[ev.Owner] {
		return out
	}
	s.answered[ev.Owner] = true
	s.take(&ev)
	if s.complete >= s.need {
		return s.reply(out)
	}
	out = s.askUpTo(s.need-s.complete, out)
	if s.open() == 0 {
		return s.reply(out)
	}
	return out
}

func (s *RowRead) take(ev *RowEvent) {
	switch {
	case ev.Err == nil:
		s.got++
		s.rows = append(s.rows, ev.Row)
		if ev.Complete {
			s.complete++
		}
	case ev.Err.Code == object.CodeExpired:
		s.got++
		s.complete++
		s.expired = true
	}
}

// askUpTo asks further owners until so many questions are open.
func (s *RowRead) askUpTo(open int, out []RowAction) []RowAction {
	have := s.open()
	for _, i := range s.order[:s.n] {
		if have >= open {
			break
		}
		if !s.asked[i] {
			s.asked[i] = true
			have++
			out = append(out, RowAction{Kind: AskRow, Owner: int(i)})
		}
	}
	return out
}

func (s *RowRead) open() (n int) {
	for i := range s.n {
		if s.asked[i] && !s.answered[i] {
			n++
		}
	}
	return n
}

func (s *RowRead) reply(out []RowAction) []RowAction {
	s.done = true
	a := RowAction{Kind: ReplyRow, Row: index.Merge(s.rows...), Certain: s.complete >= s.need}
	switch {
	case s.expired && a.Row.Empty():
		a.Err = object.Errorf(object.CodeExpired, object.NotDone, "it has expired")
	case s.got == 0:
		a.Err = object.Errorf(object.CodeUnavailable, object.NotDone, "none of the row's %d owners answered; try again", s.n)
	}
	return append(out, a)
}
