package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

const benchBody = 100_000 // bytes

// processCPU returns the seconds of processor time this process has used.
func processCPU(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// measure runs f for b.N iterations and reports processor seconds, of both
// sides together, per GiB of bodies.
func measure(b *testing.B, bodyBytes int, f func()) {
	b.ReportAllocs()
	b.SetBytes(int64(bodyBytes))
	before := processCPU(b)
	b.ResetTimer()
	f()
	b.StopTimer()
	if bodyBytes > 0 {
		b.ReportMetric((processCPU(b)-before)/(float64(b.N)*float64(bodyBytes)/(1<<30)), "cpu-s/GiB")
	}
}

// callers runs do b.N times from 16 goroutines.
func callers(b *testing.B, do func(caller int) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for caller := range 16 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchConns(b *testing.B, n int, h Handler) []*Conn {
	srv := NewServer(testServerConfig(h))
	address := overTCP(b, srv)
	var conns []*Conn
	for range n {
		c, err := Dial(b.Context(), address, Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		conns = append(conns, c)
	}
	return conns
}

func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ conns, size int }{{1, benchBody}, {4, benchBody}, {1, 4 << 10}, {4, 4 << 10}, {1, 500_000}} {
		b.Run(fmt.Sprintf("conns=%d/bytes=%d", c.conns, c.size), func(b *testing.B) {
			sink := handlerFunc(func(context.Context, *Request) (Answer, error) { return Answer{}, nil })
			conns := benchConns(b, c.conns, sink)
			buf := object.NewBuffer(c.size)
			ctx := b.Context()
			measure(b, c.size, func() {
				callers(b, func(i int) error {
					reply, err := conns[i%len(conns)].Call(ctx, &Call{Op: opSink, Class: Ingest, Body: []Piece{{buf.Bytes(), buf}}})
					reply.Release()
					return err
				})
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, c := range []struct{ conns, size int }{{1, benchBody}, {4, benchBody}, {1, 4 << 10}} {
		b.Run(fmt.Sprintf("conns=%d/bytes=%d", c.conns, c.size), func(b *testing.B) {
			buf := object.NewBuffer(c.size)
			source := handlerFunc(func(context.Context, *Request) (Answer, error) {
				return Answer{Body: Piece{buf.Bytes(), buf.Retain()}}, nil
			})
			conns := benchConns(b, c.conns, source)
			ctx, meta := b.Context(), make([]byte, 60)
			measure(b, c.size, func() {
				callers(b, func(i int) error {
					reply, err := conns[i%len(conns)].Call(ctx, &Call{Op: opEcho, Class: Get, Meta: meta})
					reply.Release()
					return err
				})
			})
		})
	}
}

// BenchmarkPing is one small call at a time: the latency of the whole path.
func BenchmarkCallAlone(b *testing.B) {
	sink := handlerFunc(func(context.Context, *Request) (Answer, error) { return Answer{}, nil })
	c := benchConns(b, 1, sink)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(b.Context(), &Call{Op: opSink, Class: Ingest}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	buf := object.NewBuffer(benchBody)
	source := handlerFunc(func(_ context.Context, r *Request) (Answer, error) {
		for {
			if err := r.Send(nil, Piece{buf.Bytes(), buf.Retain()}); err != nil {
				return Answer{}, err
			}
		}
	})
	c := benchConns(b, 1, source)[0]
	s, err := c.Stream(b.Context(), &Call{Op: opStream, Class: Tail})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	measure(b, benchBody, func() {
		for range b.N {
			r, err := s.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			r.Release()
		}
	})
}

// BenchmarkFloor is the least a put can cost here: 16 bodies in flight, written
// with a header in one call, read into one buffer, acknowledged with 16 bytes;
// no requests, no checks, no goroutine per anything.
func BenchmarkFloor(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		head, body := make([]byte, 16), make([]byte, benchBody)
		for {
			if _, err := io.ReadFull(nc, head); err != nil {
				return
			}
			if _, err := io.ReadFull(nc, body); err != nil {
				return
			}
			if _, err := nc.Write(head); err != nil {
				return
			}
		}
	})
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	head, body := make([]byte, 16), make([]byte, benchBody)
	measure(b, benchBody, func() {
		window := make(chan struct{}, 16)
		wg.Go(func() {
			ack := make([]byte, 16)
			for range b.N {
				if _, err := io.ReadFull(nc, ack); err != nil {
					b.Error(err)
				}
				<-window
			}
		})
		for range b.N {
			window <- struct{}{}
			bufs := net.Buffers{head, body}
			if _, err := bufs.WriteTo(nc); err != nil {
				b.Fatal(err)
			}
		}
		for range 16 {
			window <- struct{}{}
		}
	})
	nc.Close()
	wg.Wait()
}
