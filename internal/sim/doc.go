// Package sim is a cluster on one thread: the real coordinator, vnodes, engine,
// index and tails of three to seven nodes, on a simulated network, clock and disks
// ([vfs.Mem]), in turns that one seed decides. Whatever a seed brings about it
// brings about again, event for event ([Result.Hash]): a breach found once can be
// looked at as often as one likes ([Explain], "mayfly sim --seed N --trace").
//
// There are no goroutines: code that waits, a node's upkeep or the reader of a
// tail, runs as a coroutine ([task]) in turns with everything else. There is no
// wall clock: time passes from one happening to the next ([queue]). Agreement and
// membership are fakes behind [Agreement].
//
// # What happens
//
// Clients put, put in batches, put again, put in conflict, put late, delete, get,
// read rows; each stamps an object once and sends the same bytes to one node after
// the other until it is answered for good. Writers say hello and final as
// aggregators do. Tails keep a cursor and go on at other nodes.
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
//
// Who may have lost something is in doubt until it is merged with the others. When
// all is healed, all doubts must end, and with them all answers that are none.
package sim
