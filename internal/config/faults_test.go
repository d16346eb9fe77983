package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFaultSentences shows every sentence about what a setting is called and
// how its value is written.
func TestFaultSentences(t *testing.T) {
	file := func(lines ...string) Input {
		return Input{FileName: "m.toml", File: []byte(strings.Join(lines, "\n") + "\n")}
	}
	env := func(pairs ...string) Input { return Input{Environ: pairs} }
	set := func(path, value string) Input { return Input{Flags: []Override{{path, value, "--set"}}} }
	for _, c := range []struct {
		name string
		in   Input
		want []string // without excerpts
	}{
		{"no TOML", file("[node"), []string{"m.toml:1:6: expected ']' to close table name"}},
		{"no UTF-8", file("[node]", "name = \"\xff\""), []string{"m.toml:2:9: invalid UTF-8 character in basic string"}},
		{"a key twice", file("[node]", `listen = "a:1"`, `listen = "b:2"`), []string{"m.toml:3:1: key listen is already defined"}},
		{"a section twice", file("[node]", "[node]"), []string{"m.toml:2:2: table node already exists"}},
		{"a number too large", file("[node]", "partitions = 99999999999999999999"), []string{"m.toml:2:14: decimal number is too large to fit in a 64-bit signed integer"}},

		{"an unknown key", file("[node]", `	lisen = "b:1"`), []string{"m.toml:2:2: node.lisen is not a setting; did you mean node.listen?"}},
		{"an unknown dotted key", file(`node.lisen = "b:1"`), []string{"m.toml:1:1: node.lisen is not a setting; did you mean node.listen?"}},
		{"an unknown key of an inline table", file(`node = { lisen = "b:1" }`), []string{"m.toml:1:10: node.lisen is not a setting; did you mean node.listen?"}},
		{"an unknown section, once", file("[nodes]", `listen = "a:1"`, "x = 1"), []string{"m.toml:1:2: nodes is not a section; did you mean node?"}},
		{"a section after an unknown one", file("[nodes]", "x = 1", "[node]", "x = 1"), []string{
			"m.toml:1:2: nodes is not a section; did you mean node?",
			"m.toml:4:1: node.x is not a setting; did you mean node.name?"}},
		{"half a second", file("[node]", `slot = "1500ms"`), []string{"m.toml:2: node.slot: is 1.5s; it must be whole seconds, from 1s to 1d"}},
		{"an unknown property", file("[[bucket]]", `name = "x"`, `ttll = "1h"`), []string{"m.toml:3:1: bucket.ttll is not a setting; did you mean bucket.ttl?"}},
		{"a key before its section", file(`listen = "a:1"`), []string{"m.toml:1:1: listen stands outside a section; did you mean node.listen?"}},
		{"an unknown key at the top", file(`nodelisten = "a:1"`), []string{"m.toml:1:1: nodelisten is not a setting; did you mean node.listen?"}},
		{"a section as a value", file("node = 3"), []string{"m.toml:1:1: node is a section; write [node] and its settings below"}},
		{"a section as a list", file("[[node]]"), []string{"m.toml:1:3: node is one section, not a list; write [node] with single brackets"}},
		{"buckets as a section", file("[bucket]", `name = "x"`), []string{"m.toml:1:2: buckets are a list; write [[bucket]] with two brackets"}},
		{"buckets as a value", file("bucket = 3"), []string{"m.toml:1:1: buckets are a list; write [[bucket]] with two brackets"}},
		{"a setting as a section", file("[node.listen]", "x = 1"), []string{"m.toml:1:2: node.listen is a setting, not a section; write it in [node]"}},
		{"a section below a section", file("[node.disk]", "x = 1"), []string{"m.toml:1:2: node.disk is not a section; did you mean node?"}},

		{"a text for a number", file("[node]", `partitions = "8"`), []string{"m.toml:2:14: node.partitions: takes a whole number"}},
		{"a fraction for a number", file("[node]", "partitions = 1.5"), []string{"m.toml:2:14: node.partitions: takes a whole number"}},
		{"a number for a duration", file("[node]", "slot = 5"), []string{`m.toml:2:8: node.slot: takes a duration in quotes, like "500ms", "1h30m" or "10d"`}},
		{"no duration", file("[node]", `slot = "1x"`), []string{`m.toml:2:8: node.slot: "1x" is not a duration; write one like "500ms", "1h30m" or "10d"`}},
		{"no size", file("[node]", `min_free = "1x"`), []string{`m.toml:2:12: node.min_free: "1x" is not a size; write one like "64MiB", "500KB" or "4096" (bytes)`}},
		{"a negative size", file("[node]", "min_free = -5"), []string{`m.toml:2:12: node.min_free: "-5" is not a size; write one like "64MiB", "500KB" or "4096" (bytes)`}},
		{"a fraction for a size", file("[node]", "min_free = 1.5"), []string{`m.toml:2:12: node.min_free: takes a size, like "64MiB", "500KB" or 4096 (bytes)`}},
		{"a number for a text", file("[node]", "listen = 5"), []string{"m.toml:2:10: node.listen: takes a text in quotes"}},
		{"a list for a text", file("[node]", `listen = ["a:1"]`), []string{"m.toml:2:1: node.listen: takes a text in quotes"}},
		{"a text for a list", file("[node]", `data = "/x"`), []string{`m.toml:2:8: node.data: takes a list of texts, like ["a", "b"]`}},
		{"a list of numbers", file("[node]", "data = [1]"), []string{`m.toml:2:1: node.data: takes a list of texts, like ["a", "b"]`}},
		{"a number for true", file("[[bucket]]", `name = "x"`, "timed = 1"), []string{"m.toml:3:9: bucket.timed: takes true or false"}},
		{"a text for true", file("[[bucket]]", `name = "x"`, `timed = "true"`), []string{"m.toml:3:9: bucket.timed: takes true or false"}},

		{"a bucket without a name", file("[[bucket]]", `name = "a"`, "[[bucket]]", "n = 1"), []string{`m.toml:3:3: the 2nd [[bucket]] has no name; write name = "…" in it`}},
		{"a bucket twice", file("[[bucket]]", `name = "a"`, "[[bucket]]", `type = "default"`, `name = "a"`), []string{"m.toml:3:3: bucket.a: is declared twice, first at m.toml:1; keep one [[bucket]] for it"}},
		{"buckets inline", file(`bucket = [{ name = "a", n = 0, r = 1, w = 1 }, { nam = "b" }]`), []string{"m.toml:1:50: bucket.nam is not a setting; did you mean bucket.name?"}},

		{"an index with a time of its own", file("[[bucket]]", `name = "epochs"`, `ttl = "1h"`), []string{"m.toml:3: bucket.epochs.ttl: is 1h; it is always that of events, 10d: set bucket.events.ttl instead"}},
		{"events that are not written once", file("[[bucket]]", `name = "events"`, "write_once = false"), []string{`bucket: bucket "events": write_once must be true`}},
		{"all faults of a file at once", file("[log]", "level = 3", "[node]", "slot = 1", "x = 2", "[a]", "[[bucket]]"), []string{
			"m.toml:2:9: log.level: takes a text in quotes",
			`m.toml:4:8: node.slot: takes a duration in quotes, like "500ms", "1h30m" or "10d"`,
			"m.toml:5:1: node.x is not a setting; did you mean node.name?",
			"m.toml:6:2: a is not a section; did you mean log?",
			`m.toml:7:3: the 1st [[bucket]] has no name; write name = "…" in it`}},
		{"unknown variables", env("MAYFLY_NODE_LISTEN=x", "MAYFLY_BUCKET__EVETNS__TTL=1h", "MAYFLY_CONFG=x"), []string{
			"environment: MAYFLY_BUCKET__EVETNS__TTL is not a variable of mayfly; did you mean MAYFLY_BUCKET__EVENTS__TTL?",
			"environment: MAYFLY_CONFG is not a variable of mayfly; did you mean MAYFLY_CONFIG?",
			"environment: MAYFLY_NODE_LISTEN is not a variable of mayfly; did you mean MAYFLY_NODE__LISTEN?"}},
		{"bad variables", env("MAYFLY_NODE__SLOT=1", "MAYFLY_NODE__PARTITIONS=x", "MAYFLY_BUCKET__EVENTS__TIMED=maybe"), []string{
			`MAYFLY_BUCKET__EVENTS__TIMED: bucket.events.timed: "maybe" is neither true nor false`,
			`MAYFLY_NODE__PARTITIONS: node.partitions: "x" is not a whole number`,
			`MAYFLY_NODE__SLOT: node.slot: "1" is not a duration; write one like "500ms", "1h30m" or "10d"`}},
		{"an unknown setting in a flag", set("node.lisen", "x"), []string{"--set: node.lisen is not a setting; did you mean node.listen?"}},
		{"an unknown bucket in a flag", set("bucket.evnts.ttl", "1h"), []string{"--set: bucket.evnts.ttl is not a setting; did you mean bucket.events.ttl?"}},
		{"a bad flag", set("node.listen", "x"), []string{`--set: node.listen: "x" is not an address; write host:port, as in "127.0.0.1:7070"`}},
		{"a rule broken in the file", file("[node]", `listen = "x"`), []string{`m.toml:2: node.listen: "x" is not an address; write host:port, as in "127.0.0.1:7070"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(c.in)
			if got := sentences(t, err); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// sentences returns err's faults without their excerpts.
func sentences(t *testing.T, err error) (list []string) {
	t.Helper()
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T is not an *Error", err)
	}
	for _, f := range e.Faults {
		first, _, _ := strings.Cut(f.Error(), "\n")
		list = append(list, first)
	}
	return list
}

// TestRules breaks every rule about values, all at once: none may hide another.
func TestRules(t *testing.T) {
	long := strings.Repeat("x", 256)
	c := Config{
		Log:       Log{Level: "loud", Format: "xml"},
		Metrics:   Metrics{Node: "a", Aggregate: "a:b", Tail: "a:65536"},
		Node:      Node{Name: "a\nb", Cluster: "", Listen: ":07", Slot: 1, Partitions: 3, Ahead: 0, Lateness: 1500 * Duration(time.Millisecond), SealAfter: 0, SyncInterval: 0, MinFree: -1, MergeRate: -1, TombstoneGrace: 1, MaxHandles: 0, MaxInFlight: 1, TailBuffer: 1},
		Aggregate: Aggregate{Name: long, Listen: []string{""}, DC: "a b", Grace: -1, ReceiveBuffer: 1, MaxMemory: 1},
		Client:    Client{User: "\xff", Timeout: 0, MaxInFlight: 0},
		Buckets:   []Bucket{{Type: "t", Name: "b", TTL: 1, N: 17, R: 0, W: 18, Sync: "often", MaxValue: 0}},
	}
	want := []string{
		`log.level: is "loud"; it must be debug, info, warn or error`,
		`log.format: is "xml"; it must be text or json`,
		`metrics.node: "a" is not an address; write host:port, as in "127.0.0.1:7070"`,
		`metrics.aggregate: "a:b" has no port number; write one from 0 to 65535 after the colon, as in "127.0.0.1:7070"`,
		`metrics.tail: "a:65536" has no port number; write one from 0 to 65535 after the colon, as in "127.0.0.1:7070"`,
		`node.name: is "a\nb"; it must be text without control characters`,
		`node.cluster: is empty; give it a name`,
		`node.listen: ":07" has no port number; write one from 0 to 65535 after the colon, as in "127.0.0.1:7070"`,
		`node.expect: is 0; it must be from 1 to 64: more nodes join later`,
		`node.weight: is 0; it must be from 1 to 1048576`,
		`node.data: names no directory; write data = ["./mayfly-data"]`,
		`node.slot: is 1ns; it must be whole seconds, from 1s to 1d`,
		`node.partitions: is 3; it must be a power of two from 1 to 4096`,
		`node.ahead: is 0s; it must be whole seconds, from 1s to 1h`,
		`node.lateness: is 1.5s; it must be whole seconds, from 1s to 1h`,
		`node.seal_after: is 0s; it must be whole seconds, from 1s to 1d`,
		`node.sync_interval: is 0s; it must be from 10ms to 1m`,
		`node.min_free: is -1; it must be from 0 to 1024TiB`,
		`node.merge_rate: is -1; it must be from 0 to 1TiB`,
		`node.tombstone_grace: is 1ns; it must be whole seconds, from 1h to 3650d`,
		`node.max_handles: is 0; it must be from 16 to 1048576`,
		`node.max_in_flight: is 1; it must be from 64MiB to 1TiB`,
		`node.tail_buffer: is 1; it must be from 16MiB to 1TiB`,
		`aggregate.name: has 256 bytes; at most 255 are allowed`,
		`aggregate.listen: "" is not an address; write host:port, as in "127.0.0.1:7070"`,
		`aggregate.dc: is "a b"; it must be 1 to 64 of A-Z a-z 0-9 _ . -`,
		`aggregate.grace: is -1ns; it must be from 10ms to 1m`,
		`aggregate.receive_buffer: is 1; it must be from 64KiB to 1GiB`,
		`aggregate.max_memory: is 1; it must be from 4MiB to 1TiB`,
		`aggregate.stop_timeout: is 0s; it must be from 10ms to 1h`,
		`client.nodes: names no node; write nodes = ["127.0.0.1:7070"]`,
		`client.user: is "\xff"; it must be text without control characters`,
		`client.timeout: is 0s; it must be from 1ms to 1h`,
		`client.max_in_flight: is 0; it must be from 1MiB to 1TiB`,
		`bucket.t/b.ttl: is 1ns; it must be whole seconds, from 0s to 36600d`,
		`bucket.t/b.n: is 17; it must be from 1 to 16`,
		`bucket.t/b.r: is 0; it must be from 1 to n, which is 17`,
		`bucket.t/b.w: is 18; it must be from 1 to n, which is 17`,
		`bucket.t/b.sync: is "often"; it must be none, interval or always`,
		`bucket.t/b.max_value: is 0; it must be from 1 to 50MiB`,
	}
	got := sentences(t, c.Validate())
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case i >= len(want):
			t.Errorf("too many: %s", got[i])
		case got[i] != want[i]:
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
	c = DefaultConfig()
	c.Node.Data = []string{"", "/b", "/b"}
	c.Aggregate.Listen = nil
	c.Client.Nodes = []string{"x"}
	want = []string{
		`node.data: holds an empty name; use "." for the current directory`,
		`node.data: names "/b" twice`,
		`aggregate.listen: names no address; write listen = ["127.0.0.1:7071"]`,
		`client.nodes: "x" is not an address; write host:port, as in "127.0.0.1:7070"`,
	}
	if got := sentences(t, c.Validate()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestFaultsOfJoining: how a node finds the others, and they it.
func TestFaultsOfJoining(t *testing.T) {
	c := DefaultConfig()
	c.Node.Join, c.Node.Expect, c.Node.Zone, c.Node.Weight, c.Node.Listen = []string{"a:1", "b:2"}, 3, "rack 1", 1, "0.0.0.0:7070"
	c.Node.Advertise = "10.0.0.1:7070"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Node.Join, c.Node.Expect, c.Node.Zone, c.Node.Weight, c.Node.Advertise = []string{"a"}, 65, "\n", 0, "[::]:7070"
	want := []string{
		`node.join: "a" is not an address; write host:port, as in "127.0.0.1:7070"`,
		`node.expect: is 65; it must be from 1 to 64: more nodes join later`,
		`node.zone: is "\n"; it must be text without control characters`,
		`node.weight: is 0; it must be from 1 to 1048576`,
		`node.advertise: is "[::]:7070", which no other machine can connect to; name a host`,
	}
	if got := sentences(t, c.Validate()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	c = DefaultConfig()
	c.Node.Expect = 3
	want = []string{`node.expect: is 3, and node.join is empty; name there where the others are`}
	if got := sentences(t, c.Validate()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// A fault in a file shows the line with a caret below the place.
func TestErrorText(t *testing.T) {
	_, err := Load(Input{FileName: "m.toml", File: []byte("[node]\n\tlisen = \"b:1\" # x\r\n")})
	want := `the configuration has a fault: m.toml:2:2: node.lisen is not a setting; did you mean node.listen?
   2 |  lisen = "b:1" # x
     |  ^`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = Load(Input{Environ: []string{"MAYFLY_NODE__SLOT=1s1", "MAYFLY_LOG__LEVL=x"}})
	want = `the configuration has 2 faults:
  environment: MAYFLY_LOG__LEVL is not a variable of mayfly; did you mean MAYFLY_LOG__LEVEL?
  MAYFLY_NODE__SLOT: node.slot: "1s1" is not a duration; write one like "500ms", "1h30m" or "10d"`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if f, ok := errors.AsType[*Fault](err); !ok || f.Where != "environment" {
		t.Errorf("the first fault is not found in the error: %v", f)
	}
}
