package ring

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// testNode returns the i-th of some nodes with ids in no particular order.
func testNode(i int, zone string, weight uint32) Node {
	var id NodeID
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	for j := range id {
		id[j] = byte(rng.Uint32())
	}
	return Node{ID: id, Name: fmt.Sprintf("n%d", i), Zone: zone, Weight: weight}
}

// equalNodes returns nodes of one weight, one for each letter, in that zone; a
// dash leaves one out.
func equalNodes(zones string) (nodes []Node) {
	for i, zone := range zones {
		if zone != '-' {
			nodes = append(nodes, testNode(i, string(zone), 1))
		}
	}
	return nodes
}

func mustClaim(t interface{ Fatalf(string, ...any) }, nodes []Node, bits uint8, n int, prev *Ring) (*Ring, []Shortfall) {
	r, short, err := Claim(nodes, bits, n, prev)
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	return r, short
}

// owned returns how many partitions each node owns, and of how many it is the
// first owner.
func owned(r *Ring) (all, first map[NodeID]int) {
	all, first = map[NodeID]int{}, map[NodeID]int{}
	for p := range r.Partitions() {
		for i, id := range r.Owners(p) {
			all[id]++
			if i == 0 {
				first[id]++
			}
		}
	}
	return all, first
}

func TestClaimOfOneNode(t *testing.T) {
	node := testNode(0, "", 1)
	r, short := mustClaim(t, []Node{node}, DefaultBits, 3, nil)
	if r.N() != 1 || r.Bits() != 6 {
		t.Errorf("n = %d, bits = %d", r.N(), r.Bits())
	}
	for p := range r.Partitions() {
		if owners := r.Owners(p); !slices.Equal(owners, []NodeID{node.ID}) {
			t.Fatalf("%v is owned by %v", p, owners)
		}
		for standIn := range r.StandIns(p) {
			t.Fatalf("%v has a stand-in, %v", p, standIn)
		}
	}
	if got := fmt.Sprint(short); got != "[copies: 1 node cannot hold 3 copies; add 2]" {
		t.Errorf("shortfalls: %s", got)
	}
}

