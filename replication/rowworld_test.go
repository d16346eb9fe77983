package replication

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// An acked is something that was acknowledged: by which nodes, who has it now, and
// who lost it and was not given it again.
type acked struct {
	by, has, lost map[ring.NodeID]bool
	w             int  // so many acknowledged it, or had to have it when owners were fewest
	beyond        bool // so many lost it: that is beyond what w copies promise
}

// loses notes that a node lost what it had.
func (a *acked) loses(id ring.NodeID) {
	if a.has[id] {
		delete(a.has, id)
		a.lost[id] = true
	}
	a.beyond = a.beyond || len(a.lost) >= a.w
}

// A rowWorld is a history of one partition and what was acknowledged under each
// of its versions, by no more nodes than had to.
type rowWorld struct {
	t     *testing.T
	rnd   *rand.Rand
	h     *ring.History
	nodes []ring.Node
	n     int                  // owners that rings are to have
	p     ring.Partition       // the one that is looked at
	lost  map[ring.NodeID]bool // for ever
	down  map[ring.NodeID]bool
	left  map[ring.NodeID]bool // they take no places, and answer
	wiped map[ring.NodeID]bool // they began again with nothing, and do not vouch
	props [2]bucket.Properties // timed, plain
	now   int64
	old   int64 // the first slot that has not expired
	timed map[int64][]*acked
	plain []*acked
	rings bool // plain data is put, and rings change it, more than anything else
	log   []string
}

func newRowWorld(t *testing.T, seed uint64) *rowWorld {
	w := &rowWorld{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), lost: map[ring.NodeID]bool{}, left: map[ring.NodeID]bool{},
		down: map[ring.NodeID]bool{}, wiped: map[ring.NodeID]bool{}, timed: map[int64][]*acked{}, now: 3}
	for i := range 9 {
		w.nodes = append(w.nodes, ring.Node{ID: nodeID(i), Name: fmt.Sprint("n", i), Zone: fmt.Sprint(i % 3), Weight: 1})
	}
	w.rings = w.rnd.IntN(2) == 0
	w.n = []int{2, 3, 3, 4}[w.rnd.IntN(4)]
	w.p.Bits = uint8(w.rnd.IntN(3)) // with more partitions, newcomers come before owners that stay
	w.p.Prefix = w.rnd.Uint32N(1 << w.p.Bits)
	for i := range w.props {
		n := 1 + w.rnd.IntN(w.n)
		quorum := 1 + w.rnd.IntN(n)
		if w.rnd.IntN(3) == 0 {
			n, quorum = w.n, w.n/2+1
		}
		w.props[i] = bucket.Properties{Type: "t", Name: "b", Timed: i == 0, N: n, R: 1 + w.rnd.IntN(n), W: quorum, SmallestW: quorum}
	}
	r, _, err := ring.Claim(w.nodes[:1+w.rnd.IntN(5)], w.p.Bits, w.n, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.h, err = ring.NewHistory(ring.Version{Index: 1}, 10, r); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *rowWorld) next() ring.Version {
	v := w.h.Version()
	v.Index++
	return v
}

// adopt takes over a history. Who has no part in something any more drops it.
func (w *rowWorld) adopt(what string, h *ring.History, err error) {
	if err != nil {
		w.t.Fatalf("%s: %v\n%q", what, err, w.log)
	}
	w.h = h
	w.log = append(w.log, what)
	for slot, items := range w.all() {
		c, _ := w.cast(slot)
		sources := h.PlainSources(w.p)
		if slot >= 0 {
			sources = h.Sources(slot, w.p)
		}
		unneeded := func(id ring.NodeID, _ bool) bool {
			return !slices.Contains(c.nodes, id) && !slices.Contains(sources, id)
		}
		for _, a := range items {
			maps.DeleteFunc(a.has, unneeded)
		}
	}
}

// all returns what was acknowledged and has not expired, by slot: plain data is -1.
func (w *rowWorld) all() map[int64][]*acked {
	all := map[int64][]*acked{-1: w.plain}
	for slot := w.old; slot < w.now+2; slot++ {
		all[slot] = w.timed[slot]
	}
	return all
}

// loses has a node lose all it has.
func (w *rowWorld) loses(id ring.NodeID) {
	for _, items := range w.all() {
		for _, a := range items {
			a.loses(id)
		}
	}
}

