package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// TestStream reads whole streams of several shapes: every message, in order,
// then the last one and io.EOF.
func TestStream(t *testing.T) {
	noBuffersLeft(t, func() {
		srv := NewServer(testServerConfig(newTestHandler()))
		c, err := Dial(t.Context(), overTCP(t, srv), Config{StreamWindowBytes: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		for _, shape := range []struct{ messages, size uint32 }{{0, 0}, {1, 0}, {3000, 10}, {100, 30_000}, {3, 1<<20 + 1}} {
			s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail, Meta: streamMeta(shape.messages, shape.size)})
			if err != nil {
				t.Fatal(err)
			}
			for i := range shape.messages {
				r, err := s.Next(t.Context())
				if err != nil {
					t.Fatalf("%+v: message %d: %v", shape, i, err)
				}
				if got := binary.LittleEndian.Uint32(r.Meta); got != i || len(r.Body) != int(shape.size) {
					t.Fatalf("%+v: message %d is %d of %d bytes", shape, i, got, len(r.Body))
				}
				if bytes.Count(r.Body, []byte{byte(i)}) != len(r.Body) {
					t.Fatalf("%+v: message %d holds other bytes", shape, i)
				}
				r.Release()
			}
			if r, err := s.Next(t.Context()); err != nil || string(r.Meta) != "end" {
				t.Errorf("%+v: the last message is %q, %v", shape, r.Meta, err)
			} else {
				r.Release()
			}
			for range 2 {
				if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
					t.Errorf("%+v: after the end: %v", shape, err)
				}
			}
			if n := c.InFlight(); n != 0 {
				t.Errorf("%+v: the stream has ended and still counts", shape)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d requests are still in flight", n)
		}
		c.Close()
		srv.Close()
	})
}

// TestSlowStreamStopsOnlyItself: a reader that takes nothing holds the server's
// sender at the window, while calls on the same connection go on.
func TestSlowStreamStopsOnlyItself(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHandler()
			var sent atomic.Int64
			h.onSend = func(int) { sent.Add(1) }
			srv := NewServer(testServerConfig(h))
			c := overPipe(t, srv, Config{StreamWindowBytes: 10_000})
			s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail, Meta: streamMeta(1000, 916)})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := sent.Load(); n != 10 {
				t.Errorf("%d messages of 1000 bytes were sent into a window of 10000", n)
			}
			for range 20 {
				if _, err := c.Call(t.Context(), &Call{Op: opSink, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 5000)}}}); err != nil {
					t.Fatal(err)
				}
			}
			for range 5 {
				r, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.Release()
			}
			synctest.Wait()
			if n := sent.Load(); n != 15 {
				t.Errorf("%d messages were sent after 5 were taken, want 15", n)
			}
			s.Close()
			synctest.Wait()
			if s := srv.Stats(); s.Running != 0 {
				t.Errorf("%d requests still run after Close", s.Running)
			}
			c.Close()
			srv.Close()
		})
	})
}

// TestStreamError: a stream that breaks off gives out what came before, then the
// server's error.
func TestStreamError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(testServerConfig(handlerFunc(func(_ context.Context, r *Request) (Answer, error) {
			_ = r.Send([]byte("one"), Piece{})
			return Answer{}, object.Errorf(object.CodeExpired, object.NotDone, "it is too old")
		})))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r, err := s.Next(t.Context())
		if err != nil || string(r.Meta) != "one" {
			t.Fatalf("%q, %v", r.Meta, err)
		}
		r.Release()
		_, err = s.Next(t.Context())
		wantError(t, err, object.CodeExpired, object.NotDone)
	})
}

func TestStreamNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		srv := NewServer(testServerConfig(h))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		s, err := c.Stream(t.Context(), &Call{Op: opWait, Class: Tail})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		s.Close()
		s.Close()
		if _, err := s.Next(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after Close: %v", err)
		}
		if err := <-h.waitErr; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
	})
}

func TestStreamEndsWithItsConnection(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			srv := NewServer(testServerConfig(newTestHandler()))
			c := overPipe(t, srv, Config{StreamWindowBytes: 3000})
			s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail, Meta: streamMeta(100, 500)})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			srv.Close()
			for {
				r, err := s.Next(t.Context())
				if err != nil {
					wantError(t, err, object.CodeUnavailable, object.MaybeDone)
					break
				}
				r.Release()
			}
			s.Close()
			c.Close()
		})
	})
}
