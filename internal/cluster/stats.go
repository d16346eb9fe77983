package cluster

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/ring"
)

// Stats are the counts of a Cluster since it was started. They are read while it
// runs, so that two of them need not be of the same instant.
type Stats struct {
	Leads         bool   // this node leads, now
	HasLeader     bool   // some node does, as far as is known here, now
	Voters        int    // now
	Servers       int    // voters and those that only follow, now
	Term          uint64 // of Raft, now
	LogEntries    uint64 // of Raft, the last one, now
	Applied       uint64 // of these, now
	Era           uint32 // now
	Version       uint64 // of the document, in its era, now
	Alive, Silent int    // other nodes that gossip knows, now
	GossipHealth  int    // of this node: 0 is good; higher: it is slow to answer
	Contact       time.Time
	Streams       int // connections of Raft and gossip, now

	Proposals, ProposalFailures, Forwarded uint64
	Documents                              uint64 // that became the newest one here
	Learned                                uint64 // of these from other nodes, not by Raft
	WriteFailures                          uint64 // a document could not be written to all disks, or the log not be made durable
	CatchUps, CatchUpFailures              uint64
	Eras                                   uint64 // changes of the era
	TwoOrigins                             uint64 // documents refused: their era was begun twice
	Conflicts                              uint64 // a node id seen at two addresses
	Different                              int    // other nodes whose document is another one of the same version, now
	Unwelcome                              uint64 // times a node was told of by gossip and not taken in
	Duties, DutyFailures                   uint64 // what this node did as the leader: servers changed, commands proposed

	Welcome  map[string]uint64 // connections taken, by kind
	Refused  map[string]uint64 // connections refused here, by verdict
	Turned   map[string]uint64 // connections that others refused, by verdict
	Garbled  uint64            // connections dropped: no preface, or not in time; or no gossip
	Crowded  uint64            // connections closed: too many at once
	Dialed   uint64
	Unheard  uint64 // of these: nobody there, or no answer
	Packets  PacketStats
	MuxStats MuxStats
}

// PacketStats count packets of gossip.
type PacketStats struct {
	In, Out  uint64
	Foreign  uint64 // another cluster's, dropped
	Garbled  uint64 // no packet of gossip, dropped
	Overflow uint64 // more than were taken in time, dropped
}

type counters struct {
	proposals, proposalFailures, forwarded atomic.Uint64
	documents, learned, writeFailures      atomic.Uint64
	catchUps, catchUpFailures              atomic.Uint64
	eras, twoOrigins                       atomic.Uint64
	duties, dutyFailures                   atomic.Uint64
	different                              atomic.Int64
}

// Stats returns the counts.
func (c *Cluster) Stats() Stats {
	now := c.keeper.newest()
	s := Stats{
		Era: now.version().Era, Version: now.version().Index, Contact: c.Contact(),
		Proposals: c.stats.proposals.Load(), ProposalFailures: c.stats.proposalFailures.Load(), Forwarded: c.stats.forwarded.Load(),
		Documents: c.stats.documents.Load(), Learned: c.stats.learned.Load(), WriteFailures: c.stats.writeFailures.Load(),
		CatchUps: c.stats.catchUps.Load(), CatchUpFailures: c.stats.catchUpFailures.Load(),
		Eras: c.stats.eras.Load(), TwoOrigins: c.stats.twoOrigins.Load(), Conflicts: c.gossip.conflicts.Load(), Unwelcome: c.gossip.unwelcome.Load(), Different: int(c.stats.different.Load()),
		Duties: c.stats.duties.Load(), DutyFailures: c.stats.dutyFailures.Load(),
		GossipHealth: c.gossip.list.GetHealthScore(), Streams: c.gossip.wire.in.count() + c.gossip.wire.out.count(), MuxStats: c.cfg.Mux.Stats(),
	}
	for _, x := range c.gossip.sightings() {
		if x.Alive {
			s.Alive++
		} else {
			s.Silent++
		}
	}
	s.addRaft(c.era())
	c.streamC.addTo(&s)
	p := &c.packetC
	s.Packets = PacketStats{In: p.in.Load(), Out: p.out.Load(), Foreign: p.foreign.Load(), Garbled: p.garbled.Load(), Overflow: p.overflow.Load()}
	return s
}

func (s *Stats) addRaft(q *quorum) {
	if q == nil {
		return
	}
	s.Leads, s.HasLeader = q.leads(), !q.leader().IsZero()
	s.Term, s.LogEntries, s.Applied = q.raft.CurrentTerm(), q.raft.LastIndex(), q.raft.AppliedIndex()
	s.Streams += q.streams.in.count() + q.streams.out.count()
	servers, err := q.servers()
	if err != nil {
		return // it is ending
	}
	for _, x := range servers {
		s.Servers++
		if x.Voter {
			s.Voters++
		}
	}
}

func (c *streamCounters) addTo(s *Stats) {
	s.Welcome, s.Refused, s.Turned = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for k := kindRaft; k <= kindRequest; k++ {
		s.Welcome[k.String()] = c.welcome[k].Load()
	}
	for v := OtherCluster; v < verdicts; v++ {
		s.Refused[v.String()], s.Turned[v.String()] = c.refused[v].Load(), c.turned[v].Load()
	}
	s.Garbled, s.Crowded, s.Dialed, s.Unheard = c.garbled.Load(), c.crowded.Load(), c.dialed.Load(), c.failed.Load()
}

// A Status is what this node knows of the cluster, for people.
type Status struct {
	Node    ring.NodeID
	Origin  ring.NodeID  // of the era: who founded or recovered the cluster
	Version ring.Version // of the document here
	Leader  ring.NodeID  // zero: none is known
	Role    string       // of this node: leader, voter, follower, or waiting: not made part of it yet
	Servers []ServerStatus
	Seen    []Seen
	Refused string // why this node may not be a member; empty: it is, or was not told yet
	Contact time.Time
}

// A ServerStatus is a node that takes part in the agreement.
type ServerStatus struct {
	Node  ring.NodeID
	Voter bool
	Alive bool
}

// Seen is what gossip knows of another node.
type Seen struct {
	Node    ring.NodeID
	Address string
	Alive   bool
	Since   time.Time    // when it became alive, or ceased to be
	Version ring.Version // of its document; zero: not known
}

// Status returns what this node knows.
func (c *Cluster) Status() Status {
	now := c.keeper.newest()
	s := Status{Node: c.cfg.Node, Origin: now.origin, Version: now.version(), Role: "waiting", Contact: c.Contact()}
	if err := c.whyRefused(); err != nil {
		s.Refused = err.Error()
	}
	for _, x := range c.gossip.sightings() {
		s.Seen = append(s.Seen, Seen{x.Node, x.Address, x.Alive, x.Since, x.News.Version})
	}
	q := c.era()
	if q == nil {
		return s
	}
	s.Leader = q.leader()
	servers, err := q.servers()
	if err != nil {
		return s
	}
	for _, x := range servers {
		s.Servers = append(s.Servers, ServerStatus{x.Node, x.Voter, c.Alive(x.Node)})
		if x.Node == c.cfg.Node && x.Log == q.log {
			s.Role = roleOf(x, q.raft.State())
		}
	}
	return s
}

func roleOf(s server, state raft.RaftState) string {
	switch {
	case state == raft.Leader:
		return "leader"
	case s.Voter:
		return "voter"
	}
	return "follower"
}
