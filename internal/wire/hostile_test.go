package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// hostile runs f with a raw connection to a server on fake time and a fake
// network, and checks that nothing is left behind: no goroutine (synctest), no
// buffer, no byte in a budget.
func hostile(t *testing.T, adjust func(*ServerConfig), f func(t *testing.T, srv *Server, r *raw, h *testHandler)) {
	t.Helper()
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHandler()
			cfg := testServerConfig(h)
			adjust(&cfg)
			srv := NewServer(cfg)
			r := rawUser(t, srv)
			defer func() {
				r.nc.Close()
				srv.Close()
				if s := srv.Stats(); s.Open != 0 || s.Running != 0 || s.InFlightBytes != 0 {
					t.Errorf("left behind: %+v", s)
				}
			}()
			f(t, srv, r, h)
		})
	})
}

func asIs(*ServerConfig) {}

var request = Header{Op: opSink, Class: Ingest, ID: 1}

// TestDamagedFrames: what is not the protocol ends the connection, after a
// sentence that says what was wrong.
func TestDamagedFrames(t *testing.T) {
	with := func(at int, v ...byte) []byte {
		b := encodeFrame(request, []byte("meta"), []byte("body"))
		copy(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		words string
	}{
		"another protocol":        {[]byte("GET /" + strings.Repeat(" ", HeaderBytes)), `"GET "`},
		"a wrong CRC":             {with(76, 1, 2, 3, 4), "CRC"},
		"a wrong CRC of the meta": {with(HeaderBytes, 'M'), "meta's CRC"},
		"4 GiB of body":           {reseal(with(36, 0xff, 0xff, 0xff, 0xff)), "4294967295"},
		"4 GiB of meta":           {reseal(with(32, 0xff, 0xff, 0xff, 0xff)), "4294967295"},
		"an answer":               {encodeFrame(Header{ID: 1, Flags: FlagResponse}, nil, nil), "answer"},
		"unknown flags":           {reseal(with(6, 0, 1)), "0x100"},
		"request 0":               {reseal(with(8, 0)), "request id 0"},
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, asIs, func(t *testing.T, srv *Server, r *raw, _ *testHandler) {
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = r.nc.Write(c.bytes) }) // the server may close before it has read all
				e := r.wantErrorFrame(0, object.CodeBadRequest)
				if !strings.Contains(e.Message, c.words) {
					t.Errorf("%q does not contain %q", e.Message, c.words)
				}
				r.wantClosed()
				wg.Wait()
				if n := srv.Stats().ProtocolErrors; n != 1 {
					t.Errorf("%d protocol errors were counted", n)
				}
			})
		})
	}
}

// TestSentencesThatDoNotClose: a request the server cannot serve is answered,
// its body skipped, and the connection goes on.
func TestSentencesThatDoNotClose(t *testing.T) {
	for name, c := range map[string]struct {
		h    Header
		body int
		code object.Code
	}{
		"an unknown operation":         {Header{Op: 250, Class: Ingest, ID: 1}, 10, object.CodeUnsupported},
		"an unknown class":             {Header{Op: opSink, Class: 99, ID: 1}, 100_000, object.CodeUnsupported},
		"no class":                     {Header{Op: opSink, ID: 1}, 0, object.CodeUnsupported},
		"a body too large for a class": {Header{Op: opSink, Class: Get, ID: 1}, 64<<10 + 1, object.CodeTooLarge},
		"a range with two megabytes":   {Header{Op: opSink, Class: Range, ID: 1}, 2 << 20, object.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, asIs, func(t *testing.T, _ *Server, r *raw, _ *testHandler) {
				r.frame(c.h, nil, make([]byte, c.body))
				r.wantErrorFrame(1, c.code)
				r.frame(Header{Op: opEcho, Class: Get, ID: 2}, []byte("still there"), nil)
				if h, meta, _, err := r.next(); err != nil || h.ID != 2 || string(meta) != "still there" {
					t.Errorf("afterwards: %+v, %q, %v", h, meta, err)
				}
			})
		})
	}
}

