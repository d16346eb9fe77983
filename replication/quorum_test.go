package replication

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/ring"
)

// complete has a node do a duty: in each slot it takes what some of those it
// could ask have, as few as the rules of merging allow.
func (w *rowWorld) complete(counts map[string]int) {
	node := w.nodes[w.rnd.IntN(len(w.nodes))].ID
	if lacking := w.h.PlainNewcomers(w.p); w.rings && len(lacking) > 0 {
		node = lacking[w.rnd.IntN(len(lacking))]
	}
	duties := slices.DeleteFunc(w.h.Duties(node), func(d ring.Completion) bool { return d.Partition != w.p })
	if len(duties) == 0 || w.lost[node] {
		return
	}
	d := duties[w.rnd.IntN(len(duties))]
	slots := []int64{-1}
	if !d.Plain {
		slots = nil
		for slot := max(d.From, w.old); slot < min(d.Until, w.now+2); slot++ {
			slots = append(slots, slot)
		}
	}
	var all []taking
	for _, slot := range slots {
		take, ok := w.taking(node, slot, func(p *party, reached, complete uint32) bool { return p.suffices(reached, complete, !w.wiped[node]) })
		if !ok {
			return
		}
		all = append(all, take)
	}
	w.take(node, all)
	h, err := w.h.Complete(w.next(), d)
	w.adopt(fmt.Sprintf("n%d completes %v", node[15]-1, d), h, err)
	counts["completed"]++
}

// regain has a node that was wiped take everything again, if it can.
func (w *rowWorld) regain(node ring.NodeID, counts map[string]int) {
	var all []taking
	for slot := range w.all() {
		take, ok := w.taking(node, slot, (*party).regains)
		if !ok {
			return
		}
		all = append(all, take)
	}
	w.take(node, all)
	delete(w.wiped, node)
	w.log = append(w.log, fmt.Sprintf("n%d has regained everything", node[15]-1))
	counts["regained"]++
}

// change appends a ring: by itself, or by a plan, which amends those before besides.
func (w *rowWorld) change(some ring.NodeID, counts map[string]int) {
	members := w.members()
	if len(members) == 0 || w.h.Len() > 4 && !w.rings || w.h.Len() > 12 {
		return
	}
	if w.rnd.IntN(3) == 0 {
		node := &w.nodes[w.rnd.IntN(len(w.nodes))]
		node.Weight, node.Zone = 1+w.rnd.Uint32N(3), fmt.Sprint(w.rnd.IntN(3))
	}
	w.rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	members = members[:1+w.rnd.IntN(len(members))]
	var swaps []ring.Swap
	if w.rings { // one joins, or leaves, or takes another's places
		newest := w.h.Newest()
		members = slices.DeleteFunc(w.members(), func(n ring.Node) bool {
			_, is := newest.Node(n.ID)
			return is == (n.ID == some)
		})
		_, is := newest.Node(some)
		if i := slices.IndexFunc(w.members(), func(n ring.Node) bool { _, member := newest.Node(n.ID); return !member }); is && i >= 0 && w.rnd.IntN(2) == 0 {
			other := w.members()[i]
			members = append(members, other)
			swaps = append(swaps, ring.Swap{Old: some, New: other.ID})
		}
	}
	if len(members) == 0 {
		return
	}
	from := max(w.now, w.h.NewestFrom()) + 1
	var lost []ring.NodeID
	for id := range w.lost {
		lost = append(lost, id)
	}
	what := "ring"
	var h *ring.History
	if w.rings && w.rnd.IntN(2) == 0 {
		what = "planned ring"
		plan, err := ring.NewPlan(w.h, ring.Wanted{Nodes: members, Bits: w.p.Bits, N: w.n, From: from, Lost: lost, Swaps: swaps,
			Fill: w.rnd.IntN(4) == 0, AcceptLoss: true}, ring.Data{Oldest: w.old})
		if err != nil {
			w.t.Fatal(err)
		}
		if h, err = plan.Commit(w.h, w.next(), from); err != nil {
			return
		}
		w.now = from
		counts["planned"]++
	} else {
		r, _, err := ring.Claim(members, w.p.Bits, w.n, w.h.Newest())
		if err != nil {
			w.t.Fatal(err)
		}
		if h, err = w.h.Append(w.next(), from, r, lost...); err != nil {
			return // amended until later: not now
		}
	}
	n := h.Newest().N()
	for _, a := range w.plain {
		_, _, quorum := w.props[1].For(n)
		a.w = min(a.w, quorum)
		a.beyond = a.beyond || len(a.lost) >= a.w
	}
	w.adopt(fmt.Sprint("a ", what, " of ", len(h.Newest().Nodes()), " from ", from, ": ", h.Newest().Owners(w.p)), h, nil)
	counts["rings"]++
}

