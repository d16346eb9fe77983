package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range min(n, 251) {
		b[i] = byte(i)*31 + seed
	}
	for done := 251; done < n; done *= 2 {
		copy(b[done:], b[:done])
	}
	return b
}

// TestEcho sends payloads of every kind and compares what comes back.
func TestEcho(t *testing.T) {
	noBuffersLeft(t, func() {
		srv := NewServer(testServerConfig(newTestHandler()))
		address := overTCP(t, srv)
		c, err := Dial(t.Context(), address, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{0, 1, 100, 4 << 10, readBufferBytes - 1, readBufferBytes, 100_000, firstStepBytes, firstStepBytes + 1, 9 << 20, 50 << 20} {
			for _, meta := range []int{0, 10, MaxMetaBytes} {
				if size > firstStepBytes+1 && (poisoned || meta != 10) {
					continue
				}
				m, b := fill(meta, 1), fill(size, 2)
				reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Ingest, Meta: m, Body: []Piece{{Bytes: b[:size/3]}, {Bytes: b[size/3:]}}})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(reply.Meta, m) || !bytes.Equal(reply.Body, b) {
					t.Errorf("a body of %d bytes with a meta of %d came back differently", size, meta)
				}
				reply.Release()
			}
		}
		c.Close()
		srv.Close()
	})
}

// TestManyAtOnce mixes many callers on one connection: each gets its own answer.
func TestManyAtOnce(t *testing.T) {
	noBuffersLeft(t, func() {
		srv := NewServer(testServerConfig(newTestHandler()))
		c, err := Dial(t.Context(), overTCP(t, srv), Config{MaxQueueBytes: 300_000})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for caller := range 20 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(caller), 1))
				for i := range 20 {
					body, meta := fill(rng.IntN(60_000), byte(caller)), fmt.Append(nil, caller, i)
					reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Ingest, Meta: meta, Body: []Piece{{Bytes: body}}})
					if err != nil {
						t.Error(err)
						return
					}
					if !bytes.Equal(reply.Body, body) || !bytes.Equal(reply.Meta, meta) {
						t.Errorf("caller %d got another's answer", caller)
					}
					reply.Release()
				}
			})
		}
		wg.Wait()
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d requests are still in flight", n)
		}
		c.Close()
		srv.Close()
		if s := srv.Stats(); s.Running != 0 || s.InFlightBytes != 0 || s.Open != 0 || s.Requests[Ingest] != 400 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHeaderTravels checks that what the caller says in the header reaches the
// handler, and the server's history the caller.
func TestHeaderTravels(t *testing.T) {
	var got Call
	var remaining time.Duration
	cfg := testServerConfig(handlerFunc(func(ctx context.Context, r *Request) (Answer, error) {
		got.Op, got.Class, got.History, got.Trace = r.Op, r.Class, r.History, r.Trace
		if d, ok := ctx.Deadline(); ok {
			remaining = time.Until(d)
		}
		if p := r.Peer(); p.Name != "ann" || p.Node != (ID{9}) {
			t.Errorf("the peer is %+v", p)
		}
		return Answer{}, nil
	}))
	cfg.History = func() History { return History{Era: 7, Index: 8} }
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(cfg)
		c := overPipe(t, srv, Config{Hello: Hello{Name: "ann", Node: ID{9}, Cluster: clusterA}})
		defer srv.Close()
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		call := Call{Op: opEcho, Class: Repair, History: History{3, 4}, Trace: Trace{ID: [16]byte{1}, Span: [8]byte{2}, Flags: 3}}
		reply, err := c.Call(ctx, &call)
		if err != nil {
			t.Fatal(err)
		}
		if reply.History != (History{7, 8}) {
			t.Errorf("the answer's history is %v", reply.History)
		}
		if got.Op != call.Op || got.Class != call.Class || got.History != call.History || got.Trace != call.Trace {
			t.Errorf("the handler saw %+v", got)
		}
		if remaining != 1500*time.Millisecond {
			t.Errorf("the handler had %v left, want 1.5s", remaining)
		}
		if p := c.Peer(); p.Name != "one" || p.Cluster != clusterA || p.MaxRequests != 256 {
			t.Errorf("the server is %+v", p)
		}
	})
}

