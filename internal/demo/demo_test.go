package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
)

// brokenNode makes the test binary a program that is no node.
const brokenNode = "MAYFLY_TEST_BROKEN_NODE=1"

func TestMain(m *testing.M) {
	if slices.Contains(os.Environ(), brokenNode) {
		fmt.Fprintln(os.Stderr, "this is no node")
		os.Exit(3)
	}
	goleak.VerifyTestMain(m)
}

// A node that does not start must be told, with what it said, and its log kept.
func TestNodeThatEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d, err := New(Options{For: 3 * time.Second, EventsPerSecond: 100, Kill: time.Second, Program: os.Args[0], Environ: []string{brokenNode}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "demo-1 has ended") || !strings.Contains(err.Error(), "demo-1 ended by itself: exit status 3") {
		t.Errorf("got %v", err)
	}
	if logs := d.Logs(); !strings.HasSuffix(logs, "this is no node\n") {
		t.Errorf("the logs are %q", logs)
	}
}

// A program that is not there must be told, and nothing be left.
func TestNoProgram(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d, err := New(Options{For: 3 * time.Second, EventsPerSecond: 100, Kill: time.Second, Program: "/nowhere/mayfly"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "start demo-1: ") {
		t.Errorf("got %v", err)
	}
}

func newDemo(t *testing.T, o Options) *Demo {
	t.Helper()
	if o.For == 0 {
		o.For, o.EventsPerSecond = time.Second, 1000
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "data")
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRunThreeNodes: each keeps everything, and any of them serves the tail.
func TestRunThreeNodes(t *testing.T) {
	d := newDemo(t, Options{Nodes: 3})
	s, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.OK() || s.Nodes != 3 || s.EventsSent < 1 || s.EventsTailed != s.EventsReceived || s.ReadBack != 3*s.Blobs || s.CheckRecords < 3*s.Blobs || s.CopiesLacking != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRun(t *testing.T) {
	d := newDemo(t, Options{})
	s, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.OK() || s.EventsSent < 1 || s.EventsTailed != s.EventsReceived || s.Lost != 0 || s.Corrupt != 0 || s.ReadBack != s.Blobs || s.CheckDamage != 0 {
		t.Errorf("got %+v", s)
	}
	if s.PutMS.P50 <= 0 || s.PutMS.P99 < s.PutMS.P50 || s.TailMS.P50 <= 0 || s.TailMS.P99 < s.TailMS.P50 {
		t.Errorf("times %+v, %+v", s.PutMS, s.TailMS)
	}
	if s.StoredBytes <= 0 || s.StoredBytes >= s.RawBytes {
		t.Errorf("got %+v", s)
	}
	if got := d.Line(); !strings.HasPrefix(got, "sent ") {
		t.Errorf("the line is %q", got)
	}
}

// An event that was acknowledged and does not come out must be told, and so must
// one that comes out and was not sent.
func TestRunNoticesLoss(t *testing.T) {
	d := newDemo(t, Options{})
	d.tailTimeout = 100 * time.Millisecond
	lost := event.Key{Epoch: time.Now().Unix(), DC: dc, Type: "WEB", Subtype: "page", Chunk: "0"}
	d.ledger.noteAcknowledged(lost, 7, 1)
	s, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{lost.String(), "acknowledged events are lost"} {
		if s.OK() || s.Lost < 7 || !slices.ContainsFunc(s.Faults, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("no %q in %+v", want, s)
		}
	}
}

// A directory that is damaged after the run must be told.
func TestCheckDataNoticesDamage(t *testing.T) {
	d := newDemo(t, Options{})
	if _, err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(d.dir + "/*/*/*.seg")
	if err != nil || len(segments) == 0 {
		t.Fatalf("%v, %q", err, segments)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-20] ^= 1
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := d.checkData(&s); err != nil {
		t.Fatal(err)
	}
	s.judge()
	if s.CheckDamage == 0 || s.OK() {
		t.Errorf("got %+v", s)
	}
}

// When ctx ends the sending ends early, and what was sent is compared all the
// same.
func TestRunCutShort(t *testing.T) {
	d := newDemo(t, Options{For: time.Hour, EventsPerSecond: 500})
	ctx, cancel := context.WithCancel(t.Context())
	d.onSend = cancel
	s, err := d.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Seconds > 600 || s.EventsTailed != s.EventsReceived || s.Lost+s.Corrupt != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestTemporaryDirectoryIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, keep := range []bool{false, true} {
		d, err := New(Options{For: time.Second, EventsPerSecond: 100, Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (s.Directory != "") != keep {
			t.Errorf("keep %v: the summary names %q", keep, s.Directory)
		}
		if _, err := os.Stat(d.dir); os.IsNotExist(err) == keep {
			t.Errorf("keep %v: %v", keep, err)
		}
	}
}

func TestValidate(t *testing.T) {
	err := Options{For: time.Millisecond, EventsPerSecond: -1}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two faults", err)
	}
}

// judge must find each fault that the figures show.
func TestJudge(t *testing.T) {
	good := func() Summary {
		return Summary{EventsSent: 10, EventsReceived: 9, EventsAcknowledged: 9, EventsTailed: 9}
	}
	for _, c := range []struct {
		name   string
		change func(*Summary)
	}{
		{"lost", func(s *Summary) { s.Lost = 1 }},
		{"corrupt", func(s *Summary) { s.Corrupt = 1 }},
		{"duplicates", func(s *Summary) { s.Duplicates = 1 }},
		{"not acknowledged", func(s *Summary) { s.EventsAcknowledged, s.EventsTailed = 8, 8 }},
		{"not tailed", func(s *Summary) { s.EventsTailed = 8 }},
		{"damage", func(s *Summary) { s.CheckDamage = 1 }},
		{"said to be absent", func(s *Summary) { s.Kill = &Kill{FalseAbsent: 1} }},
		{"said to be absent while it grew", func(s *Summary) { s.Growth = &Growth{Joined: 3, NewCopies: 1, FalseAbsent: 1} }},
		{"older blobs moved", func(s *Summary) { s.Growth = &Growth{Joined: 3, NewCopies: 1, MovedCopies: 1} }},
		{"new nodes without new blobs", func(s *Summary) { s.Growth = &Growth{Joined: 3} }},
		{"calls that failed while it grew", func(s *Summary) { s.Growth = &Growth{Joined: 3, NewCopies: 1, FailedCalls: 1} }},
		{"it did not grow", func(s *Summary) { s.Growth = &Growth{} }},
		{"nothing received", func(s *Summary) { *s = Summary{EventsSent: 10} }},
	} {
		s := good()
		c.change(&s)
		if s.judge(); len(s.Faults) != 1 {
			t.Errorf("%s: faults %q", c.name, s.Faults)
		}
	}
	s := good()
	s.Growth = &Growth{Nodes: 3, Joined: 3, NewCopies: 1}
	if s.judge(); !s.OK() {
		t.Errorf("a good run has faults %q", s.Faults)
	}
}

// The names of the JSON object are promised to scripts.
func TestSummaryJSON(t *testing.T) {
	s := Summary{}
	s.judge()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nodes", "seconds", "events_sent", "events_received", "events_acknowledged", "events_tailed", "lost", "corrupt",
		"blobs", "copies_lacking", "stored_bytes", "raw_bytes", "put_ms", "tail_ms", "dropped", "faults"} {
		if _, ok := got[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	for _, name := range []string{"put_ms", "tail_ms"} {
		if q, ok := got[name].(map[string]any); !ok || len(q) != 2 || q["p50"] == nil || q["p99"] == nil {
			t.Errorf("%s is %v", name, got[name])
		}
	}
}
