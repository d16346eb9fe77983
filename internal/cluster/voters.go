package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// Who takes part in the agreement is the leader's duty. Every live member that is
// there is a server, up to a number: the leader speaks to each many times a second, and
// others learn documents by gossip. Of these up to five are voters, an odd number, spread over
// zones. A voter that is silent for long makes room for another one, if there is
// one: without, it stays, for fewer voters would make the cluster no safer.

// A peerView is what the leader knows of a node: a live member, or a server.
type peerView struct {
	Node   ring.NodeID
	Zone   string
	Live   bool          // is a live member
	Alive  bool          // answers
	Silent time.Duration // since when not
	Log    logID         // as it says itself, in this era; zero: not known
}

// A serverStep is one change of the servers.
type serverStep struct {
	Kind   stepKind
	Server server
}

type stepKind uint8

const (
	stepNone     stepKind = iota
	stepAdd               // make it a server that follows
	stepPromote           // make it a voter
	stepDemote            // make it follow only
	stepRemove            // it is no server any more
	stepHandOver          // this node is no member any more: another voter has to lead
)

func (k stepKind) String() string {
	return [...]string{"none", "add", "promote", "demote", "remove", "hand over"}[k]
}

// A votersView is all that the next step depends on.
type votersView struct {
	Self         ring.NodeID // the leader
	Servers      []server
	Peers        map[ring.NodeID]peerView
	MaxVoters    int
	MaxServers   int
	ReplaceAfter time.Duration
}

// next returns the one change that is due. It is pure, and ends: when nothing else
// happens, the last step is stepNone.
func (v votersView) next() serverStep {
	for _, decide := range []func() serverStep{v.handOver, v.remove, v.add, v.promote, v.demote} {
		if s := decide(); s.Kind != stepNone {
			return s
		}
	}
	return serverStep{}
}

func (v votersView) handOver() serverStep {
	if !v.Peers[v.Self].Live && slices.ContainsFunc(v.Servers, func(s server) bool { return s.Voter && s.Node != v.Self && v.Peers[s.Node].Alive }) {
		return serverStep{Kind: stepHandOver}
	}
	return serverStep{}
}

// remove finds a server that is no member, or whose log is gone: its node says that
// it has another one.
func (v votersView) remove() serverStep {
	for _, s := range v.Servers {
		p := v.Peers[s.Node]
		lost := p.Alive && p.Log != (logID{}) && p.Log != s.Log
		if s.Node != v.Self && (!p.Live || lost) {
			return serverStep{stepRemove, s}
		}
	}
	return serverStep{}
}

// add finds a member that is there and no server yet.
func (v votersView) add() serverStep {
	if len(v.Servers) >= v.MaxServers {
		return serverStep{}
	}
	for _, p := range v.sorted() {
		if p.Live && p.Alive && p.Log != (logID{}) && !slices.ContainsFunc(v.Servers, func(s server) bool { return s.Node == p.Node }) {
			return serverStep{stepAdd, server{Node: p.Node, Log: p.Log}}
		}
	}
	return serverStep{}
}

// sorted returns the peers, ascending by id.
func (v votersView) sorted() (all []peerView) {
	for _, p := range v.Peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b peerView) int { return a.Node.Compare(b.Node) })
	return all
}

func (v votersView) voters() (n int) {
	for _, s := range v.Servers {
		if s.Voter {
			n++
		}
	}
	return n
}

// wanted returns how many voters there should be: an odd number, for one more
// would bear no more failures.
func (v votersView) wanted() int {
	n := min(v.MaxVoters, len(v.Servers))
	return max(1, n-(1-n%2))
}

// perZone counts the voters of each zone that answer, and those whose silence is
// not long enough yet.
func (v votersView) perZone() map[string]int {
	n := map[string]int{}
	for _, s := range v.Servers {
		if s.Voter && !v.gone(s) {
			n[v.Peers[s.Node].Zone]++
		}
	}
	return n
}

// gone reports whether a server has been silent for so long that another should
// take its place.
func (v votersView) gone(s server) bool {
	p := v.Peers[s.Node]
	return s.Node != v.Self && !p.Alive && p.Silent >= v.ReplaceAfter
}

// promote finds a server that should vote: in the zone with the fewest voters.
func (v votersView) promote() serverStep {
	inZone := v.perZone()
	var best server
	found := false
	for _, s := range v.Servers {
		p := v.Peers[s.Node]
		if s.Voter || !p.Alive || !p.Live {
			continue
		}
		if !found || cmp.Or(inZone[p.Zone]-inZone[v.Peers[best.Node].Zone], s.Node.Compare(best.Node)) < 0 {
			best, found = s, true
		}
	}
	if !found || v.voters() > v.wanted() {
		return serverStep{}
	}
	lonely := inZone[v.Peers[best.Node].Zone] == 0
	crowded := slices.ContainsFunc(v.Servers, func(s server) bool { return s.Voter && inZone[v.Peers[s.Node].Zone] > 1 })
	dead := slices.ContainsFunc(v.Servers, func(s server) bool { return s.Voter && v.gone(s) })
	allThere := !slices.ContainsFunc(v.Servers, func(s server) bool { return s.Voter && !v.Peers[s.Node].Alive && s.Node != v.Self })
	if v.voters() < v.wanted() || dead || lonely && crowded && allThere {
		return serverStep{stepPromote, best}
	}
	return serverStep{}
}

// demote finds a voter too many: first one that is gone, then one that is silent,
// then one of the zone with the most voters.
func (v votersView) demote() serverStep {
	if v.voters() <= v.wanted() {
		return serverStep{}
	}
	inZone := v.perZone()
	rank := func(s server) int {
		switch {
		case v.gone(s):
			return -2
		case !v.Peers[s.Node].Alive:
			return -1
		}
		return 0
	}
	var worst server
	found := false
	for _, s := range v.Servers {
		if !s.Voter || s.Node == v.Self {
			continue
		}
		zone, worstZone := inZone[v.Peers[s.Node].Zone], inZone[v.Peers[worst.Node].Zone]
		if !found || cmp.Or(rank(s)-rank(worst), worstZone-zone, worst.Node.Compare(s.Node)) < 0 {
			worst, found = s, true
		}
	}
	if !found {
		return serverStep{}
	}
	return serverStep{stepDemote, worst}
}

func (s serverStep) String() string { return fmt.Sprintf("%v %v", s.Kind, s.Server.Node) }
