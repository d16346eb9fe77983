package bench

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuartiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		sample []float64
		want   Quartiles
	}{
		{"nothing", nil, Quartiles{}},
		{"one is all three", []float64{7}, Quartiles{7, 7, 7}},
		{"two are interpolated", []float64{4, 0}, Quartiles{1, 2, 3}},
		{"the middle of three", []float64{30, 10, 20}, Quartiles{15, 20, 25}},
		{"four", []float64{1, 2, 3, 4}, Quartiles{1.75, 2.5, 3.25}},
		{"nine hit their members", []float64{9, 1, 8, 2, 7, 3, 6, 4, 5}, Quartiles{3, 5, 7}},
		{"one that is far off moves nothing", []float64{1, 1, 1, 1000, 1}, Quartiles{1, 1, 1}},
	} {
		before := slices.Clone(c.sample)
		if got := QuartilesOf(c.sample); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
		if !slices.Equal(before, c.sample) {
			t.Errorf("%s: the sample became %v", c.name, c.sample)
		}
	}
}

func TestRatios(t *testing.T) {
	for _, c := range []struct {
		name           string
		measured, base []float64
		want           []float64
	}{
		{"pair by pair", []float64{2, 9}, []float64{4, 3}, []float64{0.5, 3}},
		{"a base of nothing is left out", []float64{2, 9}, []float64{0, 3}, []float64{3}},
		{"what has no partner is left out", []float64{2, 9}, []float64{4}, []float64{0.5}},
		{"nothing", nil, nil, nil},
	} {
		if got := Ratios(c.measured, c.base); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234.5: "1234", 123.45: "123", 99.96: "100.0", 12.34: "12.3", 1.234: "1.23", 0.1234: "0.123", 0.01234: "0.0123",
		0.00001: "0.0000", -2.5: "-2.50",
	} {
		if got := Figure(v); got != want {
			t.Errorf("Figure(%v) = %q, want %q", v, got, want)
		}
	}
	if got := (Quartiles{0.5, 1, 20}).String(); got != "1.00 [0.500 20.0]" {
		t.Errorf("got %q", got)
	}
}

func TestLatency(t *testing.T) {
	var a, b Latency
	if a.Millis(0.5) != 0 {
		t.Error("nothing took a while")
	}
	for i := 1000; i > 0; i-- {
		l := &a
		if i%2 == 0 {
			l = &b
		}
		l.Add(time.Duration(i) * time.Millisecond)
	}
	a.Join(&b)
	for q, want := range map[float64]float64{0: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := a.Millis(q); got != want {
			t.Errorf("the %v-quantile is %v, want %v", q, got, want)
		}
	}
}

func TestPool(t *testing.T) {
	p, same, other := NewPool(1<<20, 1), NewPool(1<<20, 1), NewPool(1<<20, 2)
	if !bytes.Equal(p.b, same.b) || bytes.Equal(p.b, other.b) {
		t.Error("the seed does not decide what the pool holds")
	}
	seen := map[string]bool{}
	for n := range uint64(1000) {
		v := p.Value(n, 4096)
		if len(v) != 4096 || cap(v) != 4096 || seen[string(v)] {
			t.Fatalf("value %d: %d bytes, of %d, seen before: %v", n, len(v), cap(v), seen[string(v)])
		}
		seen[string(v)] = true
	}
	if len(p.Value(1<<63, 1<<19)) != 1<<19 {
		t.Error("a great number has no value")
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20")
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "12 (a) S 1", "12 (a) S 1 2 3 4 5 6 7 8 9 10 x 25", ")"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}

func TestParseNumbers(t *testing.T) {
	const text = "wchar: 12\nRssAnon:\t  34 kB\nwrite_bytes: 56\ncancelled_write_bytes: 7\nbroken: x\nempty:\n"
	got, err := parseNumbers(text, "write_bytes", "wchar", "RssAnon")
	if err != nil || !slices.Equal(got, []int64{56, 12, 34}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, name := range []string{"absent", "broken", "empty", "rite_bytes"} {
		if got, err := parseNumbers(text, name); err == nil {
			t.Errorf("%q gave %v", name, got)
		}
	}
}

func TestParseHost(t *testing.T) {
	busy, stolen, err := parseHost("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 0 0\n")
	if err != nil || busy != 31*tick || stolen != 32*tick {
		t.Errorf("got %v, %v, %v", busy, stolen, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x 9"} {
		if _, _, err := parseHost(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// What this process does is seen.
func TestUsageOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/io"); err != nil {
		t.Skip("there is no /proc here")
	}
	pids := []int{os.Getpid()}
	before, err := UsageOf(pids)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	after, err := UsageOf(pids)
	if err != nil {
		t.Fatal(err)
	}
	if u := after.Since(before); u.CallBytes < 1<<20 || u.WriteCalls < 1 || u.AnonBytes == 0 || u.FileBytes == 0 || u.CPU < 0 {
		t.Errorf("got %+v", u)
	}
	if OwnCPU() == 0 {
		t.Error("this process has used no processor time")
	}
	if _, err := UsageOf([]int{-1}); err == nil {
		t.Error("a process that is not there was looked at")
	}
}

func TestTouchMemory(t *testing.T) {
	if MemoryBytes() == 0 {
		t.Skip("there is no /proc here")
	}
	for _, n := range []int64{0, 1, 1 << 20} {
		if err := TouchMemory(n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
