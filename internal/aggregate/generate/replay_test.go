package generate

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/event"
)

// files writes files into a fresh directory, by name.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func line(typ, n string) string {
	return `{"type":"` + typ + `","subtype":"s","event":{"n":` + n + "}}\n"
}

// text is an event in short: its type and its body as JSON.
func text(t *testing.T, ev Event) string {
	t.Helper()
	b, err := event.AppendJSON([]byte(ev.Type+" "), ev.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReplay(t *testing.T) {
	dir := files(t, map[string]string{
		"b.ndjson":   line("B", "1") + "\n \t\r\n" + strings.TrimSuffix(line("B", "2"), "\n"), // blank lines, no newline at the end
		"a.ndjson":   line("A", "1"),
		"c.ndjson":   `{"dc":"us","epoch":5,"type":"C","subtype":"s","event":{"n":1},"more":1}` + "\r\n",
		"README.md":  "not an event",
		"empty.json": "",
	})
	r, err := OpenReplay(false, dir, filepath.Join(dir, "a.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		ev, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text(t, ev))
	}
	want := `A {"n":1}, B {"n":1}, C {"n":1}, A {"n":1}, B {"n":2}`
	if strings.Join(got, ", ") != want {
		t.Errorf("replayed %s\nwant     %s", strings.Join(got, ", "), want)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestReplayLoops(t *testing.T) {
	dir := files(t, map[string]string{"a.ndjson": line("A", "1") + line("A", "2"), "b.ndjson": line("B", "1")})
	r, err := OpenReplay(true, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for range 7 {
		ev, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text(t, ev))
	}
	want := `A {"n":1}, B {"n":1}, A {"n":2}, B {"n":1}, A {"n":1}, B {"n":1}, A {"n":2}`
	if strings.Join(got, ", ") != want {
		t.Errorf("replayed %s\nwant     %s", strings.Join(got, ", "), want)
	}
}

// TestReplayLoopsOverWhatIsThere: a file is read again, not remembered, and its
// lines are counted from the first.
func TestReplayLoopsOverWhatIsThere(t *testing.T) {
	dir := files(t, map[string]string{"a.ndjson": line("A", "1") + line("A", "2")})
	r, err := OpenReplay(true, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a.ndjson"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.Next()
	if at, ok := errors.AsType[*LineError](err); !ok || at.Line != 1 {
		t.Errorf("error %v, want one of line 1", err)
	}
}

// TestReplayRefuses: a sentence with file and line.
func TestReplayRefuses(t *testing.T) {
	long := `{"type":"A","subtype":"s","event":{"s":"` + strings.Repeat("x", MaxLineBytes) + `"}}`
	tests := []struct {
		name, content string
		loop          bool
		want          string
	}{
		{"not JSON", line("A", "1") + "what?\n", false, "a.ndjson:2: it is not a JSON object"},
		{"msgpack", "\x83\xa4type\xa1A\n", false, "a.ndjson:1: it is not a JSON object"},
		{"cut off", `{"type":"A"`, false, "a.ndjson:1: malformed JSON"},
		{"no event", `{"type":"A","subtype":"s"}`, false, "a.ndjson:1: envelope refused: it has no event"},
		{"a bad type", line("A:B", "1"), false, "a.ndjson:1: envelope refused: type must be"},
		{"two on a line", strings.TrimSpace(line("A", "1")) + line("A", "2"), false, "a.ndjson:1: 2 events where one should be"},
		{"a line too long", "\n\n" + long, false, "a.ndjson:3: longer than"},
		{"a line far too long", long + long + long + "\n", false, "a.ndjson:1: longer than"},
		{"nothing to loop over", "\n\n", true, "a.ndjson has no events"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := OpenReplay(tt.loop, files(t, map[string]string{"a.ndjson": tt.content}))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for err == nil {
				_, err = r.Next()
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

// TestLongLine: a line beyond the reader's buffer comes whole.
func TestLongLine(t *testing.T) {
	value := strings.Repeat("x", 300_000)
	r, err := OpenReplay(false, files(t, map[string]string{
		"a.ndjson": line("A", "1") + `{"type":"A","subtype":"s","event":{"s":"` + value + `"}}` + "\n" + line("A", "2"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, want := range []string{`A {"n":1}`, `A {"s":"` + value + `"}`, `A {"n":2}`} {
		ev, err := r.Next()
		if err != nil || text(t, ev) != want {
			t.Errorf("got %.60s, %v; want %.60s", text(t, ev), err, want)
		}
	}
}

func TestOpenReplayRefuses(t *testing.T) {
	empty := files(t, nil)
	tests := []struct {
		name  string
		paths []string
		want  string
	}{
		{"nothing", nil, "name a file of NDJSON"},
		{"what is not there", []string{filepath.Join(empty, "x")}, "does not exist"},
		{"an empty directory", []string{empty}, "has no file *.ndjson"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenReplay(false, tt.paths...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

// FuzzReplay: whatever a file holds, lines come as valid events or end with an
// error that names the line.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(line("A", "1") + "\n" + line("B", "2")))
	f.Add([]byte("{\"type\":\"A\"}\n{}\n"))
	f.Add([]byte("\x83\xa4type"))
	f.Fuzz(func(t *testing.T, content []byte) {
		name := filepath.Join(t.TempDir(), "a.ndjson")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplay(false, name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for {
			ev, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if _, ok := errors.AsType[*LineError](err); !ok {
					t.Fatalf("error without a line: %v", err)
				}
				return
			}
			if err := event.ValidateMap(ev.Body); err != nil || !event.ValidName(ev.Type) || !event.ValidName(ev.Subtype) {
				t.Fatalf("event %+v: %v", ev, err)
			}
		}
	})
}
