package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestClusterRecover: a node begins a new era, keeps what it has, and cannot be
// recovered while it runs.
func TestClusterRecover(t *testing.T) {
	n := startNode(t, "", "--name", "n1")
	n.must("hello", "put", "-b", "notes", "greeting")
	if r := mayfly(t, "cluster", "recover", "--data", n.dir, "--yes"); r.status != 1 || !strings.Contains(r.stderr, "is in use: stop the node first") {
		t.Errorf("while it runs: status %d, %s", r.status, r.stderr)
	}
	n.stop()
	if r := mayfly(t, "cluster", "recover", "--data", n.dir); r.status != 2 || r.stderr != "mayfly: cluster recover asks before it does this, and there is nobody to ask: add --yes\n" {
		t.Errorf("without --yes: status %d, %s", r.status, r.stderr)
	}
	r := mayfly(t, "cluster", "recover", "--data", n.dir, "--yes")
	if want := "n1 is the only voter of era 2, with what it knew as version 1.1: start it, the others follow; then \"mayfly cluster status\"\n"; r.status != 0 || r.stdout != want {
		t.Errorf("status %d, %s%s, want %s", r.status, r.stdout, r.stderr, want)
	}
	if r := mayfly(t, "cluster", "recover", "--data", n.dir, "--yes", "--json"); r.stdout != `{"member":"n1","before":"2.1","version":"3.1","staged":[]}`+"\n" {
		t.Errorf("once more: status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	again := startNode(t, n.dir, "--name", "n1")
	if got := again.must("", "get", "-b", "notes", "greeting"); got != "hello" {
		t.Errorf("got %q", got)
	}
	if got := again.must("", "cluster", "weight", "n1", "7"); !strings.Contains(got, "staged: n1 gets weight 7") {
		t.Errorf("got %q", got)
	}
	if got := again.must("", "cluster", "status"); !strings.Contains(got, "version 3.") || !strings.Contains(got, "n1 leads; voters: n1\n") {
		t.Errorf("got %q", got)
	}
}

func TestWrongRecoveries(t *testing.T) {
	empty := t.TempDir()
	nowhere := filepath.Join(empty, "nowhere")
	one, two := startNode(t, ""), startNode(t, "")
	one.stop()
	two.stop()
	refuse(t, []badInput{
		{"cluster recover --yes --data " + nowhere, 1, "cluster recover: there is no directory " + nowhere + `: give the one that "mayfly serve --data" was given`},
		{"cluster recover n1", 2, `recover takes no arguments, and was given "n1"; "mayfly cluster recover --help" explains`},
	})
	for _, c := range []struct{ data, want string }{
		{empty, "this is not a data directory of mayfly"},
		{one.dir + "," + two.dir, "the data directories are of two nodes"},
	} {
		if r := mayfly(t, "cluster", "recover", "--yes", "--data", c.data); r.status != 1 || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: status %d, %s", c.data, r.status, r.stderr)
		}
	}
}