// TestTrickles: a peer that sends a byte a second, wherever it has got to, is
// given no more time than a silent one.
func TestTrickles(t *testing.T) {
	helloBytes := AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, Name: strings.Repeat("n", 255)})
	frame := encodeFrame(request, []byte("meta"), make([]byte, 1<<20))
	for name, c := range map[string]struct {
		hello bool
		bytes []byte
		at    int // bytes sent at once
		limit time.Duration
	}{
		"in the hello":           {false, helloBytes, 0, 5 * time.Second},
		"in the hello's name":    {false, helloBytes, 70, 5 * time.Second},
		"in a header":            {true, frame, 1, 10 * time.Second},
		"in the meta":            {true, frame, HeaderBytes + 1, 14*time.Second + time.Second/10},
		"in the body":            {true, frame, HeaderBytes + 100, 14*time.Second + time.Second/10},
		"late in the body":       {true, frame, len(frame) - 100, 14*time.Second + time.Second/10},
		"silent in the hello":    {false, nil, 0, 5 * time.Second},
		"silent between frames":  {true, nil, 0, 60 * time.Second},
		"a body that never came": {true, frame[:HeaderBytes+4], HeaderBytes + 4, 14*time.Second + time.Second/10},
	} {
		t.Run(name, func(t *testing.T) {
			noBuffersLeft(t, func() {
				synctest.Test(t, func(t *testing.T) {
					srv := NewServer(testServerConfig(newTestHandler()))
					here, there := net.Pipe()
					var wg sync.WaitGroup
					start := time.Now()
					var took time.Duration
					wg.Go(func() {
						srv.ServeConn(there)
						took = time.Since(start)
					})
					if c.hello {
						_, _ = here.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1}))
						_, _ = readHello(here)
					}
					wg.Go(func() { _, _ = io.Copy(io.Discard, here) })
					_, err := here.Write(c.bytes[:c.at])
					for _, b := range c.bytes[c.at:] {
						if err != nil {
							break
						}
						time.Sleep(time.Second)
						_, err = here.Write([]byte{b})
					}
					if len(c.bytes) == 0 || err == nil {
						time.Sleep(2 * c.limit)
					}
					here.Close()
					wg.Wait()
					if took > c.limit {
						t.Errorf("it was put up with for %v, want %v at most", took, c.limit)
					}
					srv.Close()
				})
			})
		})
	}
}

// TestClaimedBytesAreNotAllocated: frames that claim 50 MiB take nothing before
// bytes arrive, and no more than fourfold of what has.
func TestClaimedBytesAreNotAllocated(t *testing.T) {
	for _, c := range []struct {
		sent  int
		limit int64
	}{{0, 0}, {100, 0}, {earnBytes, firstStepBytes}, {firstStepBytes + 1, 4 * firstStepBytes}, {5 << 20, 16 << 20}} {
		hostile(t, asIs, func(t *testing.T, srv *Server, r *raw, _ *testHandler) {
			_, before := object.Live()
			h := request
			h.BodyBytes = 50 << 20
			r.write(AppendHeader(nil, &h))
			r.write(make([]byte, c.sent))
			synctest.Wait()
			if _, now := object.Live(); now-before > c.limit {
				t.Errorf("%d bytes of a body of 50 MiB were sent: %d are allocated, want %d at most", c.sent, now-before, c.limit)
			}
			if n := srv.Stats().InFlightBytes; n != 50<<20 {
				t.Errorf("%d bytes are accounted for", n)
			}
		})
	}
}

// TestBytesInFlightAreBounded: who wants more than the bound holds waits, then
// hears of overload; who is small and comes later is not let past.
func TestBytesInFlightAreBounded(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.UserBytes, cfg.NodeBytes = 1_000_000, 1_000_000 }, func(t *testing.T, srv *Server, r *raw, h *testHandler) {
		r.frame(Header{Op: opHold, Class: Ingest, ID: 1}, nil, make([]byte, 900_000))
		synctest.Wait()
		other := rawUser(t, srv)
		start := time.Now()
		other.frame(Header{Op: opSink, Class: Ingest, ID: 7}, nil, make([]byte, 200_000))
		other.wantErrorFrame(7, object.CodeOverload)
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("it was turned away after %v, want 2s", waited)
		}
		if s := srv.Stats(); s.InFlightBytes != 900_000 || s.Stalls != 1 || s.Overloads[Ingest] != 1 {
			t.Errorf("%+v", s)
		}
		// A node has a budget of its own: replicas do not wait for users.
		node := overPipe(t, srv, Config{Hello: Hello{Node: ID{7}, Cluster: clusterA}})
		if _, err := node.Call(t.Context(), &Call{Op: opSink, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 900_000)}}}); err != nil {
			t.Error(err)
		}
		node.Close()
		// What exceeds the whole bound is taken when nothing else is there.
		time.AfterFunc(time.Second, func() { close(h.release) })
		other.frame(Header{Op: opSink, Class: Ingest, ID: 8}, nil, make([]byte, 1_500_000))
		if answer, _, _, err := other.next(); err != nil || answer.Flags != FlagResponse || answer.ID != 8 {
			t.Errorf("got %+v, %v", answer, err)
		}
		if _, meta, _, err := r.next(); err != nil || string(meta) != "held" {
			t.Errorf("got %q, %v", meta, err)
		}
		other.nc.Close()
	})
}