func TestClaimSays(t *testing.T) {
	heavy := append(equalNodes("abc"), testNode(3, "d", 7))
	for _, c := range []struct {
		name  string
		nodes []Node
		n     int
		want  []string
	}{
		{"nothing where all holds", equalNodes("aabbcc"), 3, nil},
		{"nothing without zones", []Node{testNode(0, "", 1), testNode(1, "", 1), testNode(2, "", 1)}, 3, nil},
		{"too few nodes", equalNodes("ab"), 3, []string{"copies: 2 nodes cannot hold 3 copies; add 1"}},
		{"too few zones", equalNodes("aabb"), 3, []string{"zones: the nodes of 2 zones hold 3 copies only with up to 2 of a partition in one zone"}},
		{"zones too small", equalNodes("abccc"), 4, []string{"zones: the nodes of 3 zones hold 4 copies only with up to 2 of a partition in one zone",
			`shares: zone "c" has 60 % of the weight; with 2 of 4 copies it holds 50 %, and the others more than their weight`}},
		{"a zone too heavy", equalNodes("aaabc"), 3, []string{
			`shares: zone "a" has 60 % of the weight; with 1 of 3 copies it holds 33 %, and the others more than their weight`}},
		{"a node too heavy", heavy, 2, []string{
			`shares: zone "d" has 70 % of the weight; with 1 of 2 copies it holds 50 %, and the others more than their weight`}},
		{"a node too heavy without zones", []Node{testNode(0, "", 7), testNode(1, "", 1), testNode(2, "", 1), testNode(3, "", 1)}, 2, []string{
			`shares: node "n0" has 70 % of the weight; with one of 2 copies it holds 50 %, and the others more than their weight`}},
	} {
		_, short := mustClaim(t, c.nodes, 6, c.n, nil)
		var got []string
		for _, s := range short {
			got = append(got, s.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestClaimRefuses(t *testing.T) {
	good := equalNodes("abc")
	twice := append(equalNodes("abc"), good[0])
	weightless := equalNodes("abc")
	weightless[1].Weight = 0
	for _, c := range []struct {
		name  string
		nodes []Node
		bits  uint8
		n     int
		say   string
	}{
		{"no nodes", nil, 6, 3, "0 nodes, want 1 to 4096"},
		{"no owners", good, 6, 0, "0 owners a partition, want 1 to 16"},
		{"too many owners", good, 6, 17, "17 owners a partition"},
		{"too many partitions", good, 17, 3, "2^17 partitions, want at most 2^16"},
		{"a node twice", twice, 6, 3, "is there twice"},
		{"a node of no weight", weightless, 6, 3, "weight is 0"},
	} {
		r, _, err := Claim(c.nodes, c.bits, c.n, nil)
		if r != nil || !errors.Is(err, ErrRing) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want %q", c.name, err, c.say)
		}
	}
}

// drawNodes draws up to most nodes, weighted and zoned or not.
func drawNodes(t *rapid.T, most int) []Node {
	count := rapid.IntRange(1, most).Draw(t, "nodes")
	zones := rapid.IntRange(1, 5).Draw(t, "zones")
	heaviest := rapid.SampledFrom([]uint32{1, 1, 4, 1<<32 - 1}).Draw(t, "heaviest")
	nodes := make([]Node, count)
	for i := range nodes {
		zone := rapid.IntRange(0, zones-1).Draw(t, "zone")
		weight := rapid.Uint32Range(1, heaviest).Draw(t, "weight")
		nodes[i] = testNode(i, string(rune('a'+zone)), weight)
	}
	return nodes
}

// A claim holds its constraints: checked here from their words, not with the
// arithmetic that makes it.
func TestClaimHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, 12)
		bits := rapid.Uint8Range(0, 7).Draw(t, "bits")
		n := rapid.IntRange(1, 5).Draw(t, "n")
		r, short := mustClaim(t, nodes, bits, n, nil)
		checkClaim(t, r, nodes, n, nil, short)
	})
}

