package object

import (
	"context"
	"errors"
	"fmt"
)

// An Outcome says what a caller may assume after an error.
type Outcome uint8

const (
	// NotDone: nothing was stored and nothing will be.
	NotDone Outcome = iota + 1
	// MaybeDone: it may have been stored, or may be later. Sending the identical
	// object again is safe and settles it.
	MaybeDone
	// Done: it is stored as asked; the error concerns something else.
	Done
)

// String returns "not done", "maybe done" or "done".
func (o Outcome) String() string {
	switch o {
	case NotDone:
		return "not done"
	case MaybeDone:
		return "maybe done"
	case Done:
		return "done"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// A Code names a kind of failure. Codes travel on the wire: a number keeps its
// meaning for ever.
type Code uint8

const (
	CodeBadRequest  Code = 1  // malformed key, bucket, record or request; not to be retried
	CodeTooLarge    Code = 2  // the object exceeds a size bound; not to be retried
	CodeExpired     Code = 3  // the object's time is past its bucket's TTL or drop horizon
	CodeTooFarAhead Code = 4  // the object's time is further ahead than is admitted
	CodeConflict    Code = 5  // a write-once key holds other bytes, or is erased
	CodeAbsent      Code = 6  // certainly not there
	CodeUnknown     Code = 7  // whether it is there cannot be told now; retry
	CodeOverload    Code = 8  // a queue is full; retry later or elsewhere
	CodeLowSpace    Code = 9  // the disk is nearly full; recovers by itself when data expires
	CodeDisk        Code = 10 // a disk failed or is read-only
	CodeStopping    Code = 11 // the node is shutting down; retry elsewhere
	CodeDeadline    Code = 12 // the time allowed ran out
	CodeWrongOwner  Code = 13 // this node does not own the key; the ring has changed
	CodeInternal    Code = 14 // a bug or an unclassified failure
	CodeUnsupported Code = 15 // the peer does not know the operation or version
	CodeCorrupt     Code = 16 // bytes failed their checksum
	CodeUnavailable Code = 17 // not enough replicas answered; retry
	CodeRefused     Code = 18 // another cluster, format or missing right
	CodeClosed      Code = 19 // the second of an index row takes no such entry any more; send it as late
)

var codeNames = [...]string{
	CodeBadRequest: "bad request", CodeTooLarge: "too large", CodeExpired: "expired", CodeTooFarAhead: "too far ahead",
	CodeConflict: "conflict", CodeAbsent: "absent", CodeUnknown: "unknown", CodeOverload: "overload", CodeLowSpace: "low space",
	CodeDisk: "disk", CodeStopping: "stopping", CodeDeadline: "deadline", CodeWrongOwner: "wrong owner", CodeInternal: "internal",
	CodeUnsupported: "unsupported", CodeCorrupt: "corrupt", CodeUnavailable: "unavailable", CodeRefused: "refused", CodeClosed: "closed",
}

// String returns the code's name, in words.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error makes a bare Code usable as the target of [errors.Is]:
// errors.Is(err, object.CodeExpired).
func (c Code) Error() string { return c.String() }

// Retryable tells whether the identical request may succeed later or on
// another node.
func (c Code) Retryable() bool {
	switch c {
	case CodeUnknown, CodeOverload, CodeLowSpace, CodeDisk, CodeStopping, CodeDeadline, CodeWrongOwner, CodeUnavailable, CodeInternal, CodeCorrupt:
		return true
	}
	return false
}

// An Error is a failure as it is told to a caller, here or over the wire: a
// code for programs, an outcome to rely on, a sentence for people.
type Error struct {
	Code    Code
	Outcome Outcome
	Message string // a sentence that says what to do next
	Cause   error  // where it came from on this machine; does not travel
}

// Errorf returns an Error whose message is formatted; a %w operand becomes its
// Cause.
func Errorf(code Code, outcome Outcome, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Outcome: outcome, Message: err.Error(), Cause: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is e's Code, so that errors.Is(err, CodeExpired) works.
func (e *Error) Is(target error) bool { c, ok := target.(Code); return ok && c == e.Code }

// AsError returns err as an *Error. What is not one may have been done: a deadline
// that has passed is CodeDeadline, everything else an internal failure. A nil err
// gives nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	code := CodeInternal
	if errors.Is(err, context.DeadlineExceeded) {
		code = CodeDeadline // a replica's time is over when its caller's is: both must say the same
	}
	return &Error{Code: code, Outcome: MaybeDone, Message: err.Error(), Cause: err}
}
