package bucket

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

func TestGoldenIDs(t *testing.T) {
	// Computed by another implementation of xxhash64. A change loses all data.
	for _, c := range []struct{ bucketType, name, want string }{
		{"default", "events", "2da5036aee27a10c"},
		{"default", "epochs", "6bc8aac11e95c531"},
		{"a", "bc", "55df8d5694002669"},
		{"ab", "c", "2c7e48e6b6ede99d"},
		{"default", "café 1", "e2152099a5eb8bed"},
	} {
		id := IDOf(c.bucketType, c.name)
		if id.String() != c.want {
			t.Errorf("IDOf(%q, %q) = %v, want %s", c.bucketType, c.name, id, c.want)
		}
		if parsed, err := ParseID(c.want); err != nil || parsed != id {
			t.Errorf("ParseID(%q) = %v, %v", c.want, parsed, err)
		}
		if got := Plain(c.bucketType, c.name).ID(); got != id {
			t.Errorf("the properties' id is %v", got)
		}
	}
	if s := ID(0xab).String(); s != "00000000000000ab" {
		t.Errorf("a small id is named %q", s)
	}
	IDOf(strings.Repeat("t", 255), strings.Repeat("n", 255)) // the longest names fit
}

func TestParseIDRefuses(t *testing.T) {
	for _, text := range []string{"", "ab", "00000000000000AB", "00000000000000a", "000000000000000ab", "+0000000000000ab", "000000000000_0ab", "0x000000000000ab", "000000000000 0ab"} {
		if id, err := ParseID(text); !errors.Is(err, ErrInvalid) || id != 0 {
			t.Errorf("ParseID(%q) = %v, %v", text, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("2da5036aee27a10c")
	f.Add("2DA5036AEE27A10C")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseID(text); err == nil && id.String() != text {
			t.Errorf("%q parsed to %v", text, id)
		}
	})
}

func TestIDOfDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { IDOf("default", "events") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCheckNames(t *testing.T) {
	for _, c := range []struct {
		name               string
		bucketType, bucket string
		say                []string
	}{
		{"ordinary", "default", "events", nil},
		{"slashes and blanks", "a/b c", "..", nil},
		{"another script", "узел", "событие", nil},
		{"the replacement character itself", "default", "\ufffd", nil},
		{"the longest", strings.Repeat("t", 255), strings.Repeat("n", 255), nil},
		{"both empty", "", "", []string{"bucket type: name is empty", "bucket: name is empty"}},
		{"too long", "default", strings.Repeat("n", 256), []string{"256 bytes, want at most 255"}},
		{"NUL", "default", "a\x00b", []string{"without control characters"}},
		{"a line break in the type", "a\nb", "b", []string{`bucket type "a\nb"`}},
		{"no UTF-8", "default", "a\xff", []string{"must be UTF-8"}},
	} {
		checkSays(t, c.name, CheckNames(c.bucketType, c.bucket), c.say)
	}
}

// checkSays demands an error that wraps ErrInvalid and says all of say, or
// none if there is nothing to say.
func checkSays(t *testing.T, name string, err error, say []string) {
	t.Helper()
	if (err == nil) != (len(say) == 0) || err != nil && !errors.Is(err, ErrInvalid) {
		t.Errorf("%s: %v", name, err)
		return
	}
	for _, s := range say {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s:\n got %q\nwant %q in it", name, err, s)
		}
	}
}

func TestCheckKey(t *testing.T) {
	for _, c := range []struct {
		name, key string
		say       []string
	}{
		{"any bytes", "\x00\xff\n", nil},
		{"the longest", strings.Repeat("k", 4096), nil},
		{"empty", "", []string{"key is empty"}},
		{"too long", strings.Repeat("k", 4097), []string{"4097 bytes, want at most 4096"}},
	} {
		checkSays(t, c.name, CheckKey(c.key), c.say)
		checkSays(t, c.name+" as bytes", CheckKey([]byte(c.key)), c.say)
	}
	if err := CheckKey([]byte(strings.Repeat("k", 5000))); len(err.Error()) > 200 {
		t.Errorf("the whole key is in the error: %d bytes", len(err.Error()))
	}
}

func TestDefaults(t *testing.T) {
	s := DefaultSet()
	want := Properties{Type: "default", Name: "events", Timed: true, WriteOnce: true, Index: true, TTLSeconds: 864000,
		N: 3, R: 2, W: 2, SmallestW: 2, Sync: "interval", MaxValueBytes: 50 << 20}
	if got := s.Lookup("default", "events"); got != want {
		t.Errorf("events: %+v", got)
	}
	want = Properties{Type: "default", Name: "epochs", Timed: true, Rows: true, TTLSeconds: 864000,
		N: 3, R: 2, W: 2, SmallestW: 2, Sync: "interval", MaxValueBytes: 50 << 20}
	if got := s.Lookup("default", "epochs"); got != want {
		t.Errorf("epochs: %+v", got)
	}
	want = Properties{Type: "other", Name: "events", N: 3, R: 2, W: 2, SmallestW: 2, Sync: "interval", MaxValueBytes: 50 << 20}
	if got := s.Lookup("other", "events"); got != want {
		t.Errorf("an undeclared bucket: %+v", got)
	}
	if !s.Declared("default", "events") || s.Declared("other", "events") || s.Len() != 2 {
		t.Error("what is declared")
	}
	if err := s.validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Properties)
		say    []string
	}{
		{"a plain bucket", func(p *Properties) {}, nil},
		{"another timed bucket", func(p *Properties) { p.Timed, p.WriteOnce = true, true }, nil},
		{"the widest", func(p *Properties) { p.N, p.R, p.W, p.SmallestW, p.TTLSeconds = 16, 16, 16, 16, MaxTTLSeconds }, nil},
		{"the narrowest", func(p *Properties) { p.N, p.R, p.W, p.SmallestW, p.MaxValueBytes = 1, 1, 1, 1, 1 }, nil},
		{"another index", func(p *Properties) { p.Index = true }, []string{"index must be false"}},
		{"another holder of the index", func(p *Properties) { p.Rows = true }, []string{"rows must be false"}},
		{"quorums of nobody", func(p *Properties) { p.R, p.W = 0, 0 }, []string{"r is 0, want 1 to n, which is 3", "w is 0"}},
		{"quorums of more than all", func(p *Properties) { p.R, p.W = 4, 5 }, []string{"r is 4", "w is 5"}},
		{"a smallest w above w", func(p *Properties) { p.SmallestW = 3 }, []string{"smallest_w is 3"}},
		{"a negative TTL", func(p *Properties) { p.TTLSeconds = -1 }, []string{"ttl_seconds is -1, want 0 (for ever) to"}},
		{"a TTL of ages", func(p *Properties) { p.TTLSeconds = MaxTTLSeconds + 1 }, []string{"ttl_seconds"}},
		{"a value too large", func(p *Properties) { p.MaxValueBytes = 50<<20 + 1 }, []string{"max_value_bytes is 52428801, want 1 to 52428800"}},
		{"all at once", func(p *Properties) { *p = Properties{} }, []string{"name is empty", "n is 0, want 1 to 16", `sync is ""`, "max_value_bytes is 0"}},
		{"events not timed", func(p *Properties) { *p = DefaultSet().Lookup("default", "events"); p.Timed = false }, []string{`bucket "events": timed must be true`}},
		{"events written twice", func(p *Properties) { *p = DefaultSet().Lookup("default", "events"); p.WriteOnce = false }, []string{"write_once must be true"}},
		{"events not indexed", func(p *Properties) { *p = DefaultSet().Lookup("default", "events"); p.Index = false }, []string{"index must be true"}},
		{"epochs not timed", func(p *Properties) { *p = DefaultSet().Lookup("default", "epochs"); p.Timed = false }, []string{"timed must be true"}},
		{"epochs written once", func(p *Properties) { *p = DefaultSet().Lookup("default", "epochs"); p.WriteOnce = true }, []string{"write_once must be false"}},
		{"epochs without rows", func(p *Properties) { *p = DefaultSet().Lookup("default", "epochs"); p.Rows = false }, []string{"rows must be true"}},
		{"an unknown sync policy", func(p *Properties) { p.Sync = "sometimes" }, []string{`bucket "b" of type "t": sync is "sometimes", want none, interval or always`}},
	} {
		p := Plain("t", "b")
		c.change(&p)
		checkSays(t, c.name, p.Validate(), c.say)
	}
}

