package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/sim"
)

const simLong = `sim runs whole clusters on a simulated network, clock and disks: the code of a
node, without a socket or a file. Each seed is another cluster of three to nine
nodes, with other operations of clients and other faults: processes are killed,
machines crash and lose what was not synced, networks are cut, disks fail, bits
flip, clocks step. Its members change meanwhile: nodes join, leave, take the place
of others, lose their disks, are silent while a change is prepared, miss what was
agreed, and majorities of voters are lost. What clients were told is then held
against what is read: nothing acknowledged may be lost, or called absent, or be
missing in the index or in a tail, and the members of the end must have it.

A seed always does the same. One that breaks a promise is printed with a command
that replays it; --trace shows all that happened, line by line: the time in
seconds, the node, what, about which key, and a figure.

Exit status 0: every promise was kept. 1: some seed broke one.`

func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sim",
		GroupID: groupLook,
		Short:   "try the code against faults, in simulated clusters",
		Long:    simLong,
		Example: `  mayfly sim                              # 100 seeds
  mayfly sim --seeds 1000 --from 5001     # others, and more
  mayfly sim --seed 77                    # one, with what was counted
  mayfly sim --seed 77 --trace            # and every event of it
  mayfly sim --seeds 1000 --json | jq .faults`,
		Args: noArguments(),
	}
	o := simOptions{}
	flags := cmd.Flags()
	flags.Uint64Var(&o.seeds, "seeds", 100, "how many `SEEDS` to run")
	flags.Uint64Var(&o.from, "from", 1, "the first `SEED`")
	flags.Uint64Var(&o.seed, "seed", 0, "run this one `SEED` only")
	flags.IntVar(&o.ops, "ops", sim.DefaultOps, "operations of clients in each, at least; with another number a seed does other things")
	flags.IntVar(&o.parallel, "parallel", runtime.GOMAXPROCS(0), "how many to run at once")
	flags.BoolVar(&o.trace, "trace", false, "with --seed: print every event")
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object instead of tables")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd.Flags().Changed("seed")); err != nil {
			return err
		}
		return a.sim(cmd.Context(), &o)
	}
	return cmd
}

type simOptions struct {
	seeds, from, seed uint64
	ops, parallel     int
	trace, asJSON     bool
}

func (o *simOptions) check(one bool) error {
	switch {
	case o.trace && !one:
		return usagef("--trace prints the events of one seed: name it with --seed")
	case o.trace && o.asJSON:
		return usagef("--trace prints lines and --json an object: choose one")
	case o.seeds < 1:
		return usagef("--seeds is 0: at least 1")
	case o.ops < 1:
		return usagef("--ops is %d: at least 1", o.ops)
	case o.parallel < 1:
		return usagef("--parallel is %d: at least 1", o.parallel)
	}
	if one {
		o.from, o.seeds = o.seed, 1
	}
	return nil
}

// A simReport is what sim prints.
type simReport struct {
	From       uint64      `json:"from"`
	Seeds      int         `json:"seeds"`
	Ops        sim.Counts  `json:"ops"`
	Faults     sim.Counts  `json:"faults"`
	Notes      sim.Counts  `json:"notes"`
	FewestOps  int         `json:"fewest_ops"`
	FewestHits int         `json:"fewest_faults"`
	Hours      float64     `json:"simulated_hours"`
	Seconds    float64     `json:"seconds"`
	Breaches   []simBreach `json:"breaches"`
}

// A simBreach is one seed that broke a promise.
type simBreach struct {
	Seed      uint64   `json:"seed"`
	Invariant string   `json:"invariant"`
	What      string   `json:"what"`
	Replay    string   `json:"replay"`
	Trace     []string `json:"trace"` // the last lines about it
}

const (
	simBreaches   = 10 // after so many the rest is not run
	simTraceLines = 40
)

