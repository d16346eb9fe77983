// Package agreed is the small document that all nodes of a cluster share: its
// members and their disks, the history of its rings, its buckets, and the
// change of the ring that is under way. It changes by commands, one after the
// other in an order that is agreed elsewhere; every node applies the same
// commands and comes to the same document.
//
// It is pure: no clock, disk, network or goroutine. Time is in the commands.
// Documents never change once made, so any number of goroutines may use one.
//
// A Gate is the one thing with state: a member's part in preparing a change,
// which admits epochs or refuses them.
package agreed
