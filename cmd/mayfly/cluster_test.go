package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestThreeNodesKilled runs everything as processes: three nodes, an aggregator,
// two tails and a sender. In mid-stream nodes are killed, one after another, and
// started again. Every event that the aggregator says is acknowledged must be
// tailed, once and equal; no call of the aggregator's and the tails' clients may
// fail for good; no read of a key may say "absent", through whichever node, also
// while one is away and when it is just back, with the bucket's r at 1; and at
// the end all nodes must list the same keys. KILLS says how many; the default is
// two.
func TestThreeNodesKilled(t *testing.T) {
	kills := 2
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 1
	}
	c := newClusterTest(t)
	metrics := []string{"--metrics", "127.0.0.1:0", "--log-format", "json"}
	nodes := []string{"--node", strings.Join(c.addrs[:], ",")}
	from := []string{"--from", strconv.FormatInt(time.Now().Unix(), 10)}
	tail := startProcess(t, slices.Concat([]string{"tail"}, nodes, from, metrics)...)
	blobs := startProcess(t, slices.Concat([]string{"tail", "--blobs"}, nodes, from, metrics)...)
	agg := startProcess(t, slices.Concat([]string{"aggregate", "--listen", "127.0.0.1:0", "--dc", "ams", "--name", "tester"}, nodes, metrics)...)
	aggregating := agg.logged("aggregating")
	stopSending := c.send(addrOf(aggregating))
	c.follow(blobs)

	readers, stopReaders := context.WithCancel(t.Context())
	defer stopReaders()
	var wg sync.WaitGroup
	for i := range c.addrs {
		wg.Go(func() { c.readRandom(readers, i) })
	}
	victim := rand.IntN(len(c.nodes))
	for range kills {
		c.more(tail, 2*eventsPerSecond)
		if c.hasTail(victim) {
			c.tailsHit++
		}
		c.nodes[victim].signal(syscall.SIGKILL)
		<-c.nodes[victim].done
		away := c.known()
		c.more(tail, 2*eventsPerSecond)
		c.start(victim)
		c.readSince(victim, away)
		c.more(tail, eventsPerSecond)
		victim = (victim + 1 + rand.IntN(len(c.nodes)-1)) % len(c.nodes)
	}
	sent := stopSending()

	if got := metricOf(t, aggregating, "mayfly_client_failures_total"); got != 0 {
		t.Errorf("%v calls of the aggregator failed for good", got)
	}
	retries := metricOf(t, aggregating, "mayfly_client_retries_total")
	agg.signal(syscall.SIGTERM)
	if err := <-agg.done; err != nil {
		t.Errorf("the aggregator ended with %v: %s", err, agg.stderr.text())
	}
	stopped := agg.logged("stopped")
	received, acknowledged, dropped := count(stopped, "events"), count(stopped, "acknowledged"), count(stopped, "dropped")
	if received != acknowledged || dropped != 0 || received > sent || received < sent*9/10 {
		t.Errorf("%d events were sent, %d received, %d acknowledged, %d dropped", sent, received, acknowledged, dropped)
	}
	c.untilTailed(tail, acknowledged)
	c.untilListed(acknowledged)
	stopReaders()
	wg.Wait()

	for _, p := range []*process{tail, blobs} {
		p.signal(syscall.SIGTERM)
		if err := <-p.done; err != nil {
			t.Errorf("a tail ended with %v: %s", err, p.stderr.text())
		}
	}
	for _, p := range []*process{agg, tail, blobs} {
		if text := p.stderr.text(); strings.Contains(text, `"level":"ERROR"`) {
			t.Errorf("errors that no repetition covered: %s", text)
		}
	}
	c.checkTailed(tail, acknowledged)
	c.checkListed()
	for i := range c.nodes {
		c.readSince(i, 0)
	}
	for _, n := range c.nodes {
		n.signal(syscall.SIGTERM)
	}
	for i, n := range c.nodes {
		if err := <-n.done; err != nil {
			t.Errorf("node %d ended with %v: %s", i+1, err, n.stderr.text())
		}
		if r := mayfly(t, "check", c.dirs[i]); r.status != 0 {
			t.Errorf("check of node %d: status %d, %s%s", i+1, r.status, r.stdout, r.stderr)
		}
	}
	t.Logf("%d kills, %d of them of a node with a tail; %d events sent, %d acknowledged in %d blobs; the aggregator's client repeated %v calls; %d reads, %d of them without an answer, %d absent",
		kills, c.tailsHit, sent, acknowledged, c.known(), retries, c.reads.Load(), c.unanswered.Load(), c.absent.Load())
	if c.reads.Load() == 0 {
		t.Error("nothing was read: the test does not try it")
	}
}

