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
package replication

// MaxOwners bounds n, the number of owners of an object.
const MaxOwners = 8
