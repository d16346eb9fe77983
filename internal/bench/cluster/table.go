package cluster

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/mayflydb/mayfly/internal/bench"
	"github.com/mayflydb/mayfly/internal/config"
)

// Print writes the report for people: for each part and size a line of medians
// for each system, and one of ratios.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tMB/S\tOPS/S\tP50 MS\tP99\tP99.9\tSERVER CPU S/GIB\tCLIENT CPU S/GIB\tRSS MIB\tDISK B/B\tCALLS B/B\tWRITES/OP")
	var others, stolen []float64
	for _, c := range r.Comparisons {
		fmt.Fprintf(t, "%s %v, %d pair%s\n", c.Part, config.Size(c.SizeBytes), c.Pairs, plural(c.Pairs))
		printMedians(t, c.Mayfly)
		printMedians(t, c.Raw3)
		fmt.Fprintf(t, "  ratio\t%s\t\t%s\t%s\t\t%s\t%s\n", c.Ratio.Rate, bench.Figure(c.Ratio.P50.Median), bench.Figure(c.Ratio.P99.Median), c.Ratio.ServerCPU, c.Ratio.ClientCPU)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, run := range r.Runs {
		others, stolen = append(others, run.OthersCores), append(stolen, run.StolenCores)
	}
	fmt.Fprintln(w)
	for _, name := range []string{Mayfly, Raw3} {
		fmt.Fprintf(w, "%s: %s.\n", name, r.Systems[name])
	}
	fmt.Fprintf(w, "%d workers, %s s a part, at most %v a run. Medians; ratios are mayfly over raw3, pair by pair: median [quartiles].\n",
		r.Workers, bench.Figure(r.SecondsAsked), config.Size(r.MaxBytes))
	_, err := fmt.Fprintf(w, "%d processors, of which others took %v and the host withheld %v while this ran.\n", r.Processors, bench.QuartilesOf(others), bench.QuartilesOf(stolen))
	return err
}

func printMedians(t io.Writer, r Result) {
	f := bench.Figure
	fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.System, f(r.MBPerSecond), f(r.OpsPerSecond), f(r.P50), f(r.P99), f(r.P999),
		f(r.ServerCPU), f(r.ClientCPU), f(float64(r.AnonBytes)/(1<<20)), f(r.DiskPerByte), f(r.CallsPerByte), f(r.WritesPerOp))
}

// plural is what follows a noun of which there are n.
func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