// TestRequestsOnAConnectionAreBounded: a caller that ignores the bound it was
// told is answered with overload.
func TestRequestsOnAConnectionAreBounded(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.MaxRequestsPerConn = 5 }, func(t *testing.T, _ *Server, r *raw, h *testHandler) {
		for id := range uint64(5) {
			r.frame(Header{Op: opHold, Class: Ingest, ID: id + 1}, nil, nil)
		}
		r.frame(Header{Op: opHold, Class: Ingest, ID: 6}, nil, []byte("more"))
		r.wantErrorFrame(6, object.CodeOverload)
		synctest.Wait()
		if n := h.startedCount(opHold); n != 5 {
			t.Errorf("%d handlers were started, want 5", n)
		}
		close(h.release)
		for range 5 {
			if answer, _, _, err := r.next(); err != nil || answer.Flags != FlagResponse {
				t.Errorf("got %+v, %v", answer, err)
			}
		}
	})
}

// TestSheddingOrder fills a server that takes 100 requests at once with one
// class after the other: each stops at its share, control never.
func TestSheddingOrder(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.MaxRequests, cfg.MaxRequestsPerConn = 100, 1000 }, func(t *testing.T, srv *Server, r *raw, h *testHandler) {
		var id uint64
		for _, c := range []struct {
			class Class
			want  int64
		}{{Export, 50}, {Range, 60}, {Tail, 70}, {Repair, 80}, {Get, 90}, {Ingest, 100}, {Control, 110}} {
			for range 10 {
				id++
				r.frame(Header{Op: opHold, Class: c.class, ID: id}, nil, nil)
			}
			synctest.Wait()
			for srv.Stats().Running < c.want && c.class != Control {
				id++
				r.frame(Header{Op: opHold, Class: c.class, ID: id}, nil, nil)
				synctest.Wait()
			}
			if c.class != Control {
				id++
				r.frame(Header{Op: opHold, Class: c.class, ID: id}, nil, nil)
				r.wantErrorFrame(id, object.CodeOverload)
			}
			synctest.Wait()
			if n := srv.Stats().Running; n != c.want {
				t.Errorf("after requests of class %v, %d are running, want %d", c.class, n, c.want)
			}
		}
		close(h.release)
		go func() { _, _ = io.Copy(io.Discard, r.nc) }()
		synctest.Wait()
	})
}

