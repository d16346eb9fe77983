package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/bench/cluster"
)

// The whole benchmark with as little as it takes, nodes in processes of their
// own: all of it is measured, nothing is left behind.
func TestBenchCluster(t *testing.T) {
	if _, err := os.Stat("/proc/self/io"); err != nil {
		t.Skip("there is no /proc here")
	}
	t.Setenv(beMayfly, "1")           // for the nodes
	t.Setenv("MAYFLY_CONFIG", "none") // must not reach them
	data, profiles := t.TempDir(), t.TempDir()
	r := mayfly(t, "bench", "cluster", "--sizes", "2KB", "--pairs", "1", "--for", "100ms", "--writers", "3", "--max-bytes", "200KB",
		"--data", data, "--set", "bucket.events.sync=none", "--set", "node.partitions=4", "--json")
	var report cluster.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.status != 0 || r.stderr != "" {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	var order []string
	for _, run := range report.Runs {
		order = append(order, string(run.Part)+" "+run.System)
		if run.Ops == 0 || run.Bytes != 2000*run.Ops || run.MBPerSecond <= 0 || run.P999 < run.P50 || run.AnonBytes == 0 || run.CallsPerByte == 0 || run.WritesPerOp == 0 || run.Failures != 0 {
			t.Errorf("got %+v", run)
		}
		if run.Part == cluster.Put && (run.Ops > 100 || run.CallsPerByte < 5) {
			t.Errorf("%d puts, %v bytes written for each: at most 100 were asked for, each of which goes to two others and to three files", run.Ops, run.CallsPerByte)
		}
	}
	want := "put mayfly, get mayfly, put raw3, get raw3"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("the order was %s, want %s", got, want)
	}
	if len(report.Comparisons) != 2 || report.Comparisons[0].Pairs != 1 || !strings.Contains(report.Systems[cluster.Mayfly], "sync none") || !report.OK() {
		t.Errorf("got %+v", report)
	}
	r = mayfly(t, "bench", "cluster", "--sizes", "2KB", "--pairs", "1", "--for", "100ms", "--writers", "1", "--max-bytes", "20KB",
		"--data", data, "--set", "node.partitions=4", "--only", "get", "--cpuprofile", profiles)
	if r.status != 0 || r.stderr != "" || !strings.HasPrefix(r.stdout, "  ") || !strings.Contains(r.stdout, "\nget 2KB, 1 pair") || strings.Contains(r.stdout, "\nput 2KB") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, name := range []string{"get-2KB-mayfly-01-n1.pprof", "get-2KB-raw3-01-n3.pprof", "get-2KB-mayfly-01-client.pprof"} {
		if info, err := os.Stat(filepath.Join(profiles, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every change of a small cluster is planned, measured and printed either way.
func TestBenchRing(t *testing.T) {
	r := mayfly(t, "bench", "ring", "--nodes", "3,7", "--json")
	var report struct{ Runs []ringRun }
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.status != 0 || r.stderr != "" || len(report.Runs) != 2*len(ringChanges) {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	for i, run := range report.Runs {
		first := i%len(ringChanges) == 0
		if run.Seconds <= 0 || run.AllocBytes == 0 || run.Off >= 1 || run.Moved < run.Must || (run.Moved == 0) != first && run.Nodes > 3 || run.TimedStays == 0 {
			t.Errorf("got %+v", run)
		}
	}
	if r = mayfly(t, "bench", "ring", "--nodes", "3"); r.status != 0 || !strings.HasPrefix(r.stdout, "NODES  PARTITIONS  CHANGE") || strings.Count(r.stdout, "\n") != 1+len(ringChanges) {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestWrongBenchmarks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, []badInput{
		{"bench clustr", 2, `there is no command "clustr"; did you mean "cluster"? "mayfly bench --help" lists them all`},
		{"bench cluster now", 2, `cluster takes no arguments, and was given "now"; "mayfly bench cluster --help" explains`},
		{"bench cluster --sizes 4KB,x", 2, `--sizes: "x" is not a size; write one like "64MiB", "500KB" or "4096" (bytes); "mayfly bench cluster --help" explains`},
		{"bench cluster --sizes 4KB,4KB", 2, `bench cluster: the size 4KB is there twice`},
		{"bench cluster --sizes 1GB", 2, `bench cluster: a size of 1GB: give 1 to 8MiB`},
		{"bench cluster --pairs 0", 2, `bench cluster: 0 pairs: give 1 to 1000`},
		{"bench cluster --writers 9999", 2, `bench cluster: 9999 writers: give 1 to 1024`},
		{"bench cluster --for 1ms", 2, `bench cluster: parts of 1ms: give 100ms to 5m0s`},
		{"bench cluster --max-bytes much", 2, `--max-bytes: "much" is not a size; write one like "64MiB", "500KB" or "4096" (bytes); "mayfly bench cluster --help" explains`},
		{"bench cluster --max-bytes 450KB", 2, `bench cluster: at most 450KB in a run: give 500KB, which is one value, or more`},
		{"bench cluster --only both", 2, `--only "both": give put or get, or leave it out for both`},
		{"bench cluster --set bucket.events.sync=often", 2, `the configuration has a fault: --set: bucket.events.sync: is "often"; it must be none, interval or always`},
		{"bench cluster --cpuprofile " + file, 1, `bench cluster: a directory for profiles: mkdir ` + file + `: not a directory`},
		{"bench ring --nodes 0", 2, `bench ring: a cluster of 0 nodes: give 1 to 2000`},
		{"bench raw3-node", 2, `raw3-node takes --listen, --data and two --peers; "mayfly bench cluster" starts it`},
	})
	if r := mayfly(t, "bench", "cluster", "--data", file+"/x"); r.status != 1 || !strings.HasPrefix(r.stderr, "mayfly: bench cluster: a directory for the nodes: ") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	for _, args := range [][]string{{"bench"}, {"bench", "--help"}, {"bench", "cluster", "--help"}} {
		if r := mayfly(t, args...); r.status != 0 || !strings.Contains(r.stdout, "three nodes") || strings.Contains(r.stdout, "raw3-node") {
			t.Errorf("%q: status %d, %s", args, r.status, r.stdout)
		}
	}
}
