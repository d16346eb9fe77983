package replication

import (
	"math/bits"
	"slices"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// A Quorum is one row of owners under which objects may have been acknowledged,
// as those see it who ask: bits are places in the list of who can be asked. Who
// cannot be asked any more has no bit, and still counts in R and Need.
//
// # What makes an answer certain
//
// The owners of a partition change. Under each row of owners w of its nodes
// acknowledged an object together, never some of one row and some of another:
// a put that meets a node which knows another row is refused there, and begins
// again. So an object acknowledged under a row is on w of the row's n nodes, and
// any n-w+1 of them include one that has it, if all of these are complete: have
// lost nothing they acknowledged themselves.
//
// Therefore nothing is absent unless, for the present row and each earlier one
// whose objects newcomers may lack, n-w+1 nodes of the row said so and are
// complete. A newcomer is complete, by its own evidence, as to what it
// acknowledged itself: it counts in its own row and in no earlier one. That is
// all there is to "newcomers do not count": with one newcomer D in the place of
// A beside B and C, w=2, absent takes B and C, or one of them with both A and D.
// A alone in the place of D would not do: D and B may have acknowledged a late
// object that A, frozen, has never seen. A node that is lost never answers, so
// that its row needs more of the others; a row that was filled up from one owner
// to three needs that one.
//
// Who is known to have all that was acknowledged under a row (Whole) makes up for
// the whole of it. A newcomer that has taken over from the frozen source before
// it only has what that could have acknowledged, and stands for it in its rows;
// that is [ring.History.Rows]'s affair.
//
// All this is so for answers that are given after the node has learnt the row of
// the request (requests carry the history's version, and a node that is behind
// catches up first): from then on it takes nothing more under an earlier row, so
// what it has of that is final, puts it was in the middle of apart. Those are
// not acknowledged yet when a read asks; a merge waits for them, see
// [MergerConfig.Grace]. What is left is a reader that is behind, among nodes
// that all are: it sees the past, until one of them tells it of the present.
type Quorum struct {
	Members uint32 // the row, as far as it can be asked
	Twice   uint32 // those of them that have taken over another's place besides their own
	Whole   uint32 // others, each of which has all that was acknowledged under the row
	R       int    // answers that a found value needs
	Need    int    // complete answers that prove an absence: n-w+1
}

// proves reports whether complete answers of these nodes include one that has
// whatever was acknowledged under the row.
func (q *Quorum) proves(complete uint32) bool {
	return complete&q.Whole != 0 || bits.OnesCount32(complete&q.Members)+bits.OnesCount32(complete&q.Twice) >= q.Need
}

// reads reports whether answers of these nodes are as many as a found value needs.
func (q *Quorum) reads(answered, complete uint32) bool {
	return complete&q.Whole != 0 || bits.OnesCount32(answered&q.Members)+bits.OnesCount32(answered&q.Twice) >= q.R
}

const (
	maxSources = 8                      // asked besides the owners; others cannot make anything certain
	maxAsked   = MaxOwners + maxSources // who can be asked at all
)

// A cast is who can be asked about objects of a partition: the owners, and, while
// these include newcomers, the sources of what they may lack. It does not change
// once made.
type cast struct {
	nodes   []ring.NodeID // owners in order of preference, then sources
	n       int           // of them, owners
	present Quorum
	earlier []Quorum   // of rows before; nil if there is no newcomer
	places  []ring.Row // the rows before, if a place in one is the same place in the next
	more    bool       // there are more than can be asked
}

// castOf returns who is to be asked about a bucket's objects in a partition: of
// a slot, or of plain data. A bucket that keeps fewer copies than the ring has
// owners uses the first of each row.
func castOf(h *ring.History, b *bucket.Properties, p ring.Partition, slot int64) cast {
	var (
		owners []ring.NodeID
		rows   []ring.Row
	)
	if b.Timed {
		owners, rows = h.At(slot).Owners(p), h.Rows(slot, p)
	} else {
		owners, rows = h.Newest().Owners(p), h.PlainRows(p)
	}
	n, r, _ := b.For(len(owners))
	c := cast{nodes: owners[:n:n], n: n, present: Quorum{Members: 1<<n - 1, R: r, Need: b.AbsentQuorum(len(owners))}}
	if len(rows) < 2 {
		return c
	}
	var sources []ring.NodeID
	if b.Timed {
		sources, c.places = h.Sources(slot, p), rows[:len(rows)-1]
	} else {
		sources = h.PlainSources(p)
	}
	for _, row := range rows[:len(rows)-1] {
		n, r, _ := b.For(len(row.Nodes))
		q := Quorum{R: r, Need: b.AbsentQuorum(len(row.Nodes))}
		if n == 0 {
			q.R, q.Need = 1, 1 // by nobody
		}
		for _, id := range row.Nodes[:n] {
			known := slices.Contains(sources, id) || slices.Contains(owners, id)
			switch {
			case !known || slices.Contains(c.nodes, id):
			case len(c.nodes) < maxAsked:
				c.nodes = append(c.nodes, id)
			default:
				c.more = true
			}
			q.Twice |= q.Members & c.bit(id)
			q.Members |= c.bit(id)
		}
		for _, id := range row.Whole {
			q.Whole |= c.bit(id) & c.present.Members
		}
		c.earlier = append(c.earlier, q)
	}
	return c
}

// bit returns a node's place as a mask, 0 if it cannot be asked.
func (c *cast) bit(id ring.NodeID) uint32 {
	if i := slices.Index(c.nodes, id); i >= 0 {
		return 1 << i
	}
	return 0
}

// newcomers returns the owners that some earlier row is without.
func (c *cast) newcomers() (mask uint32) {
	for i := range c.earlier {
		mask |= c.present.Members &^ (c.earlier[i].Members | c.earlier[i].Whole)
	}
	return mask
}

// proves reports whether complete answers of these nodes include one that has
// whatever was acknowledged under any row.
func (c *cast) proves(complete uint32) bool {
	return provesAll(&c.present, c.earlier, complete)
}

func provesAll(present *Quorum, earlier []Quorum, complete uint32) bool {
	ok := present.proves(complete)
	for i := range earlier {
		ok = ok && earlier[i].proves(complete)
	}
	return ok
}

// A party is a cast as one of its nodes sees it that makes itself complete: who
// else is to be walked, as the sides of a [Merge] from 1 on, and what of them
// suffices.
type party struct {
	others  []ring.NodeID // owners in order of preference, then sources
	more    bool          // there are others who cannot be asked
	owners  uint32        // sides that are owners: they are given what they lack
	quorums []Quorum      // over the sides; side 0 counts in none
	chain   uint32        // the sides that had this node's place before it; 0: not to be had, or nobody
	member  bool          // this node is an owner, or a source
	owner   bool
	never   bool // whatever they say: what was acknowledged before is in other partitions
}

// partyOf returns the party of a node. Those who are lost are not in it: they never
// answer, and what they had is gone.
func (c *cast) partyOf(self ring.NodeID, lost func(ring.NodeID) bool) party {
	p := party{more: c.more}
	side := map[ring.NodeID]uint32{}
	for i, id := range c.nodes {
		if id == self {
			p.member, p.owner = true, i < c.n
			continue
		}
		if lost(id) {
			continue
		}
		p.others = append(p.others, id)
		side[id] = 1 << len(p.others)
		if i < c.n {
			p.owners |= side[id]
		}
	}
	sides := func(mask uint32) (moved uint32) {
		for i, id := range c.nodes {
			if mask>>i&1 != 0 {
				moved |= side[id]
			}
		}
		return moved
	}
	for _, q := range append([]Quorum{c.present}, c.earlier...) {
		q.Members, q.Twice, q.Whole = sides(q.Members), sides(q.Twice), sides(q.Whole)
		p.quorums = append(p.quorums, q)
	}
	place := slices.Index(c.nodes[:c.n], self)
	if place < 0 {
		return p
	}
	for _, row := range c.places {
		if place >= len(row.Nodes) || row.Nodes[place] != self && side[row.Nodes[place]] == 0 {
			p.chain = 0 // nobody was before it, or who was is lost
			return p
		}
		p.chain |= side[row.Nodes[place]]
	}
	return p
}

// suffices is the rule for who may be complete: reached are the sides that were
// walked to the end, complete those of them that vouched for all they said, own
// tells that side 0 lost nothing of what it acknowledged itself. Side 0 then has
// what its predecessors could have acknowledged: what it needs of the present row it
// has itself, so that the rows before it are enough, or who had its place in these.
func (p *party) suffices(reached, complete uint32, own bool) bool {
	if p.never || !own {
		return p.regains(reached, complete)
	}
	before := len(p.quorums) > 1
	for i := range p.quorums[1:] {
		before = before && p.quorums[1+i].proves(complete)
	}
	return before || p.chain != 0 && complete&p.chain == p.chain || p.regains(reached, complete)
}

// regains is the rule for who lost something that it may have acknowledged
// itself: complete others that include one that has whatever was acknowledged
// under any row, or all others who are not lost.
func (p *party) regains(reached, complete uint32) bool {
	return !p.never && (provesAll(&p.quorums[0], p.quorums[1:], complete) || !p.more && bits.OnesCount32(reached) == len(p.others))
}
