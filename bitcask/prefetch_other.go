//go:build !amd64 && !arm64

package bitcask

import "unsafe"

// prefetch does nothing: it is a hint.
func prefetch(_, _, _, _ unsafe.Pointer) {}
