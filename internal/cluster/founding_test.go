package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

func fresh(name string, expect int) candidate {
	return candidate{Member: agreed.Member{ID: nodeID(name), Name: name, Address: name}, Expect: expect}
}

// least returns the candidates ascending by id.
func least(all ...candidate) []candidate {
	slices.SortFunc(all, byID)
	return all
}

func TestSwear(t *testing.T) {
	set := least(fresh("a", 3), fresh("b", 3), fresh("c", 3))
	low, mid, high := set[0], set[1], set[2]
	f := founding{Vow: vow{Founder: low.Member.ID, Cluster: id("X")}, Set: set}
	elsewhere := vow{Founder: nodeID("elsewhere"), Cluster: id("Y")}
	for _, tc := range []struct {
		name    string
		me      candidate
		seeds   int
		behind  []candidate
		vow     vow
		f       founding
		founded bool
		why     string // empty: it is sworn
	}{
		{"a free node vows", high, 0, nil, vow{}, f, false, ""},
		{"again, it has vowed already", high, 0, nil, f.Vow, f, false, ""},
		{"one that has vowed to another does not", high, 0, nil, elsewhere, f, false, "has vowed"},
		{"one that would found itself gives that up for a lesser one", mid, 0, nil, vow{Founder: mid.Member.ID, Cluster: id("Y")}, f, false, ""},
		{"not when it has founded", mid, 0, nil, vow{Founder: mid.Member.ID, Cluster: id("Y")}, f, true, "has founded"},
		{"more than half of the seeds have to be among them", high, 3, []candidate{low}, vow{}, f, false, "more than half"},
		{"and are", high, 3, []candidate{low, high}, vow{}, f, false, ""},
		{"exactly half is not more", high, 2, []candidate{low}, vow{}, f, false, "more than half"},
		{"it must be one of them", fresh("d", 3), 0, nil, vow{}, f, false, "itself among them"},
		{"they must be as many as it expects", fresh("c", 4), 0, nil, vow{}, f, false, "expects 4"},
		{"the founder is the least", high, 0, nil, vow{}, founding{Vow: vow{Founder: mid.Member.ID, Cluster: id("X")}, Set: set}, false, "least"},
		{"the cluster has an id", high, 0, nil, vow{}, founding{Vow: vow{Founder: low.Member.ID}, Set: set}, false, "least"},
		{"the nodes are in order", high, 0, nil, vow{}, founding{Vow: f.Vow, Set: []candidate{low, high, mid}}, false, "least"},
	} {
		s := newSeeker(tc.me, "test", tc.seeds, tc.vow, "")
		for i, b := range tc.behind {
			s.behind[fmt.Sprint(i)] = b.Member.ID
		}
		next, why := s.swear(tc.f, tc.founded)
		switch {
		case tc.why == "" && (why != "" || next != tc.f.Vow):
			t.Errorf("%s: refused: %s", tc.name, why)
		case tc.why != "" && (!strings.Contains(why, tc.why) || next != tc.vow):
			t.Errorf("%s: %q, want %q; the vow is %v", tc.name, why, tc.why, next)
		}
	}
}

// A fake network of seekers: what one says another may hear, or not. Nodes stop and
// begin again with what is on disk. Whatever happens, no two clusters are founded;
// and when all can hear each other, one is.
type world struct {
	r       *rand.Rand
	nodes   []*fakeSeeker
	founded map[[16]byte]*fakeSeeker
	seeds   []string
	made    byte
	deep    int // rounds under way, one within the other
}

type fakeSeeker struct {
	*seeker
	disk    vow // what a restart finds
	diskAt  string
	cluster [16]byte
}

func newWorld(seed uint64, nodes, expect, seeds int) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 2)), founded: map[[16]byte]*fakeSeeker{}}
	for i := range nodes {
		me := fresh(fmt.Sprint("n", i), expect)
		me.Member.ID = nodeID(fmt.Sprint("n", i, " of world ", seed))
		w.nodes = append(w.nodes, &fakeSeeker{seeker: newSeeker(me, "test", seeds, vow{}, "")})
	}
	for i := range seeds {
		w.seeds = append(w.seeds, fmt.Sprint("n", i))
	}
	return w
}

// mayBeWiped reports whether a node may begin anew with empty disks, as another node at
// its address: no vow is lost with it, nor is anybody waited for.
func (w *world) mayBeWiped(n *fakeSeeker) bool {
	return w.deep == 0 && n.disk.isZero() && !slices.ContainsFunc(w.nodes, func(other *fakeSeeker) bool { return other.disk.Founder == n.me.Member.ID })
}

func (w *world) at(address string) *fakeSeeker {
	i := slices.IndexFunc(w.nodes, func(n *fakeSeeker) bool { return n.me.Member.Address == address })
	return w.nodes[i]
}

func (n *fakeSeeker) greeting() greeting {
	return greeting{Cluster: n.cluster, Name: n.name, Vow: n.vow, Self: n.me, Others: n.others()}
}

