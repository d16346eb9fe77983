package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/ring"
)

const benchRingLong = `ring plans changes of clusters that do not exist, in memory and on one processor:
a first ring, then a node that joins, one that leaves, one that is replaced, and
a third more at once, with ten days of data in slots of an hour. It has no floor:
what it shows is how long an operator waits for a plan, and how good it is.

  SECONDS    to make the plan and the history it leads to
  MIB        allocated meanwhile
  MOVED      owners of a partition that were none before
  MUST       what some nodes own more than before: no ring moves less
  OFF        how far a node's share is from its fair share at most, in partitions

Nodes have weights of 1 and 2, in five zones, and partitions three owners. The
same nodes give the same rings on every machine.`

// A ringRun is one line of bench ring.
type ringRun struct {
	Nodes      int     `json:"nodes"`
	Partitions int     `json:"partitions"`
	Change     string  `json:"change"`
	Seconds    float64 `json:"seconds"`
	AllocBytes uint64  `json:"allocated_bytes"`
	Moved      int     `json:"moved"`
	Must       int     `json:"must_move"`
	Off        float64 `json:"off_fair_share"`
	PlainMoves uint64  `json:"plain_bytes_moved"`
	TimedMoves uint64  `json:"timed_bytes_moved"`
	TimedStays uint64  `json:"timed_bytes_kept"`
}

func (a *app) benchRingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ring",
		GroupID: groupLook,
		Short:   "plan changes of rings of up to a thousand nodes",
		Long:    benchRingLong,
		Example: `  mayfly bench ring
  mayfly bench ring --nodes 3,30 --json`,
		Args: noArguments(),
	}
	f := cmd.Flags()
	sizes := f.IntSlice("nodes", []int{3, 30, 300, 1000}, "sizes of clusters, separated by commas")
	asJSON := f.Bool("json", false, "print one JSON object that holds every run")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, n := range *sizes {
			if n < 1 || n > 2000 {
				return usagef("bench ring: a cluster of %d nodes: give 1 to 2000", n)
			}
		}
		return a.benchRing(cmd.Context(), *sizes, *asJSON)
	}
	return cmd
}

func (a *app) benchRing(ctx context.Context, sizes []int, asJSON bool) error {
	bar := newSteps(a.stderr, "planning", int64(len(ringChanges)*len(sizes)))
	defer bar.done()
	var runs []ringRun
	for _, n := range sizes {
		for i := range ringChanges {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			run, err := planRing(n, i)
			if err != nil {
				return fmt.Errorf("bench ring: %d nodes, %s: %w", n, ringChanges[i].name, err)
			}
			runs = append(runs, run)
			bar.set(int64(len(runs)))
		}
	}
	bar.done()
	if asJSON {
		return printJSON(a.stdout, struct {
			Runs []ringRun `json:"runs"`
		}{runs})
	}
	return printRingRuns(a.stdout, runs)
}

// ringChanges are the changes that are planned: the nodes after it of those
// before, of which there are more to come.
var ringChanges = []struct {
	name   string
	change func(nodes []ring.Node, n int) []ring.Node
}{
	{"first ring", nil},
	{"one joins", func(nodes []ring.Node, n int) []ring.Node { return nodes[:n+1] }},
	{"one leaves", func(nodes []ring.Node, n int) []ring.Node { return nodes[:max(1, n-1)] }},
	{"one is replaced", func(nodes []ring.Node, n int) []ring.Node { return append(slices.Clone(nodes[1:n]), nodes[n]) }},
	{"a third joins", func(nodes []ring.Node, n int) []ring.Node { return nodes[:n+max(1, n/3)] }},
}

// ringBits returns how many partitions a cluster of n nodes has: some 16 a
// node and copy, at least 64.
func ringBits(n int) uint8 {
	bits := uint8(6)
	for 1<<bits < 16*n && bits < 14 {
		bits++
	}
	return bits
}

// planRing plans one change of a cluster of n nodes.
func planRing(n, change int) (ringRun, error) {
	nodes := make([]ring.Node, n+max(1, n/3))
	for i := range nodes {
		hash := ring.Hash("bench", "ring", fmt.Sprint(i))
		nodes[i] = ring.Node{Name: fmt.Sprintf("n%d", i+1), Zone: string(rune('a' + i%5)), Weight: uint32(1 + i/5%2)}
		for j := range nodes[i].ID {
			nodes[i].ID[j] = byte(hash>>(8*(j%8))) ^ byte(j/8*(i+1))
		}
	}
	c, bits := ringChanges[change], ringBits(n)
	run := ringRun{Nodes: n, Partitions: 1 << bits, Change: c.name}
	var first *ring.Ring
	var err error
	run.measure(func() { first, _, err = ring.Claim(nodes[:n], bits, 3, nil) })
	if err != nil {
		return run, err
	}
	h, err := ring.NewHistory(ring.Version{Era: 1, Index: 1}, 3600, first)
	if err != nil {
		return run, err
	}
	const from, slots = 500_000, 240
	data := ring.Data{Oldest: from - slots, TTLSeconds: slots * 3600, Plain: []ring.Bytes{{Bytes: 1 << 40}}}
	for slot := data.Oldest; slot < from; slot++ {
		data.Timed = append(data.Timed, ring.Bytes{Slot: slot, Bytes: 1 << 40})
	}
	wanted := ring.Wanted{Nodes: nodes[:n], Bits: bits, N: 3, From: from}
	if c.change != nil {
		wanted.Nodes = c.change(nodes, n)
	}
	if c.name == "one is replaced" {
		wanted.Swaps = []ring.Swap{{Old: nodes[0].ID, New: nodes[n].ID}}
	}
	var p *ring.Plan
	plan := func() {
		if p, err = ring.NewPlan(h, wanted, data); err == nil {
			_, err = p.Commit(h, ring.Version{Era: 1, Index: 2}, from)
		}
	}
	if c.change == nil {
		plan() // of no change: for the shares
	} else {
		run.measure(plan)
	}
	if err != nil {
		return run, err
	}
	run.judge(p)
	return run, nil
}

// measure takes the time and the memory that f takes.
func (r *ringRun) measure(f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	r.Seconds = time.Since(start).Seconds()
	runtime.ReadMemStats(&after)
	r.AllocBytes = after.TotalAlloc - before.TotalAlloc
}

func (r *ringRun) judge(p *ring.Plan) {
	r.PlainMoves, r.TimedMoves, r.TimedStays = p.PlainMoves, p.TimedMoves, p.TimedStays
	for _, n := range p.Nodes {
		r.Must += max(0, n.After-n.Before)
		r.Off = max(r.Off, n.Fair-float64(n.After), float64(n.After)-n.Fair)
	}
	for _, c := range p.Changes {
		for _, id := range c.After {
			if !slices.Contains(c.Before, id) {
				r.Moved++
			}
		}
	}
}

func printRingRuns(w io.Writer, runs []ringRun) error {
	t := newTable(w, "nodes", "partitions", "change", "seconds", "MiB", "moved", "must", "off")
	for _, r := range runs {
		t.row(fmt.Sprint(r.Nodes), fmt.Sprint(r.Partitions), r.Change, fmt.Sprintf("%.3f", r.Seconds), fmt.Sprintf("%.1f", float64(r.AllocBytes)/(1<<20)),
			fmt.Sprint(r.Moved), fmt.Sprint(r.Must), fmt.Sprintf("%.2f", r.Off))
	}
	return t.flush()
}
