package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/demo"
)

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := mayfly(t, "demo", "--for", "1s", "--rate", "2000", "--json", "--dir", dir)
	var s demo.Summary
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if s.Nodes != 1 || s.EventsSent < 1 || s.EventsTailed != s.EventsReceived || s.Blobs == 0 || s.ReadBack == 0 || s.CheckRecords == 0 || s.Directory != dir || !s.OK() {
		t.Errorf("got %+v", s)
	}
	if r := mayfly(t, "check", dir); r.status != 0 {
		t.Errorf("check of its data: status %d, %s", r.status, r.stdout)
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
	empty, busy := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(busy, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, []badInput{
		{"demo --nodes 10", 2, "--nodes 10: give 1 to 9"},
		{"demo --nodes 0", 2, "--nodes 0: give 1 to 9"},
		{"demo --for 10ms", 2, "demo: a demo of 10ms: give at least 1s"},
		{"demo --rate 0", 2, "demo: a rate of 0 events a second: give 1 to 1000000"},
		{"demo --rate 100000 --for 1h", 2, "demo: 360000000 events: the demo remembers each one and takes at most 20000000; send fewer a second, or for a shorter time"},
		{"demo --events " + empty, 1, `demo: no events to replay in "` + empty + `": it has no file *.ndjson`},
		{"demo --events nowhere", 1, `demo: no events to replay at "nowhere": it does not exist: stat nowhere: no such file or directory`},
		{"demo --dir " + busy, 1, `demo: ` + busy + `: the directory is not empty ("mine" is in it) and not a data directory of mayfly: name an empty one`},
		{"demo now", 2, `demo takes no arguments, and was given "now"; "mayfly demo --help" explains`},
	})
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "mayfly-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("directories left behind: %q, %v", left, err)
	}
}
