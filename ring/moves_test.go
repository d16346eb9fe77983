package ring

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// A flow is a network in which the most that can pass from vertex 0 to vertex
// 1 is sought, at the least cost, by augmenting paths.
type flow struct{ edges [][]flowEdge }

type flowEdge struct{ to, room, cost, back int } // back: where in edges[to] the edge back is

func (f *flow) vertex() int {
	f.edges = append(f.edges, nil)
	return len(f.edges) - 1
}

func (f *flow) edge(from, to, room, cost int) {
	f.edges[from] = append(f.edges[from], flowEdge{to, room, cost, len(f.edges[to])})
	f.edges[to] = append(f.edges[to], flowEdge{from, 0, -cost, len(f.edges[from]) - 1})
}

// most returns how much can pass, and what that costs at least: Bellman and
// Ford's shortest paths, one after another.
func (f *flow) most() (total, cost int) {
	for {
		const far = 1 << 30
		dist, via := make([]int, len(f.edges)), make([]*flowEdge, len(f.edges))
		for v := range dist {
			dist[v] = far
		}
		dist[0] = 0
		queued := make([]bool, len(f.edges))
		for queue := []int{0}; len(queue) > 0; queue = queue[1:] {
			v := queue[0]
			queued[v] = false
			for i := range f.edges[v] {
				e := &f.edges[v][i]
				if e.room > 0 && dist[v]+e.cost < dist[e.to] {
					dist[e.to], via[e.to] = dist[v]+e.cost, e
					if !queued[e.to] {
						queued[e.to] = true
						queue = append(queue, e.to)
					}
				}
			}
		}
		if dist[1] == far {
			return total, cost
		}
		for v := 1; v != 0; {
			e := via[v]
			e.room--
			back := &f.edges[e.to][e.back]
			back.room++
			v = back.to
		}
		total, cost = total+1, cost+dist[1]
	}
}

// leastMoves is how many owners must change: a flow through partitions (n
// each), their zones (as many each as any ring must allow) and nodes: as many
// each as the share rounded down, and one more for some, as many as the share
// of their zone leaves, which is rounded likewise. If exact is set, all nodes
// may be owners, those before cost nothing and others one each: the cost is the
// least there is. Otherwise only those before may be, and what they leave are
// the moves: a bound below the least, found sooner, since it leaves out that
// newcomers need places in different partitions.
func leastMoves(nodes []Node, width uint8, n int, prev *Ring, exact bool) int {
	nodes = sortedNodes(nodes)
	n = min(n, len(nodes))
	before := staying(previousPlaces(nodes, width, prev))
	s := newShares(nodes, width, n, counts(before, len(nodes)))
	f := &flow{}
	f.vertex()
	f.vertex()
	sinks := make([]int, len(nodes))
	zonesUp, left := f.vertex(), n<<width // zones whose share is rounded up
	for _, z := range s.zones {
		up, whole, floors := f.vertex(), 0, 0 // nodes of the zone whose share is rounded up
		for _, i := range z.nodes {
			sinks[i] = f.vertex()
			floor := s.quota[i]
			if s.up[i] {
				floor--
			}
			f.edge(sinks[i], 1, floor, 0)
			if s.up[i] || s.down[i] {
				f.edge(sinks[i], up, 1, 0)
			}
			whole, floors = whole+s.quota[i], floors+floor
		}
		if z.up {
			whole--
		}
		if z.up || z.down {
			f.edge(up, zonesUp, 1, 0)
		}
		f.edge(up, 1, whole-floors, 0)
		left -= whole
	}
	f.edge(zonesUp, 1, left, 0)
	for _, owners := range before {
		row := f.vertex()
		f.edge(0, row, n, 0)
		zones := map[int]int{}
		for i := range nodes {
			cost := 1
			if slices.Contains(owners, i) {
				cost = 0
			}
			if cost > 0 && !exact {
				continue
			}
			zone := s.zoneOf[i]
			if _, there := zones[zone]; !there {
				zones[zone] = f.vertex()
				f.edge(row, zones[zone], int(s.perRow), 0)
			}
			f.edge(zones[zone], sinks[i], 1, cost)
		}
	}
	passed, cost := f.most()
	if exact {
		return cost
	}
	return n<<width - passed
}

// A cluster that changes, drawn by a seed: what it was, and what it becomes.
type randomChange struct {
	before, after []Node
	bits, newBits uint8
	n, newN       int
}

