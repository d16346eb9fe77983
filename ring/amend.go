package ring

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// A Replacement says who is to be replaced in rings that already count.
type Replacement struct {
	Out         NodeID
	Reason      Reason // Down, Leaving, Lost or Replaced
	From, Until int64  // slots; Forever
	// Unwritten is the first slot in which nothing has been written yet and
	// nothing will be before the amendment is adopted: from it on successors
	// lack nothing. It is ahead of every admissible epoch.
	Unwritten  int64
	Candidates []Node // who may take a place; Out is none
	First      NodeID // who takes each place it can; zero: nobody is preferred
	// Stale, if there are any, are the nodes that may not learn of the
	// amendment for long, Out among them: those that do not answer. Where more
	// than MostStale of the owners are, of the ring as it was made or as it is
	// amended, or as many as it was made with, Out keeps its place. Fewer cannot
	// acknowledge among themselves what the others deny, if MostStale is less than
	// each w; and they leave so many others that a successor can become complete.
	Stale     []NodeID
	MostStale int
}

// Replace returns a later history, of version v, in which other nodes own what
// Out owns in these slots, and lists what it could not hold. A successor is
// the candidate of a zone with fewest owners of the partition, of these the
// one that owns least for its weight, of these one by chance. Where all
// candidates are owners, or too many are stale, Out stays one. Out is a source of what has been
// written, unless it is lost: then it is no source of anything any more. h
// stays as it is. Errors wrap ErrRing.
func (h *History) Replace(v Version, r Replacement) (*History, []Shortfall, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, nil, err
	}
	if r.Out.IsZero() || r.Reason < Down || r.Reason > Replaced || r.From >= r.Until {
		return nil, nil, fmt.Errorf("history: replace %v, %v, from slot %d until %d: %w", r.Out, r.Reason, r.From, r.Until, ErrRing)
	}
	candidates := sortedNodes(r.Candidates)
	candidates = slices.DeleteFunc(candidates, func(n Node) bool { return n.ID == r.Out })
	next.amendments = slices.Clone(h.amendments)
	kept, held := 0, 0 // places that Out keeps: there is nobody, too many are stale
	for _, s := range h.stretches(r.From, r.Until, r.Unwritten) {
		moves, left := s.ring.replaceAll(r.Out, r.First, candidates)
		kept += left
		if len(r.Stale) > 0 {
			all := len(moves)
			moves = slices.DeleteFunc(moves, func(m Move) bool { return s.tooStale(m.Prefix, r.Stale, r.MostStale) })
			held += all - len(moves)
		}
		if a := newAmendment(s.from, s.until, r.Reason, r.Out, candidates, moves); a != nil {
			a.OutLost = r.Reason == Lost
			a.setPending(s.until <= r.Unwritten)
			next.cutBefore(a)
			next.amendments = append(next.amendments, a)
		}
	}
	if r.Reason == Lost {
		next.declareLost(r.Out)
	}
	if next, err = newHistory(next); err != nil {
		return nil, nil, err
	}
	var short []Shortfall
	if kept > 0 {
		short = append(short, Shortfall{Copies, fmt.Sprintf(
			"no other node can take %d of the places of node %s: all of the %d others own these partitions already; add a node",
			kept, h.nameOf(r.Out), len(candidates))})
	}
	if held > 0 {
		short = append(short, Shortfall{Copies, fmt.Sprintf(
			"%d of the places of node %s stay with it: more than %d of the owners of these partitions do not answer; bring one of them back, or remove it as lost",
			held, h.nameOf(r.Out), r.MostStale)})
	}
	return next, short, nil
}

// cutBefore cuts amendments by which a's Out came to places that a gives on, before it
// had all it must, where a begins and ends. So it need not have anything of the slots
// in which it has the places no more: who has them then makes up for those before it.
// h is new and owns its slice of amendments.
func (h *History) cutBefore(a *Amendment) {
	var cut []*Amendment
	for _, b := range h.amendments {
		for _, slot := range []int64{a.From, a.Until} {
			if b.From < slot && slot < h.untilOf(b) && b.passedOn(a) {
				cut = append(cut, b.during(b.From, slot))
				b = b.during(slot, b.Until)
			}
		}
		cut = append(cut, b)
	}
	h.amendments = cut
}

