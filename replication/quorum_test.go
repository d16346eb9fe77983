package replication

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// An acked is something that was acknowledged: by which nodes, who had it ever, and
// who has it now.
type acked struct {
	by, had, has map[ring.NodeID]bool
	w            int
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
	gone  map[ring.NodeID]bool // what they had is lost, or was handed over
	lost  map[ring.NodeID]bool
	down  map[ring.NodeID]bool
	left  map[ring.NodeID]bool // they take no places, and answer
	props [2]bucket.Properties // timed, plain
	now   int64
	timed map[int64][]*acked
	plain []*acked
	rings bool // plain data is put, and rings change it, more than anything else
	fewer bool // some ring had fewer owners than the one before
	log   []string
}

func newRowWorld(t *testing.T, seed uint64) *rowWorld {
	w := &rowWorld{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), gone: map[ring.NodeID]bool{}, lost: map[ring.NodeID]bool{}, left: map[ring.NodeID]bool{}, down: map[ring.NodeID]bool{}, timed: map[int64][]*acked{}, now: 3}
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

func (w *rowWorld) adopt(what string, h *ring.History, err error) {
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	w.h = h
	w.log = append(w.log, what)
}

func (w *rowWorld) members() (nodes []ring.Node) {
	for _, n := range w.nodes {
		if !w.gone[n.ID] && !w.down[n.ID] && !w.left[n.ID] {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// cast returns who is asked for what: plain data for slot -1.
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
		if !w.gone[id] && !w.down[id] {
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
	a := &acked{by: map[ring.NodeID]bool{}, had: map[ring.NodeID]bool{}, has: map[ring.NodeID]bool{}, w: quorum}
	for _, i := range w.rnd.Perm(len(up))[:quorum] {
		a.by[up[i]], a.had[up[i]], a.has[up[i]] = true, true, true
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

// lostAll reports whether as many lost something as acknowledged it: that is
// beyond what w copies promise, and what fewer do where there were fewer owners.
func (w *rowWorld) lostAll(a *acked) bool {
	n := 0
	for id, had := range a.had {
		if had && w.lost[id] {
			n++
		}
	}
	return n >= a.w || n > 0 && w.fewer
}

// check demands of every set of nodes that proves an absence that one of them has
// whatever was acknowledged, and that all who are left prove one.
func (w *rowWorld) check(counts map[string]int) {
	all := map[int64][]*acked{-1: w.plain}
	for slot := range w.now + 2 {
		all[slot] = w.timed[slot]
	}
	for slot, items := range all {
		c, rows := w.cast(slot)
		if len(rows) > 0 {
			counts["with newcomers"]++
		}
		alive := uint32(0)
		for i, id := range c.nodes {
			if !w.gone[id] {
				alive |= 1 << i
			}
		}
		for mask := range uint32(1) << len(c.nodes) {
			if mask&^alive != 0 || !c.proves(mask) {
				continue
			}
			counts["proofs"]++
			for _, a := range items {
				seen := false
				for i, id := range c.nodes {
					seen = seen || mask>>i&1 != 0 && a.has[id]
				}
				if !seen && !w.lostAll(a) {
					w.t.Fatalf("slot %d: %0*b of %v proves absent what %v acknowledged and %v have\nrows %v\n%q", slot, len(c.nodes), mask, c.nodes, nodesOf(a.by), nodesOf(a.has), rows, w.log)
				}
			}
		}
		if len(w.lost) > 0 || slot < 0 && w.fewer || c.proves(alive) {
			continue // where owners became fewer, the rows before may ask more than they had to
		}
		w.t.Fatalf("slot %d: nobody is lost, and all together prove nothing: %v, rows %v\n%q", slot, c.nodes, rows, w.log)
	}
}

// complete has a node do a duty: in each slot it takes what some of those it
// could ask have, as few as the rules of merging allow.
func (w *rowWorld) complete(counts map[string]int) {
	node := w.nodes[w.rnd.IntN(len(w.nodes))].ID
	if lacking := w.h.PlainNewcomers(w.p); w.rings && len(lacking) > 0 {
		node = lacking[w.rnd.IntN(len(lacking))]
	}
	duties := slices.DeleteFunc(w.h.Duties(node), func(d ring.Completion) bool { return d.Partition != w.p })
	if len(duties) == 0 || w.gone[node] {
		return
	}
	d := duties[w.rnd.IntN(len(duties))]
	type taking struct {
		slot int64
		mask uint32
		ids  []ring.NodeID
	}
	var all []taking
	slots := []int64{-1}
	if !d.Plain {
		slots = nil
		for slot := d.From; slot < min(d.Until, w.now+2); slot++ {
			slots = append(slots, slot)
		}
	}
	for _, slot := range slots {
		c, _ := w.cast(slot)
		p := c.partyOf(node)
		reachable := uint32(0)
		for i, id := range p.others {
			if !w.gone[id] && !w.down[id] {
				reachable |= 2 << i
			}
		}
		var may []uint32
		for mask := range uint32(2) << len(p.others) {
			if mask&1 == 0 && mask&^reachable == 0 && p.suffices(mask, mask, true) {
				may = append(may, mask)
			}
		}
		if len(may) == 0 {
			return
		}
		slices.SortStableFunc(may, func(a, b uint32) int { return bits.OnesCount32(a) - bits.OnesCount32(b) })
		all = append(all, taking{slot, may[w.rnd.IntN(min(3, len(may)))], p.others})
	}
	for _, take := range all {
		items := w.plain
		if take.slot >= 0 {
			items = w.timed[take.slot]
		}
		for _, a := range items {
			for i, id := range take.ids {
				a.has[node] = a.has[node] || take.mask>>(i+1)&1 != 0 && a.has[id]
				a.had[node] = a.had[node] || a.has[node]
			}
		}
	}
	h, err := w.h.Complete(w.next(), d)
	w.adopt(fmt.Sprintf("n%d completes %v", node[15]-1, d), h, err)
	counts["completed"]++
}

func (w *rowWorld) step(counts map[string]int) {
	some := w.nodes[w.rnd.IntN(len(w.nodes))].ID
	name := fmt.Sprint("n", some[15]-1)
	kind := w.rnd.IntN(16)
	if w.rings {
		kind = []int{3, 3, 3, 6, 6, 7, 8, 12, 12, 12, 12, 12}[w.rnd.IntN(12)]
	}
	switch kind {
	case 0, 1, 2:
		w.put(w.rnd.Int64N(w.now + 1))
	case 3, 4:
		w.put(-1)
	case 5:
		w.now++
	case 6:
		members := w.members()
		if len(members) == 0 || w.h.Len() > 4 && !w.rings || w.h.Len() > 12 {
			return
		}
		w.rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		members = members[:1+w.rnd.IntN(len(members))]
		if w.rings { // one joins, or leaves
			members = slices.DeleteFunc(w.members(), func(n ring.Node) bool {
				_, is := w.h.Newest().Node(n.ID)
				return is == (n.ID == some)
			})
		}
		if len(members) == 0 {
			return
		}
		r, _, err := ring.Claim(members, w.p.Bits, w.n, w.h.Newest())
		if err != nil {
			w.t.Fatal(err)
		}
		from := w.now + 1
		for last := range w.h.All() {
			from = max(from, last+1)
		}
		var lost []ring.NodeID
		for id := range w.lost {
			lost = append(lost, id)
		}
		h, err := w.h.Append(w.next(), from, r, lost...)
		if err != nil {
			return // amended until later: not now
		}
		w.fewer = w.fewer || r.N() < w.h.Newest().N()
		w.adopt(fmt.Sprint("a ring of ", len(r.Nodes()), " from ", from), h, nil)
		counts["rings"]++
	case 7:
		if w.gone[some] || w.down[some] {
			return
		}
		w.down[some] = true
		h, _, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Down, From: w.now, Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		w.adopt(name+" is down", h, err)
	case 8:
		if w.gone[some] || !w.down[some] {
			return
		}
		delete(w.down, some)
		h, err := w.h.Return(w.next(), some, w.now+1)
		w.adopt(name+" returns", h, err)
		w.now++
	case 9:
		if w.gone[some] || len(w.members()) < 3 {
			return
		}
		w.left[some] = true
		h, _, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Leaving, From: w.rnd.Int64N(w.now + 1), Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		w.adopt(name+" leaves", h, err)
		counts["left"]++
		w.now++
	case 10:
		if w.gone[some] || len(w.lost) > 1 || len(w.members()) < 3 {
			return
		}
		h, short, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Lost, Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		if short != nil {
			return // the history tells of a loss by who took the places
		}
		w.adopt(name+" is lost", h, err)
		w.gone[some], w.lost[some] = true, true
		for _, items := range w.timed {
			for _, a := range items {
				delete(a.has, some)
			}
		}
		for _, a := range w.plain {
			delete(a.has, some)
		}
		counts["lost"]++
		w.now++
	case 11:
		h, _, err := w.h.Fill(w.next(), w.n, 0, ring.Forever, w.now+1, w.members())
		w.adopt("filled", h, err)
		counts["filled"]++
		w.now++
	default:
		w.complete(counts)
	}
}

// TestProofsSeeWhatWasAcknowledged: whatever is replaced, lost, filled up,
// returns or completes, and whoever acknowledged something: each set of nodes
// that the rows call enough has somebody who has it. All sets are tried, for buckets
// of as many copies as rings have owners and of fewer.
func TestProofsSeeWhatWasAcknowledged(t *testing.T) {
	counts := map[string]int{}
	seeds := uint64(1500)
	if testing.Short() || raceBuild {
		seeds = 80
	}
	for seed := range seeds {
		w := newRowWorld(t, seed)
		for range 40 {
			w.step(counts)
			w.check(counts)
		}
	}
	t.Log(counts)
	for _, want := range []string{"with newcomers", "proofs", "completed", "rings", "left", "lost", "filled"} {
		if counts[want] < 50 {
			t.Errorf("only %d %s: the test does not try it", counts[want], want)
		}
	}
}