// One claim after another, nodes coming and going, holds them too.
func TestClaimsInARowHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prev *Ring
		for range rapid.IntRange(2, 4).Draw(t, "rings") {
			nodes := drawNodes(t, 9)
			if rapid.Bool().Draw(t, "renew one") {
				nodes[0] = testNode(rapid.IntRange(100, 110).Draw(t, "new"), nodes[0].Zone, 1)
			}
			bits := rapid.Uint8Range(0, 6).Draw(t, "bits")
			n := rapid.IntRange(1, 4).Draw(t, "n")
			r, short := mustClaim(t, nodes, bits, n, prev)
			checkClaim(t, r, nodes, n, prev, short)
			prev = r
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

func checkClaim(t fataler, r *Ring, nodes []Node, n int, prev *Ring, short []Shortfall) {
	if r.N() != min(n, len(nodes)) {
		t.Fatalf("n = %d, want %d of %d nodes", r.N(), n, len(nodes))
	}
	checkZones(t, r)
	checkPlaces(t, r, prev)
	checkFirsts(t, r, prev)
	held := map[Constraint]bool{Copies: true, Zones: true, Shares: true}
	for _, s := range short {
		held[s.Constraint] = false
	}
	if held[Copies] != (len(nodes) >= n) {
		t.Fatalf("copies of %d on %d nodes: %v", n, len(nodes), short)
	}
	all, _ := owned(r)
	copies := uint64(r.N()) << r.Bits()
	if held[Shares] {
		checkShares(t, r, all, func(w, total uint64) (uint64, uint64) { return copies * w / total, (copies*w + total - 1) / total })
	}
	checkFairness(t, r, all)
}

// checkZones demands that no zone holds more owners of a partition than it
// must: with k a zone there is room for all, and with k-1 there would not be.
func checkZones(t fataler, r *Ring) {
	most := 0
	sizes := map[string]int{}
	for _, node := range r.Nodes() {
		sizes[node.Zone]++
	}
	for p := range r.Partitions() {
		in := map[string]int{}
		for _, id := range r.Owners(p) {
			node, _ := r.Node(id)
			in[node.Zone]++
			most = max(most, in[node.Zone])
		}
	}
	room := 0
	for _, size := range sizes {
		room += min(size, most-1)
	}
	if room >= r.N() {
		t.Fatalf("a partition has %d owners in a zone, %d would do: %v", most, most-1, sizes)
	}
}

// stood returns the owners before of a partition, as many as it has now; none if
// there was no ring before.
func stood(prev *Ring, p Partition, n int) []NodeID {
	if prev == nil {
		return nil
	}
	first, _ := p.Range()
	before := prev.Owners(prev.PartitionOf(first))
	return before[:min(n, len(before))]
}

// checkPlaces demands that owners that stay keep their places, or, where a newcomer
// was put before all of them, that they stand one place back as far as the one that
// was vacated. So however many owners a bucket uses, there are only such as were
// among as many before, and newcomers.
func checkPlaces(t fataler, r, prev *Ring) {
	for p := range r.Partitions() {
		before, after := stood(prev, p, r.N()), r.Owners(p)
		pushed := len(before) > 0 && slices.Contains(after, before[0]) && after[0] != before[0]
		for i, id := range before {
			j := slices.Index(after, id)
			pushed = pushed && j >= 0 // up to the first that was vacated
			want := i
			if pushed {
				want++
			}
			if j >= 0 && j != want {
				t.Fatalf("%v: %v was owner %d, is owner %d, want %d: %v, then %v", p, id, i, j, want, before, after)
			}
		}
		if pushed && len(before) == r.N() || len(before) > 0 && slices.Contains(before[1:], after[0]) {
			t.Fatalf("%v: an owner that stays came forward: %v, then %v", p, before, after)
		}
	}
}

// checkFirsts demands that a node is first in one nth of what it owns: exactly, if
// there was no ring before. Otherwise who is first more often than that has no row
// with a newcomer that is first less often, or by two less too often.
func checkFirsts(t fataler, r, prev *Ring) {
	all, first := owned(r)
	low := func(id NodeID) int { return all[id] / r.N() }
	high := func(id NodeID) int { return (all[id] + r.N() - 1) / r.N() }
	for _, node := range r.Nodes() {
		if got := first[node.ID]; prev == nil && (got < low(node.ID) || got > high(node.ID)) {
			t.Fatalf("%s owns %d and is first of %d", node.Name, all[node.ID], got)
		}
	}
	for p := range r.Partitions() {
		before, after := stood(prev, p, r.N()), r.Owners(p)
		for _, id := range after[1:] {
			if slices.Contains(before, id) {
				continue // no newcomer
			}
			over, under := first[after[0]]-high(after[0]), low(id)-first[id]
			if over > 0 && over > first[id]-high(id)+1 || under > 0 && under > low(after[0])-first[after[0]]+1 {
				t.Fatalf("%v: %v is first of %d of %d, %v, which is new there, of %d of %d", p, after[0], first[after[0]], all[after[0]], id, first[id], all[id])
			}
		}
	}
}

func checkShares(t fataler, r *Ring, all map[NodeID]int, share func(w, total uint64) (low, high uint64)) {
	var total uint64
	for _, node := range r.Nodes() {
		total += uint64(node.Weight)
	}
	for _, node := range r.Nodes() {
		low, high := share(uint64(node.Weight), total)
		if got := uint64(all[node.ID]); got < low || got > high {
			t.Fatalf("%s of weight %d of %d owns %d, want %d to %d", node.Name, node.Weight, total, got, low, high)
		}
	}
}

// checkFairness demands that between two nodes of a zone only the bound of one
// copy a partition makes the lighter own more for its weight.
func checkFairness(t fataler, r *Ring, all map[NodeID]int) {
	for _, a := range r.Nodes() {
		for _, b := range r.Nodes() {
			if a.Zone != b.Zone || all[a.ID] == 1<<r.Bits() {
				continue
			}
			// (all[b]-1)/weight(b) <= (all[a]+1)/weight(a)
			if float64(all[b.ID]-1)/float64(b.Weight) > float64(all[a.ID]+1)/float64(a.Weight)*(1+1e-9) {
				t.Fatalf("%s of weight %d owns %d, %s of weight %d owns %d", a.Name, a.Weight, all[a.ID], b.Name, b.Weight, all[b.ID])
			}
		}
	}
}

func TestClaimIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, 9)
		prev, _ := mustClaim(t, nodes[:1+len(nodes)/2], 5, 3, nil)
		r, _ := mustClaim(t, nodes, 5, 3, prev)
		shuffled := rapid.Permutation(nodes).Draw(t, "order")
		again, _ := mustClaim(t, shuffled, 5, 3, prev)
		a, _ := r.MarshalBinary()
		b, _ := again.MarshalBinary()
		if !bytes.Equal(a, b) {
			t.Fatal("the order of the nodes changed the ring")
		}
	})
}

