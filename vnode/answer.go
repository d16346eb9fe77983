package vnode

import (
	"fmt"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// An Ack says what a put that succeeded did.
type Ack uint8

const (
	// Stored: the record was written.
	Stored Ack = iota + 1
	// Known: nothing was written, for the same or something newer is there, as
	// durable as if it had been written now.
	Known
)

// String returns "stored" or "known".
func (a Ack) String() string {
	switch a {
	case Stored:
		return "stored"
	case Known:
		return "known"
	}
	return fmt.Sprintf("ack %d", uint8(a))
}

// A State says what a replica knows of a key.
type State uint8

const (
	// Absent: nothing is stored under the key. It proves something only if the
	// answer is complete.
	Absent State = iota + 1
	// Expired: the key's time is past its bucket's TTL or below the drop horizon.
	// Whether there was something under it cannot be told any more.
	Expired
	// Found: there is a record, which may be a tombstone.
	Found
)

// String returns "absent", "expired" or "found".
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Expired:
		return "expired"
	case Found:
		return "found"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// The errors that answers without an object become at a door.
var (
	errAbsent  = bitcask.ErrAbsent
	errExpired = bitcask.ErrExpired
	errDoubted = &object.Error{Code: object.CodeUnknown, Outcome: object.NotDone,
		Message: "this replica may have lost objects of that time: ask another one, or this one when it is repaired"}
)

// An Answer is what a replica says to a get.
type Answer struct {
	State State

	// Complete: the replica vouches that it has every record it ever acknowledged
	// for the bucket and the time of the key.
	Complete bool

	// Record, if Found, is the greatest version, perhaps a tombstone: header and
	// value. The value's checksum has not been checked. The caller releases it.
	Record object.Record
}

// Err says what the answer means to one who wants the object and can ask no
// other replica: nil if there is a value, otherwise absent, expired or unknown.
func (a *Answer) Err() error { return answerError(a.State, a.Complete, a.Record.Kind) }

// Release gives back the record of an answer, whatever its state.
func (a *Answer) Release() { a.Record.Release() }

// A HeadAnswer is what a replica says when asked for a header only.
type HeadAnswer struct {
	State    State
	Complete bool         // as in Answer
	Head     bitcask.Head // if Found; the caller releases it
}

// Err is as Answer.Err.
func (a *HeadAnswer) Err() error { return answerError(a.State, a.Complete, a.Head.Kind) }

// Release gives back the header of an answer, whatever its state.
func (a *HeadAnswer) Release() {
	if a.State == Found {
		a.Head.Release()
	}
}

func answerError(s State, complete bool, kind object.Kind) error {
	switch {
	case s == Expired:
		return errExpired
	case s == Found && kind != object.Tombstone:
		return nil
	case !complete:
		return errDoubted
	}
	return errAbsent
}

// A RowAnswer is what a replica says when asked for an index row.
type RowAnswer struct {
	// State is Found if anything was ever said of the second, an empty final
	// included.
	State State

	// Complete: the replica vouches that the row has everything it ever
	// acknowledged for it.
	Complete bool

	// Row is shared: it must not be modified.
	Row index.Row
}
