package ring

import (
	"slices"
	"testing"
)

func TestRound(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []part
		total uint64
		want  []uint64
	}{
		{"nothing to round", []part{{3, 0, false}, {4, 0, true}}, 7, []uint64{3, 4}},
		{"the largest rest goes up", []part{{3, 1, false}, {4, 5, false}, {0, 4, false}}, 8, []uint64{3, 5, 0}},
		{"the first of equals goes up", []part{{3, 2, false}, {3, 2, false}, {3, 2, false}}, 11, []uint64{4, 4, 3}},
		{"who held it keeps it", []part{{3, 5, false}, {3, 1, true}}, 7, []uint64{3, 4}},
		{"a whole part never goes up", []part{{3, 0, true}, {3, 1, false}}, 7, []uint64{3, 4}},
		{"all go up", []part{{0, 1, false}, {0, 1, true}}, 2, []uint64{1, 1}},
		{"nothing at all", nil, 0, []uint64{}},
	} {
		if got := round(c.parts, c.total); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Shares worked out by hand.
func TestShares(t *testing.T) {
	type node struct {
		zone   string
		weight uint32
	}
	for _, c := range []struct {
		name  string
		nodes []node
		bits  uint8
		n     int
		want  []int
	}{
		{"one node", []node{{"", 9}}, 6, 1, []int{64}},
		{"by weight", []node{{"", 1}, {"", 2}, {"", 1}}, 6, 1, []int{16, 32, 16}},
		{"rounded", []node{{"", 1}, {"", 1}, {"", 1}}, 6, 1, []int{22, 21, 21}},
		{"a node takes everything once at most", []node{{"", 8}, {"", 1}, {"", 1}}, 6, 2, []int{64, 32, 32}},
		{"what one leaves fills another", []node{{"", 90}, {"", 8}, {"", 1}, {"", 1}}, 6, 2, []int{64, 51, 7, 6}},
		{"and then it takes everything too", []node{{"", 100}, {"", 10}, {"", 1}, {"", 1}}, 6, 3, []int{64, 64, 32, 32}},
		{"a zone takes one copy at most", []node{{"a", 1}, {"a", 1}, {"b", 1}, {"c", 1}}, 6, 3, []int{32, 32, 64, 64}},
		{"by weight inside a full zone", []node{{"a", 3}, {"a", 1}, {"b", 1}, {"c", 1}}, 6, 3, []int{48, 16, 64, 64}},
		{"light zones are filled up", []node{{"a", 9}, {"b", 9}, {"c", 1}, {"c", 1}}, 6, 3, []int{64, 64, 32, 32}},
		{"two zones, three copies", []node{{"a", 1}, {"a", 1}, {"b", 1}}, 6, 3, []int{64, 64, 64}},
		{"two zones, two a zone at most", []node{{"a", 1}, {"a", 1}, {"a", 1}, {"a", 1}, {"b", 1}}, 6, 3, []int{32, 32, 32, 32, 64}},
		{"four zones, three copies", []node{{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}}, 6, 3, []int{48, 48, 48, 48}},
		{"a weight too small for any", []node{{"", 1000}, {"", 1}}, 4, 1, []int{16, 0}},
		{"fewer owners than nodes", []node{{"", 1}, {"", 1}, {"", 1}}, 0, 1, []int{1, 0, 0}},
		{"the one owner is the heavier", []node{{"", 1}, {"", 2}}, 0, 1, []int{0, 1}},
		{"the greatest weights", []node{{"a", 1<<32 - 1}, {"b", 1<<32 - 1}, {"c", 1<<32 - 1}}, 16, 2, []int{43691, 43691, 43690}},
	} {
		var nodes []Node
		for i, n := range c.nodes {
			nodes = append(nodes, testNode(i, n.zone, n.weight))
		}
		if got := newShares(nodes, c.bits, c.n, make([]int, len(nodes))).quota; !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The products of the arithmetic fit at the bounds of everything.
func TestSharesAtTheBounds(t *testing.T) {
	nodes := make([]Node, MaxNodes)
	for i := range nodes {
		nodes[i] = Node{Zone: string(rune('a' + i%20)), Weight: 1<<32 - 1}
	}
	s := newShares(nodes, MaxBits, MaxN, make([]int, len(nodes)))
	for i, quota := range s.quota {
		if quota != MaxN<<MaxBits/MaxNodes {
			t.Fatalf("node %d owns %d, want %d", i, quota, MaxN<<MaxBits/MaxNodes)
		}
	}
}

// Who held the partition that makes a share round up keeps it, whoever that
// is, as nodes inside a zone and as zones.
func TestRoundingMovesNothing(t *testing.T) {
	for name, zones := range map[string]string{"nodes": "xxx", "zones": "abc"} {
		nodes := equalNodes(zones)
		slices.SortFunc(nodes, func(a, b Node) int { return a.ID.Compare(b.ID) })
		for holder := range uint16(3) {
			prev, err := newRing(2, 1, nodes, []uint16{0, 1, 2, holder})
			if err != nil {
				t.Fatal(err)
			}
			next, _ := mustClaim(t, nodes, 2, 1, prev)
			if got := moved(prev, next); got != 0 {
				t.Errorf("%s: %d owners changed for the sake of rounding", name, got)
			}
		}
	}
}