// moved counts the owners of a partition that were none before.
func moved(prev, next *Ring) (count int) {
	for p := range next.Partitions() {
		first, _ := p.Range()
		for _, id := range next.Owners(p) {
			if !prev.Owns(id, prev.PartitionOf(first)) {
				count++
			}
		}
	}
	return count
}

// Claiming again for the same nodes changes no owner, whatever came before.
func TestClaimAgainChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, _ := mustClaim(t, drawNodes(t, 9), 5, 3, nil)
		nodes := drawNodes(t, 9)
		prev, _ := mustClaim(t, nodes, 5, 3, first)
		next, _ := mustClaim(t, nodes, 5, 3, prev)
		a, _ := prev.MarshalBinary()
		b, _ := next.MarshalBinary()
		if !bytes.Equal(a, b) {
			t.Fatalf("%d owners changed", moved(prev, next))
		}
	})
}

// A node that joins or leaves changes about what it must: what the newcomer
// owns, or what the leaver owned.
func TestClaimChangesLittle(t *testing.T) {
	for _, c := range []struct {
		name         string
		before, next string // zones of the nodes; "-" a node that is not there
		most         float64
	}{
		{"the fourth node joins", "xxx-", "xxxx", 1.05},
		{"the seventh node joins", "xxxxxx-", "xxxxxxx", 1.05},
		{"one of seven leaves", "xxxxxxx", "xxx-xxx", 1.05},
		{"two of nine leave", "xxxxxxxxx", "xxx-xx-xx", 1.05},
		{"one joins in three zones", "aabbcc-", "aabbcca", 1.05},
		{"a zone joins", "aabbcc--", "aabbccdd", 1.05},
		{"a node is replaced", "aabbcc-", "aabb-cc", 1.05},
		{"a fourth zone leaves", "aabbccdd", "aabbcc--", 1.05},
	} {
		prev, _ := mustClaim(t, equalNodes(c.before), 8, 3, nil)
		next, _ := mustClaim(t, equalNodes(c.next), 8, 3, prev)
		was, _ := owned(prev)
		is, _ := owned(next)
		must := 0 // what nodes own more than before has to move
		for id, now := range is {
			must += max(0, now-was[id])
		}
		if got := moved(prev, next); float64(got) > c.most*float64(must) {
			t.Errorf("%s: %d owners changed, %d had to", c.name, got, must)
		} else {
			t.Logf("%s: %d owners changed, %d had to", c.name, got, must)
		}
	}
}

// Fewer copies move almost nothing, and what stays is where it was.
func TestClaimOfFewerCopies(t *testing.T) {
	for _, zones := range []string{"xxxxxx", "aabbcc", "aabbccdd", "abcdefgh"} {
		prev, _ := mustClaim(t, equalNodes(zones), 8, 3, nil)
		next, _ := mustClaim(t, equalNodes(zones), 8, 2, prev)
		if got := moved(prev, next); got > 2*256/20 {
			t.Errorf("%s: %d of %d owners changed", zones, got, 2*256)
		}
	}
}

