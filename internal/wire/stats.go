package wire

import "sync/atomic"

// Stats are the counts of a server, or of all the Conns that share a Counters,
// since it was made. They are read while it runs, so that two of them need not
// be of the same instant.
type Stats struct {
	Open     int64  // connections now
	Accepted uint64 // connections that got past the hello
	Refused  uint64 // connections turned away: another cluster, version, too many, not a mayfly

	Running        int64 // requests being handled now
	InFlightBytes  int64 // bytes of requests held now
	Requests       [numClasses]uint64
	Overloads      [numClasses]uint64 // requests answered with overload, by class
	Stalls         uint64             // times a connection waited for bytes in flight, or for its peer to read
	Dead           uint64             // requests dropped because their time had run out
	Cancelled      uint64             // requests their caller gave up
	ProtocolErrors uint64             // connections ended because what came was not the protocol
	Pings          uint64             // pings answered
	BytesIn        uint64
	BytesOut       uint64
	FramesIn       uint64
	FramesOut      uint64
	Writes         uint64 // write calls; FramesOut per write tells how well they batch
}

// counters are Stats as they are counted.
type counters struct {
	open                                           atomic.Int64
	accepted, refused                              atomic.Uint64
	running                                        atomic.Int64
	requests, overloads                            [numClasses]atomic.Uint64
	stalls, dead, cancelled, protocol, pings       atomic.Uint64
	bytesIn, bytesOut, framesIn, framesOut, writes atomic.Uint64
}

func (c *counters) snapshot() Stats {
	s := Stats{
		Open: c.open.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(), Running: c.running.Load(),
		Stalls: c.stalls.Load(), Dead: c.dead.Load(), Cancelled: c.cancelled.Load(), ProtocolErrors: c.protocol.Load(), Pings: c.pings.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(), Writes: c.writes.Load(),
	}
	for i := range numClasses {
		s.Requests[i], s.Overloads[i] = c.requests[i].Load(), c.overloads[i].Load()
	}
	return s
}
