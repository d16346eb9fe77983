package bitcask

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Answers of reads that come often enough not to be built each time.
var (
	// ErrAbsent: nothing is stored under the key here. Whether that proves
	// anything is the caller's to know: see [Store.Doubts].
	ErrAbsent = &object.Error{Code: object.CodeAbsent, Outcome: object.NotDone, Message: "no object is stored under this key"}

	// ErrExpired: the key's time is past its bucket's TTL, or below the drop
	// horizon. Nothing was stored, nothing is shown, whatever may be on the disk.
	ErrExpired = &object.Error{Code: object.CodeExpired, Outcome: object.NotDone, Message: "the object's time has expired: its bucket keeps nothing that old"}

	// ErrStopping: the Disk is closed or closing. Nothing was done.
	ErrStopping = &object.Error{Code: object.CodeStopping, Outcome: object.NotDone, Message: "the disk is being closed: ask another node, or this one when it is back"}

	errMerged = &object.Error{Code: object.CodeDisk, Outcome: object.NotDone, Message: "the object's file was merged into another one while it was read: try again"}

	errOverload = &object.Error{Code: object.CodeOverload, Outcome: object.NotDone, Message: "too many puts are waiting for this partition's file: retry later"}
)

// An IdentityError is a refusal to use a directory: it is somebody else's, or
// not as it must be. Nothing in it was changed.
type IdentityError struct {
	Path   string
	Reason string // what is so, and what to do
	Cause  error  // may be nil
}

func (e *IdentityError) Error() string { return e.Path + ": " + e.Reason }

// Unwrap returns the cause.
func (e *IdentityError) Unwrap() error { return e.Cause }

// A formatError says why bytes on the disk are not what they should be.
type formatError struct {
	offset int64 // of the fault in the file, as far as it is known
	what   string
}

func (e *formatError) Error() string { return fmt.Sprintf("offset %d: %s", e.offset, e.what) }

func badFormat(offset int64, format string, args ...any) error {
	return &formatError{offset, fmt.Sprintf(format, args...)}
}

// diskError turns an error of the file system into the caller's.
func diskError(outcome object.Outcome, doing string, err error) *object.Error {
	switch {
	case vfs.IsNoSpace(err):
		return object.Errorf(object.CodeLowSpace, outcome, "%s: the disk is full: free space, or wait until data expires: %w", doing, err)
	case vfs.IsReadOnly(err):
		return object.Errorf(object.CodeDisk, outcome, "%s: the disk is read-only: look at the kernel's log and mount it for writing again: %w", doing, err)
	}
	return object.Errorf(object.CodeDisk, outcome, "%s: the disk failed: look at the kernel's log: %w", doing, err)
}
