// Package peer is a replica on another node: [Peer] is the side that asks, a
// replica to a coordinator; [Handler] is the side that answers, a door of the
// node for its peers. Both speak [wire].
//
// # Operations
//
// Numbers from 32 on; a number keeps its meaning for ever. Integers are
// little-endian. A name is three texts (bucket type, bucket, key), a text its
// length, 2 bytes, and its bytes. A verdict is what a replica knows of a key,
// see below. Records and rows travel as they are.
//
//	op  name          classes         request                   answer
//	32  replica put   ingest, repair  body: a record            –
//	33  replica get   get, repair     meta: a name              meta: a verdict; body: the record, if found
//	34  replica head  get, repair     meta: a name              meta: a verdict; body: the record's header, if found
//	35  replica row   get, repair     meta: an index key, text  meta: a verdict, xxhash64 of the row (8);
//	                                                            body: the row, if found
//
// A verdict:
//
//	offset  size  field
//	0       1     state: 1 absent, 2 expired, 3 found
//	1       1     1 if the replica is complete for the key's bucket and time, else 0
//
// A put is a value, a tombstone, or a delta of the index, as the record's kind
// says. Absent and expired are answers, not errors: what they prove depends on
// whether the replica is complete. A row of which nothing was ever said is absent
// and reads as an empty row.
//
// # Fencing
//
// A request carries the version of the history its owners were taken from, an
// answer that of the node that gives it. A node that is behind catches up before
// it answers ([HandlerConfig.CatchUp]); one that is ahead, and knows other owners
// for the object, answers CodeWrongOwner, and the asking side learns the newer
// history before its coordinator is told ([Config.CatchUp]).
//
// # What is bounded
//
// A Peer bounds the requests and bytes under way to its node, and gives
// CodeOverload beyond. While there is no connection, requests fail at once; three
// goroutines, one a connection, try to get it back.
package peer