type handlerFunc func(context.Context, *Request) (Answer, error)

func (f handlerFunc) ServeWire(ctx context.Context, r *Request) (Answer, error) { return f(ctx, r) }

func TestErrorsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(testServerConfig(newTestHandler()))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		for _, want := range []*object.Error{
			{Code: object.CodeConflict, Outcome: object.NotDone, Message: "it holds other bytes"},
			{Code: object.CodeUnavailable, Outcome: object.MaybeDone, Message: "one of two"},
			{Code: object.CodeInternal, Outcome: object.Done, Message: "done, but"},
		} {
			_, err := c.Call(t.Context(), &Call{Op: opFail, Class: Get, Meta: AppendError(nil, want)})
			wantError(t, err, want.Code, want.Outcome)
			if err.Error() != want.Message {
				t.Errorf("the message became %q", err)
			}
		}
		_, err := c.Call(t.Context(), &Call{Op: 99, Class: Get})
		wantError(t, err, object.CodeUnsupported, object.NotDone)
	})
}

// TestDeadlineReachesTheHandler: the handler's context ends when the caller's
// time is up, and the caller does not wait longer.
func TestDeadlineReachesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		srv := NewServer(testServerConfig(h))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Call(ctx, &Call{Op: opWait, Class: Get})
		wantError(t, err, object.CodeDeadline, object.MaybeDone)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the call took %v, want 3s", took)
		}
		if err := <-h.waitErr; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
	})
}

// TestCancelReachesTheHandler: a caller without a deadline that goes away ends
// the work done for it.
func TestCancelReachesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		srv := NewServer(testServerConfig(h))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Call(ctx, &Call{Op: opWait, Class: Get})
		wantError(t, err, object.CodeDeadline, object.MaybeDone)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not say that it was cancelled", err)
		}
		if err := <-h.waitErr; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
		synctest.Wait()
		if s := srv.Stats(); s.Cancelled != 1 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestNotSentIsNotDone: a call that gives up while its frame is queued is told
// "not done", and the server never sees it.
func TestNotSentIsNotDone(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			stuck := stuckServer(t, there)
			c, err := NewConn(t.Context(), here, Config{MaxQueueBytes: 1000})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			call := func(want object.Outcome, after time.Duration) {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), after)
					defer cancel()
					_, err := c.Call(ctx, &Call{Op: opSink, Class: Ingest, Body: []Piece{{Bytes: fill(700, 0)}}})
					wantError(t, err, object.CodeDeadline, want)
				})
				synctest.Wait()
			}
			call(object.MaybeDone, time.Second) // being written: the peer reads nothing
			call(object.NotDone, time.Second)   // waits for room
			call(object.NotDone, 2*time.Second) // as well
			wg.Wait()
			c.Close()
			stuck()
		})
	})
}

// stuckServer says hello and then reads nothing until it is told to close.
func stuckServer(t *testing.T, nc net.Conn) (closeIt func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := readHello(nc); err != nil {
			t.Error(err)
		}
		_, _ = nc.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxBodyBytes: MaxBodyBytes, MaxRequests: 100, Node: nodeOne}))
	})
	return func() {
		nc.Close()
		wg.Wait()
	}
}