// TestCancelStorm: cancels of nothing cost nothing, and requests cancelled at
// once never run in greater numbers than the bound.
func TestCancelStorm(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.MaxRequestsPerConn = 10 }, func(t *testing.T, srv *Server, r *raw, _ *testHandler) {
		go func() { _, _ = io.Copy(io.Discard, r.nc) }()
		for id := range uint64(5000) {
			r.frame(Header{Class: Get, Flags: FlagCancel, ID: id + 1_000_000}, nil, nil)
		}
		for id := range uint64(2000) {
			r.frame(Header{Op: opHold, Class: Get, ID: id + 1}, nil, nil)
			r.frame(Header{Class: Get, Flags: FlagCancel, ID: id + 1}, nil, nil)
			if n := srv.Stats().Running; n > 10 {
				t.Fatalf("%d requests run at once", n)
			}
		}
		synctest.Wait()
		if s := srv.Stats(); s.Running != 0 || s.Open != 1 || s.Cancelled+s.Overloads[Get] < 2000 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCreditStorm: no amount of credit makes a server hold more than its queue.
func TestCreditStorm(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.QueueBytes = 100_000 }, func(t *testing.T, _ *Server, r *raw, _ *testHandler) {
		_, before := object.Live()
		r.frame(Header{Op: opStream, Class: Tail, ID: 1}, streamMeta(1000, 10_000), nil)
		r.frame(Header{Class: Tail, Flags: FlagCredit, ID: 99}, []byte{0xff, 0xff, 0xff, 0xff}, nil)
		go func() {
			for range 100 { // the server stops reading when its queue is full
				if _, err := r.nc.Write(encodeFrame(Header{Class: Tail, Flags: FlagCredit, ID: 1}, []byte{0xff, 0xff, 0xff, 0xff}, nil)); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if _, now := object.Live(); now-before > 400_000 {
			t.Errorf("%d bytes are held for a reader that reads nothing", now-before)
		}
	})
}

// TestDeafPeer: one that asks and never reads is asked for no further requests,
// and cut off by the write's deadline.
func TestDeafPeer(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.QueueBytes = 100_000 }, func(t *testing.T, srv *Server, r *raw, _ *testHandler) {
		_, before := object.Live()
		_ = r.nc.SetWriteDeadline(time.Now().Add(time.Second))
		sent := 0
		for id := range uint64(1000) {
			if _, err := r.nc.Write(encodeFrame(Header{Op: opEcho, Class: Ingest, ID: id + 1}, nil, make([]byte, 10_000))); err != nil {
				break
			}
			sent++
			synctest.Wait()
		}
		if sent > 30 {
			t.Errorf("%d requests were read for a peer that reads no answer", sent)
		}
		if _, now := object.Live(); now-before > 1_000_000 {
			t.Errorf("%d bytes are held", now-before)
		}
		start := time.Now()
		for srv.Stats().Open > 0 {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("it was cut off after %v", took)
		}
	})
}

// TestPingStorm: pings of one that does not read do not pile up.
func TestPingStorm(t *testing.T) {
	hostile(t, func(cfg *ServerConfig) { cfg.QueueBytes = 10_000 }, func(t *testing.T, srv *Server, r *raw, _ *testHandler) {
		_ = r.nc.SetWriteDeadline(time.Now().Add(time.Second))
		for id := range uint64(10_000) {
			if _, err := r.nc.Write(encodeFrame(Header{Op: OpPing, Class: Control, ID: id + 1}, nil, nil)); err != nil {
				break
			}
		}
		if n := srv.Stats().Pings; n > 200 {
			t.Errorf("%d pings were answered to one that does not read", n)
		}
	})
}

// TestARequestIdTwice ends the connection: answers could not be told apart.
func TestARequestIdTwice(t *testing.T) {
	hostile(t, asIs, func(t *testing.T, _ *Server, r *raw, _ *testHandler) {
		r.frame(Header{Op: opHold, Class: Get, ID: 5}, nil, nil)
		r.frame(Header{Op: opHold, Class: Get, ID: 5}, nil, nil)
		r.wantErrorFrame(0, object.CodeBadRequest)
		r.wantClosed()
	})
}

// TestCancelledAnswerIsDropped: a handler that answers a request nobody wants any
// more leaves nothing behind.
func TestCancelledAnswerIsDropped(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			srv := NewServer(testServerConfig(handlerFunc(func(ctx context.Context, r *Request) (Answer, error) {
				<-ctx.Done()
				return Answer{Body: Piece{r.Body, r.Buf.Retain()}}, nil
			})))
			r := rawUser(t, srv)
			r.frame(Header{Op: opWait, Class: Ingest, ID: 1}, nil, make([]byte, 1000))
			synctest.Wait()
			r.frame(Header{Class: Ingest, Flags: FlagCancel, ID: 1}, nil, nil)
			r.frame(Header{Op: OpPing, Class: Control, ID: 2}, nil, nil)
			if h, _, _, err := r.next(); err != nil || h.ID != 2 {
				t.Errorf("got %+v, %v; want the answer to the ping", h, err)
			}
			r.nc.Close()
			srv.Close()
		})
	})
}

// TestCloseWaitsForHandlers: when Close has returned, none of them runs.
func TestCloseWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := false
		srv := NewServer(testServerConfig(handlerFunc(func(ctx context.Context, _ *Request) (Answer, error) {
			running = true
			<-ctx.Done()
			time.Sleep(time.Second)
			running = false
			return Answer{}, nil
		})))
		r := rawUser(t, srv)
		r.frame(Header{Op: opWait, Class: Ingest, ID: 1}, nil, nil)
		synctest.Wait()
		srv.Close()
		if running {
			t.Error("a handler is still running")
		}
		r.nc.Close()
	})
}

