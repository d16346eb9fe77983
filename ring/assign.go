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
	bits   uint8
	places [][]int // of each partition, who was where before, see previousPlaces
	rows   [][]int // of each partition, the nodes
	in     [][]int // of each node, the rows it is in, ascending
	count  []int   // of each node, how many these are
	spare  int     // a node that may be rounded down for one that a search finds, -1: none
}

func newAssignment(s *shares, width uint8, places [][]int) *assignment {
	a := &assignment{shares: s, bits: width, places: places, rows: make([][]int, 1<<width), in: make([][]int, len(s.nodes)), count: make([]int, len(s.nodes)), spare: -1}
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

// previousPlaces returns, for each partition of a ring with these bits, who owns
// its first hash in prev, in order of preference: which of the nodes, or vacant.
func previousPlaces(nodes []Node, width uint8, prev *Ring) [][]int {
	rows := make([][]int, 1<<width)
	if prev == nil {
		return rows
	}
	index := indexOf(nodes)
	for i := range rows {
		first, _ := Partition{width, uint32(i)}.Range()
		for _, id := range prev.Owners(prev.PartitionOf(first)) {
			j, member := index[id]
			if !member {
				j = vacant
			}
			rows[i] = append(rows[i], j)
		}
	}
	return rows
}

// staying returns of each row those that are members still.
func staying(places [][]int) [][]int {
	rows := make([][]int, len(places))
	for i, row := range places {
		rows[i] = slices.DeleteFunc(slices.Clone(row), func(node int) bool { return node == vacant })
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
	i, _ := slices.BinarySearch(a.in[node], row)
	a.in[node] = slices.Insert(a.in[node], i, row)
	a.count[node]++
}

func (a *assignment) remove(row, node int) {
	i := slices.Index(a.rows[row], node)
	a.rows[row] = slices.Delete(a.rows[row], i, i+1)
	i, _ = slices.BinarySearch(a.in[node], row)
	a.in[node] = slices.Delete(a.in[node], i, i+1)
	a.count[node]--
}

// keep takes over as many owners of the ring before as the bounds allow: first
// come, first served, then by exchange.
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
	var lacking []int // rows that could keep more
	for row, owners := range before {
		if len(a.rows[row]) < min(int(a.n), len(owners)) {
			lacking = append(lacking, row)
		}
	}
	lacking = a.searchAll(lacking, before)
	for node := range a.quota { // what a node cannot keep for its share, others may
		if len(lacking) > 0 && a.count[node] < a.quota[node] && a.up[node] {
			a.spare = node
			lacking = a.searchAll(lacking, before)
		}
	}
	a.spare = -1
}

// searchAll gives rows owners they had before until no chain does any more,
// and returns those that still lack some.
func (a *assignment) searchAll(rows []int, before [][]int) (lacking []int) {
	hopeless := make([]bool, len(a.quota)) // nodes from which no search can succeed any more
	for _, row := range rows {
		most := min(int(a.n), len(before[row]))
		for len(a.rows[row]) < most && a.search(row, hopeless, a.were(before)) {
		}
		if len(a.rows[row]) < most {
			lacking = append(lacking, row)
		}
	}
	return lacking
}

// were allows a row the owners it had before.
func (a *assignment) were(before [][]int) allowance {
	return func(row, _ int) []int { return before[row] }
}

// kept returns how many owners are those of before.
func (a *assignment) kept(before [][]int) (kept int) {
	for row, owners := range a.rows {
		for _, node := range owners {
			if slices.Contains(before[row], node) {
				kept++
			}
		}
	}
	return kept
}

// restore brings owners before back that had to make room, up to so many in
// all: a row gives a newcomer up for one of them, and the newcomer gets a place
// elsewhere by a chain of exchanges that costs no owner before its row.
func (a *assignment) restore(before [][]int, most int) {
	left := most - a.kept(before)
	isOld := func(row, node int) bool { return slices.Contains(before[row], node) }
	all := make([]int, len(a.quota))
	for node := range all {
		all[node] = node
	}
	free := func(row, from int) []int {
		if from < 0 || isOld(row, from) {
			return before[row]
		}
		return all
	}
	defer func() { a.spare = -1 }()
	for again := true; again; {
		again = false
		for newcomer := 0; newcomer < len(a.quota) && left > 0; newcomer++ {
			a.spare = newcomer
			back := a.restoreFor(newcomer, before, left, free)
			left, again = left-back, again || back > 0
		}
	}
}

func (a *assignment) restoreFor(newcomer int, before [][]int, most int, free allowance) (back int) {
	hopeless := make([]bool, len(a.quota))
	for _, row := range slices.Clone(a.in[newcomer]) {
		if back == most || slices.Contains(before[row], newcomer) || !slices.Contains(a.rows[row], newcomer) {
			continue
		}
		if !slices.ContainsFunc(before[row], func(node int) bool { return !slices.Contains(a.rows[row], node) }) {
			continue
		}
		a.remove(row, newcomer)
		if !a.search(row, hopeless, free) {
			a.add(row, newcomer)
			continue
		}
		back++
		clear(hopeless)
	}
	return back
}

// giveUp takes the node out of some of its rows: where fewest places are free yet,
// since a newcomer can take only one place in a row; of those, where it is first, as
// long as it is that more often than it is to be; of those, where its affinity is
// least.
func (a *assignment) giveUp(node, rows int) {
	var led, others []int
	for _, row := range a.in[node] {
		if a.places[row][0] == node {
			led = append(led, row)
		} else {
			others = append(others, row)
		}
	}
	fuller := func(r, s int) int { return cmp.Compare(len(a.rows[s]), len(a.rows[r])) }
	for _, held := range [][]int{led, others} {
		slices.SortFunc(held, func(r, s int) int {
			return cmp.Or(fuller(r, s), cmp.Compare(a.affinity(r, node), a.affinity(s, node)), cmp.Compare(r, s))
		})
	}
	_, most := a.leads(node)
	for range rows {
		from := &others
		if len(others) == 0 {
			from = &led
		} else if len(led) > 0 {
			if by := fuller(led[0], others[0]); by < 0 || by == 0 && len(led) > most {
				from = &led
			}
		}
		a.remove((*from)[0], node)
		*from = (*from)[1:]
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

// makeRoom gives the row one more node by the shortest chain of exchanges.
func (a *assignment) makeRoom(row int) {
	all := make([]int, len(a.quota))
	for node := range all {
		all[node] = node
	}
	if !a.search(row, make([]bool, len(a.quota)), func(int, int) []int { return all }) {
		panic("ring: BUG: quotas that no ring can meet")
	}
}

// A step of a search: node is wanted by row, which gives up from for it (-1:
// the row that has a place free).
type step struct{ row, from int }

// An allowance returns the nodes that a row may take in place of another one,
// or for a place that is free (from is -1).
type allowance func(row, from int) []int

// search gives the row one more node by the shortest chain of exchanges: the row takes a node with no
// quota left out of another row, which takes another one instead, and so on to
// a node with quota left. It is the augmenting path of a flow (Edmonds and
// Karp, 1972), by breadth-first search over the nodes. If there is none, the
// nodes it saw are hopeless for all searches to come: from them no chain goes
// on, and chains elsewhere change nothing of that.
func (a *assignment) search(row int, hopeless []bool, may allowance) bool {
	if !slices.ContainsFunc(may(row, -1), func(node int) bool { return !hopeless[node] }) {
		return false
	}
	steps := make([]step, len(a.quota)) // how each node was reached
	for node := range steps {
		steps[node].row = -1
	}
	var queue []int
	reach := func(row, from int, allowed func(node int) bool) {
		for _, node := range may(row, from) {
			if steps[node].row < 0 && !hopeless[node] && allowed(node) && !slices.Contains(a.rows[row], node) {
				steps[node] = step{row, from}
				queue = append(queue, node)
			}
		}
	}
	roomy := func(row int) func(int) bool {
		return func(node int) bool { return a.inZone(row, a.zoneOf[node]) < int(a.perRow) }
	}
	// Rows searched for nodes of any zone with room, by how many nodes might come.
	// A chain does that once in a row: twice, there might not be room.
	type width struct{ row, nodes int }
	searched := map[width]bool{}
	passes := func(node, row int) bool {
		for ; node >= 0; node = steps[node].from {
			if steps[node].row == row {
				return true
			}
		}
		return false
	}
	reach(row, -1, roomy(row))
	for i := 0; i < len(queue); i++ {
		node := queue[i]
		if a.count[node] < a.quota[node] || a.spare >= 0 && a.shift(a.spare, node) {
			a.exchange(node, steps)
			return true
		}
		for _, other := range a.in[node] {
			zone := a.zoneOf[node]
			reach(other, node, func(n int) bool { return a.zoneOf[n] == zone })
			if w := (width{other, len(may(other, node))}); !searched[w] && !passes(node, other) {
				searched[w] = true
				reach(other, node, roomy(other))
			}
		}
	}
	for _, node := range queue {
		hopeless[node] = true
	}
	return false
}

// exchange walks the chain back from the node with quota left.
func (a *assignment) exchange(node int, steps []step) {
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