// passedOn reports whether another amendment gives on what a node was given by this one
// and may lack.
func (a *Amendment) passedOn(by *Amendment) bool {
	return slices.ContainsFunc(a.Moves, func(m Move) bool {
		if !m.Pending || m.In != by.Out {
			return false
		}
		_, found := by.move(m.Prefix)
		return found
	})
}

// move returns the amendment's move of a partition, by its index.
func (a *Amendment) move(prefix uint32) (int, bool) {
	return slices.BinarySearchFunc(a.Moves, prefix, func(m Move, prefix uint32) int { return cmp.Compare(m.Prefix, prefix) })
}

// Fill returns a later history, of version v, in which every partition has n
// owners in these slots, as far as there are candidates: rings made while
// there were fewer nodes are filled up. Newcomers are chosen as by Replace. h
// stays as it is. Errors wrap ErrRing.
func (h *History) Fill(v Version, n int, from, until, unwritten int64, candidates []Node) (*History, []Shortfall, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, nil, err
	}
	if n < 1 || n > MaxN {
		return nil, nil, fmt.Errorf("history: fill up to %d owners, want 1 to %d: %w", n, MaxN, ErrRing)
	}
	candidates = sortedNodes(candidates)
	next.amendments = slices.Clone(h.amendments)
	fewest := n
	for _, s := range h.stretches(from, until, unwritten) {
		cost, r := int64(maxAmendedCost), s.ring
		for r.n < n {
			moves, left := r.replaceAll(NodeID{}, NodeID{}, candidates)
			if left > 0 {
				break
			}
			a := newAmendment(s.from, s.until, Filled, NodeID{}, candidates, moves)
			a.setPending(s.until <= unwritten)
			next.amendments = append(next.amendments, a)
			if r, _, err = r.amend([]*Amendment{a}, &cost); err != nil {
				return nil, nil, fmt.Errorf("history: %w", err)
			}
		}
		fewest = min(fewest, r.n)
	}
	if next, err = newHistory(next); err != nil {
		return nil, nil, err
	}
	var short []Shortfall
	if fewest < n {
		short = append(short, Shortfall{Copies, fmt.Sprintf("rings of the past are filled up to %d owners of %d: there are %d nodes for it", fewest, n, len(candidates))})
	}
	return next, short, nil
}

// A stretch is slots of one span.
type stretch struct {
	made, ring  *Ring // as it was made, as amended
	from, until int64
}

// tooStale reports whether more than most of a partition's owners are among the
// nodes, in the ring as it was made or as amended: or all that it was made with.
func (s *stretch) tooStale(prefix uint32, nodes []NodeID, most int) bool {
	stale := 0
	for _, id := range nodes {
		if slices.Contains(s.made.row(prefix), id) || slices.Contains(s.ring.row(prefix), id) {
			stale++
		}
	}
	return stale > min(most, s.made.n-1)
}

// stretches returns the spans between two slots as far as they lie there, cut
// at one more slot, the first in which nothing is written yet.
func (h *History) stretches(from, until, cut int64) (all []stretch) {
	for i, s := range h.spans {
		end := int64(Forever)
		if i+1 < len(h.spans) {
			end = h.spans[i+1].from
		}
		made, first, last := h.entries[s.entry].ring, max(s.from, from), min(end, until)
		if first < cut && cut < last {
			all = append(all, stretch{made, s.ring, first, cut})
			first = cut
		}
		if first < last {
			all = append(all, stretch{made, s.ring, first, last})
		}
	}
	return all
}

