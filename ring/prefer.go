package ring

import (
	"cmp"
	"slices"
)

// order puts each row into order of preference. The first owner is the one
// that was first before, where that is still an owner, exchanged where needed
// so that every node is first in one nth of its rows, rounded up or down. The
// others follow by chance, so that a node's seconds are spread; by the lower
// half of their affinity, since owners were chosen by the upper. Order moves no
// data.
func (a *assignment) order(before [][]int) {
	for row, owners := range a.rows {
		slices.SortFunc(owners, func(i, j int) int {
			return cmp.Or(cmp.Compare(uint32(a.affinity(row, i)), uint32(a.affinity(row, j))), cmp.Compare(i, j))
		})
	}
	f := firsts{a.rows, make([]int, len(a.rows)), make([]int, len(a.quota))}
	for row := range a.rows {
		f.set(row, f.choose(row, before[row], a.quota))
	}
	n := int(a.n)
	up := func(node int) int { return (a.quota[node] + n - 1) / n }
	down := func(node int) int { return a.quota[node] / n }
	for f.shift(
		func(node int) bool { return f.count[node] > up(node) },
		func(node int) bool { return f.count[node] < up(node) }) {
	}
	for f.shift(
		func(node int) bool { return f.count[node] > down(node) },
		func(node int) bool { return f.count[node] < down(node) }) {
	}
	for row, owners := range a.rows {
		i := slices.Index(owners, f.first[row])
		copy(owners[1:i+1], owners[:i])
		owners[0] = f.first[row]
	}
}

// firsts chooses one owner of each row to be its first.
type firsts struct {
	rows  [][]int
	first []int // of each row
	count []int // of each node, the rows it is first in
}

func (f *firsts) set(row, node int) {
	f.first[row] = node
	f.count[node]++
}

// choose returns the first owner before, if it is one still, or else the owner
// that is first in the smallest part of its rows.
func (f *firsts) choose(row int, before, quota []int) int {
	if len(before) > 0 && slices.Contains(f.rows[row], before[0]) {
		return before[0]
	}
	return slices.MinFunc(f.rows[row], func(i, j int) int {
		return cmp.Compare(f.count[i]*quota[j], f.count[j]*quota[i])
	})
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
