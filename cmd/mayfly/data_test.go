package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
)

// blobKeyNow returns a key of the present second.
func blobKeyNow(chunk uint64) string {
	return event.Key{Epoch: time.Now().Unix(), DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.PlainChunk(chunk)}.String()
}

func TestPutGetDelKeys(t *testing.T) {
	n := startNode(t, "")
	key := blobKeyNow(0)
	second, _, _ := strings.Cut(key, ":")
	lines := "{\"a\":1,\"b\":[1.5,null,\"é\"]}\n{\"a\":2}\n"
	if got := n.must(lines+"\n", "put", key); !strings.HasPrefix(got, key+": 2 events, ") {
		t.Errorf("put says %q", got)
	}
	n.must(lines, "put", key) // the same again
	if got := n.must("", "get", key); got != lines {
		t.Errorf("got %q", got)
	}
	var about recordJSON
	if err := json.Unmarshal([]byte(n.must("", "get", "--json", key)), &about); err != nil || about.Events != 2 || string(about.Value.Events) != `[{"a":1,"b":[1.5,null,"é"]},{"a":2}]` {
		t.Errorf("%v, %+v", err, about)
	}
	if got := n.must("", "get", "--head", key); !strings.Contains(got, key) || !strings.Contains(got, about.Checksum) {
		t.Errorf("head says %q", got)
	}
	for _, args := range [][]string{{second, "ams"}, {second + ":ams"}, {second}} {
		if got := n.must("", append([]string{"keys"}, args...)...); got != key+"\n" {
			t.Errorf("keys %q: %q", args, got)
		}
	}
	if got := n.must("", "keys", second, "lon"); got != "" {
		t.Errorf("keys of another data centre: %q", got)
	}
	var row rowJSON
	if err := json.Unmarshal([]byte(n.must("", "keys", "--json", second, "ams")), &row); err != nil || len(row.Writers) != 1 || row.Writers[0].Entries[0].Key != key || !*row.Certain {
		t.Errorf("%v, %+v", err, row)
	}

	raw := n.must("", "get", "--raw", key)
	copied := blobKeyNow(1)
	n.must(raw, "put", "--raw", copied)
	if got := n.must("", "get", copied); got != lines {
		t.Errorf("a blob put raw reads %q", got)
	}

	if got := n.must("", "del", key); got != key+": deleted\n" {
		t.Errorf("del says %q", got)
	}
	if r := n.mayfly("", "get", key); r.status != 1 {
		t.Errorf("get of an erased blob: status %d", r.status)
	}
	if got := n.must("", "keys", second, "ams"); strings.Contains(got, key+"\n") {
		t.Errorf("keys lists an erased blob: %q", got)
	}
	if got := n.must("", "keys", "--long", second, "ams"); !strings.Contains(got, key) || !strings.Contains(got, "erased") {
		t.Errorf("keys --long hides an erased blob: %q", got)
	}
}

func TestPlainBuckets(t *testing.T) {
	n := startNode(t, "")
	file := filepath.Join(t.TempDir(), "v")
	value := "\xff\x00 not text"
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	n.must("", "put", "-b", "notes", "k", file)
	if got := n.must("", "get", "-b", "notes", "k"); got != value {
		t.Errorf("got %q", got)
	}
	if got := n.must("", "get", "--json", "-b", "notes", "k"); !strings.Contains(got, `"value":{"base64":"/wAgbm90IHRleHQ="}`) {
		t.Errorf("got %s", got)
	}
	n.must("second", "put", "-b", "notes", "k", "-")
	if got := n.must("", "get", "-b", "notes", "k"); got != "second" {
		t.Errorf("got %q", got)
	}
	if got := n.must("", "put", "-b", "notes", "--json", "empty"); !strings.Contains(got, `"key":"empty"`) {
		t.Errorf("got %s", got)
	}
	n.must("", "del", "-b", "notes", "--json", "k")
	n.must("third", "put", "-b", "notes", "k")
	if got := n.must("", "get", "-b", "notes", "k"); got != "third" {
		t.Errorf("a deleted key does not take a value again: %q", got)
	}
}

