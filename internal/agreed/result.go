package agreed

import (
	"errors"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Result says what came of a command.
type Result struct {
	Version ring.Version // of the document after it
	Changed bool         // the document is another one now
	// Err, if not nil, says why the command was refused and what to do next: the
	// document is as it was, the outcome is object.NotDone. Where the last copy of
	// something would go its cause is a *ring.LastCopyError, also after it was
	// encoded.
	Err   *object.Error
	Notes []string // for the operator: what could not hold, why a proposal was made again
}

// Failure returns Err as an error, nil if there is none.
func (r Result) Failure() error {
	if r.Err == nil {
		return nil
	}
	return r.Err
}

// refuse returns a refusal: a sentence for the operator.
func refuse(code object.Code, format string, args ...any) *object.Error {
	return object.Errorf(code, object.NotDone, format, args...)
}

// refused returns err as a refusal; a *ring.LastCopyError stays its cause.
func refused(err error) *object.Error {
	e := refuse(object.CodeBadRequest, "%v", err)
	if loss, found := errors.AsType[*ring.LastCopyError](err); found {
		e.Code, e.Cause = object.CodeConflict, loss
	}
	return e
}

// loss returns what would be lost, if the command was refused for that.
func (r Result) loss() *ring.LastCopyError {
	if r.Err == nil {
		return nil
	}
	loss, _ := errors.AsType[*ring.LastCopyError](error(r.Err))
	return loss
}
