//go:build amd64 || arm64

package bitcask

import "unsafe"

// prefetch asks the processor for the cache lines of four addresses, to be written to.
// It waits for nothing and reads nothing.
//
//go:noescape
func prefetch(a, b, c, d unsafe.Pointer)
