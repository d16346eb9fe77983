package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	n := startNode(t, "")
	base := strings.TrimSuffix(n.metrics, "/metrics")
	if status, text := httpGet(t, n.metrics); status != 200 || !strings.Contains(text, "\nmayfly_puts_stored_total 0\n") {
		t.Errorf("metrics: status %d, %.300s", status, text)
	}
	if status, text := httpGet(t, base+"/readyz"); status != 200 {
		t.Errorf("readyz: status %d, %s", status, text)
	}
	if status := n.stop(); status != 0 {
		t.Errorf("exit status %d after a signal; %s", status, n.stderr.text())
	}
	if clean := n.logged("stopped")["clean"]; clean != true {
		t.Errorf("the stop was not clean: %s", n.stderr.text())
	}
}

// A node that waits for its cluster says so to who asks whether it is ready, and to
// who looks at its log.
func TestServeWaiting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	l.Close()
	p := start(t, "serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--metrics", metrics, "--log-format", "json",
		"--join", "127.0.0.1:1", "--expect", "3")
	if got := p.logged("starting: the disks are read, or the cluster is looked for"); got["expect"] != 3.0 {
		t.Errorf("the log says %v", got)
	}
	if status, text := httpGet(t, "http://"+metrics+"/readyz"); status != 503 || !strings.HasPrefix(text, "the node is starting") {
		t.Errorf("readyz: status %d, %s", status, text)
	}
	if status, text := httpGet(t, "http://"+metrics+"/metrics"); status != 200 || !strings.Contains(text, "mayfly_build_info{") {
		t.Errorf("metrics: status %d, %.300s", status, text)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // as the node does, which has no port that is known
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := mayfly(t, "cluster", "status", "--timeout", "50ms", "--node", silent.Addr().String())
	if want := "in time: one that starts, or waits for its cluster, does not yet, and its log says why"; r.status != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	if status := p.stop(); status != 1 || !strings.Contains(p.stderr.text(), "has found no cluster") {
		t.Errorf("status %d, %s", status, p.stderr.text())
	}
}

