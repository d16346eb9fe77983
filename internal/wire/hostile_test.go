package wire

import (
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
