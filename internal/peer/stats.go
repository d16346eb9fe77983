package peer

import (
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/wire"
)

// Stats are the counts of a Peer since it was made. They are read while it runs,
// so that two of them need not be of the same instant.
type Stats struct {
	Connected        int   // connections now
	InFlightRequests int64 // now
	InFlightBytes    int64 // of records, now

	Puts, Gets, Heads, Rows uint64 // requests taken from the coordinator
	Failed                  uint64 // of these ended with an error other than absent and expired
	Disconnected            uint64 // of these failed at once, for want of a connection
	Overloads               uint64 // of these refused here: too much was under way
	WrongOwner              uint64 // of these refused by the peer: the history has changed
	BadAnswers              uint64 // of these answered with what is no answer

	Connects, ConnectFailures uint64
	Hurried                   uint64 // attempts made sooner because the node was heard
	BytesOut, BytesIn         uint64 // frames, headers included
	FramesOut, FramesIn       uint64
	Writes                    uint64 // write calls
}

type counters struct {
	puts, gets, heads, rows                                 atomic.Uint64
	failed, disconnected, overloads, wrongOwner, badAnswers atomic.Uint64
	connects, connectFailures, hurried                      atomic.Uint64

	mu   sync.Mutex
	past Stats // traffic of connections that have ended
}

func (s *Stats) add(w wire.Stats) {
	s.BytesOut += w.BytesOut
	s.BytesIn += w.BytesIn
	s.FramesOut += w.FramesOut
	s.FramesIn += w.FramesIn
	s.Writes += w.Writes
}

// retire takes a connection out of its line, ends it, and keeps its counts.
func (c *counters) retire(l *line, conn *wire.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	l.conn.Store(nil)
	c.past.add(conn.Stats())
}

// Stats returns the Peer's counts.
func (p *Peer) Stats() Stats {
	c := &p.counters
	c.mu.Lock()
	s := c.past
	for _, l := range p.lines {
		if conn := l.conn.Load(); conn != nil {
			s.Connected++
			s.add(conn.Stats())
		}
	}
	c.mu.Unlock()
	s.InFlightRequests, s.InFlightBytes = p.requests.Load(), p.bytes.Load()
	s.Puts, s.Gets, s.Heads, s.Rows = c.puts.Load(), c.gets.Load(), c.heads.Load(), c.rows.Load()
	s.Failed, s.Disconnected, s.Overloads = c.failed.Load(), c.disconnected.Load(), c.overloads.Load()
	s.WrongOwner, s.BadAnswers = c.wrongOwner.Load(), c.badAnswers.Load()
	s.Connects, s.ConnectFailures = c.connects.Load(), c.connectFailures.Load()
	s.Hurried = c.hurried.Load()
	return s
}