func (w *rowWorld) members() (nodes []ring.Node) {
	for _, n := range w.nodes {
		if !w.lost[n.ID] && !w.down[n.ID] && !w.left[n.ID] {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// cast returns who is asked for what.
func (w *rowWorld) cast(slot int64) (cast, []ring.Row) {
	if slot < 0 {
		return castOf(w.h, &w.props[1], w.p, 0), w.h.PlainRows(w.p)
	}
	return castOf(w.h, &w.props[0], w.p, slot), w.h.Rows(slot, w.p)
}

// put acknowledges something, by as few as may.
func (w *rowWorld) put(slot int64) {
	c, _ := w.cast(slot)
	var up []ring.NodeID
	for _, id := range c.nodes[:c.n] {
		if !w.lost[id] && !w.down[id] {
			up = append(up, id)
		}
	}
	props := &w.props[0]
	if slot < 0 {
		props = &w.props[1]
	}
	_, _, quorum := props.For(c.n)
	if len(up) < quorum {
		return
	}
	a := &acked{by: map[ring.NodeID]bool{}, has: map[ring.NodeID]bool{}, lost: map[ring.NodeID]bool{}, w: quorum}
	for _, i := range w.rnd.Perm(len(up))[:quorum] {
		a.by[up[i]], a.has[up[i]] = true, true
	}
	if slot < 0 {
		w.plain = append(w.plain, a)
	} else {
		w.timed[slot] = append(w.timed[slot], a)
	}
	w.log = append(w.log, fmt.Sprint("put ", slot, " by ", nodesOf(a.by)))
}

func nodesOf(ids map[ring.NodeID]bool) (all []string) {
	for id, is := range ids {
		if !is {
			continue
		}
		all = append(all, fmt.Sprint("n", id[15]-1))
	}
	slices.Sort(all)
	return all
}

// check demands of every set of nodes that proves an absence that one of them has
// whatever was acknowledged, and that all who are left prove one; and of what a node
// has to take over, that it owns it.
func (w *rowWorld) check(counts map[string]int) {
	for _, node := range w.nodes {
		for _, d := range w.h.Duties(node.ID) {
			for slot := max(d.From, w.old); slot < min(d.Until, w.now+2) && !d.Plain; slot++ {
				if !w.h.At(slot).Owns(node.ID, d.Partition) {
					w.t.Fatalf("%s has to take over %v, and does not own slot %d\n%q", node.Name, d, slot, w.log)
				}
			}
		}
	}
	for slot, items := range w.all() {
		c, rows := w.cast(slot)
		if len(rows) > 0 {
			counts["with newcomers"]++
		}
		alive := uint32(0)
		for i, id := range c.nodes {
			if !w.lost[id] && !w.wiped[id] {
				alive |= 1 << i
			}
		}
		for mask := range uint32(1) << len(c.nodes) {
			if mask&^alive != 0 || !c.proves(mask) {
				continue
			}
			counts["proofs"]++
			for _, a := range items {
				seen := a.beyond
				for i, id := range c.nodes {
					seen = seen || mask>>i&1 != 0 && a.has[id]
				}
				if !seen {
					w.t.Fatalf("slot %d: %0*b of %v proves absent what %v acknowledged and %v have\nrows %v\n%q", slot, len(c.nodes), mask, c.nodes, nodesOf(a.by), nodesOf(a.has), rows, w.log)
				}
			}
		}
		if len(w.lost)+len(w.wiped) == 0 && !c.proves(alive) {
			w.t.Fatalf("slot %d: nothing is lost, and all together prove nothing: %v, rows %v\n%q", slot, c.nodes, rows, w.log)
		}
	}
}

// A taking is what a node is given of a slot, and by whom.
type taking struct {
	slot  int64
	sides uint32
	ids   []ring.NodeID // of sides, from 1 on
}

// taking chooses from whom a node takes a slot, as few as a rule of merging allows; false
// if too few can be asked.
func (w *rowWorld) taking(node ring.NodeID, slot int64, rule func(p *party, reached, complete uint32) bool) (taking, bool) {
	c, _ := w.cast(slot)
	p := c.partyOf(node, func(id ring.NodeID) bool { return w.lost[id] })
	if !p.member {
		return taking{}, true
	}
	reachable, vouching := uint32(0), uint32(0)
	for i, id := range p.others {
		if !w.lost[id] && !w.down[id] {
			reachable |= 2 << i
		}
		if !w.wiped[id] {
			vouching |= 2 << i
		}
	}
	var may []uint32
	for mask := range uint32(2) << len(p.others) {
		if mask&1 == 0 && mask&^reachable == 0 && rule(&p, mask, mask&vouching) {
			may = append(may, mask)
		}
	}
	if len(may) == 0 {
		return taking{}, false
	}
	slices.SortStableFunc(may, func(a, b uint32) int { return bits.OnesCount32(a) - bits.OnesCount32(b) })
	return taking{slot, may[w.rnd.IntN(min(3, len(may)))], p.others}, true
}

// take has a node take what others have.
func (w *rowWorld) take(node ring.NodeID, all []taking) {
	for _, take := range all {
		items := w.plain
		if take.slot >= 0 {
			items = w.timed[take.slot]
		}
		for _, a := range items {
			for i, id := range take.ids {
				if take.sides>>(i+1)&1 != 0 && a.has[id] {
					a.has[node] = true
					delete(a.lost, node)
				}
			}
		}
	}
}
