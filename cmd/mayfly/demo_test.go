package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/demo"
)

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := mayfly(t, "demo", "--for", "1s", "--rate", "2000", "--json", "--dir", dir)
	var s demo.Summary
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if s.Nodes != 3 || s.EventsSent < 1 || s.EventsTailed != s.EventsReceived || s.Blobs == 0 || s.ReadBack == 0 || s.CheckRecords == 0 || s.Directory != dir || !s.OK() {
		t.Errorf("got %+v", s)
	}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		if r := mayfly(t, "check", filepath.Join(dir, name)); r.status != 0 {
			t.Errorf("check of %s: status %d, %s", name, r.status, r.stdout)
		}
	}
}

func TestDemoOfOneNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := mayfly(t, "demo", "--for", "1s", "--rate", "500", "--nodes", "1", "--dir", dir)
	if r.status != 0 || !strings.Contains(r.stdout, "through the node\n") {
		t.Errorf("status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	if r := mayfly(t, "check", dir); r.status != 0 {
		t.Errorf("check of its data: status %d, %s", r.status, r.stdout)
	}
}

// A node that is killed must cost nothing that was acknowledged, whichever number
// of nodes there is.
func TestDemoKills(t *testing.T) {
	t.Setenv(beMayfly, "1") // for the nodes
	for _, nodes := range []int{1, 3} {
		r := mayfly(t, "demo", "--for", "7s", "--rate", "500", "--kill", "2500ms", "--back", "1s", "--json", "--nodes", strconv.Itoa(nodes))
		var s demo.Summary
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.status != 0 {
			t.Fatalf("%d nodes: status %d, %v: %s%s", nodes, r.status, err, r.stdout, r.stderr)
		}
		k := s.Kill
		if !s.OK() || s.Nodes != nodes || s.EventsTailed != s.EventsReceived || s.ReadBack != s.Blobs*int64(nodes) {
			t.Errorf("got %+v", s)
		}
		if k == nil || k.Node == "" || !k.HadTail || k.KilledSeconds < 2.5 || k.AwaySeconds < 1 || k.ReadyMS <= 0 || k.RunReads == 0 || k.FalseAbsent != 0 || k.TailResumes == 0 {
			t.Errorf("%d nodes: got %+v", nodes, k)
		}
		if nodes == 3 && k.FailedCalls > 0 {
			t.Errorf("%d calls failed; of three nodes one may be away", k.FailedCalls)
		}
		if _, err := os.Stat(s.Directory); s.Directory != "" || err == nil {
			t.Errorf("the directory %q is left", s.Directory)
		}
	}
}

// A demo that ends, by its first signal or by one that nobody can catch, must
// leave no node running.
func TestDemoLeavesNoProcess(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		if s == syscall.SIGKILL && runtime.GOOS != "linux" {
			continue // nobody is there to do it
		}
		// Not with --verbose: the nodes would notice that nobody reads their log.
		dir := t.TempDir()
		p := startProcess(t, "demo", "--for", "1m", "--rate", "100", "--kill", "50s", "--dir", dir)
		for i := range 3 {
			var addr string
			eventually(t, "a node serves", func() bool {
				text, _ := os.ReadFile(fmt.Sprintf("%s/node-%d.log", dir, i+1)) //nolint:errcheck // it may not be there yet
				_, rest, _ := strings.Cut(string(text), "msg=serving")
				_, rest, _ = strings.Cut(rest, " addr=")
				var whole bool
				addr, _, whole = strings.Cut(rest, " ")
				return whole
			})
			defer eventually(t, fmt.Sprintf("nobody listens at %s after %v", addr, s), func() bool {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
		}
		p.signal(s)
		if err := <-p.done; (err == nil) != (s == syscall.SIGINT) && !strings.Contains(p.stderr.text(), "it was stopped before it had begun to send") {
			t.Errorf("%v: it ended with %v: %s", s, err, p.stderr.text())
		}
	}
}

// eventually waits until something is so that nobody tells of.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(time.Minute); !so(); {
		select {
		case <-tick.C:
		case <-over:
			t.Errorf("it is not so within a minute that %s", what)
			return
		}
	}
}

func TestDemoReplays(t *testing.T) {
	events := t.TempDir()
	lines := strings.Repeat(`{"type":"A","subtype":"b","event":{"n":1}}`+"\n", 3)
	if err := os.WriteFile(filepath.Join(events, "a.ndjson"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mayfly(t, "demo", "--for", "1s", "--rate", "100", "--events", events)
	for _, want := range []string{"lost          0\n", "corrupt       0\n", "everything acknowledged came out as it went in\n"} {
		if r.status != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("status %d, no %q in\n%s%s", r.status, want, r.stdout, r.stderr)
		}
	}
}

func TestWrongDemos(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // nobody else's demos
	empty, busy := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(busy, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, []badInput{
		{"demo --kill 30s", 2, "demo: a node killed after 30s of 20s: give 1s to 19s, or send for longer"},
		{"demo --kill 500ms", 2, "demo: a node killed after 500ms of 20s: give 1s to 19s, or send for longer"},
		{"demo --kill 15s --back 10s", 2, "demo: a node killed after 15s and back 10s later: that is after the 20s of sending; send for longer, or bring it back earlier"},
		{"demo --kill 5s --back 1ms", 2, "demo: a node back after 1ms: give at least 100ms"},
		{"demo --back 5s", 2, "demo: a node comes back after 5s, and none is killed: say when with --kill"},
		{"demo --kill soon", 2, `--kill: "soon" is not a duration; write one like "500ms", "1h30m" or "10d"; "mayfly demo --help" explains`},
		{"demo --kill -5s", 2, `--kill: "-5s" is negative; "mayfly demo --help" explains`},
		{"demo --grow 5s", 2, "demo: nodes that join after 5s of 20s: give 1s or more, and leave 30s for it"},
		{"demo --grow 5s --for 1m --nodes 5", 2, "demo: 5 nodes and as many again: give 3 to 4"},
		{"demo --grow 5s --for 1m --kill 5s", 2, "demo: a node is to be killed and others are to join: one at a time"},
		{"demo --nodes 10", 2, "--nodes 10: give 1 to 9"},
		{"demo --nodes 0", 2, "--nodes 0: give 1 to 9"},
		{"demo --for 10ms", 2, "demo: a demo of 10ms: give at least 1s"},
		{"demo --rate 0", 2, "demo: a rate of 0 events a second: give 1 to 1000000"},
		{"demo --rate 100000 --for 1h", 2, "demo: 360000000 events: the demo remembers each one and takes at most 20000000; send fewer a second, or for a shorter time"},
		{"demo --events " + empty, 1, `demo: no events to replay in "` + empty + `": it has no file *.ndjson`},
		{"demo --events nowhere", 1, `demo: no events to replay at "nowhere": it does not exist: stat nowhere: no such file or directory`},
		{"demo --dir " + busy, 1, `demo: ` + busy + `: the directory is not empty ("mine" is in it) and not that of a demo of 3 nodes: name an empty one`},
		{"demo --nodes 1 --dir " + busy, 1, `demo: ` + busy + `: the directory is not empty ("mine" is in it) and not a data directory of mayfly: name an empty one`},
		{"demo now", 2, `demo takes no arguments, and was given "now"; "mayfly demo --help" explains`},
	})
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "mayfly-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("directories left behind: %q, %v", left, err)
	}
}
