package config

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
)

// Validate returns an *[Error] that holds every rule c breaks, or nil.
func (c *Config) Validate() error { return c.faults().err() }

func (c *Config) faults() (all faults) {
	c.Log.check(&all)
	c.Metrics.check(&all)
	c.Node.check(&all)
	c.Aggregate.check(&all)
	c.Client.check(&all)
	before := len(all)
	for i := range c.Buckets {
		c.Buckets[i].check(&all)
	}
	if len(all) == before {
		c.checkSet(&all)
	}
	return all
}

// checkSet checks what must hold between the buckets, which are right one by one.
func (c *Config) checkSet(all *faults) {
	if events, index := c.bucket(bucket.DefaultType, bucket.Events).TTL, c.bucket(bucket.DefaultType, bucket.Epochs).TTL; events != index {
		all.add("bucket.epochs.ttl", "is %v; it is always that of events, %v: set bucket.events.ttl instead", index, events)
	}
	if _, err := c.BucketSet(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			all.add("bucket", "%s", strings.TrimSuffix(line, ": "+bucket.ErrInvalid.Error()))
		}
	}
}

func (l *Log) check(all *faults) {
	oneOf(all, "log.level", l.Level, "debug", "info", "warn", "error")
	oneOf(all, "log.format", l.Format, "text", "json")
}

func (m *Metrics) check(all *faults) {
	for _, a := range []struct{ key, value string }{
		{"metrics.node", m.Node}, {"metrics.aggregate", m.Aggregate}, {"metrics.tail", m.Tail},
	} {
		if a.value != "" {
			address(all, a.key, a.value)
		}
	}
}

// checkCluster reports what is wrong with how the node finds others.
func (n *Node) checkCluster(all *faults) {
	for _, a := range n.Join {
		address(all, "node.join", a)
	}
	if n.Expect < 1 || n.Expect > maxExpected {
		all.add("node.expect", "is %d; it must be from 1 to %d: more nodes join later", n.Expect, maxExpected)
	} else if n.Expect > 1 && len(n.Join) == 0 {
		all.add("node.expect", "is %d, and node.join is empty; name there where the others are", n.Expect)
	}
	label(all, "node.zone", n.Zone, true)
	if n.Weight < 1 || n.Weight > MaxWeight {
		all.add("node.weight", "is %d; it must be from 1 to %d", n.Weight, MaxWeight)
	}
	if n.Advertise != "" {
		address(all, "node.advertise", n.Advertise)
		if host, _, err := net.SplitHostPort(n.Advertise); err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
			all.add("node.advertise", "is %q, which no other machine can connect to; name a host", n.Advertise)
		}
	}
}

// Bounds of what a node says of itself.
const (
	maxExpected = 64
	// MaxWeight is the largest weight of a node.
	MaxWeight = 1 << 20
)

func (n *Node) check(all *faults) {
	label(all, "node.name", n.Name, true)
	label(all, "node.cluster", n.Cluster, false)
	address(all, "node.listen", n.Listen)
	n.checkCluster(all)
	if len(n.Data) == 0 {
		all.add("node.data", "names no directory; write data = [\"./mayfly-data\"]")
	}
	for i, d := range n.Data {
		switch {
		case d == "":
			all.add("node.data", "holds an empty name; use \".\" for the current directory")
		case slices.Contains(n.Data[:i], d):
			all.add("node.data", "names %q twice", d)
		}
	}
	secondsIn(all, "node.slot", n.Slot, time.Second, day)
	if p := n.Partitions; p < 1 || p > 4096 || p&(p-1) != 0 {
		all.add("node.partitions", "is %d; it must be a power of two from 1 to 4096", p)
	}
	secondsIn(all, "node.ahead", n.Ahead, time.Second, time.Hour)
	secondsIn(all, "node.lateness", n.Lateness, time.Second, time.Hour)
	secondsIn(all, "node.seal_after", n.SealAfter, time.Second, day)
	durationIn(all, "node.sync_interval", n.SyncInterval, 10*time.Millisecond, time.Minute)
	sizeIn(all, "node.min_free", n.MinFree, 0, 1<<50)
	sizeIn(all, "node.merge_rate", n.MergeRate, 0, 1<<40)
	secondsIn(all, "node.tombstone_grace", n.TombstoneGrace, time.Hour, 3650*day)
	if n.MaxHandles < 16 || n.MaxHandles > 1<<20 {
		all.add("node.max_handles", "is %d; it must be from 16 to %d", n.MaxHandles, 1<<20)
	}
	sizeIn(all, "node.hint_cache", n.HintCache, 0, 1<<30)
	sizeIn(all, "node.max_in_flight", n.MaxInFlight, 64<<20, 1<<40)
	sizeIn(all, "node.tail_buffer", n.TailBuffer, 16<<20, 1<<40)
}