func (a *app) sim(ctx context.Context, o *simOptions) error {
	object.DebugBuffers()
	begun := time.Now()
	if o.trace {
		return a.simTrace(o)
	}
	report := simReport{From: o.from, Breaches: []simBreach{}}
	bar := newCountProgress(a.stderr, "seeds", int64(o.seeds))
	var mu sync.Mutex
	next := o.from
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		ok = next-o.from < o.seeds && len(report.Breaches) < simBreaches && ctx.Err() == nil
		if ok {
			next++
		}
		return next - 1, ok
	}
	var wg sync.WaitGroup
	for range o.parallel {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				cfg := sim.Config{Seed: seed, Ops: o.ops}
				r := sim.Run(cfg)
				var trace []string
				if r.Breach != nil {
					trace = sim.Explain(cfg, r.Breach, simTraceLines)
				}
				mu.Lock()
				report.add(&r, o, trace)
				bar.set(int64(report.Seeds))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	bar.done()
	report.Seconds = time.Since(begun).Seconds()
	if err := a.printSim(&report, o); err != nil {
		return err
	}
	if len(report.Breaches) > 0 {
		return errSilent
	}
	return ctx.Err()
}

func (s *simReport) add(r *sim.Result, o *simOptions, trace []string) {
	if s.Seeds == 0 || r.Ops.Total() < s.FewestOps {
		s.FewestOps = r.Ops.Total()
	}
	if s.Seeds == 0 || r.Faults.Total() < s.FewestHits {
		s.FewestHits = r.Faults.Total()
	}
	s.Seeds++
	s.Ops.Merge(r.Ops)
	s.Faults.Merge(r.Faults)
	s.Notes.Merge(r.Notes)
	s.Hours += r.Span.Hours()
	if r.Breach != nil {
		replay := fmt.Sprintf("mayfly sim --seed %d", r.Seed)
		if o.ops != sim.DefaultOps {
			replay += fmt.Sprintf(" --ops %d", o.ops)
		}
		s.Breaches = append(s.Breaches, simBreach{r.Seed, r.Breach.Invariant, r.Breach.String(), replay + " --trace", trace})
	}
}

func (a *app) printSim(r *simReport, o *simOptions) error {
	if o.asJSON {
		return printJSON(a.stdout, r)
	}
	for _, part := range []struct {
		title  string
		counts sim.Counts
	}{{"operation", r.Ops}, {"fault", r.Faults}, {"note", r.Notes}} {
		t := newTable(a.stdout, part.title, "count")
		for _, kind := range part.counts.Kinds() {
			t.row(kind, countText(uint64(part.counts[kind])))
		}
		t.row("all", countText(uint64(part.counts.Total())))
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	for _, b := range r.Breaches {
		fmt.Fprintf(a.stdout, "seed %d: BREACH of %s\n  %s\n  replay: %s\n\n", b.Seed, b.What, strings.Join(b.Trace, "\n  "), b.Replay)
	}
	verdict := "every promise was kept"
	if n := len(r.Breaches); n > 0 {
		verdict = plural(int64(n), "seed") + " BROKE a promise"
	}
	_, err := fmt.Fprintf(a.stdout, "%s from %d, %.1f simulated hours in %.0f s, at least %d operations and %s each: %s\n",
		plural(int64(r.Seeds), "seed"), r.From, r.Hours, r.Seconds, r.FewestOps, plural(int64(r.FewestHits), "fault"), verdict)
	return err
}

// simTrace prints every event of one seed.
func (a *app) simTrace(o *simOptions) error {
	var written error
	r := sim.Run(sim.Config{Seed: o.seed, Ops: o.ops, Trace: func(line string) {
		if written == nil {
			_, written = fmt.Fprintln(a.stdout, line)
		}
	}})
	if written != nil {
		return written
	}
	fmt.Fprintf(a.stdout, "trace %016x\n", r.Hash)
	if r.Breach != nil {
		fmt.Fprintf(a.stdout, "BREACH of %v\n", r.Breach)
		return errSilent
	}
	return nil
}
