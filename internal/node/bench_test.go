package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/node"
	"github.com/mayflydb/mayfly/internal/object"
)

func benchNode(b *testing.B) (*node.Node, *client.Client) {
	b.Helper()
	n, err := node.Start(b.Context(), node.Config{Name: "n1", Cluster: "bench", Listen: "127.0.0.1:0", Data: []string{b.TempDir()}, Partitions: 16, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	c, err := client.New(client.Config{Addrs: []string{n.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return n, c
}

// encode makes the record of the n-th blob of the present second.
func encode(b *testing.B, c *client.Client, n uint64, value []byte) object.Record {
	key := event.Key{Epoch: time.Now().Unix(), DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.Chunk(7, n)}
	rec, err := c.Encode(client.Object{Bucket: bucket.Events, Key: key.String(), Value: value, EventCount: 100, Writer: "bench", Incarnation: 7})
	if err != nil {
		b.Fatal(err)
	}
	return rec
}

// BenchmarkPut puts blobs into events over TCP, index and all, from eight
// writers. B/op is what client and node together allocate a put outside their
// pools.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 100_000, 499_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, c := benchNode(b)
			value := make([]byte, size)
			var chunk atomic.Uint64
			put := func() {
				rec := encode(b, c, chunk.Add(1), value)
				defer rec.Release()
				if err := c.PutRecord(b.Context(), rec); err != nil {
					b.Fatal(err)
				}
			}
			for range 200 { // connections, pools, segments
				put()
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(8 / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put()
				}
			})
		})
	}
}

// BenchmarkStorePut is the node's part alone: one writer, no network.
func BenchmarkStorePut(b *testing.B) {
	n, c := benchNode(b)
	value := make([]byte, 100_000)
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	chunk := uint64(0)
	for b.Loop() {
		chunk++
		rec := encode(b, c, chunk, value)
		if err := n.Store().Put(b.Context(), rec); err != nil {
			b.Fatal(err)
		}
		rec.Release()
	}
}