// refusals of a node, and of the commands before one is asked.
func TestWrongPutsAndGets(t *testing.T) {
	n := startNode(t, "")
	now := time.Now().Unix()
	key := blobKeyNow(0)
	n.must(`{"a":1}`, "put", key)
	for _, c := range []struct {
		name, stdin string
		args        []string
		status      int
		want        string
	}{
		{"a malformed key", "x", []string{"put", "a:b"}, 2, `mayfly: key "a:b": epoch must be a decimal number of seconds from 1 to 2^53, without sign or leading zero`},
		{"a malformed key to get", "", []string{"get", "a:b"}, 2, `mayfly: key "a:b": epoch must be a decimal number of seconds from 1 to 2^53, without sign or leading zero`},
		{"a malformed key to delete", "", []string{"del", "a:b"}, 2, `mayfly: key "a:b": epoch must be a decimal number of seconds from 1 to 2^53, without sign or leading zero`},
		{"an empty key", "x", []string{"put", "-b", "notes", ""}, 2, "mayfly: key is empty"},
		{"a key too long", "x", []string{"put", "-b", "notes", strings.Repeat("k", 4097)}, 2, "4097 bytes, want at most 4096"},
		{"an impossible bucket", "x", []string{"put", "-b", "a\nb", "k"}, 2, `mayfly: bucket "a\nb": name must be UTF-8 without control characters`},
		{"no key", "x", []string{"put"}, 2, `mayfly: put takes a key and perhaps a file; "mayfly put --help" explains`},
		{"too much", "x", []string{"put", "a", "b", "c"}, 2, `mayfly: put takes a key and perhaps a file; "c" is too much; "mayfly put --help" explains`},
		{"no such file", "", []string{"put", "-b", "notes", "k", "nowhere"}, 2, "mayfly: put: open nowhere: no such file or directory"},
		{"no events", "\n \n", []string{"put", key}, 1, "the input holds no events: write one JSON object a line"},
		{"no JSON", "{\"a\":1}\nhello\n", []string{"put", key}, 1, "line 2 is not a JSON object, {…}, as an event is; add --raw to store bytes as they are"},
		{"broken JSON", "{\"a\":}\n", []string{"put", key}, 1, "line 1: malformed JSON at byte 5"},
		{"a blob without --raw", "MFEB....", []string{"put", key}, 1, "the input is a blob already: add --raw"},
		{"a damaged blob", "MFEB....", []string{"put", "--raw", key}, 1, "the input begins like a blob and is none"},
		{"a value too large", strings.Repeat("x", 50<<20+1), []string{"put", "-b", "notes", "k"}, 1, "the input exceeds 50.0 MiB, the most an object may hold: split it over several keys"},
		{"another value for a blob", `{"a":2}`, []string{"put", key}, 1, "not done: \"" + key + "\" holds another value already"},
		{"an expired second", `{"a":2}`, []string{"put", "1000:ams:WEB:app:0"}, 1, "expired"},
		{"a second far ahead", `{"a":2}`, []string{"put", fmt.Sprintf("%d:ams:WEB:app:0", now+3600)}, 1, "ahead of"},
		{"an absent object", "", []string{"get", "-b", "notes", "absent"}, 1, `mayfly: get "absent": no object is stored under this key`},
		{"nothing to delete", "", []string{"del", "-b", "notes", "absent"}, 1, `mayfly: del "absent": not done: no object is stored under this key`},
		{"an expired object", "", []string{"get", "1000:ams:WEB:app:0"}, 1, "expired"},
		{"flags that exclude each other", "", []string{"get", "--raw", "--json", key}, 2, "mayfly: --raw and --json cannot be given together; choose one"},
		{"a second that is none", "", []string{"keys", "yesterday"}, 2, `mayfly: keys: "yesterday" is not a second; write Unix time, as in 1763712000, or now, now-10m, 2025-11-21T08:00:00Z`},
		{"a data centre that is none", "", []string{"keys", "now", "a/b"}, 2, `mayfly: keys: "a/b" is not a data centre; its name has 1 to 64 of A-Z a-z 0-9 _ . -`},
		{"no second", "", []string{"keys"}, 2, `mayfly: keys takes a second and perhaps a data centre; "mayfly keys --help" explains`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := n.mayfly(c.stdin, c.args...)
			if r.status != c.status || !strings.Contains(r.stderr, c.want) || !strings.HasPrefix(r.stderr, "mayfly: ") {
				t.Errorf("status %d, want %d; %swant %s", r.status, c.status, r.stderr, c.want)
			}
			if r.stdout != "" {
				t.Errorf("standard output has %q", r.stdout)
			}
		})
	}
	if got := n.must("", "get", key); got != "{\"a\":1}\n" {
		t.Errorf("after all this the blob reads %q", got)
	}
}

func TestUnreachableNode(t *testing.T) {
	n := startNode(t, "")
	n.stop()
	for _, args := range [][]string{{"get", "-b", "x", "k"}, {"put", "-b", "x", "k"}, {"del", "-b", "x", "k"}, {"keys", "now"}, {"tail"}} {
		r := n.mayfly("v", args...)
		if want := "mayfly: no node answers at " + n.addr + ": start one with \"mayfly serve\", or give its address with --node ("; r.status != 1 || !strings.HasPrefix(r.stderr, want) {
			t.Errorf("%q: status %d, %s", args, r.status, r.stderr)
		}
	}
}

func TestParseEpoch(t *testing.T) {
	now := time.Unix(1_763_712_000, 0)
	for text, want := range map[string]int64{
		"1763712000": 1763712000, "1": 1, "now": 1763712000, "now-10s": 1763711990, "now-1d": 1763625600, "2025-11-21T08:00:00Z": 1763712000, "2025-11-21T09:00:00+01:00": 1763712000,
	} {
		if got, err := parseEpoch(text, now); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-5", "+5", "007", "now+5s", "now5s", "now-", "now--5s", "9007199254740993", "1969-12-31T00:00:00Z", "1e9"} {
		if got, err := parseEpoch(text, now); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
	if got := expandNow("now:a:b:c:0", now); got != "1763712000:a:b:c:0" {
		t.Errorf("got %q", got)
	}
}

// A disk that is nearly full refuses puts with a sentence and goes on reading;
// it takes them again when there is space.
func TestNearlyFullDisk(t *testing.T) {
	n := startNode(t, "")
	n.must("hello", "put", "-b", "notes", "greeting")
	n.stop()
	full := startNode(t, n.dir, "--set", "node.min_free=512TiB")
	r := full.mayfly("more", "put", "-b", "notes", "other", "--timeout", "500ms")
	if r.status != 1 || !strings.Contains(r.stderr, "not done: try again, it is safe: ") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	t.Log(r.stderr)
	if got := full.must("", "get", "-b", "notes", "greeting"); got != "hello" {
		t.Errorf("got %q", got)
	}
	full.stop()
	again := startNode(t, n.dir)
	if r := again.mayfly("", "get", "-b", "notes", "other"); r.status != 1 {
		t.Errorf("the refused put left something: %q", r.stdout)
	}
	again.must("more", "put", "-b", "notes", "other")
}
