// Package object holds what every part of mayfly agrees on about one stored
// object: its record as it travels and as it lies on disk, its version, the
// digest of many versions, the buffers its bytes live in, and the errors that
// tell a caller whether something was done.
//
// The package is pure: no clock, disk, network or goroutine. Everything but
// [Buffer] and [Pool] is a value.
package object