// eventsPerSecond is what the test sends; its phases are measured in events.
const eventsPerSecond = 400

// A clusterTest is three nodes and what is known of their keys.
type clusterTest struct {
	t        *testing.T
	addrs    [3]string
	dirs     [3]string
	nodes    [3]*process
	metrics  [3]map[string]any // where they are, as logged
	tailsHit int

	reads, unanswered, absent atomic.Int64

	mu     sync.Mutex
	grew   sync.Cond // of mu
	keys   []event.Key
	events int64 // in them
}

func newClusterTest(t *testing.T) *clusterTest {
	t.Helper()
	c := &clusterTest{t: t}
	c.grew.L = &c.mu
	for i := range c.addrs {
		c.addrs[i], c.dirs[i] = stableAddr(t), fmt.Sprintf("%s/data", t.TempDir())
	}
	for i := range c.nodes {
		c.launch(i)
	}
	for i := range c.nodes {
		c.await(i)
	}
	return c
}

// stableAddr returns an address whose port is not one that systems give to
// outgoing connections: a node that was killed finds it free again.
func stableAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000)))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func (c *clusterTest) launch(i int) {
	c.t.Helper()
	c.nodes[i] = startProcess(c.t, "serve", "--name", fmt.Sprintf("n%d", i+1), "--join", strings.Join(c.addrs[:], ","), "--expect", "3", "--listen", c.addrs[i], "--metrics", "127.0.0.1:0",
		"--data", c.dirs[i], "--log-format", "json", "--slot", "10s", "--set", "node.seal_after=11s", "--set", "bucket.events.r=1")
}

// start starts a node again and waits until it serves.
func (c *clusterTest) start(i int) {
	c.t.Helper()
	c.launch(i)
	c.await(i)
}

// await waits until a node serves and knows for certain what is absent.
func (c *clusterTest) await(i int) {
	c.t.Helper()
	c.metrics[i] = c.nodes[i].logged("serving")
	cl := c.dial(i, 30*time.Second)
	defer cl.Close()
	key := event.Key{Epoch: time.Now().Unix(), DC: "ams", Type: "NO", Subtype: "such", Chunk: "0"}
	if _, err := cl.Get(c.t.Context(), "default", "events", key.String()); !errors.Is(err, object.CodeAbsent) {
		c.t.Fatalf("node %d, of a key that there never was: %v", i+1, err)
	}
}

// dial returns a client that talks to one node only.
func (c *clusterTest) dial(i int, timeout time.Duration) *client.Client {
	cl, err := client.New(client.Config{Addrs: c.addrs[i : i+1], Pinned: true, Timeout: timeout, RetryBudget: 1000})
	if err != nil {
		c.t.Error(err)
	}
	return cl
}

// send has a process send numbered events to the aggregator until the function
// it returns is called, which returns how many it was.
func (c *clusterTest) send(to string) (stop func() int64) {
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	p := startProcessWith(c.t, r, "send", "--to", to, "--rate", strconv.Itoa(eventsPerSecond), "--json", "/dev/stdin")
	r.Close()
	done := make(chan struct{})
	var fed sync.WaitGroup
	fed.Go(func() {
		defer w.Close()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			if _, err := fmt.Fprintf(w, `{"type":"T%d","subtype":"s","event":{"n":%d,"pad":%q}}`+"\n", n%7, n, padOf(n)); err != nil {
				return
			}
		}
	})
	return func() int64 {
		close(done)
		fed.Wait()
		if err := <-p.done; err != nil {
			c.t.Fatalf("send ended with %v: %s", err, p.stderr.text())
		}
		var s sendSummary
		if err := json.Unmarshal([]byte(p.stdout.text()), &s); err != nil {
			c.t.Fatal(err)
		}
		return s.Events
	}
}

// padOf makes events so large that a pipe holds few of them, and each another.
func padOf(n int) string { return strings.Repeat(strconv.Itoa(n)+" ", 60) }

// follow notes the keys that a tail of blobs prints.
func (c *clusterTest) follow(p *process) {
	go func() {
		p.stdout.each(func(line string) {
			var b tailedJSON
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				c.t.Errorf("%v: %s", err, line)
				return
			}
			key, err := event.ParseKey(b.Key)
			if err != nil {
				c.t.Error(err)
				return
			}
			c.mu.Lock()
			c.keys, c.events = append(c.keys, key), c.events+int64(b.Events)
			c.mu.Unlock()
			c.grew.Broadcast()
		})
	}()
}

// more waits until a tail has printed so many events more.
func (c *clusterTest) more(tail *process, events int) {
	c.t.Helper()
	c.untilTailed(tail, int64(strings.Count(tail.stdout.text(), "\n")+events))
}

