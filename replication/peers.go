package replication

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A peer is what the coordinator keeps of one node.
type peer struct {
	inFlight atomic.Int64 // bytes of records under way to it
	suspect  atomic.Int64 // until then it is asked last; nanoseconds since the Unix epoch
}

// admit takes bytes for a record on its way, unless that is too much. A record
// larger than the bound goes alone.
func (p *peer) admit(sizeBytes, bound int64) bool {
	if now := p.inFlight.Add(sizeBytes); now > bound && now > sizeBytes {
		p.inFlight.Add(-sizeBytes)
		return false
	}
	return true
}

// doubt makes the node one to be asked last for a while.
func (p *peer) doubt(now time.Time) { p.suspect.Store(now.Add(suspectFor).UnixNano()) }

func (p *peer) suspected(now time.Time) bool { return p.suspect.Load() > now.UnixNano() }

// judge doubts a node that could not do what it was asked.
func (c *Coordinator) judge(id ring.NodeID, err *object.Error) {
	if err == nil {
		return
	}
	switch err.Code {
	case object.CodeUnavailable, object.CodeDeadline, object.CodeOverload, object.CodeStopping, object.CodeDisk:
		c.peers.of(id).doubt(c.cfg.Now())
	}
}

// peers finds what is known of a node. Nodes are never forgotten: there are at
// most as many as the cluster ever had.
type peers struct {
	all    atomic.Pointer[map[ring.NodeID]*peer] // replaced, never modified
	adding sync.Mutex
}

func (p *peers) of(id ring.NodeID) *peer {
	if all := p.all.Load(); all != nil {
		if known := (*all)[id]; known != nil {
			return known
		}
	}
	p.adding.Lock()
	defer p.adding.Unlock()
	next := make(map[ring.NodeID]*peer)
	if all := p.all.Load(); all != nil {
		if known := (*all)[id]; known != nil {
			return known
		}
		maps.Copy(next, *all)
	}
	made := new(peer)
	next[id] = made
	p.all.Store(&next)
	return made
}
