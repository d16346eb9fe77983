package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
)

func TestTail(t *testing.T) {
	n := startNode(t, "", "--set", "node.lateness=1s")
	tail := start(t, "tail", "--from", "now-10s", "--node", n.addr, "--log-format", "json") // not now: it may take a while to begin
	watch := start(t, "tail", "--from", "now-10s", "--node", n.addr, "--blobs", "--watermarks", "--type", "W*,X", "--metrics", "127.0.0.1:0")
	key := blobKeyNow(0)
	n.must("{\"n\":1}\n{\"n\":\"two\"}\n", "put", key)
	second, _, _ := strings.Cut(key, ":")
	if got, want := tail.printed(`"n":1`), `{"epoch":`+second+`,"dc":"ams","type":"WEB","subtype":"app","event":{"n":1}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tail.printed(`"event":{"n":"two"}`)
	var blob tailedJSON
	if err := json.Unmarshal([]byte(watch.printed(key)), &blob); err != nil || blob.Key != key || blob.Events != 2 || blob.Bytes == 0 {
		t.Errorf("%v, %+v", err, blob)
	}
	var mark watermarkJSON
	if err := json.Unmarshal([]byte(watch.printed("watermark")), &mark); err != nil || mark.Watermark.DC != "ams" || mark.Watermark.State != "no writers" {
		t.Errorf("%v, %+v", err, mark)
	}
	for _, p := range []*program{tail, watch} {
		if status := p.stop(); status != 0 {
			t.Errorf("exit status %d after a signal; %s", status, p.stderr.text())
		}
	}
}

// What is not a blob of ours is printed too: other pushers have other forms.
func TestTailForeignValue(t *testing.T) {
	n := startNode(t, "")
	tail := start(t, "tail", "--from", "now-10s", "--node", n.addr)
	n.must("\x01\x02", "put", "--raw", blobKeyNow(0))
	if got := tail.printed("base64"); !strings.HasSuffix(got, `,"dc":"ams","type":"WEB","subtype":"app","base64":"AQI="}`) {
		t.Errorf("got %s", got)
	}
	n.must("{\"ok\":1}", "put", blobKeyNow(1))
	tail.printed(`{"ok":1}`)
}

// A tail that is started again with its cursor goes on where the first one ended.
func TestTailResumes(t *testing.T) {
	n := startNode(t, "")
	file := filepath.Join(t.TempDir(), "cursor")
	n.must("{\"n\":1}", "put", blobKeyNow(0))
	first := start(t, "tail", "--node", n.addr, "--from", "now-1m", "--cursor", file)
	first.printed(`{"n":1}`)
	if status := first.stop(); status != 0 {
		t.Fatalf("exit status %d; %s", status, first.stderr.text())
	}
	n.must("{\"n\":2}", "put", blobKeyNow(1))
	again := start(t, "tail", "--node", n.addr, "--cursor", file)
	again.printed(`{"n":2}`)
	if status := again.stop(); status != 0 || strings.Contains(again.stdout.text(), `{"n":1}`) {
		t.Errorf("exit status %d, %s%s", status, again.stdout.text(), again.stderr.text())
	}
	left, err := filepath.Glob(file + "*")
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %q", left)
	}
}

// A tail outlives its node, and prints nothing twice.
func TestTailOutlivesItsNode(t *testing.T) {
	n := startNode(t, "")
	n.must("{\"n\":1}", "put", blobKeyNow(0))
	tail := start(t, "tail", "--node", n.addr, "--from", "now-1m", "--log-format", "json")
	tail.printed(`{"n":1}`)
	n.stop()
	tail.logged("a tail was interrupted; it goes on as soon as a node answers")
	again := start(t, "serve", "--data", n.dir, "--listen", n.addr, "--metrics", "", "--log-format", "json")
	again.logged("serving")
	n.must("{\"n\":2}", "put", blobKeyNow(1))
	tail.printed(`{"n":2}`)
	tail.stop()
	if strings.Count(tail.stdout.text(), `{"n":1}`) != 1 {
		t.Errorf("the tail printed\n%s", tail.stdout.text())
	}
}

func TestWrongTails(t *testing.T) {
	cursor := filepath.Join(t.TempDir(), "cursor")
	if err := os.WriteFile(cursor, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, []badInput{
		{"tail --from yesterday", 2, `--from: "yesterday" is not a second; write Unix time, as in 1763712000, or now, now-10m, 2025-11-21T08:00:00Z`},
		{"tail --shard 4/4", 2, `--shard "4/4": write I/N with I from 0 to N-1, as in 0/4`},
		{"tail --shard one", 2, `--shard "one": write I/N with I from 0 to N-1, as in 0/4`},
		{"tail --for never", 2, `--for: "never" is not a duration; write one like "500ms", "1h30m" or "10d"; "mayfly tail --help" explains`},
		{"tail --type a/b", 2, `the type pattern "a/b" is not one: it takes letters, digits, '_', '.', '-', with '*' for any run of them, and ',' between alternatives`},
		{"tail --cursor " + cursor, 2, "--cursor " + cursor + ": the tail cannot be resumed: malformed cursor: it does not begin with mft1.; begin from a second instead"},
		{"tail --from now-1m --cursor " + cursor, 2, "--from and a cursor cannot be given together: the file " + cursor + " has one already; remove it to begin with --from"},
		{"tail --cursor .", 1, "--cursor: read .: is a directory"},
		{"tail web", 2, `tail takes no arguments, and was given "web"; "mayfly tail --help" explains`},
	})
}

// A cursor that cannot be kept ends the tail: going on would promise what the
// next start cannot keep.
func TestTailCursorCannotBeKept(t *testing.T) {
	n := startNode(t, "")
	tail := start(t, "tail", "--node", n.addr, "--cursor", filepath.Join(t.TempDir(), "gone", "cursor"))
	n.must("{\"n\":1}", "put", blobKeyNow(0))
	<-tail.done
	if tail.status != 1 || !strings.Contains(tail.stderr.text(), "mayfly: tail: the cursor cannot be kept: ") {
		t.Errorf("status %d, %s", tail.status, tail.stderr.text())
	}
}

func TestReplaceFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(name, text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestAppendOrigin(t *testing.T) {
	k := event.Key{Epoch: time.Unix(5, 0).Unix(), DC: "a.b-c_d", Type: "T", Subtype: "s", Chunk: "0"}
	if got, want := string(appendOrigin(nil, k)), `{"epoch":5,"dc":"a.b-c_d","type":"T","subtype":"s"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
