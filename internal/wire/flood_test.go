package wire

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

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
