// Package replication coordinates the owners of an object: it sends a write to
// all of them and answers at w, reads one body and as many headers as make the
// answer certain, unites the rows of the index, and remembers which replica
// could not be given its copy.
//
// The decisions are step functions: [Write], [Read] and [RowRead] take an event
// and return actions. They know no clock, network, disk or goroutine; a table of
// events tests them, and the simulator drives them in any order it likes.
// [Coordinator] is the thin driver that performs the actions over real replicas.
//
// An owner is named by its place in the preference list, 0 to n-1. The list
// holds distinct nodes, so that no node counts twice.
//
// # The driver
//
// A request is one pooled operation under a lock of its own: every event (an
// answer, an alarm, the caller leaving) takes the lock, makes a step, lets go of
// it, and performs the actions. There is no goroutine, timer or context for a
// request or a replica; a [Replica] answers by calling back. Remote owners are
// asked first; then the local one, on the goroutine of the caller, which has
// nothing better to do. Callbacks from other nodes never touch a local disk
// while a caller waits who can.
//
// What is in flight is bounded twice. The bytes under way to one node are
// bounded from the question to the callback: beyond, that node is not asked and
// is owed its copy. The bytes of records whose writers have been answered, and
// which other owners still have to take, are bounded in all: beyond, a write is
// over with its reply, and what is open is owed.
package replication

import "github.com/mayflydb/mayfly/internal/bucket"

// MaxOwners bounds n, the number of owners of an object.
const MaxOwners = bucket.MaxN