func (n *fakeSeeker) write(v vow, at string) {
	n.disk, n.diskAt = v, at
	n.sworn(v, at)
}

// round is introduction.round, over the fake network; loss is how likely it is that
// an answer does not come.
func (w *world) round(t *testing.T, n *fakeSeeker, loss float64) {
	if n.cluster != ([16]byte{}) {
		return
	}
	n.seeds = len(w.seeds)
	clear(n.behind)
	asked := slices.Clone(w.seeds)
	for _, a := range n.addresses() {
		if !slices.Contains(asked, a) {
			asked = append(asked, a)
		}
	}
	there := map[string]ring.NodeID{}
	for _, a := range asked {
		there[a] = ring.NodeID{}
		other := w.at(a)
		if other == n {
			n.meetItself(a, slices.Contains(w.seeds, a))
			continue
		}
		if w.r.Float64() < loss {
			continue
		}
		other.meet("", false, n.greeting())
		if w.r.Float64() < loss {
			continue
		}
		there[a] = other.me.Member.ID
		g := other.greeting()
		if g.Cluster != ([16]byte{}) {
			n.cluster = g.Cluster
			return
		}
		n.meet(a, slices.Contains(w.seeds, a), g)
	}
	for a, id := range there {
		n.miss(a, id)
	}
	if n.released() || n.outdone() {
		n.write(vow{}, "")
	}
	if !n.vow.isZero() && n.vow.Founder != n.me.Member.ID {
		return
	}
	f, leads := n.propose()
	if !leads {
		return
	}
	if f.Vow.Cluster == ([16]byte{}) {
		w.made++
		f.Vow.Cluster = seq(w.made)
		n.write(f.Vow, n.me.Member.Address)
	}
	w.lead(t, n, f, loss)
}

// meanwhile lets others act while a node waits for answers.
func (w *world) meanwhile(t *testing.T, waits *fakeSeeker, loss float64) {
	if w.deep > 2 {
		return
	}
	w.deep++
	defer func() { w.deep-- }()
	for range w.r.IntN(4) {
		if n := w.nodes[w.r.IntN(len(w.nodes))]; n != waits {
			w.round(t, n, loss)
		}
	}
}

func (w *world) lead(t *testing.T, n *fakeSeeker, f founding, loss float64) {
	all := true
	for _, c := range f.Set {
		other := w.at(c.Member.Address)
		if other == n {
			continue
		}
		if w.r.Float64() < loss {
			all = false
			continue
		}
		w.meanwhile(t, n, loss)
		next, why := other.swear(f, other.cluster != [16]byte{})
		if other.cluster != ([16]byte{}) {
			why = "has a cluster"
		}
		if why == "" && next != other.vow {
			other.write(next, f.leadAddress())
		}
		all = all && why == "" && w.r.Float64() >= loss
	}
	w.meanwhile(t, n, loss)
	if !all || n.vow != f.Vow || n.cluster != ([16]byte{}) {
		return
	}
	n.cluster = f.Vow.Cluster
	w.founded[n.cluster] = n
	if len(w.founded) > 1 {
		t.Fatalf("two clusters: %v", w.founded)
	}
}

func TestFoundingOnlyOne(t *testing.T) {
	seeds := uint64(300)
	if n, err := strconv.ParseUint(os.Getenv("MAYFLY_TEST_FOUNDINGS"), 10, 64); err == nil {
		seeds = n
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		expect := 2 + r.IntN(3)
		nodes := expect + r.IntN(4)
		seeds := 1 + r.IntN(min(nodes, 2*expect-1)) // so that more than half of them can be among those expected
		w := newWorld(seed, nodes, expect, seeds)
		loss := []float64{0.1, 0.4, 0.7}[r.IntN(3)]
		for range 60 {
			n := w.nodes[r.IntN(len(w.nodes))]
			if n.cluster == ([16]byte{}) && r.IntN(10) == 0 { // it is restarted
				n.seeker = newSeeker(n.me, "test", len(w.seeds), n.disk, n.diskAt)
			}
			if n.cluster == ([16]byte{}) && r.IntN(20) == 0 && w.mayBeWiped(n) {
				n.me.Member.ID = nodeID(fmt.Sprint(n.me.Member.ID))
				n.seeker = newSeeker(n.me, "test", len(w.seeds), vow{}, "")
			}
			w.round(t, n, loss)
		}
		for range 12 {
			for _, n := range w.nodes {
				w.round(t, n, 0)
			}
		}
		for _, n := range w.nodes {
			if n.cluster == ([16]byte{}) {
				t.Fatalf("seed %d: %d nodes, %d expected, %d seeds: node %s has no cluster when all can hear each other; its vow is %+v, founded are %d",
					seed, nodes, expect, seeds, n.me.Member.Name, n.vow, len(w.founded))
			}
		}
	}
}
