package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/config"
)

func TestWrongCommandLines(t *testing.T) {
	refuse(t, []badInput{
		{"confg", 2, `there is no command "confg"; did you mean "config"? "mayfly --help" lists them all`},
		{"--hepl", 2, `there is no flag --hepl; did you mean --help? "mayfly --help" explains`},
		{"config --exampel", 2, `there is no flag --exampel; did you mean --example? "mayfly config --help" explains`},
		{"config -x", 2, `there is no flag -x; "mayfly config --help" explains`},
		{"config --config", 2, `the flag --config needs a value; "mayfly config --help" explains`},
		{"config --example=perhaps", 2, `--example: "perhaps" is neither true nor false; "mayfly config --help" explains`},
		{"config here", 2, `config takes no arguments, and was given "here"; "mayfly config --help" explains`},
		{"config --example --json", 2, `--example and --json cannot be given together; choose one`},
		{"config --set node.listen", 2, `--set "node.listen": write KEY=VALUE, as in --set node.listen=127.0.0.1:7070; "mayfly config" lists the keys`},
		{"config --set node.lisen=a:1", 2, `the configuration has a fault: --set: node.lisen is not a setting; did you mean node.listen?`},
		{"config --config nowhere.toml", 2, `--config: there is no file nowhere.toml; "mayfly config --example > nowhere.toml" makes one`},
		{"config --config .", 2, `--config: read .: is a directory`},
		{"version now", 2, `version takes no arguments, and was given "now"; "mayfly version --help" explains`},
	})
}

func TestExitStatuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
		said   string
	}{
		{"done", nil, 0, ""},
		{"not done", errors.New("the disk burns"), 1, "mayfly: the disk burns\n"},
		{"told already", errSilent, 1, ""},
		{"used wrongly", fmt.Errorf("put: %w", usagef("no key")), 2, "mayfly: put: no key\n"},
		{"configured wrongly", &config.Error{Faults: []*config.Fault{{Reason: "no"}}}, 2, "mayfly: the configuration has a fault: no\n"},
	} {
		var said bytes.Buffer
		if status := report(&said, c.err); status != c.status || said.String() != c.said {
			t.Errorf("%s: status %d and %q, want %d and %q", c.name, status, said.String(), c.status, c.said)
		}
	}
}

// Every command must teach: what it does, an example that names it, and a
// completion that works.
func TestHelpTeaches(t *testing.T) {
	a := &app{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.HasParent() {
			return
		}
		if c.Short == "" || c.GroupID == "" || c.Example == "" || c.Args == nil {
			t.Errorf("%s lacks a summary, a group, an example or a check of its arguments", c.Name())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "mayfly") && !strings.Contains(line, "curl ") {
				t.Errorf("%s: an example that runs nothing: %q", c.Name(), line)
			}
		}
		if strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the summary ends in a full stop", c.Name())
		}
	}
	walk(a.root())
}

func TestHelpListsTheCommands(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		r := mayfly(t, args...)
		if r.status != 0 || !strings.Contains(r.stdout, "mayfly demo") || !strings.Contains(r.stdout, "\n  config ") {
			t.Errorf("%q: status %d, %q", args, r.status, r.stdout)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := mayfly(t, "completion", shell); r.status != 0 || !strings.Contains(r.stdout, "mayfly") {
			t.Errorf("%s: status %d, %d bytes", shell, r.status, len(r.stdout))
		}
	}
	for words, want := range map[string]string{"conf": "config\t", "send --encoding ": "msgpack\n", "serve --log-level ": "debug\n", "get --bucket ": "events\n"} {
		args := append([]string{"__complete"}, strings.Split(words, " ")...)
		if r := mayfly(t, args...); !strings.Contains(r.stdout, want) {
			t.Errorf("%q is completed by %q", words, r.stdout)
		}
	}
}

func TestConfigCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.toml")
	example := mayfly(t, "config", "--example")
	if err := os.WriteFile(file, []byte(example.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MAYFLY_LOG__LEVEL", "warn")
	r := mayfly(t, "config", "--config", file, "--set", "node.slot=10s")
	for _, want := range []string{
		`level = "warn"                           # MAYFLY_LOG__LEVEL`,
		`slot = "10s"                             # --set`,
		`listen = "127.0.0.1:7070"                # ` + file + ":",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not in\n%s%s", want, r.stdout, r.stderr)
		}
	}
	t.Setenv("MAYFLY_CONFIG", file)
	r = mayfly(t, "config", "--json")
	if want := `{"key":"log.level","value":"\"warn\"","origin":"MAYFLY_LOG__LEVEL"}`; !strings.HasPrefix(r.stdout, want+"\n") {
		t.Errorf("got %q%s", r.stdout, r.stderr)
	}
	t.Setenv("MAYFLY_CONFIG", file+"x")
	r = mayfly(t, "config")
	if want := "mayfly: MAYFLY_CONFIG: there is no file " + file + "x"; r.status != 2 || !strings.HasPrefix(r.stderr, want) {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
}

func TestBadEnvironment(t *testing.T) {
	t.Setenv("MAYFLY_NODE_LISTEN", "x")
	r := mayfly(t, "config")
	if want := "mayfly: the configuration has a fault: environment: MAYFLY_NODE_LISTEN is not a variable of mayfly; did you mean MAYFLY_NODE__LISTEN?\n"; r.stderr != want || r.status != 2 {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
}

func TestVersionCommand(t *testing.T) {
	if r := mayfly(t, "version"); r.status != 0 || !strings.HasPrefix(r.stdout, "mayfly ") {
		t.Errorf("%+v", r)
	}
	if r := mayfly(t, "version", "--json"); r.status != 0 || !strings.HasPrefix(r.stdout, `{"version":"`) {
		t.Errorf("%+v", r)
	}
}

// A signal ends run with the context; run returns what the command makes of it.
func TestRunWithEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"version"}, strings.NewReader(""), &out, &out); err != nil {
		t.Error(err)
	}
}

func TestOutput(t *testing.T) {
	var b bytes.Buffer
	tb := newTable(&b, "key", "bytes")
	tb.row("a", "1")
	tb.row("longer", "22")
	if err := tb.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "KEY     BYTES\na       1\nlonger  22\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 52428800: "50.0 MiB", 1 << 62: "4096.0 PiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := countText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if plural(1, "event") != "1 event" || plural(0, "event") != "0 events" || plural(1000, "event") != "1 000 events" {
		t.Error("plurals are wrong")
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		line  string
		width int
		want  string
	}{{"abc", 2, "ab"}, {"abc", 3, "abc"}, {"abc", 0, "abc"}, {"abc", -1, "abc"}, {"äöü", 2, "äö"}} {
		if got := clip(c.line, c.width); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.line, c.width, got, c.want)
		}
	}
}

// Where nobody watches there is no bar, and nothing is written.
func TestNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, w := range []io.Writer{f, &bytes.Buffer{}} {
		if isTerminal(w) || terminalWidth(w) != 0 {
			t.Errorf("%T is taken for a terminal", w)
		}
	}
	bar := newProgress(f, "checking", 0)
	bar.setTotal(10)
	bar.set(5)
	bar.done()
	startStatus(f, func() string { return "busy" }).stop()
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v, %d bytes were written", err, info.Size())
	}
}