// Where a node joins, only as many firsts change as it is to be first of, and it
// comes as often second as others.
func TestClaimOrdersForReaders(t *testing.T) {
	prev, _ := mustClaim(t, equalNodes("xxxxxx"), 10, 3, nil)
	next, _ := mustClaim(t, equalNodes("xxxxxxx"), 10, 3, prev)
	firsts, second := 0, 0
	joined := testNode(6, "x", 1).ID
	for p := range next.Partitions() {
		if prev.Owners(p)[0] != next.Owners(p)[0] {
			firsts++
		}
		if next.Owners(p)[1] == joined {
			second++
		}
	}
	if firsts < 1024/7 || firsts > 1024/7+1 {
		t.Errorf("%d of 1024 firsts changed, want a seventh", firsts)
	}
	if second < 100 || second > 200 {
		t.Errorf("the newcomer is second of %d partitions, want about 146", second)
	}
}

// A cluster that grows from one node, and shrinks again, has no node that is first
// of most partitions: with 256, each is first of its part, give or take a half of
// it; with 64, a half or three partitions.
func TestFirstsOverALongHistory(t *testing.T) {
	for _, zones := range []int{1, 3} {
		for _, bits := range []uint8{6, 8} {
			var prev *Ring
			var nodes []Node
			worst := [2]float64{1, 1} // the least and the most for what a node is to be first of
			claim := func() {
				next, _ := mustClaim(t, nodes, bits, 3, prev)
				checkPlaces(t, next, prev)
				checkFirsts(t, next, prev)
				prev = next
				all, first := owned(next)
				for _, node := range nodes {
					got, want := float64(first[node.ID]), float64(all[node.ID])/float64(next.N())
					worst[0], worst[1] = min(worst[0], got/want), max(worst[1], got/want)
					if off := math.Abs(got - want); off > want/2 && (bits > 6 || off > 3) {
						t.Errorf("%d zones, 2^%d partitions, %d nodes: %s is first of %v, want about %.1f", zones, bits, len(nodes), node.Name, got, want)
					}
				}
			}
			for i := range 24 {
				nodes = append(nodes, testNode(i, string(rune('a'+i%zones)), 1))
				claim()
			}
			rng := rand.New(rand.NewPCG(uint64(zones), uint64(bits)))
			for len(nodes) > 3 {
				i := rng.IntN(len(nodes))
				nodes = slices.Delete(slices.Clone(nodes), i, i+1)
				claim()
			}
			t.Logf("%d zones, 2^%d partitions: first of %.2f to %.2f times a node's part", zones, bits, worst[0], worst[1])
		}
	}
}

// Many share partitions with a node, and about evenly: they rebuild it together.
func TestClaimScatters(t *testing.T) {
	r, _ := mustClaim(t, equalNodes("abcabcabcabc"), 10, 3, nil)
	shared := map[[2]NodeID]int{}
	for p := range r.Partitions() {
		for _, a := range r.Owners(p) {
			for _, b := range r.Owners(p) {
				shared[[2]NodeID{a, b}]++
			}
		}
	}
	for _, a := range r.Nodes() {
		for _, b := range r.Nodes() {
			// 256 partitions a node, two other owners each, eight nodes of other zones: 64.
			if got := shared[[2]NodeID{a.ID, b.ID}]; a.Zone != b.Zone && (got < 32 || got > 128) {
				t.Errorf("%s and %s share %d partitions, want about 64", a.Name, b.Name, got)
			}
		}
	}
}

