package replication

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

func rowOf(entries ...int) index.Row {
	rows := make([]index.Row, len(entries))
	for i, n := range entries {
		rows[i] = index.Row{Sections: []index.Section{{
			Writer:  index.Writer{Name: "w", Incarnation: 1},
			Entries: []index.Entry{{Suffix: fmt.Sprintf("WEB:app:%d", n), Version: object.Version{TimestampMicros: 1}}},
		}}}
	}
	return index.Merge(rows...)
}

func TestRowRead(t *testing.T) {
	row := func(owner int, complete bool, entries ...int) RowEvent {
		return RowEvent{Kind: Replied, Owner: owner, Row: rowOf(entries...), Complete: complete}
	}
	fail := func(owner int) RowEvent { return RowEvent{Kind: Replied, Owner: owner, Err: lost} }
	past := func(owner int) RowEvent {
		return RowEvent{Kind: Replied, Owner: owner, Err: object.Errorf(object.CodeExpired, object.NotDone, "it has expired")}
	}
	for _, c := range []struct {
		claim   string
		n, w    int
		evs     []RowEvent
		asked   int
		replied bool
		entries int
		certain bool
		fails   bool
	}{
		{"a cluster of one", 1, 1, []RowEvent{row(0, true, 1)}, 1, true, 1, true, false},
		{"two of three unite", 3, 2, []RowEvent{row(0, true, 1), row(1, true, 2)}, 2, true, 2, true, false},
		{"one of three is not enough", 3, 2, []RowEvent{row(0, true, 1)}, 2, false, 0, false, false},
		{"a failure is asked over", 3, 2, []RowEvent{fail(0), row(1, true, 1), row(2, true, 2)}, 3, true, 2, true, false},
		{"an incomplete owner adds, and does not count", 3, 2, []RowEvent{row(0, false, 1), row(1, true, 2), row(2, true, 3)}, 3, true, 3, true, false},
		{"two incomplete: uncertain", 3, 2, []RowEvent{row(0, false, 1), row(1, false, 2), row(2, true, 3)}, 3, true, 3, false, false},
		{"one answer of three: uncertain", 3, 2, []RowEvent{fail(0), fail(1), row(2, true, 3)}, 3, true, 1, false, false},
		{"nobody", 3, 2, []RowEvent{fail(0), fail(1), fail(2)}, 3, true, 0, false, true},
		{"a slow owner is hedged", 3, 2, []RowEvent{row(0, true, 1), {Kind: Hedge}, row(2, true, 2)}, 3, true, 2, true, false},
		{"time over: what there is", 3, 2, []RowEvent{row(0, true, 1), {Kind: Over}}, 2, true, 1, false, false},
		{"expired", 3, 2, []RowEvent{past(0), past(1)}, 2, true, 0, true, true},
		{"entries beat expired", 3, 2, []RowEvent{past(0), row(1, true, 1)}, 2, true, 1, true, false},
		{"w=3 needs one only", 3, 3, []RowEvent{row(0, true, 1)}, 1, true, 1, true, false},
	} {
		s := NewRowRead(c.n, c.w, []int{0, 1, 2}[:c.n])
		var all []RowAction
		all = s.Step(RowEvent{Kind: Begin}, all)
		for _, ev := range c.evs {
			all = s.Step(ev, all)
		}
		asked := 0
		var reply *RowAction
		for i, a := range all {
			if a.Kind == AskRow {
				asked++
			} else {
				reply = &all[i]
			}
		}
		if asked != c.asked || (reply != nil) != c.replied {
			t.Errorf("%s: %d asked, replied %v; want %d, %v", c.claim, asked, reply != nil, c.asked, c.replied)
			continue
		}
		if reply != nil && (reply.Row.Len() != c.entries || reply.Certain != c.certain || (reply.Err != nil) != c.fails) {
			t.Errorf("%s: %d entries, certain %v, error %v", c.claim, reply.Row.Len(), reply.Certain, reply.Err)
		}
	}
}

// TestRowReadCertainIsWhole: an entry acknowledged by w owners, of which some
// forgot and know it, is in every row that is called certain.
func TestRowReadCertainIsWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	certain := 0
	for range 20_000 {
		n := 1 + rnd.IntN(5)
		w := 1 + rnd.IntN(n)
		holds := make([]bool, n)
		for _, o := range rnd.Perm(n)[:w] {
			holds[o] = true
		}
		s := NewRowRead(n, w, rnd.Perm(n))
		queue := s.Step(RowEvent{Kind: Begin}, nil)
		for len(queue) > 0 {
			a := queue[0]
			queue = queue[1:]
			if a.Kind == ReplyRow {
				if a.Certain {
					certain++
					if a.Row.Len() != 1 {
						t.Fatalf("n=%d w=%d: a certain row lacks an acknowledged entry", n, w)
					}
				}
				break
			}
			ev := RowEvent{Kind: Replied, Owner: a.Owner, Complete: true}
			switch forgot := rnd.IntN(5) == 0; {
			case forgot:
				ev.Complete = false
			case rnd.IntN(5) == 0:
				ev.Err = lost
			case holds[a.Owner]:
				ev.Row = rowOf(1)
			}
			if rnd.IntN(4) == 0 {
				queue = s.Step(RowEvent{Kind: Hedge}, queue)
			}
			queue = s.Step(ev, queue)
		}
	}
	if certain < 5000 {
		t.Errorf("only %d certain rows: the test does not try them", certain)
	}
}

// TestRowReadWithNewcomer: as for a read; the union of who suffices is certain.
func TestRowReadWithNewcomer(t *testing.T) {
	const d, b, c, a = 0, 1, 2, 3
	earlier := []Quorum{{Members: 1<<b | 1<<c | 1<<a, Need: 2}}
	for _, test := range []struct {
		claim   string
		has     map[int]int // an entry by who is there and complete
		asked   int
		entries int
		certain bool
	}{
		{"two owners unite", map[int]int{b: 1, c: 2, d: 3, a: 4}, 2, 2, true},
		{"one owner, the newcomer and the source", map[int]int{b: 1, d: 3, a: 4}, 4, 3, true},
		{"one owner and the newcomer", map[int]int{b: 1, d: 3}, 4, 2, false},
		{"one owner and the source", map[int]int{b: 1, a: 4}, 4, 2, false},
	} {
		s := NewRowRead(3, 2, []int{b, c, d}).With(1, earlier)
		queue := s.Step(RowEvent{Kind: Begin}, nil)
		asked := 0
		for len(queue) > 0 {
			act := queue[0]
			queue = queue[1:]
			if act.Kind == AskRow {
				asked++
				ev := RowEvent{Kind: Replied, Owner: act.Owner, Complete: true}
				if entry, up := test.has[act.Owner]; up {
					ev.Row = rowOf(entry)
				} else {
					ev.Err = lost
				}
				queue = s.Step(ev, queue)
				continue
			}
			if act.Row.Len() != test.entries || act.Certain != test.certain || asked != test.asked || act.Err != nil {
				t.Errorf("%s: %d entries, certain %v, %d asked, %v", test.claim, act.Row.Len(), act.Certain, asked, act.Err)
			}
		}
	}
}