// TestLateRequestIsNotBegun: the body takes longer to arrive than the caller
// waits.
func TestLateRequestIsNotBegun(t *testing.T) {
	hostile(t, asIs, func(t *testing.T, srv *Server, r *raw, h *testHandler) {
		head := Header{Op: opSink, Class: Ingest, ID: 1, RemainingMillis: 500}
		b := encodeFrame(head, nil, make([]byte, 1000))
		r.write(b[:500])
		time.Sleep(time.Second)
		r.write(b[500:])
		r.wantErrorFrame(1, object.CodeDeadline)
		if s := srv.Stats(); h.startedCount(opSink) != 0 || s.Dead != 1 {
			t.Errorf("%d were begun, %d counted as dead", h.startedCount(opSink), s.Dead)
		}
	})
}

// TestAThousandConnections: as many as the bound are served, the others are told
// why not, and all are gone at the end.
func TestAThousandConnections(t *testing.T) {
	cfg := testServerConfig(newTestHandler())
	cfg.MaxConns = 1000
	srv := NewServer(cfg)
	address := overTCP(t, srv)
	var conns []*Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 1000 {
		c, err := Dial(t.Context(), address, Config{})
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for range 10 {
		_, err := Dial(t.Context(), address, Config{})
		wantError(t, err, object.CodeRefused, object.NotDone)
		if !strings.Contains(err.Error(), "1000 connections") {
			t.Errorf("%v", err)
		}
	}
	for _, c := range conns {
		if _, err := c.Call(t.Context(), &Call{Op: opSink, Class: Control}); err != nil {
			t.Fatal(err)
		}
	}
	if s := srv.Stats(); s.Open != 1000 || s.Refused != 10 {
		t.Errorf("%d open, %d refused", s.Open, s.Refused)
	}
}

// TestAThousandSilentConnections say nothing and are gone after the hello time.
func TestAThousandSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(testServerConfig(newTestHandler()))
		var peers []net.Conn
		for range 1000 {
			here, there := net.Pipe()
			peers = append(peers, here)
			go srv.ServeConn(there)
		}
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		if n := srv.Stats().Refused; n != 1000 {
			t.Errorf("%d were given up, want 1000", n)
		}
		for _, p := range peers {
			p.Close()
		}
		srv.Close()
	})
}

// hostileServer says hello, then runs f with what the caller sends.
func hostileServer(t *testing.T, cfg Config, f func(r *raw)) (*Conn, func()) {
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := readHello(there); err != nil {
			t.Error(err)
		}
		_, _ = there.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxBodyBytes: MaxBodyBytes, MaxRequests: 10, Node: nodeOne}))
		f(&raw{t, there})
	})
	c, err := NewConn(t.Context(), here, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, func() {
		c.Close()
		there.Close()
		wg.Wait()
	}
}

// TestHostileAnswers: a server that breaks the rules ends the connection for
// the caller, with an error, never with a wrong answer.
func TestHostileAnswers(t *testing.T) {
	for name, answer := range map[string]func(r *raw, h Header){
		"a request":          func(r *raw, h Header) { r.frame(Header{Op: 2, Class: Get, ID: h.ID}, nil, nil) },
		"several answers":    func(r *raw, h Header) { r.frame(Header{Op: 2, Flags: flagsMore, ID: h.ID}, nil, nil) },
		"an error in pieces": func(r *raw, h Header) { r.frame(Header{Flags: flagsError, ID: h.ID}, []byte{1}, nil) },
		"an error and more":  func(r *raw, h Header) { r.frame(Header{Flags: flagsError, ID: h.ID}, []byte{1, 1, 0, 0, 9}, nil) },
		"noise":              func(r *raw, _ Header) { _, _ = r.nc.Write(bytes.Repeat([]byte{7}, 1000)) },
		"half an answer": func(r *raw, h Header) {
			r.write(encodeFrame(Header{Flags: flagsLast, ID: h.ID}, nil, make([]byte, 100))[:120])
			r.nc.Close()
		},
		"a body beyond bounds": func(r *raw, h Header) { r.frame(Header{Flags: flagsLast, ID: h.ID}, nil, make([]byte, 2001)) },
		"its last words": func(r *raw, _ Header) {
			r.frame(Header{Flags: flagsError}, AppendError(nil, &object.Error{Code: object.CodeBadRequest, Outcome: object.NotDone, Message: "enough"}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			noBuffersLeft(t, func() {
				synctest.Test(t, func(t *testing.T) {
					c, end := hostileServer(t, Config{Hello: Hello{MaxBodyBytes: 2000}}, func(r *raw) {
						h, _, _, err := r.next()
						if err == nil {
							go func() { _, _ = io.Copy(io.Discard, r.nc) }()
							r.t = quiet{r.t}
							answer(r, h)
						}
					})
					_, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Ingest})
					if e, ok := errors.AsType[*object.Error](err); !ok || e.Outcome != object.MaybeDone {
						t.Errorf("got %v", err)
					}
					<-c.Done()
					end()
				})
			})
		})
	}
}

