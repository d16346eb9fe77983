package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/native"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A nullStore takes everything and has one object: what remains is the cost of
// client, wire and door.
type nullStore struct {
	fakeStore
	rec object.Record
}

func (s *nullStore) Put(context.Context, object.Record) error { return nil }

func (s *nullStore) PutBatch(_ context.Context, recs []object.Record) []error {
	return make([]error, len(recs))
}

func (s *nullStore) Get(context.Context, []byte, []byte, []byte) (object.Record, error) {
	return s.rec.Retain(), nil
}

func benchClient(b *testing.B, size int) (*Client, object.Record) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Config{Addrs: []string{ln.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	rec, err := c.Encode(Object{Bucket: "events", Key: blobKey(1763712000, 0), Value: make([]byte, size)})
	if err != nil {
		b.Fatal(err)
	}
	srv := wire.NewServer(wire.ServerConfig{Handler: native.NewHandler(&nullStore{rec: rec}), Hello: wire.Hello{Node: wire.ID{1}}})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ln); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		c.Close()
		srv.Close()
		wg.Wait()
		rec.Release()
	})
	return c, rec
}

// measure runs do b.N times from 16 goroutines and reports processor seconds, of
// client and node together, per GiB.
func measure(b *testing.B, size int, do func() error) {
	cpu := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
	}
	b.ReportAllocs()
	b.SetBytes(int64(size))
	before := cpu()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric((cpu()-before)/(float64(b.N)*float64(size)/(1<<30)), "cpu-s/GiB")
}

func BenchmarkPutRecord(b *testing.B) {
	for _, size := range []int{4 << 10, 100_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c, rec := benchClient(b, size)
			measure(b, size, func() error { return c.PutRecord(b.Context(), rec) })
		})
	}
}

// BenchmarkPut includes the stamp, the checksum and the copy into the record.
func BenchmarkPut(b *testing.B) {
	c, rec := benchClient(b, 100_000)
	measure(b, 100_000, func() error {
		return c.Put(b.Context(), Object{Bucket: "events", Key: blobKey(1763712000, 0), Value: rec.Value()})
	})
}

// BenchmarkPutBatch puts 40 blobs of 100 KB a call.
func BenchmarkPutBatch(b *testing.B) {
	c, rec := benchClient(b, 100_000)
	recs := make([]object.Record, 40)
	for i := range recs {
		recs[i] = rec
	}
	measure(b, 40*100_000, func() error {
		for _, err := range c.PutBatch(b.Context(), recs) {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkGet includes the checksum of the value.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 100_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c, _ := benchClient(b, size)
			measure(b, size, func() error {
				rec, err := c.Get(b.Context(), "", "events", blobKey(1763712000, 0))
				rec.Release()
				return err
			})
		})
	}
}
