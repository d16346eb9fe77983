// Package event holds what producers, nodes and readers must agree on about
// events: the names of blobs (Key, IndexKey), the form of a blob (Blob,
// Builder), the check every msgpack document passes before anything decodes it
// (Validate, Skip), and the datagrams producers send (ParseDatagram).
//
// The package is pure: it reads no clock and no disk and starts no goroutine.
// Functions that append to a caller's buffer do not keep it; functions that
// return parts of their input say so. Every value may be used by several
// goroutines at once as long as none of them changes it; Builder and Scratch
// belong to one goroutine at a time.
package event
