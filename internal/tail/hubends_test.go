package tail

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

func TestNextEnds(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s, other := subscribe(t, h, Options{}), subscribe(t, h, Options{})
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(time.Millisecond); cancel(cause) }()
		if _, err := s.Next(ctx); err != cause {
			t.Errorf("got %v", err)
		}
		publish(h, m.put(agg1, blobKey(time.Now().Unix(), "ams", "web", 0), "v"))
		go func() { time.Sleep(time.Millisecond); s.Close() }()
		item := next(t, s, time.Second) // goes on after the context's end
		item.Release()
		if _, err := s.Next(t.Context()); !errors.Is(err, object.CodeStopping) {
			t.Errorf("after Close: %v", err)
		}
		s.Close() // again
		item = next(t, other, time.Second)
		item.Release()
		go func() { time.Sleep(time.Millisecond); h.Close() }()
		if _, err := other.Next(t.Context()); err != ErrClosed {
			t.Errorf("after the hub's Close: %v", err)
		}
		if _, err := h.Subscribe(Options{}); err != ErrClosed {
			t.Errorf("subscribing to a closed hub: %v", err)
		}
		publish(h, m.put(agg1, blobKey(time.Now().Unix(), "ams", "web", 1), "v")) // ignored
	})
}

// A source that hangs holds up nothing but what hangs on it, and not Close.
func TestHangingSource(t *testing.T) {
	before, _ := object.Live()
	synctest.Test(t, func(t *testing.T) {
		m := &hangingStore{memStore: newMemStore("ams")}
		h := New(m, DefaultConfig(), slog.New(slog.DiscardHandler))
		s := subscribe(t, h, Options{})
		time.Sleep(5 * time.Second)
		publish(h, m.put(agg1, blobKey(time.Now().Unix(), "ams", "web", 0), "v"))
		item := next(t, s, time.Millisecond)
		item.Release()
		items := collect(t, s, 30*time.Second)
		if contains(items, "unknown") == 0 || contains(items, "complete") > 0 {
			t.Errorf("got %v", items)
		}
		behind := subscribe(t, h, Options{From: time.Now().Unix() - 1000})
		start := time.Now()
		go func() { time.Sleep(time.Second); behind.Close() }()
		if _, err := behind.Next(t.Context()); err != ErrClosed || time.Since(start) != time.Second {
			t.Errorf("closed while it reads: %v after %v", err, time.Since(start))
		}
		h.Close()
		m.close()
	})
	if after, _ := object.Live(); after != before {
		t.Errorf("%d buffers leaked", after-before)
	}
}

type hangingStore struct{ *memStore }

func (m *hangingStore) Row(ctx context.Context, _ event.IndexKey) (index.Row, bool, error) {
	<-ctx.Done()
	return index.Row{}, false, ctx.Err()
}

// Without subscriptions a hub reads nothing and remembers nothing.
func TestIdleHub(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		publish(h, m.put(agg1, blobKey(time.Now().Unix(), "ams", "web", 0), "v"))
		s.Close()
		time.Sleep(time.Second)
		reads := h.Counters().RowReads
		publish(h, m.put(agg1, blobKey(time.Now().Unix(), "ams", "web", 1), "v"))
		time.Sleep(time.Minute)
		if n := h.Counters(); n.RowReads != reads || n.WindowBlobs != 0 || n.Subscriptions != 0 || n.WaitingBytes != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// More blobs than the window may remember, or a clock that jumps: seconds are
// given up, and the readers read them themselves.
func TestWindowIsBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.WindowBlobs = 1024
	inBubble(t, cfg, func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{WithoutBodies: true})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { script(m, h, 30, 200) })
		items := collect(t, s, 90*time.Second)
		if got, unique := contains(items, "blob"), len(slices.Compact(sorted(items))); got != 6000 || unique != len(items) {
			t.Errorf("%d blobs, %d items, %d unique", got, len(items), unique)
		}
		if n := h.Counters(); n.GivenUpSeconds == 0 || n.Behind != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestSubscribeRefuses(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Subscriptions = 1
	inBubble(t, cfg, func(t *testing.T, m *memStore, h *Hub) {
		now := time.Now().Unix()
		for name, row := range map[string]struct {
			o    Options
			code object.Code
		}{
			"from and cursor":   {Options{From: 1, Cursor: cursor.New(1).String()}, object.CodeBadRequest},
			"a bad cursor":      {Options{Cursor: "mft1.x"}, object.CodeBadRequest},
			"negative":          {Options{From: -1}, object.CodeBadRequest},
			"far ahead":         {Options{From: now + 1000}, object.CodeTooFarAhead},
			"a cursor ahead":    {Options{Cursor: cursor.New(now + 1000).String()}, object.CodeTooFarAhead},
			"shard past":        {Options{Shard: 3, Shards: 3}, object.CodeBadRequest},
			"shard of none":     {Options{Shard: 1}, object.CodeBadRequest},
			"a bad pattern":     {Options{DC: "a b"}, object.CodeBadRequest},
			"an empty one":      {Options{Type: "web,"}, object.CodeBadRequest},
			"a long one":        {Options{Type: strings.Repeat("a", 200)}, object.CodeBadRequest},
			"many alternatives": {Options{Type: strings.Repeat("a,", 4000) + "a"}, object.CodeBadRequest},
		} {
			if s, err := h.Subscribe(row.o); !errors.Is(err, row.code) || s != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		subscribe(t, h, Options{})
		if _, err := h.Subscribe(Options{}); !errors.Is(err, object.CodeOverload) {
			t.Errorf("one too many: %v", err)
		}
	})
}
