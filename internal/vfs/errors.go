package vfs

import "fmt"

// A TooLongError says that a file is longer than anything mayfly writes under
// that name.
type TooLongError struct {
	Path                string
	SizeBytes, MaxBytes int64
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("%s has %d bytes; at most %d are read", e.Path, e.SizeBytes, e.MaxBytes)
}
