package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/bench"
)

func testOptions() *Options {
	return &Options{Sizes: []int{100_000}, Pairs: 3, Workers: 16, For: minFor, MaxBytes: 1 << 20, Parts: []Part{Put, Get}, Sync: "interval"}
}

// testRun is a run of 1 GiB in 10 s.
func testRun(system string, part Part, pair int, rate float64) Result {
	return Result{
		System: system, Part: part, SizeBytes: 100_000, Pair: pair, Seconds: 10, Ops: 10_000, Bytes: 1e9,
		MBPerSecond: rate, OpsPerSecond: rate * 10, P50: 1, P99: 2, P999: 3, ServerCPU: 600 / rate, ClientCPU: 1,
		AnonBytes: 30 << 20, DiskPerByte: 3, CallsPerByte: 5, WritesPerOp: 8, OthersCores: 0.5,
	}
}

// Pairs are compared within themselves: what slowed both members of one down
// changes no ratio.
func TestComparisonIsByPair(t *testing.T) {
	o := testOptions()
	r := newReport(o)
	for i, rates := range [][2]float64{{50, 100}, {300, 600}, {120, 200}} {
		ours, base := testRun(Mayfly, Put, i+1, rates[0]), testRun(Raw3, Put, i+1, rates[1])
		if i%2 == 1 {
			ours, base = base, ours
		}
		r.add(ours, Put, o)
		r.add(base, Put, o)
	}
	r.add(testRun(Mayfly, Get, 1, 10), Get, o) // without a partner
	r.finish()
	if len(r.Comparisons) != 1 || !r.OK() {
		t.Fatalf("got %+v", r)
	}
	c := r.Comparisons[0]
	if want := (bench.Quartiles{Q1: 0.5, Median: 0.5, Q3: 0.55}); c.Ratio.Rate != want || c.Pairs != 3 || c.Part != Put {
		t.Errorf("rate %+v of %d pairs, want %+v of 3", c.Ratio.Rate, c.Pairs, want)
	}
	if want := (bench.Quartiles{Q1: 11. / 6, Median: 2, Q3: 2}); c.Ratio.ServerCPU.Median != want.Median || c.Ratio.ServerCPU.Q3 != want.Q3 {
		t.Errorf("processor time %+v, want %+v", c.Ratio.ServerCPU, want)
	}
	if c.Mayfly.MBPerSecond != 120 || c.Raw3.MBPerSecond != 200 || c.Mayfly.System != Mayfly || c.Raw3.SizeBytes != 100_000 || c.Raw3.AnonBytes != 30<<20 {
		t.Errorf("medians %+v and %+v", c.Mayfly, c.Raw3)
	}
}

func TestOrderAlternates(t *testing.T) {
	for pair := 1; pair < 5; pair++ {
		first, second := order(pair)[0], order(pair)[1]
		if first == second || first == order(pair + 1)[0] {
			t.Errorf("pair %d: %s, then %s", pair, first, second)
		}
	}
}

func TestTable(t *testing.T) {
	o := testOptions()
	r := newReport(o)
	r.Processors = 2
	for pair := 1; pair <= 3; pair++ {
		r.add(testRun(Mayfly, Put, pair, 150), Put, o)
		r.add(testRun(Raw3, Put, pair, 300), Put, o)
	}
	r.finish()
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"MB/S OPS/S P50 MS P99 P99.9 SERVER CPU S/GIB CLIENT CPU S/GIB RSS MIB DISK B/B CALLS B/B WRITES/OP put 100KB, 3 pairs",
		"mayfly 150 1500 1.00 2.00 3.00 4.00 1.00 30.0 3.00 5.00 8.00",
		"raw3 300 3000 1.00 2.00 3.00 2.00 1.00 30.0 3.00 5.00 8.00",
		"ratio 0.500 [0.500 0.500] 1.00 1.00 2.00 [2.00 2.00] 1.00 [1.00 1.00]",
		"sync interval.",
		"2 processors, of which others took 0.500 [0.500 0.500] and the host withheld 0 [0 0] while this ran.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// What failed is a fault even in a part that is not asked for, and its figures
// are compared with nothing.
func TestFailuresAreFaults(t *testing.T) {
	o := testOptions()
	o.Parts = []Part{Get}
	r := newReport(o)
	bad := testRun(Mayfly, Put, 1, 150)
	bad.Failures, bad.FirstFailure = 2, "the disk burns"
	r.add(bad, Put, o)
	bad.Part, bad.FirstFailure = Get, errWrongBytes.Error()
	r.add(bad, Get, o)
	r.add(testRun(Raw3, Get, 1, 300), Get, o)
	idle := testRun(Raw3, Get, 2, 0)
	idle.Ops = 0
	r.add(idle, Get, o)
	r.finish()
	want := []string{
		"put of 100KB, mayfly, pair 1: 2 workers failed, the first with: the disk burns",
		"get of 100KB, mayfly, pair 1: 2 workers failed, the first with: a get returned other bytes than were put",
		"get of 100KB, raw3, pair 2: nothing was done in 10.0 s",
	}
	if r.OK() || strings.Join(r.Faults, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", r.Faults)
	}
	if len(r.Comparisons) != 0 || len(r.Runs) != 3 {
		t.Errorf("%d comparisons of %d runs", len(r.Comparisons), len(r.Runs))
	}
}

func TestEmptyReportIsJSON(t *testing.T) {
	b, err := json.Marshal(newReport(testOptions()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"benchmark":"cluster"`, `"comparisons":[]`, `"runs":[]`, `"faults":[]`, `"mayfly":"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Options)
		want  string
	}{
		"good":          {func(*Options) {}, ""},
		"no sizes":      {func(o *Options) { o.Sizes = nil }, "no sizes: give at least one, such as 100KB"},
		"nothing to do": {func(o *Options) { o.Sizes = []int{0} }, "a size of 0: give 1 to 8MiB"},
		"a great size":  {func(o *Options) { o.Sizes = []int{9 << 20} }, "a size of 9MiB: give 1 to 8MiB"},
		"twice":         {func(o *Options) { o.Sizes = []int{4000, 4000} }, "the size 4KB is there twice"},
		"no room":       {func(o *Options) { o.MaxBytes = 99_999 }, "at most 99999 in a run: give 100KB, which is one value, or more"},
		"no pairs":      {func(o *Options) { o.Pairs = 0 }, "0 pairs: give 1 to 1000"},
		"no workers":    {func(o *Options) { o.Workers = -1 }, "-1 writers: give 1 to 1024"},
		"no time":       {func(o *Options) { o.For = 0 }, "parts of 0s: give 100ms to 5m0s"},
		"all":           {func(o *Options) { o.Pairs, o.Workers = 0, 0 }, "0 pairs: give 1 to 1000\n0 writers: give 1 to 1024"},
	} {
		o := testOptions()
		c.spoil(o)
		got := ""
		if err := o.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