// replaceAll moves every place of out, or an additional one of each partition
// if out is zero, to candidates, which are ascending by id; left is how many
// could not be. First gets each it can.
func (r *Ring) replaceAll(out, first NodeID, candidates []Node) (moves []Move, left int) {
	zoneOf := map[NodeID]string{}
	for _, node := range r.nodes {
		zoneOf[node.ID] = node.Zone
	}
	owned := make([]uint64, len(candidates))
	index := indexOf(candidates)
	for _, block := range r.blocks {
		for _, id := range block {
			if i, found := index[id]; found {
				owned[i]++
			}
		}
	}
	var zones []string // of the owners that stay
	for prefix := range uint32(1) << r.bits {
		row := r.row(prefix)
		if !out.IsZero() && !slices.Contains(row, out) {
			continue
		}
		zones = zones[:0]
		for _, id := range row {
			if id != out {
				zones = append(zones, zoneOf[id])
			}
		}
		best, bestZone := -1, 0
		for i, node := range candidates {
			if slices.Contains(row, node.ID) {
				continue
			}
			if node.ID == first {
				best = i
				break
			}
			zone := 0
			for _, held := range zones {
				if held == node.Zone {
					zone++
				}
			}
			if best < 0 || r.better(prefix, node, candidates[best], cmp.Or(
				cmp.Compare(zone, bestZone),
				compareProducts(owned[i]+1, candidates[best].Weight, owned[best]+1, node.Weight))) {
				best, bestZone = i, zone
			}
		}
		if best < 0 {
			left++
			continue
		}
		owned[best]++
		moves = append(moves, Move{Prefix: prefix, In: candidates[best].ID})
	}
	return moves, left
}

// better reports whether a partition goes to a node rather than to the best so
// far: by their order or, if they are equal in it, by chance.
func (r *Ring) better(prefix uint32, node, best Node, order int) bool {
	p := r.partition(int(prefix))
	return order < 0 || order == 0 && affinity(p, node.ID) > affinity(p, best.ID)
}

// compareProducts compares a*x with b*y.
func compareProducts(a uint64, x uint32, b uint64, y uint32) int {
	high, low := bits.Mul64(a, uint64(x))
	otherHigh, otherLow := bits.Mul64(b, uint64(y))
	return cmp.Or(cmp.Compare(high, otherHigh), cmp.Compare(low, otherLow))
}

// newAmendment makes an amendment of these moves to some of the candidates,
// nil if there are none.
func newAmendment(from, until int64, reason Reason, out NodeID, candidates []Node, moves []Move) *Amendment {
	if len(moves) == 0 {
		return nil
	}
	used := map[NodeID]bool{}
	for _, m := range moves {
		used[m.In] = true
	}
	a := &Amendment{From: from, Until: until, Reason: reason, Out: out, Moves: moves}
	for _, node := range candidates {
		if used[node.ID] {
			a.Nodes = append(a.Nodes, node)
		}
	}
	return a
}

func (a *Amendment) setPending(pending bool) {
	for i := range a.Moves {
		a.Moves[i].Pending = pending
	}
}

// DeclareLost returns a later history, of version v, in which the node is no
// source any more. What it owns it still owns: Replace takes that from it. h
// stays as it is. Errors wrap ErrRing.
func (h *History) DeclareLost(v Version, node NodeID) (*History, error) {
	next, err := h.successor(v)
	if err != nil {
		return nil, err
	}
	next.amendments = slices.Clone(h.amendments)
	next.declareLost(node)
	return newHistory(next)
}

// declareLost changes h, which is new and owns its slice of amendments.
func (h *History) declareLost(node NodeID) {
	for i, a := range h.amendments {
		if a.Out == node && !a.OutLost {
			b := *a
			b.OutLost = true
			h.amendments[i] = &b
		}
	}
	h.plain = h.plain.lost(node)
}

// sortedNodes returns the nodes ascending by id, in a slice of its own.
func sortedNodes(nodes []Node) []Node {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return a.ID.Compare(b.ID) })
	return nodes
}

// nameOf returns the name of whoever is or was an owner, or the id.
func (h *History) nameOf(id NodeID) string {
	for i := range slices.Backward(h.spans) {
		if node, found := h.spans[i].ring.Node(id); found {
			return fmt.Sprintf("%q", node.Name)
		}
	}
	for _, a := range h.amendments { // one that came and went
		if i := slices.IndexFunc(a.Nodes, func(n Node) bool { return n.ID == id }); i >= 0 {
			return fmt.Sprintf("%q", a.Nodes[i].Name)
		}
	}
	return id.String()
}
