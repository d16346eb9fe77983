package cluster

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/bench"
	"github.com/mayflydb/mayfly/internal/config"
)

// A Result is what one system did in one part. Its JSON form is for scripts: names
// keep their meaning. A GiB is one of values put or got, whatever the copies.
type Result struct {
	System    string  `json:"system"`
	Part      Part    `json:"part"`
	SizeBytes int     `json:"size_bytes"`
	Pair      int     `json:"pair"` // from 1; in odd ones mayfly is first
	Seconds   float64 `json:"seconds"`
	Ops       int64   `json:"ops"`
	Bytes     int64   `json:"bytes"` // of values

	MBPerSecond  float64 `json:"mb_per_second"` // 10^6 bytes of values
	OpsPerSecond float64 `json:"ops_per_second"`
	P50          float64 `json:"p50_ms"`
	P99          float64 `json:"p99_ms"`
	P999         float64 `json:"p999_ms"`
	ServerCPU    float64 `json:"server_cpu_seconds_per_gib"` // user and system, the three nodes together
	ClientCPU    float64 `json:"client_cpu_seconds_per_gib"`
	AnonBytes    int64   `json:"rss_anon_bytes"`      // of the three nodes, at the end of the part: heap and stacks
	FileBytes    int64   `json:"rss_file_bytes"`      // likewise: mapped files, which is the program
	DiskPerByte  float64 `json:"disk_bytes_per_byte"` // write_bytes of the nodes, which counts whole pages
	CallsPerByte float64 `json:"call_bytes_per_byte"` // wchar of the nodes: given to write calls, of files and of sockets
	WritesPerOp  float64 `json:"write_calls_per_op"`  // syscw of the nodes

	Retries      uint64  `json:"retries"`      // of the client, since the nodes were started
	OthersCores  float64 `json:"others_cores"` // processors that other programs, and the kernel for itself, took meanwhile
	StolenCores  float64 `json:"stolen_cores"` // processors that the machine's own host withheld
	Failures     int     `json:"failures"`
	FirstFailure string  `json:"first_failure,omitempty"`
}

// A Report is what a benchmark found.
type Report struct {
	Benchmark    string            `json:"benchmark"`
	Time         time.Time         `json:"time"`
	Processors   int               `json:"processors"`
	MemoryBytes  int64             `json:"memory_bytes"`
	Pairs        int               `json:"pairs"`
	Workers      int               `json:"writers"`
	SecondsAsked float64           `json:"seconds_per_part"`
	MaxBytes     int64             `json:"max_bytes"`
	Systems      map[string]string `json:"systems"` // what each does
	Comparisons  []Comparison      `json:"comparisons"`
	Runs         []Result          `json:"runs"`
	Faults       []string          `json:"faults"` // what is wrong, in words; empty if nothing is
}

// A Comparison is one part at one size: the medians of each figure, and mayfly
// over raw3, pair by pair.
type Comparison struct {
	Part      Part   `json:"part"`
	SizeBytes int    `json:"size_bytes"`
	Pairs     int    `json:"pairs"`
	Mayfly    Result `json:"mayfly"` // each figure the median of its own
	Raw3      Result `json:"raw3"`
	Ratio     Ratio  `json:"mayfly_over_raw3"`
}

// A Ratio holds quartiles of what mayfly measured over what raw3 did.
type Ratio struct {
	Rate      bench.Quartiles `json:"rate"`
	P50       bench.Quartiles `json:"p50"`
	P99       bench.Quartiles `json:"p99"`
	ServerCPU bench.Quartiles `json:"server_cpu"`
	ClientCPU bench.Quartiles `json:"client_cpu"`
}

func newReport(o *Options) *Report {
	return &Report{
		Benchmark: "cluster", Time: time.Now().UTC().Truncate(time.Second),
		Processors: runtime.GOMAXPROCS(0), MemoryBytes: bench.MemoryBytes(),
		Pairs: o.Pairs, Workers: o.Workers, SecondsAsked: o.For.Seconds(), MaxBytes: o.MaxBytes,
		Systems: map[string]string{
			Mayfly: "3 nodes, single puts into events: 3 copies and their index entries, acknowledged by 2, checksums verified; sync " + o.Sync,
			Raw3:   "3 nodes: 3 copies appended, acknowledged by 2; no checksum, no index, never synced",
		},
		Comparisons: []Comparison{}, Runs: []Result{}, Faults: []string{},
	}
}

// OK tells whether every put and get did what it should.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

