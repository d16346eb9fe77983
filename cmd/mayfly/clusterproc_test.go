package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// TestClusterOfProcesses founds a cluster of three processes, has a fourth join,
// commits it, and drains the first: new seconds are on four, no timed byte moved
// to get there, and everything that was put is found when the first has left and
// is gone.
func TestClusterOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("what is merged waits until puts under way are over")
	}
	c := &processCluster{t: t}
	for range 3 {
		c.start("--expect", "3")
	}
	c.until("three members and a leader", func(s *statusJSON) bool {
		return len(s.Members) == 3 && s.Leader != "" && !slices.ContainsFunc(s.Members, func(m memberJSON) bool { return !m.Up || m.State != "valid" })
	})
	c.cluster("settings", "--lead", "1s", "--skew", "0s")
	c.put(0, 12)

	c.start()
	c.until("a fourth that wants to join", func(s *statusJSON) bool { return slices.Equal(s.Staged, []string{"n4 joins"}) })
	var p struct {
		Plan struct {
			TimedMoves uint64 `json:"timed_bytes_moved"`
			TimedStays uint64 `json:"timed_bytes_kept"`
		}
	}
	c.json(&p, "plan", "--json")
	if p.Plan.TimedMoves != 0 || p.Plan.TimedStays == 0 {
		t.Errorf("growing moves %d bytes of timed data, %d stay", p.Plan.TimedMoves, p.Plan.TimedStays)
	}
	var done struct{ Change changeState }
	c.json(&done, "commit", "--yes", "--json")
	if done.Change.Phase != ring.Fixed.String() {
		t.Fatalf("the change is %+v", done.Change)
	}
	c.until("the new ring counts", func(s *statusJSON) bool { return s.Now >= done.Change.Time })
	c.put(3, 12)
	c.until("the fourth stores", func(s *statusJSON) bool { return s.Members[3].StoredBytes > 0 })

	if out := c.cluster("leave", "n1", "--wait", "--yes"); !strings.HasPrefix(out, "n1 has left") {
		t.Errorf("leave said %s", out)
	}
	c.stop(0)
	for i, key := range c.keys {
		if got := c.mayfly("get", "--bucket", c.buckets[i], key); got != c.values[i] {
			t.Errorf("%s is %q, want %q", key, got, c.values[i])
		}
	}
	for i := 1; i < len(c.nodes); i++ {
		c.stop(i)
	}
	for i, dir := range c.dirs {
		if r := mayfly(t, "check", dir); r.status != 0 {
			t.Errorf("check of n%d: status %d, %s%s", i+1, r.status, r.stdout, r.stderr)
		}
	}
}

// A processCluster is nodes in processes that have found each other.
type processCluster struct {
	t     *testing.T
	addrs []string
	dirs  []string
	nodes []*process
	gone  []bool

	keys, buckets, values []string // that were put
}

// start starts another node, which is pointed to the addresses of the first three.
func (c *processCluster) start(more ...string) {
	c.t.Helper()
	for len(c.addrs) < max(3, len(c.nodes)+1) {
		c.addrs = append(c.addrs, stableAddr(c.t))
	}
	i := len(c.nodes)
	c.dirs, c.gone = append(c.dirs, fmt.Sprintf("%s/data", c.t.TempDir())), append(c.gone, false)
	args := []string{"serve", "--name", fmt.Sprintf("n%d", i+1), "--zone", string(rune('a' + i%3)), "--join", strings.Join(c.addrs[:3], ","),
		"--listen", c.addrs[i], "--metrics", "127.0.0.1:0", "--data", c.dirs[i], "--log-format", "json",
		"--slot", "2s", "--set", "node.ahead=1s", "--set", "node.lateness=1s", "--set", "node.seal_after=2s", "--set", "node.partitions=8"}
	c.nodes = append(c.nodes, startProcess(c.t, append(args, more...)...))
}

// stop stops a node in order.
func (c *processCluster) stop(i int) {
	c.t.Helper()
	c.gone[i] = true
	c.nodes[i].signal(syscall.SIGTERM)
	if err := <-c.nodes[i].done; err != nil {
		c.t.Errorf("n%d ended with %v: %s", i+1, err, c.nodes[i].stderr.text())
	}
}

// any is the address of the last node that runs.
func (c *processCluster) any() string {
	for i := len(c.nodes) - 1; i > 0; i-- {
		if !c.gone[i] {
			return c.addrs[i]
		}
	}
	return c.addrs[0]
}

// mayfly runs a command against the cluster that must succeed.
func (c *processCluster) mayfly(args ...string) string {
	c.t.Helper()
	r := mayfly(c.t, append(args, "--node", c.any(), "--timeout", "20s")...)
	if r.status != 0 {
		c.t.Fatalf("%q: status %d, %s%s", args, r.status, r.stderr, c.logs())
	}
	return r.stdout
}

func (c *processCluster) cluster(args ...string) string {
	c.t.Helper()
	return c.mayfly(append([]string{"cluster"}, args...)...)
}

func (c *processCluster) json(v any, args ...string) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.cluster(args...)), v); err != nil {
		c.t.Fatal(err)
	}
}

// logs are the ends of the nodes' logs.
func (c *processCluster) logs() string {
	var b strings.Builder
	for i, n := range c.nodes {
		text := n.stderr.text()
		fmt.Fprintf(&b, "\nn%d: …%s", i+1, text[max(0, len(text)-2000):])
	}
	return b.String()
}

// until waits until the cluster's state is as wanted.
func (c *processCluster) until(what string, is func(s *statusJSON) bool) {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	var last result
	for time.Now().Before(deadline) {
		last = mayfly(c.t, "cluster", "status", "--json", "--node", c.any())
		var s statusJSON
		if last.status == 0 && json.Unmarshal([]byte(last.stdout), &s) == nil && is(&s) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("%s: not within a minute; the last state: %s%s%s", what, last.stdout, last.stderr, c.logs())
}

// put puts objects through one node: blobs of the present second, and plain ones.
func (c *processCluster) put(node, count int) {
	c.t.Helper()
	for i := range count {
		n := strconv.Itoa(len(c.keys))
		key, bucket := fmt.Sprintf("%d:ams:WEB:t%s:0", time.Now().Unix(), n), "events"
		value := fmt.Sprintf(`{"n":%s,"pad":%q}`+"\n", n, noise(2000))
		if i%3 == 0 {
			key, bucket = "plain"+n, "notes"
		}
		r := mayflyWith(c.t, value, "put", "--bucket", bucket, key, "--node", c.addrs[node], "--timeout", "20s")
		if r.status != 0 {
			c.t.Fatalf("put %s: status %d, %s%s", key, r.status, r.stderr, c.logs())
		}
		c.keys, c.buckets, c.values = append(c.keys, key), append(c.buckets, bucket), append(c.values, value)
	}
}

// noise returns letters that no compression makes fewer: a node tells how much it
// stores only of files that are not nearly empty.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[rand.IntN(64)]
	}
	return string(b)
}
