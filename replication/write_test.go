package replication

import (
	"math/rand/v2"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

var (
	conflict = object.Errorf(object.CodeConflict, object.NotDone, "it holds other bytes")
	closed   = object.Errorf(object.CodeClosed, object.NotDone, "the second is closed")
	full     = object.Errorf(object.CodeLowSpace, object.NotDone, "the disk is full")
	lost     = object.Errorf(object.CodeUnavailable, object.MaybeDone, "the connection broke")
)

// said is one owner's answer.
func said(owner int, err *object.Error) WriteEvent {
	return WriteEvent{Kind: Answered, Owner: owner, Err: err}
}

func TestWrite(t *testing.T) {
	type reply struct {
		code    object.Code // 0 success
		outcome object.Outcome
	}
	var (
		ok      = &reply{}
		none    *reply
		givesUp = WriteEvent{Kind: GiveUp}
		timeout = WriteEvent{Kind: OutOfTime}
	)
	for _, c := range []struct {
		claim string
		n, w  int
		evs   []WriteEvent
		want  *reply // what the last event causes
		owed  int    // copies owed at the end
	}{
		{"one owner is enough for a cluster of one", 1, 1, []WriteEvent{said(0, nil)}, ok, 0},
		{"one of three is not two", 3, 2, []WriteEvent{said(1, nil)}, none, 0},
		{"two of three are two", 3, 2, []WriteEvent{said(2, nil), said(0, nil)}, ok, 0},
		{"one owner twice is one", 3, 2, []WriteEvent{said(2, nil), said(2, nil)}, none, 0},
		{"one failure leaves hope", 3, 2, []WriteEvent{said(2, lost)}, none, 1},
		{"two failures leave none", 3, 2, []WriteEvent{said(2, lost), said(1, full)}, &reply{object.CodeUnavailable, object.MaybeDone}, 2},
		{"w taken outvote a conflict", 3, 2, []WriteEvent{said(0, conflict), said(1, nil), said(2, nil)}, ok, 0},
		{"two conflicts are a conflict, while the third may have it", 3, 2, []WriteEvent{said(0, conflict), said(1, conflict)}, &reply{object.CodeConflict, object.MaybeDone}, 0},
		{"a conflict where the other copies failed may pass later", 3, 2, []WriteEvent{said(0, conflict), said(1, full)}, &reply{object.CodeUnavailable, object.MaybeDone}, 1},
		{"the only owner refuses: not done", 1, 1, []WriteEvent{said(0, conflict)}, &reply{object.CodeConflict, object.NotDone}, 0},
		{"the only owner is full: not done", 1, 1, []WriteEvent{said(0, full)}, &reply{object.CodeLowSpace, object.NotDone}, 1},
		{"all are full: the caller is told so", 3, 2, []WriteEvent{said(0, full), said(1, full)}, &reply{object.CodeLowSpace, object.MaybeDone}, 2},
		{"an owner whose second is closed is owed what others took", 3, 2, []WriteEvent{said(0, nil), said(1, nil), said(2, closed)}, none, 1},
		{"a second closed everywhere owes nothing", 3, 2, []WriteEvent{said(0, closed), said(1, closed), said(2, closed)}, none, 0},
		{"a closed second is final", 3, 2, []WriteEvent{said(0, closed), said(1, closed)}, &reply{object.CodeClosed, object.MaybeDone}, 0},
		{"the only owner is lost: maybe", 1, 1, []WriteEvent{said(0, lost)}, &reply{object.CodeUnavailable, object.MaybeDone}, 1},
		{"w=3 fails with the first failure", 3, 3, []WriteEvent{said(0, nil), said(1, full)}, &reply{object.CodeLowSpace, object.MaybeDone}, 1},
		{"the caller's time ends before the quorum", 3, 2, []WriteEvent{said(0, nil), timeout}, &reply{object.CodeDeadline, object.MaybeDone}, 0},
		{"the caller's time ends after the reply", 3, 2, []WriteEvent{said(0, nil), said(1, nil), timeout}, none, 0},
		{"who is silent is owed a copy", 3, 2, []WriteEvent{said(0, nil), said(1, nil), givesUp}, none, 1},
		{"all silent", 3, 2, []WriteEvent{givesUp}, &reply{object.CodeDeadline, object.MaybeDone}, 3},
	} {
		s := NewWrite(c.n, c.w)
		var last, all []WriteAction
		for _, ev := range c.evs {
			last = s.Step(ev, nil)
			all = append(all, last...)
		}
		var got *reply
		for _, a := range last {
			if a.Kind == Reply {
				got = &reply{}
				if a.Err != nil {
					got = &reply{a.Err.Code, a.Err.Outcome}
				}
			}
		}
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: reply %+v, want %+v", c.claim, got, c.want)
		}
		owed := 0
		for _, a := range all {
			if a.Kind == Owe {
				owed++
			}
		}
		if owed != c.owed {
			t.Errorf("%s: %d copies owed, want %d", c.claim, owed, c.owed)
		}
	}
}

// TestWriteAlwaysEnds drives random events: one reply, one finish, the finish
// last, and success exactly when w distinct owners had taken it before the reply.
func TestWriteAlwaysEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 20_000 {
		n := 1 + r.IntN(5)
		w := 1 + r.IntN(n)
		s := NewWrite(n, w)
		took := map[int]bool{}
		settled := map[int]bool{}
		replies, finishes := 0, 0
		step := func(ev WriteEvent) {
			if ev.Kind == Answered && !settled[ev.Owner] {
				settled[ev.Owner] = true
				took[ev.Owner] = ev.Err == nil
			}
			for _, a := range s.Step(ev, nil) {
				if finishes > 0 {
					t.Fatal("an action after the finish")
				}
				switch a.Kind {
				case Reply:
					replies++
					have := 0
					for _, ok := range took {
						if ok {
							have++
						}
					}
					if a.Err == nil && have < w {
						t.Fatalf("acknowledged with %d of w=%d", have, w)
					}
					if a.Err != nil && a.Err.Outcome == object.NotDone && have > 0 {
						t.Fatal("not done, though an owner has it")
					}
				case Finish:
					finishes++
				}
			}
		}
		for range r.IntN(12) {
			switch r.IntN(8) {
			case 0:
				step(WriteEvent{Kind: OutOfTime})
			default:
				step(said(r.IntN(n), []*object.Error{nil, nil, nil, full, lost, conflict}[r.IntN(6)]))
			}
		}
		step(WriteEvent{Kind: GiveUp})
		if replies != 1 || finishes != 1 {
			t.Fatalf("n=%d w=%d: %d replies, %d finishes", n, w, replies, finishes)
		}
	}
}
