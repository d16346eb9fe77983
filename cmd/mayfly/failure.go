package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// failed is what a command prints with --json where it would print its answer: a
// script finds one object on standard output, whatever came of it.
type failed struct {
	Error failureJSON `json:"error"`
}

// A failureJSON says why a command failed, and what may be assumed.
type failureJSON struct {
	Message string              `json:"message"` // the sentence of standard error
	Status  int                 `json:"exit_status"`
	Code    string              `json:"code"`           // "usage", or what a node said: "conflict", "unavailable"; "interrupted"; "failed" otherwise
	Outcome string              `json:"outcome"`        // "not done", "maybe done", "done"
	Loss    *ring.LastCopyError `json:"loss,omitempty"` // what would be lost, where it was refused for that
}

func describeFailure(err error) failureJSON {
	f := failureJSON{Message: err.Error(), Status: exitStatus(err), Code: "failed", Outcome: object.NotDone.String()}
	if errors.Is(err, context.Canceled) {
		f.Code, f.Outcome = "interrupted", object.MaybeDone.String()
	}
	if e, found := errors.AsType[*object.Error](err); found {
		f.Code, f.Outcome = e.Code.String(), e.Outcome.String()
	}
	if f.Status == exitUsage {
		f.Code = "usage"
	}
	if loss, found := errors.AsType[*ring.LastCopyError](err); found {
		f.Loss = loss
	}
	return f
}

// A worded error has another sentence than its cause, which programs can still tell.
type worded struct {
	cause error
	text  string
}

func (e worded) Error() string { return e.text }
func (e worded) Unwrap() error { return e.cause }

// answersJSON tells whether a command, one of the cluster's, was asked for an
// object. A command line that could not be read to its end is searched for the
// flag.
func answersJSON(cmd *cobra.Command, args []string) bool {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Name() == "cluster" {
			f := cmd.Flags().Lookup("json")
			return f != nil && f.Value.String() == "true" || slices.Contains(args, "--json")
		}
	}
	return false
}