func (a *Aggregate) check(all *faults) {
	label(all, "aggregate.name", a.Name, true)
	if len(a.Listen) == 0 {
		all.add("aggregate.listen", "names no address; write listen = [\"127.0.0.1:7071\"]")
	}
	for _, l := range a.Listen {
		address(all, "aggregate.listen", l)
	}
	if !event.ValidName(a.DC) {
		all.add("aggregate.dc", "is %q; it must be 1 to %d of A-Z a-z 0-9 _ . -", a.DC, event.MaxNameBytes)
	}
	durationIn(all, "aggregate.grace", a.Grace, 10*time.Millisecond, time.Minute)
	sizeIn(all, "aggregate.receive_buffer", a.ReceiveBuffer, 64<<10, 1<<30)
	sizeIn(all, "aggregate.max_memory", a.MaxMemory, 4<<20, 1<<40)
	durationIn(all, "aggregate.stop_timeout", a.StopTimeout, 10*time.Millisecond, time.Hour)
}

func (c *Client) check(all *faults) {
	if len(c.Nodes) == 0 {
		all.add("client.nodes", "names no node; write nodes = [\"127.0.0.1:7070\"]")
	}
	for _, n := range c.Nodes {
		address(all, "client.nodes", n)
	}
	label(all, "client.user", c.User, true)
	durationIn(all, "client.timeout", c.Timeout, time.Millisecond, time.Hour)
	sizeIn(all, "client.max_in_flight", c.MaxInFlight, 1<<20, 1<<40)
}

func (b *Bucket) check(all *faults) {
	path := b.path()
	label(all, path+".type", b.Type, false)
	label(all, path+".name", b.Name, false)
	secondsIn(all, path+".ttl", b.TTL, 0, bucket.MaxTTLSeconds*time.Second)
	if b.N < 1 || b.N > bucket.MaxN {
		all.add(path+".n", "is %d; it must be from 1 to %d", b.N, bucket.MaxN)
	}
	for _, q := range []struct {
		key string
		n   int
	}{{".r", b.R}, {".w", b.W}} {
		if q.n < 1 || q.n > max(b.N, 1) {
			all.add(path+q.key, "is %d; it must be from 1 to n, which is %d", q.n, b.N)
		}
	}
	oneOf(all, path+".sync", b.Sync, "none", "interval", "always")
	sizeIn(all, path+".max_value", b.MaxValue, 1, bucket.MaxValueBytes)
}

func oneOf(all *faults, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		last := len(allowed) - 1
		all.add(key, "is %q; it must be %s or %s", value, strings.Join(allowed[:last], ", "), allowed[last])
	}
}

func durationIn(all *faults, key string, d Duration, least, most time.Duration) {
	if t := time.Duration(d); t < least || t > most {
		all.add(key, "is %v; it must be from %v to %v", d, Duration(least), Duration(most))
	}
}

func secondsIn(all *faults, key string, d Duration, least, most time.Duration) {
	if t := time.Duration(d); t < least || t > most || t%time.Second != 0 {
		all.add(key, "is %v; it must be whole seconds, from %v to %v", d, Duration(least), Duration(most))
	}
}

func sizeIn(all *faults, key string, s, least, most Size) {
	if s < least || s > most {
		all.add(key, "is %v; it must be from %v to %v", s, least, most)
	}
}

// label checks a name that people read: it must print on one line.
func label(all *faults, key, s string, mayBeEmpty bool) {
	switch {
	case s == "" && !mayBeEmpty:
		all.add(key, "is empty; give it a name")
	case len(s) > 255:
		all.add(key, "has %d bytes; at most 255 are allowed", len(s))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		all.add(key, "is %q; it must be text without control characters", s)
	}
}

// address checks a host:port. The host may be empty: every interface.
func address(all *faults, key, s string) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		all.add(key, "%q is not an address; write host:port, as in \"127.0.0.1:7070\"", s)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		all.add(key, "%q has no port number; write one from 0 to 65535 after the colon, as in \"127.0.0.1:7070\"", s)
	}
}
