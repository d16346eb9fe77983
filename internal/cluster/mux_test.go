package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func testMux(t *testing.T, cfg MuxConfig) *Mux {
	t.Helper()
	ln, packets, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(ln, packets, cfg)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func dial(t *testing.T, m *Mux, first string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, first); err != nil {
		t.Fatal(err)
	}
	return nc
}

// Connections come to whom their first bytes belong, whole, and as they were
// accepted: nothing is wrapped that could be written with one call.
func TestMuxRoutes(t *testing.T) {
	m := testMux(t, MuxConfig{})
	for _, tc := range []struct {
		name, first string
		to          net.Listener
	}{
		{"the native protocol", "MAYFLY\x00\x01rest", m.native},
		{"a preface", streamMagic + "rest", m.streams},
		{"what begins like a preface", "MAYFLYC\x02rest", m.native},
		{"something else", "GET / HTTP/1.1\r\n", m.native},
		{"one byte that is none", "x", m.native},
	} {
		dial(t, m, tc.first)
		nc, err := tc.to.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(tc.first))
		_ = nc.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(nc, got); err != nil || string(got) != tc.first {
			t.Errorf("%s: read %q, %v", tc.name, got, err)
		}
		if _, ok := nc.(*net.TCPConn); !ok {
			t.Errorf("%s: it is a %T", tc.name, nc)
		}
		_ = nc.Close()
	}
}

// Bytes that come one by one are waited for.
func TestMuxDribble(t *testing.T) {
	m := testMux(t, MuxConfig{})
	nc := dial(t, m, "")
	go func() {
		for _, b := range []byte(streamMagic) {
			_, _ = nc.Write([]byte{b})
		}
	}()
	got, err := m.streams.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = got.Close()
}

// Who says nothing is dropped, and holds up nobody.
func TestMuxSilent(t *testing.T) {
	m := testMux(t, MuxConfig{Decide: 20 * time.Millisecond})
	quietOnes := []net.Conn{dial(t, m, ""), dial(t, m, "MAYFLY")}
	dial(t, m, streamMagic)
	nc, err := m.streams.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	for _, q := range quietOnes {
		if _, err := q.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("a silent connection: %v, want it closed", err)
		}
	}
	eventually(t, "two were silent", func() error {
		if s := m.Stats(); s.Silent != 2 || s.Undecided != 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

// Of too many that say nothing the oldest goes.
func TestMuxCrowded(t *testing.T) {
	m := testMux(t, MuxConfig{Decide: time.Hour, MaxUndecided: 2})
	first := dial(t, m, "")
	eventually(t, "one waits", func() error {
		if m.Stats().Undecided != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	dial(t, m, "")
	dial(t, m, "")
	if _, err := first.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest silent connection: %v, want it closed", err)
	}
	if s := m.Stats(); s.Crowded != 1 || s.Undecided != 2 {
		t.Errorf("%+v", s)
	}
}

// What nobody takes is closed, and the other kind goes on.
func TestMuxUntaken(t *testing.T) {
	m := testMux(t, MuxConfig{Backlog: 1})
	waiting := dial(t, m, streamMagic)
	eventually(t, "one waits", func() error {
		if len(m.streams.queue) != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	second := dial(t, m, streamMagic)
	if _, err := second.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a connection beyond the backlog: %v, want it closed", err)
	}
	dial(t, m, "native")
	nc, err := m.Native().Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	if err := m.streams.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a connection that waits for a closed listener: %v, want it closed", err)
	}
	if _, err := m.streams.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept of a closed listener: %v", err)
	}
	if m.Stats().Untaken != 1 {
		t.Errorf("%+v", m.Stats())
	}
}

// What is no socket is read, and read again.
func TestMuxPipe(t *testing.T) {
	for _, tc := range []struct {
		first string
		mine  bool
	}{{streamMagic + "rest", true}, {"MAYFLY\x00\x01rest", false}} {
		here, there := net.Pipe()
		go func() {
			for _, b := range []byte(tc.first) {
				_, _ = there.Write([]byte{b})
			}
			_ = there.Close()
		}()
		nc, mine, err := peekMagic(here)
		if err != nil || mine != tc.mine {
			t.Errorf("%q: %v, %v", tc.first, mine, err)
		}
		var got bytes.Buffer
		_, _ = got.ReadFrom(nc)
		if got.String() != tc.first {
			t.Errorf("%q is read again as %q", tc.first, got.String())
		}
		_ = here.Close()
	}
	here, there := net.Pipe()
	_ = there.Close()
	if _, _, err := peekMagic(here); err == nil {
		t.Error("nothing was taken for something")
	}
	_ = here.Close()
}

// A port that is in use is told in a sentence, UDP's too.
func TestListenInUse(t *testing.T) {
	m := testMux(t, MuxConfig{})
	_, _, err := Listen(context.Background(), m.Addr().String())
	says(t, err, "another program uses the port")
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	_, _, err = Listen(context.Background(), packets.LocalAddr().String())
	says(t, err, "UDP", "stop what uses it")
}