// TestWithdrawnFrameLeavesTheQueue: of two queued frames the cancelled one is
// never written.
func TestWithdrawnFrameLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		closeIt := stuckServer(t, there)
		c, err := NewConn(t.Context(), here, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer closeIt()
		defer c.Close()
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for _, x := range []struct {
			meta string
			ctx  context.Context
		}{{"first", t.Context()}, {"dropped", ctx}, {"last", t.Context()}} {
			wg.Go(func() {
				_, err := c.Call(x.ctx, &Call{Op: opEcho, Class: Get, Meta: []byte(x.meta)})
				if x.meta == "dropped" {
					wantError(t, err, object.CodeDeadline, object.NotDone)
				} else if err != nil {
					t.Error(x.meta, err)
				}
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		peer := &raw{t, there}
		for _, want := range []string{"first", "last"} {
			h, meta, _, err := peer.next()
			if err != nil || string(meta) != want {
				t.Errorf("the server read %q, %v; want %q", meta, err, want)
			}
			peer.frame(Header{Op: opEcho, Class: Get, Flags: FlagResponse, ID: h.ID}, nil, nil)
		}
		wg.Wait()
	})
}

func TestLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		srv := NewServer(testServerConfig(h))
		c := overPipe(t, srv, Config{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Call(t.Context(), &Call{Op: opWait, Class: Ingest})
			wantError(t, err, object.CodeUnavailable, object.MaybeDone)
		})
		synctest.Wait()
		srv.Close()
		wg.Wait()
		<-c.Done()
		if c.Err() == nil {
			t.Error("Done is closed and Err is nil")
		}
		_, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Ingest})
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		_, err = c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		c.Close()
		if err := <-h.waitErr; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
	})
}

// TestSilentServerIsNoticed: a server that vanished without a word (half-open
// connection) is given up after the idle and the ping time.
func TestSilentServerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = readHello(there)
			_, _ = there.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxRequests: 9, Node: nodeOne}))
			_, _ = io.Copy(io.Discard, there) // reads, says nothing
		})
		start := time.Now()
		c, err := NewConn(t.Context(), here, Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Call(t.Context(), &Call{Op: opEcho, Class: Get})
		wantError(t, err, object.CodeUnavailable, object.MaybeDone)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("noticed after %v, want 30s", took)
		}
		c.Close()
		there.Close()
		wg.Wait()
	})
}

// TestPingKeepsAnIdleConnection: nothing is called for an hour, and the
// connection is as good as ever.
func TestPingKeepsAnIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(testServerConfig(newTestHandler()))
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		time.Sleep(time.Hour) // fake
		if _, err := c.Call(t.Context(), &Call{Op: opSink, Class: Get}); err != nil {
			t.Error(err)
		}
		if s := srv.Stats(); s.Pings < 300 || s.Pings > 400 {
			t.Errorf("%d pings in an hour", s.Pings)
		}
	})
}

// TestRequestsAreBounded: more callers than the server takes at once wait for
// their turn; nobody is turned away.
func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		cfg := testServerConfig(h)
		cfg.MaxRequestsPerConn = 3
		srv := NewServer(cfg)
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := c.Call(t.Context(), &Call{Op: opHold, Class: Get}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := h.startedCount(opHold); n != 3 || c.InFlight() != 3 {
			t.Errorf("%d are running and %d in flight, want 3", n, c.InFlight())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Call(ctx, &Call{Op: opHold, Class: Get})
		wantError(t, err, object.CodeDeadline, object.NotDone)
		close(h.release)
		wg.Wait()
	})
}

func TestTooLargeIsRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testServerConfig(newTestHandler())
		cfg.Hello.MaxBodyBytes = 1000
		srv := NewServer(cfg)
		c := overPipe(t, srv, Config{})
		defer srv.Close()
		defer c.Close()
		for _, call := range []Call{
			{Op: opSink, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 600)}, {Bytes: make([]byte, 401)}}},
			{Op: opSink, Class: Ingest, Meta: make([]byte, MaxMetaBytes+1)},
		} {
			_, err := c.Call(t.Context(), &call)
			wantError(t, err, object.CodeTooLarge, object.NotDone)
		}
		if n := srv.Stats().FramesIn; n != 0 {
			t.Errorf("%d frames were sent", n)
		}
	})
}

