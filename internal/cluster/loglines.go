package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// lineLog takes the lines that Raft and memberlist log and hands them on as
// records of the node's log. Both speak of what is routine at a level that wakes
// people, and repeat it many times a second while a node is down: so the levels
// are lowered by one, and what was just said is not said again for a while.
//
// It is an [io.Writer] of whole lines, and may be used by any goroutine.
type lineLog struct {
	log  *slog.Logger
	from string // "raft" or "gossip"
	now  func() time.Time

	mu   sync.Mutex
	said map[string]time.Time // by level and the beginning of the text
}

const (
	quiet        = 10 * time.Second // in which a line is not repeated
	maxSaid      = 128              // lines remembered
	sameLine     = 48               // bytes by which lines are told apart
	maxLineBytes = 1024
)

func newLineLog(log *slog.Logger, from string, now func() time.Time) *lineLog {
	return &lineLog{log: log, from: from, now: now, said: make(map[string]time.Time)}
}

// Write implements [io.Writer]. It fails never.
func (l *lineLog) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		l.line(string(line[:min(len(line), maxLineBytes)]))
	}
	return len(b), nil
}

func (l *lineLog) line(line string) {
	level, text := splitLine(line)
	if text == "" || !l.log.Enabled(context.Background(), level) || l.repeated(level, text) {
		return
	}
	l.log.Log(context.Background(), level, l.from, "text", object.Printable(text, maxLineBytes))
}

// repeated tells whether a line like this one was said a moment ago.
func (l *lineLog) repeated(level slog.Level, text string) bool {
	key := level.String() + text[:min(len(text), sameLine)]
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if at, found := l.said[key]; found && now.Sub(at) < quiet {
		return true
	}
	if len(l.said) >= maxSaid {
		clear(l.said)
	}
	l.said[key] = now
	return false
}

var lineLevels = []struct {
	mark  string
	level slog.Level
}{
	{"[TRACE]", slog.LevelDebug - 4}, {"[DEBUG]", slog.LevelDebug - 4}, {"[INFO]", slog.LevelDebug},
	{"[WARN]", slog.LevelInfo}, {"[ERR]", slog.LevelWarn}, {"[ERROR]", slog.LevelWarn},
}

// splitLine finds the level and the text of a line such as
// "2026-11-29T01:02:03.004Z [WARN]  raft: text: key=value".
func splitLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	for _, m := range lineLevels {
		if _, text, found := strings.Cut(line, m.mark); found {
			text = strings.TrimSpace(text)
			for _, name := range []string{"raft: ", "raft-net: ", "snapshot: ", "memberlist: "} {
				text = strings.TrimPrefix(text, name)
			}
			if strings.HasPrefix(text, "failed to make requestVote RPC") {
				return slog.LevelDebug, text // the cluster says which voters are missing, see tellLeaderless
			}
			return m.level, text
		}
	}
	return slog.LevelDebug, line
}
