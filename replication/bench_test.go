package replication

import (
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// instant is a replica that has one record and takes any other.
type instant struct{ rec object.Record }

func (i *instant) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	rec.Retain()
	rec.Release()
	done(ask.Call, nil)
}

func (i *instant) Get(ask Ask, _, _, _ []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	if body {
		done(ask.Call, i.rec.Retain(), true, nil)
		return
	}
	done(ask.Call, object.Record{Header: i.rec.Header, Buf: i.rec.Buf.Retain()}, true, nil)
}

func (i *instant) Row(ask Ask, _ event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	done(ask.Call, index.Row{}, true, nil)
}

// handed is a replica on another goroutine, as a peer is.
type handed struct {
	instant
	asks chan handedPut
}

type handedPut struct {
	call uint64
	rec  object.Record
	done func(uint64, *object.Error)
}

func (h *handed) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	h.asks <- handedPut{ask.Call, rec.Retain(), done}
}

func (h *handed) serve() {
	for p := range h.asks {
		p.rec.Release()
		p.done(p.call, nil)
	}
}

func benchCoordinator(tb testing.TB, rec object.Record, remote bool) *Coordinator {
	tb.Helper()
	h := testHistory(tb, 1, 0, 1, 2)
	set := bucket.DefaultSet()
	ways := map[ring.NodeID]Replica{}
	for i := range 3 {
		ways[nodeID(i)] = &instant{rec}
		if remote && i > 0 {
			p := &handed{instant: instant{rec}, asks: make(chan handedPut, 64)}
			go p.serve()
			tb.Cleanup(func() { close(p.asks) })
			ways[nodeID(i)] = p
		}
	}
	c, err := New(Config{
		Self: nodeID(0), History: func() *ring.History { return h }, Buckets: func() *bucket.Set { return set },
		Replica: func(id ring.NodeID) Replica { return ways[id] },
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(tb.Context()) })
	return c
}

func BenchmarkPut(b *testing.B) {
	for _, remote := range []bool{false, true} {
		b.Run(map[bool]string{false: "inline", true: "goroutines"}[remote], func(b *testing.B) {
			rec := blob(b, time.Now().Unix(), 0, string(make([]byte, 4000)))
			c := benchCoordinator(b, rec, remote)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Put(ctx, rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	rec := blob(b, time.Now().Unix(), 0, string(make([]byte, 4000)))
	c := benchCoordinator(b, rec, false)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		got, err := c.Get(ctx, rec.Type, rec.Bucket, rec.Key)
		if err != nil {
			b.Fatal(err)
		}
		got.Release()
	}
}

func BenchmarkWheel(b *testing.B) {
	start := time.Now()
	w := newWheel(start)
	var a alarm
	b.ReportAllocs()
	for b.Loop() {
		w.set(&a, start.Add(time.Second))
		w.cancel(&a)
	}
}

// TestNoAllocations: a put and a get take their state from pools.
func TestNoAllocations(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector drops what is in pools")
	}
	rec := blob(t, time.Now().Unix(), 0, "value")
	defer rec.Release()
	c := benchCoordinator(t, rec, false)
	put := func() {
		if err := c.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	get := func() {
		got, err := c.Get(t.Context(), rec.Type, rec.Bucket, rec.Key)
		if err != nil {
			t.Fatal(err)
		}
		got.Release()
	}
	for what, f := range map[string]func(){"put": put, "get": get} {
		if n := testing.AllocsPerRun(1000, f); n > 0.5 {
			t.Errorf("a %s allocates %.1f times", what, n)
		}
	}
}
