package replication

import (
	"fmt"
	"strings"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Write decides one put, delete or index delta from its owners' answers.
//
// It replies once: with success when w owners have it, or with an error as soon
// as w cannot be reached any more. It goes on after that reply until every owner
// has answered or run out of time, so that each copy is either made or owed. An
// owner that refused for good (the key holds other bytes, the object has expired
// there) is owed nothing: its refusal is an answer. w owners that took the
// object outvote a conflict. An owner that refused because its clock says
// another time is owed its copy if any other took it.
//
// Invariant: taken + refused + failed <= n, and each owner is counted once.
type Write struct {
	n, w    int
	answers [MaxOwners]answer
	replied bool
}

// answer is what one owner said to a write.
type answer struct {
	state ownerState
	err   *object.Error
}

type ownerState uint8

const (
	pending ownerState = iota
	taken              // it has the object
	refused            // it will never take it: conflict, expired, malformed
	failed             // it did not take it, or nobody knows
)

// A WriteEvent is something that happened to a write.
type WriteEvent struct {
	Kind  WriteEventKind
	Owner int           // for Answered
	Err   *object.Error // for Answered: nil if the owner has the object
}

// A WriteEventKind says what happened.
type WriteEventKind uint8

const (
	// Answered: an owner answered, or the connection to it failed.
	Answered WriteEventKind = iota + 1
	// OutOfTime: the caller's time is over. The owners' time is not.
	OutOfTime
	// GiveUp: the owners' time is over; who has not answered failed.
	GiveUp
)

// A WriteAction is something the driver must do.
type WriteAction struct {
	Kind  WriteActionKind
	Owner int           // for Owe
	Err   *object.Error // for Reply: nil for success
}

// A WriteActionKind says what to do.
type WriteActionKind uint8

const (
	// Reply: answer the caller. It comes exactly once.
	Reply WriteActionKind = iota + 1
	// Owe: remember that the owner lacks its copy, or may lack it.
	Owe
	// Finish: nothing more will happen; release the object. It comes last.
	Finish
)

// NewWrite returns the state of a write to n owners that is acknowledged by w.
// 1 <= w <= n <= MaxOwners.
func NewWrite(n, w int) Write {
	if w < 1 || w > n || n > MaxOwners {
		panic(fmt.Sprintf("replication: BUG: a write to %d owners acknowledged by %d", n, w))
	}
	return Write{n: n, w: w}
}

// Step takes one event and appends the actions it causes to out. Events after
// Finish, and second answers of one owner, cause nothing.
func (s *Write) Step(ev WriteEvent, out []WriteAction) []WriteAction {
	before := s.count(pending)
	if before == 0 {
		return out
	}
	switch ev.Kind {
	case Answered:
		if s.answers[ev.Owner].state != pending {
			return out
		}
		out = s.settle(ev.Owner, ev.Err, out)
	case OutOfTime:
		if !s.replied {
			s.replied = true
			out = append(out, WriteAction{Kind: Reply, Err: s.deadline()})
		}
	case GiveUp:
		for i := range s.n {
			if s.answers[i].state == pending {
				late := object.Errorf(object.CodeDeadline, object.MaybeDone, "no answer in time")
				out = s.settle(i, late, out)
			}
		}
	}
	if s.count(pending) == 0 {
		out = append(s.oweUntimely(out), WriteAction{Kind: Finish})
	}
	return out
}

// oweUntimely owes the object to the owners whose clocks kept it out, if it got
// in elsewhere.
func (s *Write) oweUntimely(out []WriteAction) []WriteAction {
	if s.count(taken) == 0 {
		return out
	}
	for i, a := range s.answers[:s.n] {
		if a.state == refused && (a.err.Code == object.CodeTooFarAhead || a.err.Code == object.CodeClosed) {
			out = append(out, WriteAction{Kind: Owe, Owner: i})
		}
	}
	return out
}

// settle records an owner's answer and replies if that decides the write.
func (s *Write) settle(owner int, err *object.Error, out []WriteAction) []WriteAction {
	a := &s.answers[owner]
	a.err = err
	switch {
	case err == nil:
		a.state = taken
	case final(err.Code):
		a.state = refused
	default:
		a.state = failed
		out = append(out, WriteAction{Kind: Owe, Owner: owner})
	}
	if s.replied {
		return out
	}
	switch have := s.count(taken); {
	case have >= s.w:
		s.replied = true
		out = append(out, WriteAction{Kind: Reply})
	case have+s.count(pending) < s.w:
		s.replied = true
		out = append(out, WriteAction{Kind: Reply, Err: s.failure()})
	}
	return out
}

// final tells whether an owner's refusal is for good: the same object will be
// refused again.
func final(c object.Code) bool {
	switch c {
	case object.CodeConflict, object.CodeExpired, object.CodeTooFarAhead, object.CodeTooLarge, object.CodeBadRequest, object.CodeRefused, object.CodeClosed:
		return true
	}
	return false
}

func (s *Write) count(state ownerState) (n int) {
	for _, a := range s.answers[:s.n] {
		if a.state == state {
			n++
		}
	}
	return n
}

// failure is the error of a write that w owners will not acknowledge. If some
// owner refused for good and none failed, its refusal is the reason and the
// caller need not retry; otherwise a retry may succeed. A single owner speaks
// for itself.
func (s *Write) failure() *object.Error {
	if s.n == 1 {
		return s.answers[0].err
	}
	code := s.commonFault()
	if s.count(failed) == 0 || s.count(refused) > s.n-s.w {
		for _, a := range s.answers[:s.n] {
			if a.state == refused {
				code = a.err.Code
				break
			}
		}
	}
	return object.Errorf(code, s.outcome(), "%d of %d owners must take it and only %d did: %s", s.w, s.n, s.count(taken), s.reasons())
}

// commonFault is the code that all owners gave that did not take it, if a caller
// can act on it, or else CodeUnavailable.
func (s *Write) commonFault() (code object.Code) {
	for _, a := range s.answers[:s.n] {
		if a.err == nil {
			continue
		}
		if code != 0 && a.err.Code != code {
			return object.CodeUnavailable
		}
		code = a.err.Code
	}
	switch code {
	case object.CodeOverload, object.CodeLowSpace, object.CodeDeadline, object.CodeStopping:
		return code
	}
	return object.CodeUnavailable
}

func (s *Write) deadline() *object.Error {
	return object.Errorf(object.CodeDeadline, s.outcome(), "%d of %d owners must take it and %d did in time; send the identical object again", s.w, s.n, s.count(taken))
}

// outcome is what the caller may assume: nothing was stored only if every owner
// has answered that it stored nothing.
func (s *Write) outcome() object.Outcome {
	for _, a := range s.answers[:s.n] {
		if a.state == pending || a.state == taken || a.err.Outcome != object.NotDone {
			return object.MaybeDone
		}
	}
	return object.NotDone
}

// reasons lists what the owners said, in the order of the preference list.
func (s *Write) reasons() string {
	var parts []string
	for i, a := range s.answers[:s.n] {
		if a.err != nil {
			parts = append(parts, fmt.Sprintf("owner %d: %s", i+1, a.err.Message))
		}
	}
	return strings.Join(parts, "; ")
}
