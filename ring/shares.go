package ring

import (
	"cmp"
	"fmt"
	"slices"
)

// shares is the arithmetic half of a claim: how many partitions each node
// owns. All of it is in whole numbers, so that it comes out the same on every
// processor; products stay below 2^64 by MaxNodes, MaxN, MaxBits and the width
// of a weight.
type shares struct {
	q, n   uint64 // partitions; owners of each
	nodes  []Node
	zones  []zone // ascending by name
	zoneOf []int  // of each node, an index into zones
	perRow uint64 // the most owners of one partition in one zone
	quota  []int  // what each node owns; the sum is n*q, that of a zone at most perRow*q
	up     []bool // whether a node's share was rounded up
	down   []bool // whether it was rounded down
}

type zone struct {
	name     string
	nodes    []int // indexes into shares.nodes, ascending
	full     bool  // it owns perRow*q, and would own more but for that
	up, down bool  // whether its share was rounded up, or down
}

// A pool is a number of owners to give out among some nodes by weight, none of
// them taking more than q. Those whose weight asks for more are full; the
// others get left*weight(node)/weight.
type pool struct {
	nodes        []int
	full         map[int]bool
	left, weight uint64 // of those that are not full
}

// newShares works out the shares of n*2^bits owners among the nodes, which are
// at least n. held says how many partitions each owns in the ring before: when
// some shares are rounded up and some down, up goes first to those that held
// more than the share rounded down.
func newShares(nodes []Node, bits uint8, n int, held []int) *shares {
	s := &shares{q: 1 << bits, n: uint64(n), nodes: nodes, quota: make([]int, len(nodes)), up: make([]bool, len(nodes)), down: make([]bool, len(nodes))}
	s.groupZones()
	s.boundZones()
	common := s.fillZones()
	s.roundZones(common, held)
	for i := range s.zones {
		if z := &s.zones[i]; z.full {
			s.roundNodes(s.fill(z.nodes, s.perRow*s.q), z.nodes, s.perRow*s.q, held)
		}
	}
	return s
}

func (s *shares) groupZones() {
	byName := map[string][]int{}
	for i, node := range s.nodes {
		byName[node.Zone] = append(byName[node.Zone], i)
	}
	for name, nodes := range byName {
		s.zones = append(s.zones, zone{name: name, nodes: nodes})
	}
	slices.SortFunc(s.zones, func(a, b zone) int { return cmp.Compare(a.name, b.name) })
	s.zoneOf = make([]int, len(s.nodes))
	for z, zone := range s.zones {
		for _, i := range zone.nodes {
			s.zoneOf[i] = z
		}
	}
}

// boundZones finds the least number of owners of one partition in one zone
// with which all n find a place.
func (s *shares) boundZones() {
	for s.perRow = 1; ; s.perRow++ {
		var room uint64
		for _, z := range s.zones {
			room += min(s.perRow, uint64(len(z.nodes)))
		}
		if room >= s.n {
			return
		}
	}
}

// fillZones marks the zones whose weight asks for more than perRow*q and
// returns the pool of all the others. What a full zone does not take raises
// the shares of the rest, so a zone once full stays full.
func (s *shares) fillZones() pool {
	for {
		total := s.n * s.q
		var rest []int
		for _, z := range s.zones {
			if z.full {
				total -= s.perRow * s.q
			} else {
				rest = append(rest, z.nodes...)
			}
		}
		slices.Sort(rest)
		p := s.fill(rest, total)
		if !s.markFull(p) {
			return p
		}
	}
}

// markFull marks the zones that own more than perRow*q by this pool.
func (s *shares) markFull(p pool) (found bool) {
	for i := range s.zones {
		z := &s.zones[i]
		if whole, rest := s.zoneShare(p, z); !z.full && (whole > s.perRow*s.q || whole == s.perRow*s.q && rest > 0) {
			z.full, found = true, true
		}
	}
	return found
}

// fill gives total owners to the nodes. What a full node does not take raises
// the shares of the rest, so a node once full stays full.
func (s *shares) fill(nodes []int, total uint64) pool {
	p := pool{nodes: nodes, full: map[int]bool{}}
	for more := true; more; {
		more = false
		p.left, p.weight = total-uint64(len(p.full))*s.q, 0
		for _, i := range nodes {
			if !p.full[i] {
				p.weight += uint64(s.nodes[i].Weight)
			}
		}
		for _, i := range nodes {
			if !p.full[i] && p.left*uint64(s.nodes[i].Weight) > s.q*p.weight {
				p.full[i], more = true, true
			}
		}
	}
	return p
}

// nodeShare returns what the node gets of its pool: whole + rest/p.weight.
func (s *shares) nodeShare(p pool, i int) (whole, rest uint64) {
	if p.full[i] {
		return s.q, 0
	}
	product := p.left * uint64(s.nodes[i].Weight)
	return product / p.weight, product % p.weight
}

// zoneShare returns what the zone gets of the pool: whole + rest/p.weight.
func (s *shares) zoneShare(p pool, z *zone) (whole, rest uint64) {
	var weight uint64
	for _, i := range z.nodes {
		if p.full[i] {
			whole += s.q
		} else {
			weight += uint64(s.nodes[i].Weight)
		}
	}
	if weight == 0 {
		return whole, 0
	}
	return whole + p.left*weight/p.weight, p.left * weight % p.weight
}