func TestQuorums(t *testing.T) {
	p := Plain("t", "b")
	p.N, p.R, p.W, p.SmallestW = 3, 2, 3, 2
	for _, c := range []struct{ nodes, n, r, w, absent int }{
		{1, 1, 1, 1, 1}, // alone, a node knows
		{2, 2, 2, 2, 1},
		{3, 3, 2, 3, 2}, // some puts were taken by two only
		{9, 3, 2, 3, 2},
	} {
		if n, r, w := p.For(c.nodes); n != c.n || r != c.r || w != c.w || p.AbsentQuorum(c.nodes) != c.absent {
			t.Errorf("%d nodes: n %d, r %d, w %d, absent %d; want %+v", c.nodes, n, r, w, p.AbsentQuorum(c.nodes), c)
		}
	}
}

// Absent needs enough owners that one of them is among any w that took a put.
func TestAbsentQuorumMeetsEveryPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plain("t", "b")
		p.N = rapid.IntRange(1, MaxN).Draw(t, "n")
		p.W = rapid.IntRange(1, p.N).Draw(t, "w")
		p.SmallestW = rapid.IntRange(1, p.W).Draw(t, "smallest w")
		nodes := rapid.IntRange(1, 20).Draw(t, "nodes")
		n, _, w := p.For(nodes)
		if q := p.AbsentQuorum(nodes); q < 1 || q > n || q+min(p.SmallestW, n) <= n || q+w <= n {
			t.Fatalf("%+v on %d nodes: absent at %d", p, nodes, q)
		}
	})
}

