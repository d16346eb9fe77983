package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
)

func TestDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

// Every setting must have a name and a meaning: the example and the messages
// are made of them.
func TestEverySettingIsDocumented(t *testing.T) {
	c := DefaultConfig()
	seen := map[string]bool{}
	for _, s := range c.settings() {
		if s.doc == "" || strings.HasSuffix(s.path, ".") {
			t.Errorf("%s has no documentation or no name", s.path)
		}
		if seen[envName(s.path)] {
			t.Errorf("%s shares its variable %s", s.path, envName(s.path))
		}
		seen[envName(s.path)] = true
	}
}

func TestPrecedence(t *testing.T) {
	const path = "node.listen"
	file := []byte("[node]\nlisten = \"file:1\"\n")
	env := []string{"MAYFLY_NODE__LISTEN=env:2", "HOME=/x", "MAYFLY_CONFIG=x.toml"}
	flags := []Override{{path, "flag:3", "--listen"}, {path, "later:4", "--set"}}
	for _, c := range []struct {
		name         string
		in           Input
		want, origin string
	}{
		{"nothing given is the default", Input{}, "127.0.0.1:7070", "default"},
		{"the file beats the default", Input{FileName: "m.toml", File: file}, "file:1", "m.toml:2"},
		{"the environment beats the file", Input{FileName: "m.toml", File: file, Environ: env}, "env:2", "MAYFLY_NODE__LISTEN"},
		{"a flag beats the environment", Input{FileName: "m.toml", File: file, Environ: env, Flags: flags[:1]}, "flag:3", "--listen"},
		{"of two flags the later counts", Input{Flags: flags}, "later:4", "--set"},
		{"an environment alone works", Input{Environ: env}, "env:2", "MAYFLY_NODE__LISTEN"},
	} {
		e, err := Load(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if e.Node.Listen != c.want || e.Origin(path) != c.origin {
			t.Errorf("%s: got %q from %q, want %q from %q", c.name, e.Node.Listen, e.Origin(path), c.want, c.origin)
		}
		if e.Origin("node.data") != "default" {
			t.Errorf("%s: node.data comes from %q", c.name, e.Origin("node.data"))
		}
	}
}

// Every kind of value, from each of the three sources.
func TestEveryKindFromEverySource(t *testing.T) {
	file := `
[log]
level = "debug"
[node]
data = ["/a"]
slot = "10s"
partitions = 8
min_free = 4096
max_in_flight = "1GiB"
[client]
nodes = ["a:1", "b:2"]
[[bucket]]
name = "events"
ttl = "1h"
sync = "none"
`
	env := []string{"MAYFLY_LOG__LEVEL=debug", "MAYFLY_NODE__DATA=/a", "MAYFLY_NODE__SLOT=10s", "MAYFLY_NODE__PARTITIONS=8", "MAYFLY_NODE__MIN_FREE=4096",
		"MAYFLY_NODE__MAX_IN_FLIGHT=1GiB", "MAYFLY_CLIENT__NODES=a:1, b:2,", "MAYFLY_BUCKET__EVENTS__TTL=1h", "MAYFLY_BUCKET__EVENTS__SYNC=none"}
	var flags []Override
	for _, f := range []string{"log.level=debug", "node.data=/a", "node.slot=10s", "node.partitions=8", "node.min_free=4096",
		"node.max_in_flight=1GiB", "client.nodes=a:1,b:2", "bucket.events.ttl=1h", "bucket.events.sync=none"} {
		path, value, _ := strings.Cut(f, "=")
		flags = append(flags, Override{path, value, "--set"})
	}
	for _, in := range []Input{{FileName: "f", File: []byte(file)}, {Environ: env}, {Flags: flags}} {
		e, err := Load(in)
		if err != nil {
			t.Error(err)
			continue
		}
		want := DefaultConfig()
		want.Log.Level = "debug"
		want.Node.Data, want.Node.Slot, want.Node.Partitions = []string{"/a"}, Duration(10*time.Second), 8
		want.Node.MinFree, want.Node.MaxInFlight = 4096, 1<<30
		want.Client.Nodes = []string{"a:1", "b:2"}
		want.bucket(bucket.DefaultType, "events").TTL = Duration(time.Hour)
		want.bucket(bucket.DefaultType, "events").Sync = "none"
		want.bucket(bucket.DefaultType, "epochs").TTL = Duration(time.Hour)
		if !reflect.DeepEqual(e.Config, want) {
			t.Errorf("got %+v\nwant %+v", e.Config, want)
		}
	}
}

func TestBucketsOfTheFile(t *testing.T) {
	e, err := Load(Input{FileName: "m.toml", File: []byte(`
[[bucket]]
name = "notes"
ttl = "1d12h"
[[bucket]]
type = "web"
name = "hits.2"
n = 1
r = 1
w = 1
`), Environ: []string{"MAYFLY_BUCKET__NOTES__N=5", "MAYFLY_BUCKET__WEB_HITS_2__SYNC=always"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, b := range e.Buckets {
		names = append(names, b.path())
	}
	if want := []string{"bucket.epochs", "bucket.events", "bucket.notes", "bucket.web/hits.2"}; !slices.Equal(names, want) {
		t.Fatalf("got %v, want %v", names, want)
	}
	notes, hits := e.Buckets[2], e.Buckets[3]
	if notes.TTL != Duration(36*time.Hour) || notes.N != 5 || notes.R != 3 || notes.W != 3 || hits.N != 1 || hits.TTL != 0 || hits.Sync != "always" || hits.Type != "web" {
		t.Errorf("got %+v and %+v", notes, hits)
	}
	if e.Origin("bucket.notes.ttl") != "m.toml:4" || e.Origin("bucket.notes.n") != "MAYFLY_BUCKET__NOTES__N" || e.Origin("bucket.notes.w") != "default" {
		t.Error("the origins of a bucket's properties are wrong")
	}
}

// What Load prints must be what it reads.
func TestPrintedSettingsReadBack(t *testing.T) {
	e, err := Load(Input{Environ: []string{"MAYFLY_NODE__NAME=a \"b\" \\ é", "MAYFLY_CLIENT__NODES=a:1,b:2"},
		FileName: "m.toml", File: []byte("[[bucket]]\ntype = \"x\"\nname = \"y#z\"\nttl = \"90m\"\n")})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(Input{FileName: "printed.toml", File: []byte(e.TOML())})
	if err != nil {
		t.Fatalf("%v in\n%s", err, e.TOML())
	}
	if !reflect.DeepEqual(again.Config, e.Config) {
		t.Errorf("got %+v\nwant %+v", again.Config, e.Config)
	}
}

func TestExampleIsTheDefault(t *testing.T) {
	e, err := Load(Input{FileName: "example.toml", File: []byte(Example())})
	if err != nil {
		t.Fatalf("%v in\n%s", err, Example())
	}
	if want := DefaultConfig(); !reflect.DeepEqual(e.Config, want) {
		t.Errorf("got %+v\nwant %+v", e.Config, want)
	}
	c := DefaultConfig()
	for _, s := range c.settings() {
		if !strings.HasPrefix(e.Origin(s.path), "example.toml:") {
			t.Errorf("the example leaves out %s", s.path)
		}
	}
}

func TestSettingsNameTheirOrigin(t *testing.T) {
	e, err := Load(Input{Environ: []string{"MAYFLY_LOG__LEVEL=warn"}})
	if err != nil {
		t.Fatal(err)
	}
	list := e.Settings()
	if got := list[0]; got != (Setting{"log.level", `"warn"`, "MAYFLY_LOG__LEVEL"}) {
		t.Errorf("got %+v", got)
	}
	if got := list[1]; got != (Setting{"log.format", `"text"`, "default"}) {
		t.Errorf("got %+v", got)
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		name, want string
		from       []string
	}{
		{"node.lisen", "node.listen", Paths()},
		{"nodes.listen", "node.listen", Paths()},
		{"client.node", "client.nodes", Paths()},
		{"log.lvl", "log.level", Paths()},
		{"a", "", nil},
	} {
		if got := Nearest(c.name, c.from); got != c.want {
			t.Errorf("nearest to %q: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "10d": 240 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "0d": 0, "-5s": -5 * time.Second, "106751d": 106751 * day,
	} {
		got, err := ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "d", "1.5d", "1d-1h", "1d+1h", "-1d1h", "+1d", "106752d", "106751d24h", "9999999999d", "10 d", "1d1", "1d1d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Hour: "1h", 90 * time.Minute: "1h30m", 240 * time.Hour: "10d", 36 * time.Hour: "1d12h", 10 * time.Second: "10s", time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s"} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
	for text, want := range map[string]Size{"0": 0, "4096": 4096, "1B": 1, "64MiB": 64 << 20, "500KB": 500_000, "500kB": 500_000, "1 GiB": 1 << 30, "2TB": 2e12, "8TiB": 8 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "9999999999TiB", "8388608TiB", "1mib", "0x10", "1_000"} {
		if s, err := ParseSize(text); err == nil {
			t.Errorf("%q is read as %v", text, s)
		}
	}
	for s, want := range map[Size]string{0: "0", 1: "1", 4096: "4KiB", 64 << 20: "64MiB", 500_000: "500KB", 1e9: "1GB", 1 << 40: "1TiB", 50_000_001: "50000001"} {
		if got := s.String(); got != want {
			t.Errorf("%d is written %q, want %q", int64(s), got, want)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"10d", "1d12h", "64MiB", "500KB", "-5s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(d.String()); err != nil || again != d {
				t.Errorf("%q is written %q and read back as %v, %v", s, d.String(), again, err)
			}
		}
		if v, err := ParseSize(s); err == nil {
			if again, err := ParseSize(v.String()); err != nil || again != v {
				t.Errorf("%q is written %q and read back as %v, %v", s, v.String(), again, err)
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add(Example())
	f.Add("[node]\nlisen = 1\n")
	f.Add("[[bucket]]\nttl = 5\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Load(Input{FileName: "fuzz.toml", File: []byte(text)})
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok || err.Error() == "" {
				t.Fatalf("not a configuration error: %v", err)
			}
			return
		}
		again, err := Load(Input{FileName: "printed.toml", File: []byte(e.TOML())})
		if err != nil || !reflect.DeepEqual(again.Config, e.Config) {
			t.Fatalf("printed settings read back differently: %v\n%s", err, e.TOML())
		}
	})
}
