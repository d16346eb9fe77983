package ring

import (
	"cmp"
	"slices"
)

// order puts each row into order of preference. An owner that stays keeps its
// place, and newcomers take those that were vacated: by chance, so that a node's
// seconds are spread; by the lower half of their affinity, since owners were chosen
// by the upper. So buckets of fewer copies than the ring has owners, which live on
// the first of a row, find there only owners that were among the first before, and
// newcomers. Who was further back than rows reach now is a newcomer here: where rows
// become shorter, all owners are newcomers of plain data.
//
// Every node is first in one nth of its rows, rounded up or down, as nearly as
// newcomers allow: by who of them takes a first place that was vacated, and where
// that does not do by a newcomer that comes before the first. Who stood before the
// vacated place then stands one place further back, which takes nothing from it.
func (a *assignment) order() {
	f := firsts{make([][]int, len(a.rows)), make([]int, len(a.rows)), make([]int, len(a.quota))}
	newcomers := make([][]int, len(a.rows))
	for row := range a.rows {
		a.rows[row], newcomers[row] = a.settle(row)
		f.rows[row] = newcomers[row]
		if first := a.rows[row][0]; first != vacant {
			f.rows[row] = []int{first}
			f.set(row, first)
		}
	}
	for row, owners := range a.rows {
		if owners[0] == vacant {
			f.set(row, f.choose(row, a.quota))
		}
	}
	f.balance(a)
	for row, owners := range a.rows {
		if owners[0] != vacant {
			f.rows[row] = append(f.rows[row], newcomers[row]...)
		}
	}
	f.balance(a)
	for row, owners := range a.rows {
		if first := f.first[row]; first != owners[0] {
			i := slices.Index(owners, vacant)
			copy(owners[1:i+1], owners[:i])
			owners[0] = first
		}
		for _, node := range newcomers[row] {
			if node != owners[0] {
				owners[slices.Index(owners, vacant)] = node
			}
		}
	}
}

// vacant stands in a row for an owner that does not stay.
const vacant = -1

// settle returns a row with each owner that stays in the place it had, and the
// newcomers, by chance, for the places that are vacant.
func (a *assignment) settle(row int) (owners, newcomers []int) {
	newcomers = slices.Clone(a.rows[row])
	owners = slices.Repeat([]int{vacant}, len(newcomers))
	for i, node := range a.places[row][:min(len(a.places[row]), len(owners))] {
		if j := slices.Index(newcomers, node); j >= 0 {
			owners[i] = node
			newcomers = slices.Delete(newcomers, j, j+1)
		}
	}
	slices.SortFunc(newcomers, func(i, j int) int {
		return cmp.Or(cmp.Compare(uint32(a.affinity(row, i)), uint32(a.affinity(row, j))), cmp.Compare(i, j))
	})
	return owners, newcomers
}

// leads returns how many rows a node is to be first in: one nth of those it is in,
// rounded down and up.
func (a *assignment) leads(node int) (least, most int) {
	n := int(a.n)
	return a.quota[node] / n, (a.quota[node] + n - 1) / n
}

// firsts chooses the first owner of each row.
type firsts struct {
	rows  [][]int // of each row, who may be first
	first []int   // of each row, who is
	count []int   // of each node, the rows it is first in
}

func (f *firsts) set(row, node int) {
	f.first[row] = node
	f.count[node]++
}

// choose returns the one that is first in the smallest part of its rows.
func (f *firsts) choose(row int, quota []int) int {
	return slices.MinFunc(f.rows[row], func(i, j int) int {
		return cmp.Compare(f.count[i]*quota[j], f.count[j]*quota[i])
	})
}

// balance evens out who is first: as few rows as can be are led beyond the nth part
// of a node's rows, rounded up, and as few are missing from it, rounded down. What
// must be beyond or missing, nodes share as evenly as can be.
func (f *firsts) balance(a *assignment) {
	down := func(node int) int { least, _ := a.leads(node); return least }
	up := func(node int) int { _, most := a.leads(node); return most }
	even := func(part func(node int) int, by int) {
		for f.shift(
			func(node int) bool { return f.count[node] > part(node)+by },
			func(node int) bool { return f.count[node] < part(node)+by }) {
		}
	}
	even(up, 0)
	even(down, 0)
	most, least := 0, 0
	for node, count := range f.count {
		most, least = max(most, count-up(node)), max(least, down(node)-count)
	}
	for by := 1; by < most; by++ {
		even(up, by)
	}
	for by := 1; by < least; by++ {
		even(down, -by)
	}
}

// shift makes some source node first in one row less and some target node in
// one more, by the shortest chain of rows, and reports whether there was one.
func (f *firsts) shift(source, target func(node int) bool) bool {
	led := make([][]int, len(f.count)) // of each node, the rows it is first in
	for row, node := range f.first {
		led[node] = append(led[node], row)
	}
	const unseen, start = -2, -1
	via := make([]int, len(f.count)) // the row by which each node was reached
	var queue []int
	for node := range via {
		via[node] = unseen
		if source(node) {
			via[node] = start
			queue = append(queue, node)
		}
	}
	for len(queue) > 0 {
		node := queue[0]
		queue = queue[1:]
		if target(node) {
			for via[node] != start {
				row := via[node]
				previous := f.first[row]
				f.count[previous]--
				f.set(row, node)
				node = previous
			}
			return true
		}
		for _, row := range led[node] {
			for _, next := range f.rows[row] {
				if via[next] == unseen {
					via[next] = row
					queue = append(queue, next)
				}
			}
		}
	}
	return false
}