func TestCheckChange(t *testing.T) {
	p := Plain("t", "b")
	live := p
	live.TTLSeconds, live.R, live.W, live.Sync, live.MaxValueBytes = 5, 1, 1, SyncAlways, 10
	checkSays(t, "what may change", p.CheckChange(live), nil)
	fixed := p
	fixed.Timed, fixed.WriteOnce, fixed.N = true, true, 1
	checkSays(t, "what may not", p.CheckChange(fixed), []string{"timed cannot become true", "write_once cannot become true", "n cannot become 1: the bucket holds data"})
}

func mustDeclare(t *testing.T, s *Set, d ...Declaration) *Set {
	t.Helper()
	next, err := s.Declare(d...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestDeclare(t *testing.T) {
	s := mustDeclare(t, DefaultSet(),
		Declaration{Name: Events, TTLSeconds: new(int64(20)), Sync: new(SyncAlways)},
		Declaration{Type: "sessions", Name: "web", Timed: new(true), WriteOnce: new(true), N: new(5), MaxValueBytes: new(int64(1000))},
		Declaration{Name: "one", N: new(1)},
		Declaration{Name: "wide", N: new(5), R: new(1), W: new(4)},
		Declaration{Name: "wide", R: new(2)},
		Declaration{Name: Epochs, Sync: new(SyncNone)})
	var got []Properties
	for p := range s.All() {
		got = append(got, p)
	}
	base := Plain("default", "")
	with := func(change func(*Properties)) Properties {
		p := base
		change(&p)
		return p
	}
	want := []Properties{
		with(func(p *Properties) { p.Name, p.Timed, p.Rows, p.TTLSeconds, p.Sync = Epochs, true, true, 20, SyncNone }),
		with(func(p *Properties) {
			p.Name, p.Timed, p.WriteOnce, p.Index, p.TTLSeconds, p.Sync = Events, true, true, true, 20, SyncAlways
		}),
		with(func(p *Properties) { p.Name, p.N, p.R, p.W, p.SmallestW = "one", 1, 1, 1, 1 }),
		with(func(p *Properties) { p.Name, p.N, p.R, p.W, p.SmallestW = "wide", 5, 2, 4, 4 }),
		with(func(p *Properties) {
			p.Type, p.Name, p.Timed, p.WriteOnce, p.MaxValueBytes = "sessions", "web", true, true, 1000
			p.N, p.R, p.W, p.SmallestW = 5, 3, 3, 3
		}),
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	for range s.All() {
		break // must not be fed more
	}
}

// The smallest w is kept as long as the bucket may hold data of its time.
func TestSmallestW(t *testing.T) {
	s := DefaultSet()
	for i, c := range []struct{ n, w, smallest int }{{3, 3, 2}, {3, 1, 1}, {3, 2, 1}, {5, 3, 3}, {5, 5, 3}} {
		s = mustDeclare(t, s, Declaration{Name: "b", N: new(c.n), W: new(c.w)})
		if p := s.Lookup("default", "b"); p.SmallestW != c.smallest {
			t.Errorf("step %d: smallest w is %d, want %d", i, p.SmallestW, c.smallest)
		}
	}
}

func TestDeclareChangesNothingWhenRefused(t *testing.T) {
	s := DefaultSet()
	next, err := s.Declare(
		Declaration{Name: Epochs, TTLSeconds: new(int64(5))},
		Declaration{Name: Events, Timed: new(false)},
		Declaration{Name: "b", N: new(3), W: new(4)},
		Declaration{Name: ""},
		Declaration{Type: "bad\n", Name: "b"})
	if next != nil {
		t.Error("a set with faults")
	}
	checkSays(t, "all faults", err, []string{
		`bucket "epochs": ttl_seconds is always that of "events"; set it there`,
		`bucket "events": timed must be true`,
		`bucket "b": w is 4, want 1 to n, which is 3`,
		"bucket: name is empty",
		`bucket type "bad\n"`})
	if s.Len() != 2 || s.Lookup("default", "events") != DefaultSet().Lookup("default", "events") {
		t.Error("the old set has changed")
	}
	declared := mustDeclare(t, s, Declaration{Name: "b"})
	if s.Declared("default", "b") || !declared.Declared("default", "b") {
		t.Error("a declaration must make a new set and leave the old one")
	}
}

// Two names made to have the same id, as anyone can with this hash.
var colliding = []Properties{
	Plain("default", "collision-..........................................................................."),
	Plain("default", "collision-...........trkw7xf1........................Q<'HKLhG........................"),
}

func TestNewSet(t *testing.T) {
	s := mustDeclare(t, DefaultSet(), Declaration{Name: "b"}, Declaration{Name: "a", Type: "z"}, Declaration{Name: Events, TTLSeconds: new(int64(0))})
	all := slices.Collect(s.All())
	again, err := NewSet(all...)
	if err != nil || !slices.Equal(slices.Collect(again.All()), all) {
		t.Errorf("%v, %v", again, err)
	}
	for _, c := range []struct {
		name string
		all  []Properties
		say  []string
	}{
		{"empty", nil, []string{`"events" and "epochs" must be declared`}},
		{"a bucket twice", append(slices.Clone(all), all[0]), []string{"is there twice"}},
		{"an index that dies early", func() []Properties {
			changed := slices.Clone(all)
			i := slices.IndexFunc(changed, func(p Properties) bool { return p.Name == Epochs })
			changed[i].TTLSeconds = 5
			return changed
		}(), []string{`bucket "epochs": ttl_seconds is 5, that of "events" 0`}},
		{"two buckets with one id", append(slices.Clone(all), colliding...), []string{"has the same id, ca670d3a81188eca, as bucket \"collision-"}},
		{"an invalid one", append(slices.Clone(all), Properties{}), []string{"name is empty"}},
		{"too many", func() (many []Properties) {
			many = slices.Clone(all)
			for i := range MaxBuckets {
				many = append(many, Plain("many", string(rune('0'+i))))
			}
			return many
		}(), []string{"4100 buckets, want at most 4096"}},
	} {
		_, err := NewSet(c.all...)
		checkSays(t, c.name, err, c.say)
	}
}

// Properties and declarations survive the encodings they have tags for, under
// the names that are documented.
func TestEncodings(t *testing.T) {
	p := DefaultSet().Lookup("default", "events")
	d := Declaration{Name: "events", TTLSeconds: new(int64(0)), Sync: new(SyncNone), N: new(1)}
	for _, c := range []struct {
		name      string
		marshal   func(any) ([]byte, error)
		unmarshal func([]byte, any) error
	}{
		{"json", json.Marshal, json.Unmarshal},
		{"msgpack", msgpack.Marshal, msgpack.Unmarshal},
		{"toml", toml.Marshal, toml.Unmarshal},
	} {
		var p2 Properties
		b, err := c.marshal(p)
		if err == nil {
			err = c.unmarshal(b, &p2)
		}
		if err != nil || p2 != p {
			t.Errorf("%s: %v\n%s\n%+v", c.name, err, b, p2)
		}
		var d2 Declaration
		b, err = c.marshal(d)
		if err == nil {
			err = c.unmarshal(b, &d2)
		}
		if err != nil || d2.Name != d.Name || *d2.TTLSeconds != 0 || *d2.Sync != SyncNone || *d2.N != 1 || d2.W != nil {
			t.Errorf("%s: %v\n%s\n%+v", c.name, err, b, d2)
		}
	}
	const want = `{"type":"default","name":"events","timed":true,"write_once":true,"index":true,"rows":false,"ttl_seconds":864000,` +
		`"n":3,"r":2,"w":2,"smallest_w":2,"sync":"interval","max_value_bytes":52428800}`
	if b, _ := json.Marshal(p); string(b) != want {
		t.Errorf("\n got %s\nwant %s", b, want)
	}
}

// What Declare returns is always valid, and a set NewSet accepts again.
func TestDeclaredIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSet()
		maybe := func(label string, low, high int) *int {
			return rapid.Ptr(rapid.IntRange(low, high), true).Draw(t, label)
		}
		for range rapid.IntRange(1, 6).Draw(t, "declarations") {
			d := Declaration{
				Name:      rapid.SampledFrom([]string{Events, Epochs, "a", "b", ""}).Draw(t, "name"),
				Type:      rapid.SampledFrom([]string{"", "default", "t"}).Draw(t, "type"),
				Timed:     rapid.Ptr(rapid.Bool(), true).Draw(t, "timed"),
				WriteOnce: rapid.Ptr(rapid.Bool(), true).Draw(t, "write once"),
				N:         maybe("n", 0, 5), R: maybe("r", 0, 5), W: maybe("w", 0, 5),
				TTLSeconds: rapid.Ptr(rapid.Int64Range(-1, 5), true).Draw(t, "ttl"),
			}
			next, err := s.Declare(d)
			if err != nil {
				if next != nil || !errors.Is(err, ErrInvalid) {
					t.Fatalf("%v, %v", next, err)
				}
				continue
			}
			if _, err := NewSet(slices.Collect(next.All())...); err != nil {
				t.Fatalf("%+v made an invalid set: %v", d, err)
			}
			s = next
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	b.ReportAllocs()
	s := DefaultSet()
	for b.Loop() {
		if !s.Lookup("default", "events").Timed {
			b.Fatal("events are not timed")
		}
	}
}