// quiet takes failures to write to a connection the other side has closed.
type quiet struct{ testing.TB }

func (quiet) Fatal(...any) {}

// TestAnswersNobodyAskedFor are skipped: they may be late ones.
func TestAnswersNobodyAskedFor(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			c, end := hostileServer(t, Config{}, func(r *raw) {
				r.frame(Header{Flags: flagsLast, ID: 77}, []byte("late"), make([]byte, 100_000))
				r.frame(Header{Flags: flagsMore, ID: 78}, nil, make([]byte, 10))
				r.frame(Header{Flags: flagsError, ID: 79}, AppendError(nil, &object.Error{Code: 1, Outcome: 1}), nil)
				h, _, _, err := r.next()
				if err != nil {
					t.Error(err)
				}
				r.frame(Header{Flags: flagsLast, ID: h.ID}, []byte("right"), nil)
			})
			reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Get})
			if err != nil || string(reply.Meta) != "right" {
				t.Errorf("got %q, %v", reply.Meta, err)
			}
			reply.Release()
			end()
		})
	})
}

// TestAnswerBeforeTheRequest: a server that guesses the next id answers a
// request that has not left. The frame must not be lost track of.
func TestAnswerBeforeTheRequest(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			start := make(chan struct{})
			c, end := hostileServer(t, Config{}, func(r *raw) {
				<-start
				r.frame(Header{Flags: flagsLast, ID: 2}, []byte("guessed"), nil) // 1 is being written, 2 queued
				_, _ = io.Copy(io.Discard, r.nc)
			})
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					reply, err := c.Call(ctx, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 1000)}}})
					if err == nil {
						reply.Release()
					}
				})
				synctest.Wait()
			}
			close(start)
			wg.Wait()
			end()
		})
	})
}

// TestAnswerThatComesWhileTheCallerLeaves: it goes away when half of the answer is
// here. Nothing of it stays.
func TestAnswerThatComesWhileTheCallerLeaves(t *testing.T) {
	for name, flags := range map[string]Flags{"an answer": flagsLast, "a message of a stream": flagsMore} {
		t.Run(name, func(t *testing.T) {
			noBuffersLeft(t, func() {
				synctest.Test(t, func(t *testing.T) {
					c, end := hostileServer(t, Config{}, func(r *raw) {
						h, _, _, _ := r.next()
						go func() { _, _ = io.Copy(io.Discard, r.nc) }()
						b := encodeFrame(Header{Flags: flags, ID: h.ID}, nil, make([]byte, 10_000))
						r.write(b[:5000])
						time.Sleep(2 * time.Second)
						r.write(b[5000:])
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					call := &Call{Op: opEcho, Class: Tail}
					if flags == flagsLast {
						_, err := c.Call(ctx, call)
						wantError(t, err, object.CodeDeadline, object.MaybeDone)
					} else {
						s, err := c.Stream(ctx, call)
						if err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
						s.Close()
					}
					time.Sleep(3 * time.Second)
					if c.Err() != nil || c.InFlight() != 0 {
						t.Errorf("afterwards: %v, %d in flight", c.Err(), c.InFlight())
					}
					end()
				})
			})
		})
	}
}

// TestStreamBeyondItsCredit: a server that runs further ahead than it may does
// not make the caller hold more.
func TestStreamBeyondItsCredit(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			c, end := hostileServer(t, Config{StreamWindowBytes: 5000}, func(r *raw) {
				h, _, _, _ := r.next()
				go func() { _, _ = io.Copy(io.Discard, r.nc) }()
				for range 10 {
					if _, err := r.nc.Write(encodeFrame(Header{Flags: flagsMore, ID: h.ID}, nil, make([]byte, 1000))); err != nil {
						return
					}
				}
			})
			s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
			if err != nil {
				t.Fatal(err)
			}
			<-c.Done()
			if !errors.Is(c.Err(), ErrFrame) {
				t.Errorf("the connection ended with %v", c.Err())
			}
			got := 0
			for {
				r, err := s.Next(t.Context())
				if err != nil {
					break
				}
				r.Release()
				got++
			}
			if got != 5 {
				t.Errorf("%d messages were taken in, want 5", got)
			}
			s.Close()
			end()
		})
	})
}

