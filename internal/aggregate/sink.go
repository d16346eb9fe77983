package aggregate

import (
	"context"
	"errors"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A Sink stores what the aggregator makes: the Go client, or a node in the same
// process. Its methods are called by several goroutines at once and end soon
// after ctx does.
//
// An error that is an object.CodeBadRequest, CodeTooLarge, CodeExpired or
// CodeConflict is final for its blob; after any other the same bytes are sent
// again.
type Sink interface {
	// PutBatch stores records of the bucket events, all of one second and dc, and
	// returns an error for each, in their order, nil where it is acknowledged. A
	// Sink that keeps a record after it returns calls Retain first.
	PutBatch(ctx context.Context, records []object.Record) []error

	// AppendIndex adds delta, which has no entries, to the index row of key.
	AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error
}

// permanent tells whether trying again is of no use.
func permanent(err error) bool {
	for _, code := range []object.Code{object.CodeBadRequest, object.CodeTooLarge, object.CodeExpired, object.CodeConflict} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
