package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
)

func applied(t *testing.T, m *machine, index uint64, data []byte) agreed.Result {
	t.Helper()
	result, ok := m.Apply(&raft.Log{Index: index, Data: data}).(agreed.Result)
	if !ok {
		t.Fatal("an entry came to no result")
	}
	return result
}

func encodedCommand(t *testing.T, cmd agreed.Command) []byte {
	t.Helper()
	b, err := commandEntry(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMachine(t *testing.T) {
	var shown []held
	m := &machine{publish: func(h held) { shown = append(shown, h) }}
	h := goldenDocument(t)
	change := encodedCommand(t, touch(h.doc, 9))
	if r := applied(t, m, 1, change); r.Err == nil || r.Err.Code != object.CodeUnavailable || m.stuck != nil {
		t.Errorf("a command before the document: %+v, %v", r, m.stuck)
	}
	if _, err := m.Snapshot(); err == nil {
		t.Error("a snapshot of nothing")
	}
	first, err := documentEntry(h)
	if err != nil {
		t.Fatal(err)
	}
	applied(t, m, 2, first)
	if r := applied(t, m, 3, change); r.Err != nil || !r.Changed {
		t.Errorf("%+v", r)
	}
	if r := applied(t, m, 4, first); r.Changed || m.at.doc.Settings.LatenessSeconds != 9 {
		t.Errorf("the first document once more: %+v, %+v", r, m.at.doc.Settings)
	}
	if len(shown) != 2 || shown[1].doc != m.at.doc || shown[1].origin != h.origin {
		t.Errorf("%d documents were shown", len(shown))
	}

	// A snapshot brings another machine to the same.
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	store := raft.NewInmemSnapshotStore()
	_, nowhere := raft.NewInmemTransport("")
	sink, err := store.Create(1, 4, 1, raft.Configuration{}, 1, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	_, source, err := store.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	another := &machine{publish: func(held) {}}
	if err := another.Restore(source); err != nil || another.at.version() != m.at.version() || another.at.origin != m.at.origin {
		t.Errorf("restored as %v, %v; want %v", another.at.version(), err, m.at.version())
	}
	if err := another.Restore(io.NopCloser(strings.NewReader("no snapshot"))); !errors.Is(err, ErrEnvelope) {
		t.Errorf("restored from nothing: %v", err)
	}

	// What this version does not understand stops it: passing it over would make this
	// node's document another one than everybody else's.
	r := applied(t, m, 5, []byte{9, 9, 9})
	if r.Err == nil || !strings.Contains(r.Err.Message, "entry 5") || !strings.Contains(r.Err.Message, "run the release") {
		t.Errorf("%+v", r.Err)
	}
	before := m.at.version()
	if r := applied(t, m, 6, encodedCommand(t, touch(h.doc, 10))); r.Err == nil || m.at.version() != before {
		t.Errorf("it goes on after that: %+v", r)
	}
	if _, err := m.Snapshot(); err == nil {
		t.Error("a snapshot of a document that may be wrong")
	}
}

// Lines of the libraries come with their level lowered, and are not repeated.
func TestLineLog(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	l := newLineLog(log, "raft", func() time.Time { return now })
	lines := "2026-11-29T01:02:03.004Z [WARN]  raft: heartbeat: peer=1\n2026-11-29T01:02:03.004Z [ERROR] raft: it failed\n" +
		"2026-11-29T01:02:03.004Z [DEBUG] raft: nobody wants this\n2026/11/29 01:02:03 [INFO] memberlist: a \abell\n"
	if n, err := l.Write([]byte(lines)); n != len(lines) || err != nil {
		t.Error(n, err)
	}
	want := "level=INFO msg=raft text=\"heartbeat: peer=1\"\nlevel=WARN msg=raft text=\"it failed\"\nlevel=DEBUG msg=raft text=\"a  bell\"\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	_, _ = l.Write([]byte(lines))
	if out.Len() > 0 {
		t.Errorf("said again: %s", out.String())
	}
	now = now.Add(quiet)
	_, _ = l.Write([]byte(lines))
	if out.String() != want {
		t.Errorf("after a while\n%s", out.String())
	}
	for i := range 10 * maxSaid {
		_, _ = l.Write([]byte(strings.Repeat("x", i%sameLine) + "line " + time.Duration(i).String()))
	}
	if len(l.said) > maxSaid {
		t.Errorf("it remembers %d lines", len(l.said))
	}
}
