package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
)

// A member that has left says so once, however often it looks, and once more when it
// is lost instead.
func TestRefusalIsSaidOnce(t *testing.T) {
	t.Parallel()
	a := newTestNode(t, "a").mustStart()
	b := newTestNode(t, "b")
	lines := &lineCounter{}
	b.cfg.Log, b.cfg.Seeds = slog.New(lines), []string{a.address}
	b.mustStart()

	for _, state := range []agreed.MemberState{agreed.Left, agreed.Lost} {
		h := b.keeper.newest()
		doc := *h.doc
		doc.Version.Index++
		doc.Staged, doc.Members = nil, slices.Clone(doc.Members)
		i := slices.IndexFunc(doc.Members, func(m agreed.Member) bool { return m.ID == b.cfg.Node })
		doc.Members[i].State = state
		h.doc = &doc
		b.keeper.offer(h)
		said := fmt.Sprintf("this node %s cluster", goneText(state))
		eventually(t, said, func() error {
			if n := lines.count(slog.LevelDebug, said); n < 3 {
				return fmt.Errorf("%d repetitions", n)
			}
			return nil
		})
		if n := lines.count(slog.LevelWarn, said); n != 1 {
			t.Errorf("%q is said %d times, want once", said, n)
		}
	}
}

// A lineCounter is a [slog.Handler] that keeps what is logged.
type lineCounter struct {
	mu    sync.Mutex
	lines []slog.Record
}

func (l *lineCounter) Enabled(context.Context, slog.Level) bool { return true }

func (l *lineCounter) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r)
	return nil
}

func (l *lineCounter) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *lineCounter) WithGroup(string) slog.Handler      { return l }

// count returns how many records of a level, or their attributes, begin with these
// words.
func (l *lineCounter) count(level slog.Level, words string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.lines {
		if r.Level != level {
			continue
		}
		if strings.HasPrefix(r.Message, words) {
			n++
		}
		for a := range r.Attrs {
			if strings.HasPrefix(a.Value.String(), words) {
				n++
			}
		}
	}
	return n
}

// Nodes that have come to other documents of one version are told apart, and said.
func TestDifferentDocuments(t *testing.T) {
	t.Parallel()
	a := newTestNode(t, "a").mustStart()
	b := newTestNode(t, "b")
	lines := &lineCounter{}
	b.cfg.Log, b.cfg.Seeds = slog.New(lines), []string{a.address}
	b.mustStart()
	a.touch(7)
	sees(t, 7, a, b)
	h := b.keeper.newest()
	doc := *h.doc
	doc.Settings.LatenessSeconds = 8 // as another release would have it
	b.keeper.show(held{&doc, h.origin})
	eventually(t, "b says so", func() error {
		if lines.count(slog.LevelError, "other nodes have another document") != 1 || b.Stats().Different != 1 {
			return fmt.Errorf("%d differ", b.Stats().Different)
		}
		return nil
	})
	b.keeper.show(h)
	eventually(t, "no more", func() error {
		if n := b.Stats().Different; n != 0 {
			return fmt.Errorf("%d differ", n)
		}
		return nil
	})
	for _, c := range []struct {
		b    news
		want bool
	}{
		{goldenNews, false},
		{news{Version: goldenNews.Version, Origin: goldenNews.Origin, Sum: 1}, true},
		{news{Version: goldenNews.Version, Origin: goldenNews.Origin}, false},
		{news{Version: goldenNews.Version, Sum: 1}, false},
		{news{Origin: goldenNews.Origin, Sum: 1}, false},
	} {
		if differs(goldenNews, c.b) != c.want || differs(c.b, goldenNews) != c.want {
			t.Errorf("%+v differs: %v", c.b, !c.want)
		}
	}
}
