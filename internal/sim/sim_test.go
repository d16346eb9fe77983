package sim

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/internal/object"
)

func TestMain(m *testing.M) {
	object.DebugBuffers()
	goleak.VerifyTestMain(m)
}

var (
	firstSeed = flag.Uint64("sim.from", 1, "the first seed of TestSeeds")
	seeds     = flag.Uint64("sim.seeds", 2, "how many seeds TestSeeds runs")
	lines     = flag.Int("sim.lines", 60, "how many lines of the trace a failure shows")
)

// TestSeeds runs some seeds. More: go test ./internal/sim -run Seeds -sim.seeds 100,
// or mayfly sim.
func TestSeeds(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Attr("seed", fmt.Sprint(seed))
			cfg := Config{Seed: seed}
			r := Run(cfg)
			if r.Breach != nil {
				t.Fatalf("%v\nreplay: mayfly sim --seed %d --trace\n%s", r.Breach, seed, strings.Join(Explain(cfg, r.Breach, *lines), "\n"))
			}
			if r.Ops.Total() < DefaultOps || r.Faults.Total() < 5 {
				t.Errorf("%d operations and %d faults: too few to say anything", r.Ops.Total(), r.Faults.Total())
			}
			t.Logf("%d nodes, %v: operations %v, faults %v, notes %v", r.Nodes, r.Span, r.Ops, r.Faults, r.Notes)
		})
	}
}

// TestReplay runs a seed twice: everything happens again, line for line.
func TestReplay(t *testing.T) {
	var traces [2][]string
	var results [2]Result
	for i := range traces {
		results[i] = Run(Config{Seed: 77, Ops: 60, Trace: func(line string) { traces[i] = append(traces[i], line) }})
		if results[i].Breach != nil {
			t.Error(results[i].Breach)
		}
	}
	for i, line := range traces[0] {
		if i >= len(traces[1]) || traces[1][i] != line {
			t.Fatalf("line %d: %q, and then not", i, line)
		}
	}
	if results[0].Hash != results[1].Hash || !slices.Equal(traces[0], traces[1]) {
		t.Errorf("hashes %016x and %016x", results[0].Hash, results[1].Hash)
	}
	if other := Run(Config{Seed: 78, Ops: 20}); other.Hash == results[0].Hash {
		t.Error("another seed gives the same hash")
	}
}

// TestNothingIsKept ends with every buffer given back, as those of killed nodes are
// by the simulation itself.
func TestNothingIsKept(t *testing.T) {
	before, _ := object.Live()
	if r := Run(Config{Seed: 5, Ops: 60}); r.Breach != nil {
		t.Fatal(r.Breach)
	}
	if after, size := object.Live(); after != before {
		t.Errorf("%d buffers of %d bytes are in use at the end, %d before", after, size, before)
	}
}
