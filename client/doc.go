// Package client talks to mayfly's nodes: it puts, gets and deletes objects,
// reads index rows, and follows the newest seconds.
//
// A [Client] is given some addresses. From the first node that answers it learns
// the history of the rings and where the other members are, and from then on asks
// an owner of what a call is about: nodes other than owners would have to ask one
// themselves. Every answer says under which version of the history it was given;
// when that is newer than what is known the history is fetched again, in the
// background. No call waits for it or fails because of it: any node serves any
// call, and as long as nothing was learnt the addresses that were given do.
//
// A call that fails in a way that may pass is made again, at the next owner, then
// anywhere: an object is stamped and encoded once, so that every attempt sends the
// same bytes and a repetition stores nothing twice. Repetitions are paced with
// jitter and held within a budget, so that clients do not make an overload worse.
// A read that takes longer than most is also put to one more node, and the answer
// that comes first counts; that is paid for from the same budget. Puts are never
// put to two nodes at once.
//
// Errors are object.Errors. Their Outcome is that of the whole call: "not done"
// means that no attempt may have left anything behind.
package client