// roundZones rounds the shares of the zones that are not full, then those of
// the nodes in each: a zone's sum must not exceed perRow*q by rounding either.
func (s *shares) roundZones(p pool, held []int) {
	var zones []int
	var parts []part
	total := s.n * s.q
	for i := range s.zones {
		z := &s.zones[i]
		if z.full {
			total -= s.perRow * s.q
			continue
		}
		whole, rest := s.zoneShare(p, z)
		var before uint64
		for _, j := range z.nodes {
			before += uint64(held[j])
		}
		zones = append(zones, i)
		parts = append(parts, part{whole, rest, before > whole})
	}
	for i, sum := range round(parts, total) {
		z := &s.zones[zones[i]]
		z.up, z.down = sum > parts[i].whole, sum == parts[i].whole && parts[i].rest > 0
		s.roundNodes(p, s.zones[zones[i]].nodes, sum, held)
	}
}

// roundNodes rounds the shares of some nodes of a pool, which sum to total.
func (s *shares) roundNodes(p pool, nodes []int, total uint64, held []int) {
	parts := make([]part, len(nodes))
	for i, j := range nodes {
		whole, rest := s.nodeShare(p, j)
		parts[i] = part{whole, rest, uint64(held[j]) > whole}
	}
	for i, quota := range round(parts, total) {
		s.quota[nodes[i]] = int(quota)
		s.up[nodes[i]], s.down[nodes[i]] = quota > parts[i].whole, quota == parts[i].whole && parts[i].rest > 0
	}
}

// shift rounds node i down and node j up, if the bounds allow that and it was
// the other way round.
func (s *shares) shift(i, j int) bool {
	from, to := &s.zones[s.zoneOf[i]], &s.zones[s.zoneOf[j]]
	if !s.up[i] || !s.down[j] || from != to && (!from.up || !to.down) {
		return false
	}
	s.up[i], s.down[i], s.quota[i] = false, true, s.quota[i]-1
	s.up[j], s.down[j], s.quota[j] = true, false, s.quota[j]+1
	if from != to {
		from.up, from.down, to.up, to.down = false, true, true, false
	}
	return true
}

// fair returns the share of each node before rounding, in partitions.
func (s *shares) fair() []float64 {
	fair := make([]float64, len(s.nodes))
	set := func(p pool, nodes []int) {
		for _, i := range nodes {
			whole, rest := s.nodeShare(p, i)
			fair[i] = float64(whole)
			if rest > 0 {
				fair[i] += float64(rest) / float64(p.weight)
			}
		}
	}
	common := s.fillZones() // zones stay full
	set(common, common.nodes)
	for i := range s.zones {
		if z := &s.zones[i]; z.full {
			set(s.fill(z.nodes, s.perRow*s.q), z.nodes)
		}
	}
	return fair
}

// A part is a number not yet rounded: whole + rest/d, with one d for all that
// are rounded together.
type part struct {
	whole, rest uint64
	prefer      bool // round this one up before others
}

// round rounds each part up or down so that they sum to total: up go first
// those preferred, then those with the largest rests, then the first.
func round(parts []part, total uint64) []uint64 {
	rounded := make([]uint64, len(parts))
	var candidates []int
	for i, p := range parts {
		rounded[i] = p.whole
		total -= p.whole
		if p.rest > 0 {
			candidates = append(candidates, i)
		}
	}
	if total > uint64(len(candidates)) {
		panic(fmt.Sprintf("ring: BUG: %d left over from rounding %d parts", total, len(candidates)))
	}
	slices.SortStableFunc(candidates, func(i, j int) int {
		a, b := parts[i], parts[j]
		if a.prefer != b.prefer {
			if a.prefer {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.rest, a.rest)
	})
	for _, i := range candidates[:total] {
		rounded[i]++
	}
	return rounded
}

// shortfalls says which constraints these nodes do not allow to hold.
func (s *shares) shortfalls() (short []Shortfall) {
	if s.perRow > 1 && len(s.zones) > 1 {
		short = append(short, Shortfall{Zones, fmt.Sprintf(
			"the nodes of %d zones hold %d copies only with up to %d of a partition in one zone", len(s.zones), s.n, s.perRow)})
	}
	var total uint64
	for _, node := range s.nodes {
		total += uint64(node.Weight)
	}
	for _, z := range s.zones {
		var weight uint64
		for _, i := range z.nodes {
			weight += uint64(s.nodes[i].Weight)
		}
		if s.n*weight > s.perRow*total {
			short = append(short, Shortfall{Shares, fmt.Sprintf(
				"zone %q has %s of the weight; with %d of %d copies it holds %s, and the others more than their weight",
				z.name, percent(weight, total), s.perRow, s.n, percent(s.perRow, s.n))})
			continue
		}
		for _, i := range z.nodes {
			if w := uint64(s.nodes[i].Weight); s.n*w > total {
				short = append(short, Shortfall{Shares, fmt.Sprintf(
					"node %q has %s of the weight; with one of %d copies it holds %s, and the others more than their weight",
					s.nodes[i].Name, percent(w, total), s.n, percent(1, s.n))})
			}
		}
	}
	return short
}

// percent writes part/whole, rounded to the nearest percent.
func percent(part, whole uint64) string {
	return fmt.Sprintf("%d %%", (200*part+whole)/(2*whole))
}
