// Package bitcask stores records of one partition in append-only files that
// hold one bucket and one slot of time each, so that expiry is the unlinking of
// whole files and nothing is ever rewritten for it. Plain buckets, whose objects
// are overwritten and deleted, are merged by [Disk.Maintain].
//
// A [Disk] is one data directory:
//
//	mayfly-disk                                   whose it is: cluster, node, disk, slot length
//	mayfly-lock                                   locked while a process uses the directory
//	mayfly-reserve                                room kept so that a full disk can still expire
//	node/                                         the node's own small files; the engine leaves them alone
//	vnode/<partition>                             the manifest: evidence of what is here
//	<bucket id>/<partition>/<slot>-<seq>.seg      records of a timed bucket, as they came
//	<bucket id>/<partition>/<slot>-<seq>.hint     written when sealed: where each record is, by hash
//	<bucket id>/<partition>/plain-<seq>.seg|.hint the same of a plain bucket
//
// A [Store] is one partition on one Disk. A put looks its key up, lets its
// caller decide, and appends with one system call: puts that are acknowledged
// unsynced do so side by side, each at a place of its own; of the others whoever
// finds the file's appender free writes at once, and whoever finds it taken is
// written together with all others that wait (leader and followers). A get looks the hash up in
// memory (open slots) or in a page of the hint (sealed ones), reads the record
// with one pread, and never waits for a put. No lock is held across input or
// output; the appender's role is a flag, and only puts to the same file wait
// for it.
//
// # What survives
//
// A killed process loses nothing that was acknowledged. After a loss of power,
// what was acknowledged under SyncAlways is there; under SyncInterval all but
// the last interval; under SyncNone what was sealed. What is lost, or may be,
// shows in [Store.Doubts]. A damaged stretch of a file costs the records in it
// and no other: reading goes on at the next valid record.
//
// # What it does not do
//
// It does not parse keys, beyond the epoch that begins a timed one; it does not
// check a value's checksum when reading (see [object.Record.Verify]); it knows no
// replicas. It starts one goroutine a Disk, for syncing.
package bitcask
