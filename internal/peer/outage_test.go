package peer

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged keeps what is logged, debugging apart. It is a slog.Handler without groups.
type logged struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine struct {
	level slog.Level
	attrs map[string]string
}

func (*logged) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler         { return l }
func (l *logged) WithGroup(string) slog.Handler              { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	line := logLine{r.Level, map[string]string{}}
	r.Attrs(func(a slog.Attr) bool {
		line.attrs[a.Key] = a.Value.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logged) take() []logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// TestOutage: what is said of a peer that goes, stays away, comes back, or comes
// and goes.
func TestOutage(t *testing.T) {
	type step struct {
		at   time.Duration
		what string // "up", "fail"
		says string
	}
	const s = time.Second
	for _, c := range []struct {
		claim string
		steps []step
	}{
		{"never reached, then reached", []step{{0, "fail", "away 1"}, {1 * s, "fail", ""}, {2 * s, "up", "back"}}},
		{"reached at once", []step{{0, "up", ""}}},
		{"told again each minute, with the count", []step{
			{0, "up", ""}, {10 * s, "fail", "away 1"}, {11 * s, "fail", ""}, {69 * s, "fail", ""}, {70 * s, "fail", "away 3"},
			{129 * s, "fail", ""}, {130 * s, "fail", "away 2"}, {131 * s, "up", "back"}}},
		{"two outages with a while between them are both told", []step{
			{0, "up", ""}, {10 * s, "fail", "away 1"}, {11 * s, "up", "back"}, {17 * s, "fail", "away 1"}, {18 * s, "up", "back"}}},
		{"what comes and goes is told once a minute", []step{
			{0, "up", ""}, {10 * s, "fail", "away 1"}, {11 * s, "up", "back"}, {12 * s, "fail", ""}, {13 * s, "up", ""},
			{14 * s, "fail", ""}, {15 * s, "up", ""}, {20 * s, "fail", ""}, {70 * s, "fail", "away 4"}, {71 * s, "up", "back"}, {72 * s, "fail", ""}}},
	} {
		o := outage{settle: 5 * s}
		start := time.Unix(1e9, 0)
		for i, st := range c.steps {
			says := ""
			if st.what == "up" {
				if _, say := o.risen(start.Add(st.at)); say {
					says = "back"
				}
			} else if n, _, say := o.fallen(start.Add(st.at)); say {
				says = "away " + strconv.Itoa(n)
			}
			if says != st.says {
				t.Errorf("%s: step %d says %q, want %q", c.claim, i, says, st.says)
			}
		}
	}
}

// TestLogOfAnOutage: a peer that is away for ten minutes makes a line a minute
// and not one for each attempt of each line.
func TestLogOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logged{}
		r := connected(t, func(c *Config) { c.Logger = slog.New(log) })
		defer r.close()
		time.Sleep(time.Minute)
		if got := log.take(); len(got) != 0 {
			t.Errorf("said of a peer that is there: %v", got)
		}
		r.net.listen(nil)
		r.net.cut()
		time.Sleep(time.Second)
		if got := log.take(); len(got) != 1 || got[0].level != slog.LevelWarn || got[0].attrs["reason"] == "" || got[0].attrs["node"] != there.String() {
			t.Errorf("said when it has gone: %v", got)
		}
		time.Sleep(10 * time.Minute)
		got := log.take()
		if len(got) < 9 || len(got) > 10 {
			t.Errorf("%d lines in ten minutes", len(got))
		}
		for _, l := range got {
			if n, _ := strconv.Atoi(l.attrs["failures"]); l.level != slog.LevelWarn || n < 12*numLines || n > 30*numLines {
				t.Errorf("said in a minute of some dozens of attempts: %v", l)
			}
		}
		r.net.listen(r.srv)
		time.Sleep(time.Minute)
		if got := log.take(); len(got) != 1 || got[0].level != slog.LevelInfo || got[0].attrs["after"] < "10m" {
			t.Errorf("said when it is back: %v", got)
		}
		r.net.cutOne()
		time.Sleep(time.Second)
		if got := log.take(); len(got) != 0 {
			t.Errorf("said when one connection of three was lost: %v", got)
		}
		for range 6_000 {
			time.Sleep(10 * time.Millisecond)
			r.net.cut()
		}
		if got := log.take(); len(got) > 6 {
			t.Errorf("%d lines of a minute in which it came and went: %v", len(got), got)
		}
	})
}

// TestLogAtClose: nothing is said of connections that this node ends itself.
func TestLogAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logged{}
		r := connected(t, func(c *Config) { c.Logger = slog.New(log) })
		synctest.Wait()
		r.close()
		if got := log.take(); len(got) != 0 {
			t.Errorf("%v", got)
		}
	})
}
