// Package index is the index of a second: which blobs a dc has for it, told
// writer by writer, and what follows from that.
//
// A [Row] maps a (writer, incarnation) to the blobs it stored and to what it
// said about the second: hello, goodbye, whom it succeeds, and its [Final], the
// count and digest of its blobs. Rows only grow: [Merge] is a join, so it does
// not matter in which order, how often or over which replicas deltas arrive. A
// delta is itself a Row, usually of one [Section], and is encoded like one; the
// format is described at [AppendRow].
//
// An [Accumulator] takes deltas as they come. [Expected] and [Evaluate] turn
// rows into a watermark: is the second complete, and if not, what is missing.
// [Relist] makes the late form of a delta that came after its second was closed.
//
// The package is pure: no clock, disk, network or goroutine. Rows, sections and
// entries are values that are not modified once made; what functions return may
// share memory with what they were given.
package index
