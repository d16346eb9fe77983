// Package sim is a cluster on one thread: the real coordinator, vnodes, engine,
// index and tails of three to nine nodes, on a simulated network, clock and disks
// ([vfs.Mem]), in turns that one seed decides. Whatever a seed brings about it
// brings about again, event for event ([Result.Hash]): a breach found once can be
// looked at as often as one likes ([Explain], "mayfly sim --seed N --trace").
//
// There are no goroutines: code that waits, a node's upkeep or the reader of a
// tail, runs as a coroutine ([task]) in turns with everything else. There is no
// wall clock: time passes from one happening to the next ([queue]).
//
// # What is agreed
//
// In the place of raft and gossip there is one order of commands ([agreement]): a
// command is taken while a majority of the voters is up and has ways to each other
// and to the node that proposes it, and each node is told some time later. The
// document, its commands, the gate and the fence are the real ones. What a node
// does with them is written here again, in short ([member]), with the rules that
// package node keeps to:
//
//   - It opens what a history gives it, makes the history visible, tells the gate,
//     makes the promise durable, and only then proposes it.
//   - A request of a newer history has it catch up first, from the sender; one of an
//     older history is served if that names the same owners.
//   - It acknowledges nothing that others, who know only an older history, could
//     deny ([ring.Fence.Settled]): who adopts a history tells all others, and the
//     version is in every message.
//   - When it starts, or heard of nobody for half the time after which it is taken
//     for down, it finds out what it has missed before it answers.
//
// The leader's duties are here as well: who is down for a while is replaced, and
// gets its places back when it is there again; voters that are gone make way.
//
// # What happens
//
// Clients put, put in batches, put again, put in conflict, put late, delete, get,
// read rows; each stamps an object once and sends the same bytes to one node after
// the other until it is answered for good. Writers say hello and final as
// aggregators do. Tails keep a cursor and go on at other nodes.
//
// An operator has nodes join, leave, take the place of another one, changes weights
// and zones, commits, cancels, clears; removes a node whose disks were wiped, and
// lets another one have its name. Clients know the members.
//
// Meanwhile processes are killed and stopped, machines crash and lose what was not
// synced, in any order, networks are cut, whole or in part, in one direction or
// both, messages take long and overtake each other, requests come twice, disks are
// slow, full, or fail to write, sync or read, bits flip in files at rest, clocks
// step. At the end everything is healed, and all is looked at.
//
// # What must hold
//
//	I1        what was acknowledged is found when all is healed, with its bytes; some
//	          node has it on its disk whoever may vouch for it
//	I2        a certain row lists every blob acknowledged before the read began
//	I3        a replica that calls itself complete never loses an entry of a row
//	I5        nothing is called expired, for nothing here is that old
//	I6        absent is never said of what was acknowledged, at any r; what is found was
//	          put, and where r + w > n is no older than what was acknowledged before
//	complete  a replica that calls itself complete has what it acknowledged; when all
//	          is healed, every replica becomes so
//	places    when all is healed, w of those who own it now have what was acknowledged,
//	          on their disks, whoever had it before; a copy counts until its node has to
//	          know that it is damaged
//	paid      when all is healed and was read, no node owes another one a copy any more
//	moved     no timed data is with a node that never owned it: rings move nothing
//	prepare   a ring is fixed only when all members have promised it, durably, and none
//	          has admitted anything past its beginning
//	agreed    versions of what is agreed only grow
//	rest      when all is healed, changes end, who leaves has left, newcomers get all
//	          they lack, and all members have the newest document
//	outcome   what was said to be not done is never found
//	tail      what was acknowledged is delivered; nothing comes twice that a cursor
//	          knows, nor of a second it has finished; gaps only where bytes were lost
//	watermark complete is not said of a second before all was delivered that its
//	          writers had acknowledged in time
//	buffers   no bytes change on their way: no buffer is used after its release
//	progress  requests end; panic: nothing panics
//
// # What may be lost
//
// I1 promises that an object acknowledged by w = 2 of its owners survives what
// happens to one of them. An owner loses bytes in a crash of its machine (those not
// synced, a second or so old), in a bit that flips, where its disk fails; a process
// that is killed, or stopped, or cut off, loses nothing. So that nothing that was
// promised may be lost, and everything that is lost is a breach, the faults keep to
// this:
//
//   - One node at a time, the victim, may lose bytes.
//   - Another may only when the victim is up again for as long as a write may take
//     and a sync after it: what the victim lost and had answered for, and the
//     other owner took late, is on the other's disk by then.
//   - Bits flip only in files of slots that ended a while ago, all of them on one
//     node, and only while all others are up and complete: of what is damaged, the
//     others then have what they must.
//   - A machine that is wiped loses all; that happens only while all others are up and
//     complete and nothing is on the move. Until others have all it had nobody's disk
//     fails, and nobody's files are damaged.
//   - Agreement is recovered only on a node that knows all that was agreed while it had
//     a majority, but for what voters agreed among themselves when they were about to
//     go, which is nothing about rings. The operator has to take the node with the
//     newest document: what none of those knows, who are left, no recovery can keep.
//   - A node that comes back while there is no majority, and cannot know whether it was
//     replaced meanwhile, waits for somebody who can tell. (It may serve if it was not,
//     which the simulation knows and a node does not.)
//
// Who may have lost something is in doubt until it is merged with the others. When
// all is healed, all doubts must end, and with them all answers that are none.
package sim
