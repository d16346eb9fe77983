package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/internal/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestQuick does a sliver of every work: it comes to its end, reports each work,
// and leaves nothing behind. What the figures are is not looked at.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	var only []string
	for _, w := range Works() {
		only = append(only, w[0])
	}
	if testing.Short() {
		only = []string{"put", "get"}
	}
	last, total := 0, 0
	report, err := Run(t.Context(), Options{
		Dir: dir, Pairs: 1, Only: only, Quick: true, part: 5000, Keys: 5_000_000,
		Progress: func(_ string, d, n int) {
			if d < last || d > n || n < total {
				t.Errorf("progress goes from %d of %d to %d of %d", last, total, d, n)
			}
			last, total = d, n
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != total {
		t.Errorf("progress ends at %d of %d", last, total)
	}
	reported := map[string]bool{}
	for _, c := range report.Comparisons {
		reported[c.Work] = true
		if c.Ratio.Median <= 0 || c.A.OpsPerSecond <= 0 || c.B.OpsPerSecond <= 0 || c.Ratio.Q1 > c.Ratio.Q3 {
			t.Errorf("%s, %s: %+v", c.Work, c.Case, c)
		}
	}
	for _, f := range report.Figures {
		reported[f.Work] = true
	}
	for _, name := range only {
		if !reported[name] {
			t.Errorf("work %s is not reported", name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	var table bytes.Buffer
	if err := report.Table(&table); err != nil || !strings.Contains(table.String(), "RATIO") {
		t.Errorf("table %q, %v", table.String(), err)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

func TestUnknownWork(t *testing.T) {
	_, err := Run(t.Context(), Options{Dir: t.TempDir(), Only: []string{"puts"}})
	if err == nil || !strings.Contains(err.Error(), `no work "puts"; there are put, `) {
		t.Errorf("got %v", err)
	}
}

// The order within pairs is swapped, and a side's error ends the comparison.
func TestPairs(t *testing.T) {
	var order strings.Builder
	speed := func(name string, ops int64) side {
		return side{name, func() (Sample, error) {
			order.WriteString(name)
			return Sample{Seconds: 1, CPUSeconds: 2, Ops: ops, Bytes: ops << 10}, nil
		}}
	}
	r := &runner{Options: Options{Pairs: 3}}
	if err := r.compare(t.Context(), "x", 0.9, speed("a", 100), speed("b", 50)); err != nil {
		t.Fatal(err)
	}
	if order.String() != "abbaab" {
		t.Errorf("order %s", order.String())
	}
	c := r.report.Comparisons[0]
	if c.Ratio != (bench.Quartiles{Q1: 0.5, Median: 0.5, Q3: 0.5}) || c.CPURatio.Median != 2 || c.A.CPUPerOp != 20_000 {
		t.Errorf("%+v", c)
	}
	broken := errors.New("broken")
	err := r.compare(t.Context(), "x", 0, speed("a", 1), side{"b", func() (Sample, error) { return Sample{}, broken }})
	if !errors.Is(err, broken) || len(r.report.Comparisons) != 1 {
		t.Errorf("got %v, %d comparisons", err, len(r.report.Comparisons))
	}
}

// One call of a group serves all who came before it began.
func TestGroup(t *testing.T) {
	var g group
	g.changed.L = &g.mu
	calls := 0
	for range 3 {
		if err := g.sync(func() error { calls++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 3 || g.synced != 3 {
		t.Errorf("%d calls, %d synced", calls, g.synced)
	}
	broken := errors.New("broken")
	if err := g.sync(func() error { return broken }); !errors.Is(err, broken) || g.running {
		t.Errorf("got %v", err)
	}
}
