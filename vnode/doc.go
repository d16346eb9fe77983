// Package vnode is a replica: what one node knows of one partition, on top of
// the engine that stores it. It decides what a put becomes (by version, by the
// rules of a write-once bucket, by its time and size), what a read may say
// (found, deleted, absent, expired), and it keeps the index rows of its
// seconds.
//
// A [Set] is a node's vnodes. A [Vnode] has the methods that a coordinator asks
// of a replica, here or behind a wire: [Vnode.Put], [Vnode.Get], [Vnode.Head],
// [Vnode.AppendDelta], [Vnode.Row], [Vnode.Digests]. The same methods of the
// Set find the vnode first.
//
// # Decisions
//
// admit and the deciders are pure: a bucket's rules, a header, a time. The
// engine calls a decider while no other put of the key can come in between.
//
// # Rows
//
// An index row is the union of its records: deltas as they came, and one merged
// record where a slot was sealed. The rows that still change are kept merged in
// memory, others are packed, the least used ones are forgotten; all of it within
// [Config.RowCacheBytes], since whatever is forgotten, or was lost with the
// process, is read from the records again.
//
// A row takes ordinary entries while its second is open. After that it takes
// only entries that also stand in the late list of the second they arrived in;
// others are refused with [ErrClosed], for the coordinator to send again so.
//
// # Maintenance
//
// [Set.Maintain] seals the index and what is indexed in it: first it derives the
// entries of the slot's blobs and adds those that the rows lack, then it writes
// each row as one record, then the engine seals the files. [Set.Recover] does
// the first of these for the open slots after a start: a process that was killed
// between a blob and its index entry leaves no blob that nobody can find.
//
// # Concurrency
//
// All exported methods may be called by any goroutine; none keeps one running.
// Time is an argument. Records passed in are only read, and not kept; records
// handed out belong to the caller, who releases them.
package vnode