// add takes a run of a part in, if it was asked for, and what went wrong in it.
func (r *Report) add(run Result, part Part, o *Options) {
	if run.Failures > 0 {
		r.Faults = append(r.Faults, fmt.Sprintf("%s of %v, %s, pair %d: %d workers failed, the first with: %s",
			part, config.Size(run.SizeBytes), run.System, run.Pair, run.Failures, run.FirstFailure))
	} else if run.Ops == 0 {
		r.Faults = append(r.Faults, fmt.Sprintf("%s of %v, %s, pair %d: nothing was done in %.1f s", part, config.Size(run.SizeBytes), run.System, run.Pair, run.Seconds))
	}
	if slices.Contains(o.Parts, part) {
		r.Runs = append(r.Runs, run)
	}
}

// finish compares what was measured.
func (r *Report) finish() {
	type place struct {
		part Part
		size int
	}
	var places []place
	for _, run := range r.Runs {
		if p := (place{run.Part, run.SizeBytes}); !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	for _, p := range places {
		var ours, base []Result // the same pairs
		for _, a := range r.Runs {
			for _, b := range r.Runs {
				same := a.Part == p.part && b.Part == p.part && a.SizeBytes == p.size && b.SizeBytes == p.size && a.Pair == b.Pair
				if same && a.System == Mayfly && b.System == Raw3 && a.Failures+b.Failures == 0 {
					ours, base = append(ours, a), append(base, b)
				}
			}
		}
		if len(ours) > 0 {
			r.Comparisons = append(r.Comparisons, compare(p.part, p.size, ours, base))
		}
	}
}

func compare(part Part, size int, ours, base []Result) Comparison {
	ratio := func(figure func(Result) float64) bench.Quartiles {
		return bench.QuartilesOf(bench.Ratios(column(ours, figure), column(base, figure)))
	}
	return Comparison{
		Part: part, SizeBytes: size, Pairs: len(ours), Mayfly: medians(ours), Raw3: medians(base),
		Ratio: Ratio{
			Rate:      ratio(func(r Result) float64 { return r.MBPerSecond }),
			P50:       ratio(func(r Result) float64 { return r.P50 }),
			P99:       ratio(func(r Result) float64 { return r.P99 }),
			ServerCPU: ratio(func(r Result) float64 { return r.ServerCPU }),
			ClientCPU: ratio(func(r Result) float64 { return r.ClientCPU }),
		},
	}
}

// column returns one figure of each run.
func column(runs []Result, figure func(Result) float64) []float64 {
	all := make([]float64, len(runs))
	for i, r := range runs {
		all[i] = figure(r)
	}
	return all
}

// medians returns a run each of whose figures is the median of those of the
// runs, which are of one system, part and size.
func medians(runs []Result) Result {
	of := func(figure func(Result) float64) float64 { return bench.Median(column(runs, figure)) }
	return Result{
		System: runs[0].System, Part: runs[0].Part, SizeBytes: runs[0].SizeBytes,
		Seconds:      of(func(r Result) float64 { return r.Seconds }),
		Ops:          int64(of(func(r Result) float64 { return float64(r.Ops) })),
		Bytes:        int64(of(func(r Result) float64 { return float64(r.Bytes) })),
		MBPerSecond:  of(func(r Result) float64 { return r.MBPerSecond }),
		OpsPerSecond: of(func(r Result) float64 { return r.OpsPerSecond }),
		P50:          of(func(r Result) float64 { return r.P50 }),
		P99:          of(func(r Result) float64 { return r.P99 }),
		P999:         of(func(r Result) float64 { return r.P999 }),
		ServerCPU:    of(func(r Result) float64 { return r.ServerCPU }),
		ClientCPU:    of(func(r Result) float64 { return r.ClientCPU }),
		AnonBytes:    int64(of(func(r Result) float64 { return float64(r.AnonBytes) })),
		FileBytes:    int64(of(func(r Result) float64 { return float64(r.FileBytes) })),
		DiskPerByte:  of(func(r Result) float64 { return r.DiskPerByte }),
		CallsPerByte: of(func(r Result) float64 { return r.CallsPerByte }),
		WritesPerOp:  of(func(r Result) float64 { return r.WritesPerOp }),
		Retries:      uint64(of(func(r Result) float64 { return float64(r.Retries) })),
		OthersCores:  of(func(r Result) float64 { return r.OthersCores }),
		StolenCores:  of(func(r Result) float64 { return r.StolenCores }),
	}
}