func drawChange(seed uint64) (c randomChange) {
	rng := rand.New(rand.NewPCG(seed, 2))
	zones, heaviest := 1+rng.IntN(5), []uint32{1, 1, 2, 8, 1 << 31}[rng.IntN(5)]
	node := func(i int) Node {
		return testNode(i, string(rune('a'+rng.IntN(zones))), 1+rng.Uint32N(heaviest))
	}
	for i := range 1 + rng.IntN(16) {
		c.before = append(c.before, node(i))
	}
	c.after = slices.Clone(c.before)
	for range 1 + rng.IntN(3) {
		switch i := rng.IntN(len(c.after)); rng.IntN(5) {
		case 0, 1: // some join
			for range 1 + rng.IntN(4) {
				c.after = append(c.after, node(100+len(c.after)+rng.IntN(1000)*100))
			}
		case 2: // one leaves
			if len(c.after) > 1 {
				c.after = slices.Delete(c.after, i, i+1)
			}
		case 3: // one is replaced
			c.after[i] = testNode(200000+rng.IntN(1000), c.after[i].Zone, c.after[i].Weight)
		case 4: // one has more disks
			c.after[i].Weight = 1 + rng.Uint32N(heaviest)
		}
	}
	c.after = slices.CompactFunc(sortedNodes(c.after), func(a, b Node) bool { return a.ID == b.ID })
	c.bits = uint8(rng.IntN(8))
	c.newBits = c.bits
	if rng.IntN(4) == 0 {
		c.newBits = min(8, c.bits+uint8(rng.IntN(3)))
	}
	c.n = 1 + rng.IntN(4)
	c.newN = c.n
	if rng.IntN(6) == 0 {
		c.newN = 1 + rng.IntN(4)
	}
	return c
}

// Random clusters that change: all constraints hold; but for one in a thousand,
// no more than a tenth more owners change than must, or one; and the order in
// which nodes are named does not matter. MAYFLY_TEST_CLUSTERS is how many.
func TestClaimsOfRandomClusters(t *testing.T) {
	clusters := 300
	if text := os.Getenv("MAYFLY_TEST_CLUSTERS"); text != "" {
		clusters, _ = strconv.Atoi(text)
	}
	worst, over, beyond, total, bound := 1.0, 0, 0, 0, 0
	for seed := range uint64(clusters) {
		c := drawChange(seed)
		prev, _ := mustClaim(t, c.before, c.bits, c.n, nil)
		next, short := mustClaim(t, c.after, c.newBits, c.newN, prev)
		checkClaim(fatal{t, fmt.Sprintf("seed %d", seed)}, next, c.after, c.newN, prev, short)
		rng := rand.New(rand.NewPCG(seed, 3))
		rng.Shuffle(len(c.after), func(i, j int) { c.after[i], c.after[j] = c.after[j], c.after[i] })
		again, _ := mustClaim(t, c.after, c.newBits, c.newN, prev)
		a, _ := next.MarshalBinary()
		if b, _ := again.MarshalBinary(); !bytes.Equal(a, b) {
			t.Errorf("seed %d: the order of the nodes changed the ring", seed)
		}
		least, got := leastMoves(c.after, c.newBits, c.newN, prev, false), moved(prev, next)
		if got > least {
			least = leastMoves(c.after, c.newBits, c.newN, prev, true)
		}
		total, bound = total+got, bound+least
		if got < least {
			t.Errorf("seed %d: %d owners changed, fewer than the least, %d", seed, got, least)
		}
		if got == least {
			continue
		}
		over++
		ratio := float64(got) / float64(max(1, least))
		worst = max(worst, ratio)
		if ratio > 1.1 && got > least+1 {
			beyond++
			t.Logf("seed %d: %d owners changed, at least %d had to: from %d nodes to %d, 2^%d partitions to 2^%d, %d copies to %d",
				seed, got, least, len(c.before), len(c.after), c.bits, c.newBits, c.n, c.newN)
		}
	}
	if beyond > clusters/1000 { // chains of roundings across zones are not searched
		t.Errorf("in %d of %d clusters a tenth more owners changed than had to", beyond, clusters)
	}
	t.Logf("%d clusters: %d owners changed, at least %d had to; more than that in %d, at worst %.3f times", clusters, total, bound, over, worst)
}

// fatal is a *testing.T that says of which case it is.
type fatal struct {
	t    *testing.T
	what string
}

func (f fatal) Fatalf(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf("%s: %s", f.what, fmt.Sprintf(format, args...))
}
