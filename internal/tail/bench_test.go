package tail

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// benchUpdates are the updates of n blobs of one second, all with one body of that
// size.
func benchUpdates(n, bytes int) (updates []Update, release func()) {
	now := time.Now().Unix()
	value := strings.Repeat("x", bytes)
	for i := range n {
		rec := record(agg1, blobKey(now, "ams", "web", i), value)
		ikey, delta, err := index.DeltaOf(&rec.Header)
		if err != nil {
			panic(err)
		}
		updates = append(updates, Update{Index: ikey, Delta: delta, Bodies: []object.Record{rec}})
	}
	return updates, func() {
		for _, u := range updates {
			u.Bodies[0].Release()
		}
	}
}

// BenchmarkPublish is the cost to the publisher: readers take what comes. A window
// is begun anew after a few hundred blobs, as seconds would end.
func BenchmarkPublish(b *testing.B) {
	for _, subs := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("100KB/%d", subs), func(b *testing.B) {
			const n = 512
			updates, release := benchUpdates(n, 100_000)
			defer release()
			c := newCore(DefaultConfig())
			feeds := make([]*feed, subs)
			now := updates[0].Index.Epoch * 1000
			begin := func() {
				for i := range feeds {
					if feeds[i] != nil {
						c.unsubscribe(feeds[i])
					}
				}
				for i := range feeds {
					feeds[i] = testFeed(&c.cfg, now/1000)
					c.subscribe(now, feeds[i])
				}
			}
			i := 0
			b.SetBytes(100_000)
			b.ReportAllocs()
			for b.Loop() {
				if i%n == 0 {
					b.StopTimer()
					begin()
					b.StartTimer()
				}
				c.publish(now, &updates[i%n])
				for _, f := range feeds {
					q, _, _ := c.take(f)
					c.delivered(f, &q, q.id())
					q.body.Buf.Release()
				}
				i++
			}
		})
	}
}

// BenchmarkThroughHub is from Publish to the reader's hands, between goroutines.
func BenchmarkThroughHub(b *testing.B) {
	for _, subs := range []int{1, 10} {
		b.Run(fmt.Sprintf("100KB/%d", subs), func(b *testing.B) {
			h := New(newMemStore("ams"), DefaultConfig(), slog.New(slog.DiscardHandler))
			defer h.Close()
			value := make([]byte, 100_000)
			var wg sync.WaitGroup
			defer wg.Wait()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			taken := make(chan struct{}, subs)
			for range subs {
				s, err := h.Subscribe(Options{})
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() {
					defer s.Close()
					for {
						item, err := s.Next(ctx)
						if err != nil {
							return
						}
						if item.Kind == KindBlob {
							item.Release()
							taken <- struct{}{}
						}
					}
				})
			}
			var room [event.MaxKeyBytes]byte
			i := 0
			b.SetBytes(100_000)
			b.ReportAllocs()
			for b.Loop() {
				key := event.Key{Epoch: time.Now().Unix(), DC: "ams", Type: "web", Subtype: "nl", Chunk: event.PlainChunk(uint64(i))}
				rec, err := object.Encode(object.Header{
					Kind: object.Value, TimestampMicros: 1, Type: []byte("default"), Bucket: []byte("events"), Key: key.AppendTo(room[:0]),
				}, value)
				if err != nil {
					b.Fatal(err)
				}
				ikey, delta, _ := index.DeltaOf(&rec.Header)
				h.Publish(Update{Index: ikey, Delta: delta, Bodies: []object.Record{rec}})
				rec.Release()
				for range subs {
					<-taken
				}
				i++
			}
		})
	}
}