func (c *clusterTest) untilTailed(tail *process, events int64) {
	c.t.Helper()
	n := int64(0)
	tail.stdout.wait(c.t, func(string) bool { n++; return n >= events })
}

// untilListed waits until the blobs known have so many events.
func (c *clusterTest) untilListed(events int64) {
	c.t.Helper()
	expired := false
	timer := time.AfterFunc(time.Minute, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		expired = true
		c.grew.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.events < events && !expired {
		c.grew.Wait()
	}
	if c.events != events {
		c.t.Errorf("the tail of blobs has %d events, %d were acknowledged", c.events, events)
	}
}

// known is how many keys are known.
func (c *clusterTest) known() int { return len(c.keysFrom(0)) }

func (c *clusterTest) keysFrom(n int) []event.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[n:len(c.keys):len(c.keys)]
}

// readRandom reads known keys through one node until ctx ends.
func (c *clusterTest) readRandom(ctx context.Context, i int) {
	cl := c.dial(i, time.Second)
	defer cl.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if keys := c.keysFrom(0); len(keys) > 0 {
			c.read(ctx, cl, i, keys[len(keys)-1-min(rand.IntN(len(keys)), rand.IntN(len(keys)))])
		}
	}
}

// readSince reads all keys but the first n through a node that serves: each must
// be found.
func (c *clusterTest) readSince(i, n int) {
	c.t.Helper()
	cl := c.dial(i, 10*time.Second)
	defer cl.Close()
	for _, key := range c.keysFrom(n) {
		if err := c.read(c.t.Context(), cl, i, key); err != nil {
			c.t.Errorf("%v, read through node %d: %v", key, i+1, err)
		}
	}
}

func (c *clusterTest) read(ctx context.Context, cl *client.Client, i int, key event.Key) error {
	rec, err := cl.Get(ctx, "default", "events", key.String())
	switch {
	case err == nil:
		rec.Release()
	case errors.Is(err, object.CodeAbsent):
		c.absent.Add(1)
		c.t.Errorf("node %d says that %v is absent", i+1, key)
	case ctx.Err() != nil:
		return err
	default:
		c.unanswered.Add(1)
	}
	c.reads.Add(1)
	return err
}

// checkTailed compares the events that were printed with those that were sent.
func (c *clusterTest) checkTailed(tail *process, acknowledged int64) {
	c.t.Helper()
	type line struct {
		Type  string `json:"type"`
		Event struct {
			N   int    `json:"n"`
			Pad string `json:"pad"`
		} `json:"event"`
	}
	seen, faults := map[int]bool{}, 0
	tail.stdout.each(func(text string) {
		var l line
		err := json.Unmarshal([]byte(text), &l)
		n := l.Event.N
		if err != nil || seen[n] || l.Event.Pad != padOf(n) || l.Type != fmt.Sprintf("T%d", n%7) {
			if faults++; faults < 10 {
				c.t.Errorf("%v, or it came before (%t), or differs: %.200s", err, seen[n], text)
			}
		}
		seen[n] = true
	})
	if int64(len(seen)) != acknowledged || faults > 0 {
		c.t.Errorf("%d events were acknowledged, %d tailed, %d of them wrongly", acknowledged, len(seen), faults)
	}
}

// checkListed asks each node which keys each second has: those that are known.
func (c *clusterTest) checkListed() {
	c.t.Helper()
	want := map[int64][]string{}
	for _, key := range c.keysFrom(0) {
		want[key.Epoch] = append(want[key.Epoch], key.String())
	}
	for i := range c.nodes {
		cl := c.dial(i, 10*time.Second)
		for epoch, keys := range want {
			var listed []event.Key
			var certain bool
			var err error
			eventually(c.t, "all owners of the row answered in time", func() bool {
				listed, certain, err = cl.Keys(c.t.Context(), epoch, "ams")
				return err == nil && certain
			})
			var got []string
			for _, k := range listed {
				got = append(got, k.String())
			}
			slices.Sort(got)
			slices.Sort(keys)
			if !slices.Equal(got, keys) {
				c.t.Errorf("node %d lists of second %d (certain: %t, %v) %d keys: %q; tailed were %d: %q", i+1, epoch, certain, err, len(got), got, len(keys), keys)
			}
		}
		cl.Close()
	}
}

// hasTail tells whether a node serves one of the tails.
func (c *clusterTest) hasTail(i int) bool { return metricOf(c.t, c.metrics[i], "mayfly_tails") > 0 }

// metricOf returns a metric without labels of a program whose log said where
// they are.
func metricOf(t *testing.T, logged map[string]any, name string) float64 {
	t.Helper()
	resp, err := http.Get(logged["metrics"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no %s in\n%s", name, text)
	return 0
}

// count returns a number that was logged.
func count(logged map[string]any, name string) int64 { return int64(logged[name].(float64)) }
