// Package tail follows the newest seconds. A [Hub] takes what a node has just
// made durable ([Hub.Publish]) and hands it to subscriptions at once, with the
// bodies that are at hand; each [Subscription] gives its reader the blobs that
// match, and a watermark for every second of every dc.
//
// # The index is the truth
//
// Pushes make a tail fast, the index makes it complete. The hub keeps the newest
// seconds of arrival in a window. As a second passes, it reads the second's index
// rows through its [Source] and offers what no push has brought. A second leaves
// the window when it is finished: its rows were read with certainty after their
// owners had stopped taking entries for it, with time to spare for their clocks.
//
// A tail follows arrival: a blob comes with the row of its own second or, if that
// was closed already, with the late list of the second it arrived in. The row
// marks those as listed, and the tail passes over them there.
//
// # Slow readers
//
// A subscription is live or behind. A live one has a queue; bodies that do not fit
// are read again when their turn comes, and when the queue itself is full, the
// subscription is behind. So is one that begins in the past. The reader of a
// subscription that is behind reads the rows itself, second by second, at its own
// pace, until it reaches the window; there it takes what it lacks and is live.
// Nothing of it is held in memory meanwhile but what it was delivered of
// unfinished seconds.
//
// # Who owns what
//
// All decisions are in core, window, feed and catchup: they know no clock, no
// source and no goroutine. Hub guards them with one mutex, runs one goroutine for
// the window's reads and gives them the time; Subscription.Next runs in its
// caller.
package tail