// FuzzServe sends anything to a server after a proper hello, and closes. The
// server must end, with nothing left behind.
func FuzzServe(f *testing.F) {
	f.Add(encodeFrame(request, []byte("meta"), []byte("body")))
	f.Add(append(encodeFrame(Header{Op: opStream, Class: Tail, ID: 1}, streamMeta(3, 10), nil), encodeFrame(Header{Class: Tail, Flags: FlagCredit, ID: 1}, []byte{9, 9, 0, 0}, nil)...))
	f.Add(append(encodeFrame(Header{Op: opWait, Class: Get, ID: 3}, nil, nil), encodeFrame(Header{Flags: FlagCancel, ID: 3}, nil, nil)...))
	f.Add(encodeFrame(Header{Op: OpPing, Class: Control, ID: 3}, nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; at+HeaderBytes <= len(b); { // give what looks like frames a right CRC
			reseal(b[at : at+HeaderBytes])
			at += HeaderBytes + int(min(binary.LittleEndian.Uint32(b[at+32:]), 1<<20)+min(binary.LittleEndian.Uint32(b[at+36:]), 1<<20))
		}
		noBuffersLeft(t, func() {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler()
				srv := NewServer(testServerConfig(handlerFunc(func(ctx context.Context, r *Request) (Answer, error) {
					if r.Op == opStream {
						return Answer{}, errors.Join(r.Send(nil, Piece{}), r.Send([]byte("x"), Piece{Bytes: r.Body}))
					}
					return h.ServeWire(ctx, r)
				})))
				r := rawUser(t, srv)
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = io.Copy(io.Discard, r.nc) })
				_, _ = r.nc.Write(b)
				synctest.Wait()
				r.nc.Close()
				wg.Wait()
				srv.Close()
				if s := srv.Stats(); s.Open != 0 || s.Running != 0 || s.InFlightBytes != 0 {
					t.Errorf("left behind: %+v", s)
				}
			})
		})
	})
}

// FuzzConn answers a call and a stream with anything. Both must end.
func FuzzConn(f *testing.F) {
	f.Add(append(encodeFrame(Header{Flags: flagsLast, ID: 1}, []byte("m"), []byte("b")), encodeFrame(Header{Flags: flagsMore, ID: 2}, nil, []byte("b"))...))
	f.Add(encodeFrame(Header{Flags: flagsError}, []byte{11, 1, 0, 0}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; at+HeaderBytes <= len(b); {
			reseal(b[at : at+HeaderBytes])
			at += HeaderBytes + int(min(binary.LittleEndian.Uint32(b[at+32:]), 1<<20)+min(binary.LittleEndian.Uint32(b[at+36:]), 1<<20))
		}
		noBuffersLeft(t, func() {
			synctest.Test(t, func(t *testing.T) {
				c, end := hostileServer(t, Config{}, func(r *raw) {
					go func() { _, _ = io.Copy(io.Discard, r.nc) }()
					time.Sleep(time.Second)
					_, _ = r.nc.Write(b)
					time.Sleep(time.Second)
					r.nc.Close()
				})
				var wg sync.WaitGroup
				wg.Go(func() {
					if reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Get}); err == nil {
						reply.Release()
					}
				})
				wg.Go(func() {
					s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
					for err == nil {
						var r Reply
						if r, err = s.Next(t.Context()); err == nil {
							r.Release()
						}
					}
					if s != nil {
						s.Close()
					}
				})
				wg.Wait()
				end()
			})
		})
	})
}
