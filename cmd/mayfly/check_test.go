package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// storedData returns a data directory that a node has left, with three blobs and
// a plain object.
func storedData(t *testing.T) string {
	t.Helper()
	n := startNode(t, "")
	for i := range uint64(3) {
		n.must(fmt.Sprintf("{\"n\":%d}", i), "put", blobKeyNow(i))
	}
	n.must("hello", "put", "-b", "notes", "greeting")
	if status := n.stop(); status != 0 {
		t.Fatalf("serve: exit status %d", status)
	}
	return n.dir
}

func TestCheckAndDump(t *testing.T) {
	dir := storedData(t)
	if r := mayfly(t, "check", dir); r.status != 0 || !strings.Contains(r.stdout, dir+": no damage; ") {
		t.Errorf("status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	var totals totalsJSON
	r := mayfly(t, "check", "--json", dir)
	all := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if err := json.Unmarshal([]byte(all[len(all)-1]), &totals); err != nil || totals.Totals.Damage != 0 || totals.Totals.Records < 7 || totals.Directory != dir {
		t.Errorf("%v, %+v", err, totals)
	}

	r = mayfly(t, "dump", "--values", dir)
	if n := strings.Count(r.stdout, "\n"); r.status != 0 || int64(n) != totals.Totals.Records {
		t.Errorf("status %d, %d records, check found %d; %s", r.status, n, totals.Totals.Records, r.stderr)
	}
	for _, want := range []string{`"value":{"events":[{"n":1}]}`, `"value":{"row":{"key":"`, `"value":{"text":"hello"}`, `"kind":"delta"`} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("dump has no %s", want)
		}
	}
	for args, want := range map[string]int{
		"--bucket notes": 1, "--bucket events": 3, "--bucket events --type other": 0, "--key greet": 1, "--epoch 5": 0,
		fmt.Sprintf("--bucket events --key %d", time.Now().Unix()/1000): 3,
	} {
		r := mayfly(t, append(append([]string{"dump"}, strings.Fields(args)...), dir)...)
		if n := strings.Count(r.stdout, "\n"); n != want || r.status != 0 {
			t.Errorf("dump %s: %d records, want %d; %s", args, n, want, r.stderr)
		}
	}
}

// A byte flipped in each segment: check says where and fails, dump prints the
// rest and fails, the node starts and serves the rest.
func TestFlippedBytes(t *testing.T) {
	dir := storedData(t)
	segments, err := filepath.Glob(dir + "/*/*/*.seg")
	if err != nil || len(segments) < 3 {
		t.Fatalf("%v, segments %q", err, segments)
	}
	whole := strings.Count(mayfly(t, "dump", dir).stdout, "\n")
	for _, name := range segments {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := 3 * len(text) / 4
		flipped := append([]byte{}, text...)
		flipped[at] ^= 0x10
		if err := os.WriteFile(name, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, name)
		if r := mayfly(t, "check", dir); r.status != 1 || !strings.Contains(r.stdout, "damage: "+rel+": offset ") || !strings.Contains(r.stdout, "DAMAGED in 1 place") {
			t.Errorf("%s, byte %d: check: status %d, %s%s", rel, at, r.status, r.stdout, r.stderr)
		}
		r := mayfly(t, "dump", dir)
		if n := strings.Count(r.stdout, "\n"); r.status != 1 || n != whole-1 || !strings.Contains(r.stderr, rel) {
			t.Errorf("%s, byte %d: dump: status %d, %d of %d records, %s", rel, at, r.status, n, whole, r.stderr)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := mayfly(t, "check", dir); r.status != 0 {
		t.Errorf("mended: status %d, %s", r.status, r.stdout)
	}
}

func TestWrongChecks(t *testing.T) {
	empty := t.TempDir()
	n := startNode(t, "")
	if r := mayfly(t, "check", empty, storedData(t)); r.status != 1 || !strings.Contains(r.stdout, ": no damage; ") || !strings.Contains(r.stderr, "not a data directory") {
		t.Errorf("a directory that cannot be checked before one that can: status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	refuse(t, []badInput{
		{"check", 2, `check takes one or more data directories; "mayfly check --help" explains`},
		{"check nowhere", 1, `there is no directory nowhere: give the one that "mayfly serve --data" was given`},
		{"check " + empty, 1, "check " + empty + ": " + empty + "/mayfly-disk: the file is missing: this is not a data directory of mayfly"},
		{"dump", 2, `dump takes one or more data directories; "mayfly dump --help" explains`},
		{"dump nowhere", 1, `there is no directory nowhere: give the one that "mayfly serve --data" was given`},
		{"dump " + empty, 1, "dump " + empty + ": " + empty + "/mayfly-disk: the file is missing: this is not a data directory of mayfly"},
		{"dump --epoch soon " + empty, 2, `--epoch: "soon" is not a whole number; "mayfly dump --help" explains`},
	})
	if r := mayfly(t, "check", n.dir); r.status != 1 || !strings.Contains(r.stderr, "the directory is in use") {
		t.Errorf("a directory in use: status %d, %s", r.status, r.stderr)
	}
	if r := mayfly(t, "dump", "--file", "no/such.seg", n.dir); r.status != 1 || !strings.Contains(r.stderr, "name it relative to the data directory") {
		t.Errorf("a file that is not there: status %d, %s", r.status, r.stderr)
	}
}
