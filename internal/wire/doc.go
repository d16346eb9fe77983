// Package wire carries requests and answers between mayfly's programs: frames
// with a fixed header, many at once over one TCP connection.
//
// A connection begins with a [Hello] from each side, the caller first. After
// that the caller sends requests and the server answers them in any order;
// every frame is a [Header], a short meta and a body. The meta holds the
// operation's arguments; the body holds records or rows, and goes from the
// socket into an [object.Buffer] and from there to the file and to other
// sockets without a copy.
//
// The calling side is a [Conn]: Call for one answer, Stream for many. The
// serving side is a [Server] with a [Handler].
//
// What holds whatever the other side sends:
//
//   - no memory is taken because a length field says so: lengths are checked
//     against the bounds of their class, then against the bytes in flight that
//     the connection and the listener may hold, and large buffers grow as bytes
//     arrive;
//   - every wait has an end: a hello, a frame that was begun, a write, an idle
//     connection, an unanswered ping;
//   - goroutines, requests, and queued bytes are bounded per connection and per
//     server; what exceeds a bound waits (bytes) or is answered with
//     [object.CodeOverload] (requests), each [Class] at its own share;
//   - a request whose time ran out or that was cancelled is dropped before work
//     is done for it.
//
// Errors are [object.Error]: what a caller may assume (not done, maybe done)
// survives the wire.
package wire