// TestShutdown: running requests are answered, new ones sent elsewhere, and the
// connection then closed.
func TestShutdown(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHandler()
			srv := NewServer(testServerConfig(h))
			busy, idle := overPipe(t, srv, Config{}), overPipe(t, srv, Config{})
			var wg sync.WaitGroup
			wg.Go(func() {
				reply, err := busy.Call(t.Context(), &Call{Op: opHold, Class: Ingest, Body: []Piece{{Bytes: []byte("x")}}})
				if err != nil || string(reply.Meta) != "held" {
					t.Errorf("the running request got %q, %v", reply.Meta, err)
				}
				reply.Release()
			})
			synctest.Wait()
			wg.Go(func() {
				if err := srv.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			<-idle.Done()
			if !busy.Draining() {
				t.Error("the caller was not told that the server is stopping")
			}
			_, err := busy.Call(t.Context(), &Call{Op: opEcho, Class: Ingest})
			wantError(t, err, object.CodeStopping, object.NotDone)
			if busy.Err() != nil {
				t.Errorf("the busy connection was closed too early: %v", busy.Err())
			}
			close(h.release)
			wg.Wait()
			<-busy.Done()
			busy.Close()
			idle.Close()
		})
	})
}

// TestShutdownAnswersWhatHadBegun: half of a request has arrived when the server
// is told to stop.
func TestShutdownAnswersWhatHadBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler()
		srv := NewServer(testServerConfig(h))
		r := rawUser(t, srv)
		b := encodeFrame(Header{Op: opHold, Class: Ingest, ID: 1}, nil, make([]byte, 1000))
		r.write(b[:500])
		synctest.Wait()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		r.wantErrorFrame(0, object.CodeStopping)
		r.write(b[500:])
		time.AfterFunc(time.Second, func() { close(h.release) })
		if answer, meta, _, err := r.next(); err != nil || answer.ID != 1 || string(meta) != "held" {
			t.Errorf("got %+v, %q, %v", answer, meta, err)
		}
		r.wantClosed()
		wg.Wait()
		r.nc.Close()
	})
}

func TestShutdownLosesPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(testServerConfig(newTestHandler()))
		c := overPipe(t, srv, Config{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Call(t.Context(), &Call{Op: opHold, Class: Ingest})
			wantError(t, err, object.CodeUnavailable, object.MaybeDone)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
		c.Close()
	})
}

// TestDialFailures: each way a connection can fail to come about is a sentence
// that names the other side.
func TestDialFailures(t *testing.T) {
	listen := func(serve func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			nc, err := ln.Accept()
			if err == nil {
				serve(nc)
				nc.Close()
			}
		})
		t.Cleanup(func() { ln.Close(); wg.Wait() })
		return ln.Addr().String()
	}
	closed := listen(func(net.Conn) {})
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	nobody := ln.Addr().String()
	ln.Close()
	web := listen(func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n") })
	silent := listen(func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
	other := overTCP(t, NewServer(testServerConfig(newTestHandler())))

	for _, c := range []struct {
		name, address string
		cfg           Config
		code          object.Code
		words         string
	}{
		{"nobody listens", nobody, Config{}, object.CodeUnavailable, nobody},
		{"it closes", closed, Config{}, object.CodeUnavailable, closed},
		{"a web server", web, Config{}, object.CodeRefused, `"HTTP/1.1`[:6]},
		{"it says nothing", silent, Config{Timeouts: Timeouts{Hello: 50 * time.Millisecond}}, object.CodeUnavailable, "said nothing"},
		{"another cluster", other, Config{Hello: Hello{Cluster: clusterB, Name: "ann"}}, object.CodeRefused, clusterB.String()},
		{"another version", other, Config{Hello: Hello{ProtocolMin: 7, ProtocolMax: 8}}, object.CodeRefused, "7 to 8"},
	} {
		conn, err := Dial(t.Context(), c.address, c.cfg)
		if err == nil {
			conn.Close()
			t.Errorf("%s: it worked", c.name)
			continue
		}
		wantError(t, err, c.code, object.NotDone)
		if !bytes.Contains([]byte(err.Error()), []byte(c.words)) {
			t.Errorf("%s: %q does not contain %q", c.name, err, c.words)
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := NewConn(ctx, here, Config{})
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not say that it was cancelled", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}
