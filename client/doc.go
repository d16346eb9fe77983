// Package client talks to mayfly's nodes: it puts, gets and deletes objects,
// reads index rows, and follows the newest seconds.
//
// A [Client] knows some addresses and spreads its calls over them. A call that
// fails in a way that may pass is made again, elsewhere if there is an elsewhere:
// an object is stamped and encoded once, so that every attempt sends the same
// bytes and a repetition stores nothing twice. Repetitions are paced with jitter
// and held within a budget, so that clients do not make an overload worse.
//
// Errors are object.Errors. Their Outcome is that of the whole call: "not done"
// means that no attempt may have left anything behind.
package client
