package main

import (
	"net"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/config"
)

// addrOf returns the address in a "[host:port]" of a log line.
func addrOf(fields map[string]any) string {
	return strings.Trim(fields["listen"].(string), "[]")
}

// From UDP to the tail, with the programs as users run them.
func TestAggregate(t *testing.T) {
	n := startNode(t, "")
	tail := start(t, "tail", "--from", "now-10s", "--node", n.addr, "--watermarks")
	agg := start(t, "aggregate", "--node", n.addr, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--dc", "ams", "--name", "tester", "--log-format", "json")
	fields := agg.logged("aggregating")
	if r := mayfly(t, "send", "--to", addrOf(fields), "--count", "100", "--rate", "0", "--encoding", "json"); r.status != 0 {
		t.Fatalf("send: %s", r.stderr)
	}
	tail.printed(`"dc":"ams","type":"WEB"`)
	tail.printed(`"state":"complete"`)
	if status, text := httpGet(t, fields["metrics"].(string)); status != 200 || !strings.Contains(text, "\nmayfly_aggregate_events_total 100\n") {
		t.Errorf("metrics: status %d, %.500s", status, text)
	}
	base := strings.TrimSuffix(fields["metrics"].(string), "/metrics")
	if status, text := httpGet(t, base+"/readyz"); status != 200 {
		t.Errorf("readyz: %d, %s", status, text)
	}
	if status := agg.stop(); status != 0 {
		t.Errorf("exit status %d after a signal; %s", status, agg.stderr.text())
	}
	if got := agg.logged("stopped")["acknowledged"]; got != 100.0 {
		t.Errorf("acknowledged %v of 100 events", got)
	}
}

// Without a node the aggregator waits for one, and says so where it is asked.
func TestAggregateWithoutNode(t *testing.T) {
	agg := start(t, "aggregate", "--node", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json",
		"--set", "aggregate.stop_timeout=50ms")
	base := strings.TrimSuffix(agg.logged("aggregating")["metrics"].(string), "/metrics")
	if status, text := httpGet(t, base+"/readyz"); status != 503 || text != "no node has taken the hello yet: is one running at 127.0.0.1:1?\n" {
		t.Errorf("readyz: %d, %q", status, text)
	}
}

func TestWrongAggregates(t *testing.T) {
	conn := udpListener(t)
	taken := conn.LocalAddr().String()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refuse(t, []badInput{
		{"aggregate --metrics= --listen " + taken, 1, "aggregate: cannot receive events at " + taken + ": another program has this port: stop it, or choose another port: listen udp " + taken + ": bind: address already in use"},
		{"aggregate --metrics " + l.Addr().String(), 1, "aggregate: the address " + l.Addr().String() + " is in use by another program: stop that one, or choose another with --set metrics.aggregate=HOST:PORT"},
		{"aggregate --dc a/b", 2, `the configuration has a fault: --dc: aggregate.dc: is "a/b"; it must be 1 to 64 of A-Z a-z 0-9 _ . -`},
		{"aggregate --grace 2m", 2, "the configuration has a fault: --grace: aggregate.grace: is 2m; it must be from 10ms to 1m"},
		{"aggregate --listen nowhere", 2, `the configuration has a fault: --listen: aggregate.listen: "nowhere" is not an address; write host:port, as in "127.0.0.1:7070"`},
		{"aggregate --node=", 2, `the configuration has a fault: --node: client.nodes: names no node; write nodes = ["127.0.0.1:7070"]`},
		{"aggregate now", 2, `aggregate takes no arguments, and was given "now"; "mayfly aggregate --help" explains`},
	})
}

// The settings must reach the aggregator.
func TestAggregateOptions(t *testing.T) {
	c := config.DefaultConfig()
	o := aggregateOptions(&c, nil)
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.TTLSeconds != 10*86400 || o.OpenSeconds != 10 || o.AheadSeconds != 10 || o.Writer == "" {
		t.Errorf("got %+v", o)
	}
	for i := range c.Buckets {
		c.Buckets[i].TTL = 0 // for ever
	}
	if o := aggregateOptions(&c, nil); o.TTLSeconds <= 10*86400 {
		t.Errorf("events that never expire are refused after %d s", o.TTLSeconds)
	}
}
