package engine

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/mayflydb/mayfly/internal/bench"
)

// A Comparison is one work done by two sides in alternating pairs.
type Comparison struct {
	Work     string          `json:"work"`
	Case     string          `json:"case"`
	Floor    string          `json:"floor"`   // what it is compared with
	Subject  string          `json:"subject"` // what is compared
	Pairs    int             `json:"pairs"`
	Ratio    bench.Quartiles `json:"ratio"`     // of speeds: subject over floor
	CPURatio bench.Quartiles `json:"cpu_ratio"` // of CPU seconds a byte, or an operation: subject over floor
	Bar      float64         `json:"bar"`       // what Ratio.Median should reach; 0 for none
	A        Side            `json:"floor_side"`
	B        Side            `json:"subject_side"`
}

// A Side is one side's medians over the pairs.
type Side struct {
	OpsPerSecond float64 `json:"ops_per_second"`
	MiBPerSecond float64 `json:"mib_per_second"`
	CPUPerGiB    float64 `json:"cpu_seconds_per_gib"`
	CPUPerOp     float64 `json:"cpu_microseconds_per_op"`
	P50          float64 `json:"p50_us"`
	P99          float64 `json:"p99_us"`
	P999         float64 `json:"p999_us"`
}

// A Figure is one number that is held against a bound, if there is one.
type Figure struct {
	Work  string  `json:"work"`
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Bound float64 `json:"bound"` // at most; 0 for none
	Note  string  `json:"note,omitempty"`
}

// A Report is all that was measured.
type Report struct {
	Quick       bool         `json:"quick"` // its figures mean nothing
	Machine     string       `json:"machine"`
	Began       time.Time    `json:"began"`
	Seconds     float64      `json:"seconds"`
	Comparisons []Comparison `json:"comparisons"`
	Figures     []Figure     `json:"figures"`
}

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", r.Machine)
	if r.Quick {
		fmt.Fprintln(w, "quick: these figures show that it works, and nothing else")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Comparisons) > 0 {
		fmt.Fprintln(t, "\nWORK\tCASE\tSUBJECT / FLOOR\tRATIO (Q1..Q3)\tBAR\tMIB/S\tCPU S/GIB\tCPU RATIO\tP50 US\tP99 US\tP99.9 US")
	}
	for _, c := range r.Comparisons {
		bar := "-"
		if c.Bar > 0 {
			bar = fmt.Sprintf("%.2f", c.Bar)
		}
		fmt.Fprintf(t, "%s\t%s\t%s / %s\t%.2f (%.2f..%.2f)\t%s\t%.0f / %.0f\t%.2f / %.2f\t%.2f (%.2f..%.2f)\t%.0f / %.0f\t%.0f / %.0f\t%.0f / %.0f\n",
			c.Work, c.Case, c.Subject, c.Floor, c.Ratio.Median, c.Ratio.Q1, c.Ratio.Q3, bar, c.B.MiBPerSecond, c.A.MiBPerSecond,
			c.B.CPUPerGiB, c.A.CPUPerGiB, c.CPURatio.Median, c.CPURatio.Q1, c.CPURatio.Q3, c.B.P50, c.A.P50, c.B.P99, c.A.P99, c.B.P999, c.A.P999)
	}
	if len(r.Figures) > 0 {
		fmt.Fprintln(t, "\nWORK\tFIGURE\tVALUE\tUNIT\tAT MOST\tNOTE")
	}
	for _, f := range r.Figures {
		bound := "-"
		if f.Bound > 0 {
			bound = fmt.Sprintf("%g", f.Bound)
		}
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%s\t%s\t%s\n", f.Work, f.What, f.Value, f.Unit, bound, f.Note)
	}
	return t.Flush()
}
