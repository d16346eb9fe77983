// Package peer is a replica on another node: [Peer] is the side that asks, a
// replica to a coordinator; [Handler] is the side that answers, a door of the
// node for its peers. [PushHandler] tells subscribed nodes what this one has just
// made durable, for their tails; [Peer.Follow] subscribes. All speak [wire].
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
//	40  subscribe     tail            meta: a subscription      messages: pushes
//	41  adopted       control         –                         –
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
// # Pushes
//
// A subscription names the data centres of which the caller is told:
//
//	offset  size  field
//	0       1     1 if bodies are wanted, else 0
//	1       2     number of data centres, 0..256; 0 is all
//	3       …     their names, a text each, ascending, each once
//
// The answer is a stream of pushes without end. The first is "ready": what the
// node makes durable after it is pushed. The meta of a push:
//
//	offset  size  field
//	0       1     kind: 1 ready, 2 delta, 3 blob
//	1       8     of a delta: xxhash64 of the body
//	9       …     of a delta: the index key
//
// The body of a delta is a row, of at most 1 MiB: what was added to the row of
// that key, and is as durable on the pushing node as the index's policy asks. The
// body of a blob is its record, of at most 1 MiB, which the index may not name
// yet, or never. What is larger is not pushed.
//
// Who is told what is the node's to decide ([PushLocal]). A push may be lost, or
// come twice: the index is the truth, and pushes only make it known sooner. They
// need no fencing, since they say nothing of what is not there.
//
// # Fencing
//
// A request carries the version of the history its owners were taken from, an
// answer that of the node that gives it. A node that is behind catches up before
// it answers ([HandlerConfig.CatchUp]); one that is ahead, and knows other owners
// for the object, answers CodeWrongOwner, and the asking side learns the newer
// history before its coordinator is told ([Config.CatchUp]). Puts are for owners;
// sources are read as well. A put is judged again when it is stored: one that was
// taken for a ring that does not count any more is not acknowledged. A node that
// adopts a history tells all others at once ("adopted"): what is acknowledged under
// it waits until enough of those that spoke for the object before have adopted it
// too ([ring.Fence.Settled]).
//
// # What is bounded
//
// A Peer bounds the requests and bytes under way to its node, and gives
// CodeOverload beyond. While there is no connection, requests fail at once; three
// goroutines, one a connection, try to get it back, at growing intervals, or at
// once when the node connects to this one ([Peer.Heard]).
//
// What waits for a subscriber is bounded in items and bytes. One that is slow
// loses pushes, bodies before deltas, and never holds up the node that pushes.
package peer