// A directory that a node has left can be served again, with what is in it.
func TestServeAgain(t *testing.T) {
	n := startNode(t, "")
	n.must("hello", "put", "-b", "notes", "greeting")
	n.stop()
	again := startNode(t, n.dir)
	if got := again.must("", "get", "-b", "notes", "greeting"); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// What a cluster has settled when it was founded counts, whatever the configuration
// of a node says.
func TestServeKeepsWhatIsSettled(t *testing.T) {
	n := startNode(t, "")
	n.stop()
	again := startNode(t, n.dir, "--slot", "10s", "--set", "node.partitions=8", "--set", "bucket.events.ttl=1d", "--weight", "7")
	if got := again.logged(`the agreed zone and weight count, not the configuration's: "mayfly cluster zone" and "weight" change them`); got["weight"] != 100.0 {
		t.Errorf("the log says %v", got)
	}
	if got := again.must("", "cluster", "settings"); !strings.Contains(got, "1h") {
		t.Errorf("the settings are %s", got)
	}
	if got := again.must("", "cluster", "ttl", "events"); !strings.Contains(got, "10d") {
		t.Errorf("the TTL is %s", got)
	}
	if got := again.must("", "cluster", "status"); !strings.Contains(got, "slots of 1h, 64 partitions of 1 owner\n") {
		t.Errorf("the status is %s", got)
	}
}

// Each of these must be refused with a sentence, exit status 1, and a directory
// that is as it was.
func TestServeRefusals(t *testing.T) {
	n := startNode(t, "")
	host, port, err := net.SplitHostPort(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	inUse := net.JoinHostPort(host, port)
	stopped := startNode(t, "")
	stopped.stop()
	second := startNode(t, "")
	second.stop()
	older := startNode(t, "")
	older.stop()
	if err := os.WriteFile(filepath.Join(older.dir, "node", "ring"), []byte("MAYFLYRG"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	file := filepath.Join(foreign, "thesis.txt")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := func() string { return filepath.Join(t.TempDir(), "new") }
	free := "127.0.0.1:0"
	for _, c := range []struct {
		name, data, listen string
		more               []string
		want               string
	}{
		{"a port in use", fresh(), inUse, nil, "listen on " + inUse + ": another program uses the port: stop it, or choose another address"},
		{"a metrics port in use", fresh(), free, []string{"--metrics", inUse}, "the address " + inUse + " is in use by another program: stop that one, or choose another with --set metrics.node=HOST:PORT"},
		{"an address of another machine", fresh(), "192.0.2.1:7070", nil, "choose an address of this machine"},
		{"a directory in use", n.dir, free, nil, "is in use: stop the node first, or name another directory"},
		{"a directory of something else", foreign, free, nil, `the directory is not empty ("thesis.txt" is in it) and not a data directory of mayfly: name an empty one`},
		{"a file", file, free, nil, "not a directory"},
		{"another cluster", stopped.dir, free, []string{"--cluster", "other"}, `this node belongs to cluster "mayfly", the configuration says "other": set it back, or name empty data directories`},
		{"a directory of a version that had lists of members", older.dir, free, nil, "was made by an older version of mayfly"},
		{"directories of two nodes", stopped.dir + "," + second.dir, free, nil, "name the directories of one node"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := listing(c.data)
			r := mayfly(t, append([]string{"serve", "--data", c.data, "--listen", c.listen, "--metrics", ""}, c.more...)...)
			if r.status != 1 || !strings.HasPrefix(r.stderr, "mayfly: serve: ") || !strings.Contains(r.stderr, c.want) {
				t.Errorf("status %d, %s", r.status, r.stderr)
			}
			if strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("more than a sentence: %s", r.stderr)
			}
			if after := listing(c.data); after != before {
				t.Errorf("the directory was\n%s and is\n%s", before, after)
			}
		})
	}
}

// listing names the files of a directory with their sizes.
func listing(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { //nolint:errcheck // it is told below
		if err != nil {
			b.WriteString("absent\n")
			return nil
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			b.WriteString(path + " " + bytesText(info.Size()) + "\n")
		}
		return nil
	})
	return b.String()
}

func TestWrongServes(t *testing.T) {
	refuse(t, []badInput{
		{"serve here", 2, `serve takes no arguments, and was given "here"; "mayfly serve --help" explains`},
		{"serve --dta x", 2, `there is no flag --dta; did you mean --data? "mayfly serve --help" explains`},
		{"serve --listen here", 2, `the configuration has a fault: --listen: node.listen: "here" is not an address; write host:port, as in "127.0.0.1:7070"`},
		{"serve --data=", 2, `the configuration has a fault: --data: node.data: names no directory; write data = ["./mayfly-data"]`},
		{"serve --slot 90m --set node.partitions=3 --log-level loud", 2, `the configuration has 2 faults:
  --log-level: log.level: is "loud"; it must be debug, info, warn or error
  --set: node.partitions: is 3; it must be a power of two from 1 to 4096`},
		{"serve --set bucket.events.timed=false", 2, `the configuration has a fault: bucket: bucket "events": timed must be true`},
		{"serve --config nowhere.toml", 2, `--config: there is no file nowhere.toml; "mayfly config --example > nowhere.toml" makes one`},
	})
}

// A port that is in use costs nothing: no data directory appears.
func TestRefusedServeLeavesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, args := range [][]string{{"--listen", taken, "--metrics", ""}, {"--listen", "127.0.0.1:0", "--metrics", taken}} {
		dir := filepath.Join(t.TempDir(), "data")
		if r := mayfly(t, append([]string{"serve", "--data", dir}, args...)...); r.status != 1 {
			t.Errorf("status %d", r.status)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%q: the directory was made: %v", args, err)
		}
	}
}