func (w *rowWorld) step(counts map[string]int) {
	some := w.nodes[w.rnd.IntN(len(w.nodes))].ID
	name := fmt.Sprint("n", some[15]-1)
	kind := w.rnd.IntN(18)
	if w.rings {
		kind = []int{0, 3, 3, 3, 3, 6, 6, 6, 7, 8, 10, 12, 12, 12, 12, 12, 12, 16, 16, 17}[w.rnd.IntN(20)]
	}
	switch kind {
	case 0, 1, 2:
		w.put(w.old + w.rnd.Int64N(w.now+1-w.old))
	case 3, 4:
		w.put(-1)
	case 5:
		w.now++
	case 6:
		w.change(some, counts)
	case 7:
		if w.lost[some] || w.down[some] {
			return
		}
		w.down[some] = true
		h, _, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Down, From: w.now, Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		w.adopt(name+" is down", h, err)
	case 8:
		if w.lost[some] || !w.down[some] {
			return
		}
		delete(w.down, some)
		h, err := w.h.Return(w.next(), some, w.now+1)
		w.adopt(name+" returns", h, err)
		w.now++
	case 9:
		if w.lost[some] || len(w.members()) < 3 {
			return
		}
		w.left[some] = true
		h, _, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Leaving, From: w.old + w.rnd.Int64N(w.now+1-w.old), Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		w.adopt(name+" leaves", h, err)
		counts["left"]++
		w.now++
	case 10:
		if w.lost[some] || len(w.lost) > 1 || len(w.members()) < 3 {
			return
		}
		h, _, err := w.h.Replace(w.next(), ring.Replacement{Out: some, Reason: ring.Lost, From: w.old, Until: ring.Forever, Unwritten: w.now + 1, Candidates: w.members()})
		w.loses(some)
		w.lost[some] = true
		delete(w.wiped, some)
		w.adopt(name+" is lost", h, err)
		counts["lost"]++
		w.now++
	case 11:
		h, _, err := w.h.Fill(w.next(), w.n, w.old, ring.Forever, w.now+1, w.members())
		w.adopt("filled", h, err)
		counts["filled"]++
		w.now++
	case 16: // time passes, until only the newest rings count
		w.now = max(w.now, w.h.NewestFrom()) + w.rnd.Int64N(3)
		w.old = max(w.old, w.now-w.rnd.Int64N(4))
		h, err := w.h.Trim(w.next(), w.old)
		w.adopt(fmt.Sprint("trimmed to ", w.old), h, err)
		counts["trimmed"]++
	case 17:
		if w.lost[some] || w.down[some] || len(w.wiped) > 0 {
			break
		}
		w.loses(some)
		w.wiped[some] = true
		w.log = append(w.log, name+" is wiped")
	default:
		w.complete(counts)
	}
	for _, n := range w.nodes {
		if w.wiped[n.ID] && !w.down[n.ID] && w.rnd.IntN(3) == 0 {
			w.regain(n.ID, counts)
		}
	}
}

// TestProofsSeeWhatWasAcknowledged: whatever is replaced, lost, wiped, filled up,
// trimmed, returns or completes, and whoever acknowledged something: each set of
// nodes that the rows call enough has somebody who has it. All sets are tried, for
// buckets of as many copies as rings have owners and of fewer.
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
	for _, want := range []string{"with newcomers", "proofs", "completed", "regained", "rings", "planned", "left", "lost", "filled", "trimmed"} {
		if counts[want] < 50 {
			t.Errorf("only %d %s: the test does not try it", counts[want], want)
		}
	}
}