func TestStandIns(t *testing.T) {
	r, _ := mustClaim(t, equalNodes("aabbccdd"), 6, 3, nil)
	firstStandIn := map[NodeID]int{}
	for p := range r.Partitions() {
		held := map[string]bool{}
		seen := map[NodeID]bool{}
		for _, id := range r.Owners(p) {
			node, _ := r.Node(id)
			held[node.Zone], seen[id] = true, true
		}
		inHeld := false
		for node := range r.StandIns(p) {
			if len(seen) == 3 {
				firstStandIn[node.ID]++
			}
			if seen[node.ID] {
				t.Fatalf("%v: %s stands in twice or for itself", p, node.Name)
			}
			seen[node.ID] = true
			if inHeld && !held[node.Zone] {
				t.Errorf("%v: %s of a zone without owner comes after one with", p, node.Name)
			}
			inHeld = inHeld || held[node.Zone]
		}
		if len(seen) != len(r.Nodes()) {
			t.Errorf("%v: %d owners and stand-ins of %d nodes", p, len(seen), len(r.Nodes()))
		}
	}
	if len(firstStandIn) < 8 {
		t.Errorf("only %d of 8 nodes ever stand in first", len(firstStandIn))
	}
	for range r.StandIns(Partition{6, 0}) {
		break // must not be fed more
	}
}

func TestOwnedBy(t *testing.T) {
	r, _ := mustClaim(t, equalNodes("abcde"), 6, 3, nil)
	all, _ := owned(r)
	for _, node := range r.Nodes() {
		got := slices.Collect(r.OwnedBy(node.ID))
		if len(got) != all[node.ID] || !slices.IsSortedFunc(got, Partition.Compare) {
			t.Errorf("%s: OwnedBy yields %d, it owns %d", node.Name, len(got), all[node.ID])
		}
		for _, p := range got {
			if !r.Owns(node.ID, p) {
				t.Errorf("%s does not own %v", node.Name, p)
			}
		}
	}
	if n := len(slices.Collect(r.OwnedBy(NodeID{1}))); n != 0 {
		t.Errorf("a stranger owns %d partitions", n)
	}
}

func TestOwnersOfAnotherRing(t *testing.T) {
	r, _ := mustClaim(t, equalNodes("a"), 6, 1, nil)
	for _, p := range []Partition{{5, 0}, {6, 64}} {
		func() {
			defer func() {
				if message := fmt.Sprint(recover()); !strings.HasPrefix(message, "ring: BUG: ") {
					t.Errorf("%v: recovered %q", p, message)
				}
			}()
			r.Owners(p)
		}()
	}
}

func TestOwnersCannotGrowIntoTheNext(t *testing.T) {
	r, _ := mustClaim(t, equalNodes("abc"), 2, 2, nil)
	want := slices.Clone(r.Owners(Partition{2, 1}))
	_ = append(r.Owners(Partition{2, 0}), NodeID{9})
	if got := r.Owners(Partition{2, 1}); !slices.Equal(got, want) {
		t.Error("appending to one partition's owners changed the next one's")
	}
}

func BenchmarkClaim(b *testing.B) {
	for _, c := range []struct {
		nodes int
		bits  uint8
	}{{1, 6}, {12, 8}, {100, 12}} {
		nodes := make([]Node, c.nodes)
		for i := range nodes {
			nodes[i] = testNode(i, string(rune('a'+i%3)), uint32(1+i%2))
		}
		b.Run(fmt.Sprintf("fresh/nodes=%d/bits=%d", c.nodes, c.bits), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustClaim(b, nodes, c.bits, 3, nil)
			}
		})
		b.Run(fmt.Sprintf("join/nodes=%d/bits=%d", c.nodes, c.bits), func(b *testing.B) {
			b.ReportAllocs()
			prev, _ := mustClaim(b, nodes[:max(1, c.nodes-1)], c.bits, 3, nil)
			for b.Loop() {
				mustClaim(b, nodes, c.bits, 3, prev)
			}
		})
	}
}

func BenchmarkOwners(b *testing.B) {
	b.ReportAllocs()
	r, _, _ := Claim(equalNodes("aabbcc"), 8, 3, nil)
	h, _ := NewHistory(Version{}, 3600, r)
	var total int
	for b.Loop() {
		r, p := h.For(true, 0xec2415ad44be1c40, 1763812800)
		total += len(r.Owners(p))
	}
	if total == 0 {
		b.Fatal("no owners")
	}
}
