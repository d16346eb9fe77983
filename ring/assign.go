package ring

import (
	"cmp"
	"math/bits"
	"slices"
)

// An assignment is a ring in the making: which nodes own which partition.
//
// Invariants while it is filled: no row holds a node twice, none more than n
// nodes or perRow of a zone, and no node is in more rows than its quota. Quotas
// as shares makes them can always be met exactly: give each node quota/q of
// every partition, and all bounds hold; a flow with whole capacities that has
// a fractional solution has a whole one. So fill never fails.
type assignment struct {
	*shares
	bits  uint8
	rows  [][]int // of each partition, the nodes
	count []int   // of each node, the rows it is in
}

func newAssignment(s *shares, width uint8) *assignment {
	a := &assignment{shares: s, bits: width, rows: make([][]int, 1<<width), count: make([]int, len(s.nodes))}
	for row := range a.rows {
		a.rows[row] = make([]int, 0, s.n)
	}
	return a
}

// table returns the rows behind one another.
func (a *assignment) table() []uint16 {
	table := make([]uint16, 0, len(a.rows)*int(a.n))
	for _, row := range a.rows {
		for _, node := range row {
			table = append(table, uint16(node))
		}
	}
	return table
}

// previousOwners returns, for each partition of a ring with these bits, which
// of the nodes own its first hash in prev, in order of preference.
func previousOwners(nodes []Node, width uint8, prev *Ring) [][]int {
	rows := make([][]int, 1<<width)
	if prev == nil {
		return rows
	}
	index := indexOf(nodes)
	for i := range rows {
		first, _ := Partition{width, uint32(i)}.Range()
		for _, id := range prev.Owners(prev.PartitionOf(first)) {
			if j, member := index[id]; member {
				rows[i] = append(rows[i], j)
			}
		}
	}
	return rows
}

// counts returns in how many of the rows each of the nodes is.
func counts(rows [][]int, nodes int) []int {
	count := make([]int, nodes)
	for _, row := range rows {
		for _, i := range row {
			count[i]++
		}
	}
	return count
}

func (a *assignment) partition(row int) Partition { return Partition{a.bits, uint32(row)} }

func (a *assignment) affinity(row, node int) uint64 {
	return affinity(a.partition(row), a.nodes[node].ID)
}

// fits reports whether the row can take the node as far as the row goes.
func (a *assignment) fits(row, node int) bool {
	return !slices.Contains(a.rows[row], node) && a.inZone(row, a.zoneOf[node]) < int(a.perRow)
}

func (a *assignment) inZone(row, zone int) (owners int) {
	for _, i := range a.rows[row] {
		if a.zoneOf[i] == zone {
			owners++
		}
	}
	return owners
}

func (a *assignment) add(row, node int) {
	a.rows[row] = append(a.rows[row], node)
	a.count[node]++
}

func (a *assignment) remove(row, node int) {
	i := slices.Index(a.rows[row], node)
	a.rows[row] = slices.Delete(a.rows[row], i, i+1)
	a.count[node]--
}

// keep takes over the owners of the ring before as far as the bounds allow.
func (a *assignment) keep(before [][]int) {
	for row, owners := range before {
		for _, node := range owners {
			if len(a.rows[row]) < int(a.n) && a.fits(row, node) {
				a.add(row, node)
			}
		}
	}
	for node, quota := range a.quota {
		if a.count[node] > quota {
			a.giveUp(node, a.count[node]-quota)
		}
	}
}

// giveUp takes the node out of some of its rows: where fewest places are free
// yet, since a newcomer can take only one place in a row; of those, where its
// affinity is least.
func (a *assignment) giveUp(node, rows int) {
	var held []int
	for row := range a.rows {
		if slices.Contains(a.rows[row], node) {
			held = append(held, row)
		}
	}
	slices.SortFunc(held, func(r, s int) int {
		return cmp.Or(
			cmp.Compare(len(a.rows[s]), len(a.rows[r])),
			cmp.Compare(a.affinity(r, node), a.affinity(s, node)),
			cmp.Compare(r, s))
	})
	for _, row := range held[:rows] {
		a.remove(row, node)
	}
}

// fill gives every row its n nodes: by chance first, where the bounds allow,
// then by making room.
func (a *assignment) fill() {
	for row := range a.rows {
		for len(a.rows[row]) < int(a.n) {
			node := a.draw(row)
			if node < 0 {
				break
			}
			a.add(row, node)
		}
	}
	for row := range a.rows {
		for len(a.rows[row]) < int(a.n) {
			a.makeRoom(row)
		}
	}
}

// draw picks a node for the row among those that fit and have quota left, with
// a chance that grows with what is left, or returns -1 if there is none.
func (a *assignment) draw(row int) int {
	best, bestScore := -1, uint64(0)
	for node, quota := range a.quota {
		left := quota - a.count[node]
		if left == 0 || !a.fits(row, node) {
			continue
		}
		high, low := bits.Mul64(a.affinity(row, node), uint64(left))
		if score := high<<32 | low>>32; best < 0 || score > bestScore {
			best, bestScore = node, score
		}
	}
	return best
}

// A step of makeRoom's search: node is wanted by row, which gives up from for
// it (-1: the row that has a place free).
type step struct{ row, from int }

// makeRoom gives the row one more node by the shortest chain of exchanges: the
// row takes a node with no quota left out of another row, which takes another
// one instead, and so on to a node with quota left. It is the augmenting path
// of a flow (Edmonds and Karp, 1972), by breadth-first search over the nodes.
func (a *assignment) makeRoom(row int) {
	steps := make([]*step, len(a.quota)) // how each node was reached
	var queue []int
	reach := func(row, from int, allowed func(node int) bool) {
		for node := range a.quota {
			if steps[node] == nil && allowed(node) && !slices.Contains(a.rows[row], node) {
				steps[node] = &step{row, from}
				queue = append(queue, node)
			}
		}
	}
	roomy := func(row int) func(int) bool {
		return func(node int) bool { return a.inZone(row, a.zoneOf[node]) < int(a.perRow) }
	}
	searched := make([]bool, len(a.rows)) // for nodes of any zone with room
	searched[row] = true
	reach(row, -1, roomy(row))
	for len(queue) > 0 {
		node := queue[0]
		queue = queue[1:]
		if a.count[node] < a.quota[node] {
			a.exchange(node, steps)
			return
		}
		for other := range a.rows {
			if !slices.Contains(a.rows[other], node) {
				continue
			}
			zone := a.zoneOf[node]
			reach(other, node, func(n int) bool { return a.zoneOf[n] == zone })
			if !searched[other] {
				searched[other] = true
				reach(other, node, roomy(other))
			}
		}
	}
	panic("ring: BUG: quotas that no ring can meet")
}

// exchange walks the chain back from the node with quota left.
func (a *assignment) exchange(node int, steps []*step) {
	for {
		s := steps[node]
		if s.from >= 0 {
			a.remove(s.row, s.from)
		}
		a.add(s.row, node)
		if s.from < 0 {
			return
		}
		node = s.from
	}
}
