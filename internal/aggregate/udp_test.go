package aggregate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/aggregate/generate"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestLoopback sends generated events through real sockets, at once in both
// encodings, and finds every one of them acknowledged: what the sockets hold when
// the aggregator is told to stop is still taken in.
func TestLoopback(t *testing.T) {
	const perSender = 5000
	store := newSharedStore()
	var w witness
	o := testOptions()
	o.Listen = []string{"127.0.0.1:0", "[::1]:0"}
	if !hasIPv6() {
		o.Listen = []string{"127.0.0.1:0", "127.0.0.1:0"}
	}
	w.watch(&o)
	a, err := Open(o, store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	var senders sync.WaitGroup
	var sent [2]*generate.SenderCounters
	for i, addr := range a.Addrs() {
		conn, err := generate.Dial(addr.String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := generate.NewSender(conn, generate.SenderOptions{EventsPerSecond: 20_000, Encoding: generate.Encoding(i)})
		if err != nil {
			t.Fatal(err)
		}
		sent[i] = s.Counters()
		senders.Go(func() {
			if err := s.Run(ctx, generate.First(generate.NewGenerator(uint64(i)), perSender)); err != nil {
				t.Error(err)
			}
			if err := errors.Join(s.LastError(), conn.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	c := a.Counters()
	if sent := sent[0].Events.Load() + sent[1].Events.Load(); sent != 2*perSender {
		t.Fatalf("%d events sent", sent)
	}
	if lost := 2*perSender - c.EventsAcknowledged.Load(); lost != 0 || c.KernelDrops.Load() != 0 || c.DroppedTotal() != 0 {
		t.Errorf("%d events lost, %d datagrams dropped by the kernel, %v dropped", lost, c.KernelDrops.Load(), w.drops)
	}
	if datagrams := sent[0].Datagrams.Load() + sent[1].Datagrams.Load(); c.Datagrams.Load() != datagrams {
		t.Errorf("%d datagrams received, %d sent", c.Datagrams.Load(), datagrams)
	}
	for key, checksum := range w.acked {
		if object.Checksum(store.store.blobs[key]) != checksum {
			t.Errorf("%s was acknowledged with another checksum", key)
		}
	}
	total := 0
	for _, events := range store.store.events(t) {
		total += len(events)
	}
	if total != 2*perSender {
		t.Errorf("%d events stored", total)
	}
	if c.BufferedBytes.Load() != 0 || c.OpenGroups.Load() != 0 || c.WaitingBlobs.Load() != 0 {
		t.Error("the gauges are not back at 0")
	}
}

func hasIPv6() bool {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// TestReceivers holds every receiver to the same contract.
func TestReceivers(t *testing.T) {
	kinds := map[string]func(*net.UDPConn) (receiver, error){
		"system": newReceiver,
		"plain":  func(c *net.UDPConn) (receiver, error) { return newPlainReceiver(c), nil },
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			conn, err := listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r, err := make(conn)
			if err != nil {
				t.Fatal(err)
			}
			to, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()

			var b batch
			if err := r.receive(&b, false); err != nil || !b.empty() {
				t.Fatalf("nothing was sent, received %d, %v", len(b.datagrams), err)
			}
			sizes := []int{0, 1, 1400, 9000, 65507, 3}
			for _, n := range sizes {
				if _, err := to.Write(pattern(n)); err != nil {
					t.Fatal(err)
				}
			}
			var got []int
			for len(got) < len(sizes) {
				if err := r.receive(&b, true); err != nil {
					t.Fatal(err)
				}
				for _, d := range b.datagrams {
					if string(d) != string(pattern(len(d))) {
						t.Errorf("a datagram of %d bytes was changed", len(d))
					}
					got = append(got, len(d))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(sizes) {
				t.Errorf("received sizes %v, want %v", got, sizes)
			}

			for range 100 { // most of these come while it waits
				var sender sync.WaitGroup
				sender.Go(func() { _, _ = to.Write([]byte("later")) })
				if err := r.receive(&b, true); err != nil || len(b.datagrams) != 1 {
					t.Fatalf("while it waited: %d datagrams, %v", len(b.datagrams), err)
				}
				sender.Wait()
			}

			if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if err := r.receive(&b, true); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the deadline: %v", err)
			}
			_ = conn.SetReadDeadline(time.Time{})
			if _, err := to.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := r.receive(&b, true); err != nil || len(b.datagrams) != 1 {
				t.Errorf("after the deadline was taken back: %d datagrams, %v", len(b.datagrams), err)
			}
			_ = conn.Close()
			if err := r.receive(&b, true); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after close: %v", err)
			}
		})
	}
}

// pattern is n bytes that tell where in a datagram they belong.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return b
}

func TestListenErrors(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name, addr string
		want       []string
		cause      error
	}{
		{"in use", taken.LocalAddr().String(), []string{"another program has this port", "choose another port"}, syscall.EADDRINUSE},
		{"no port", "127.0.0.1", []string{"host:port"}, nil},
		{"no number", "127.0.0.1:seven", []string{"host:port"}, nil},
		{"too many colons", "1:2:3", []string{"host:port"}, nil},
		{"port out of range", "127.0.0.1:70000", []string{"host:port"}, nil},
		{"somebody else's", "192.0.2.1:7071", []string{"does not have that address"}, syscall.EADDRNOTAVAIL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := testOptions()
			o.Listen = []string{"127.0.0.1:0", tt.addr} // the first one must be closed again
			_, err := Open(o, newSharedStore())
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tt.want, "cannot receive events at") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("%v does not wrap %v", err, tt.cause)
			}
		})
	}
}

// TestCloseWithoutRun frees the port.
func TestCloseWithoutRun(t *testing.T) {
	o := testOptions()
	o.Listen = []string{"127.0.0.1:0"}
	a, err := Open(o, newSharedStore())
	if err != nil {
		t.Fatal(err)
	}
	addr := a.Addrs()[0]
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	o.Listen = []string{addr.String()}
	b, err := Open(o, newSharedStore())
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Addrs(); len(got) != 1 || got[0] != netip.AddrPort(addr) {
		t.Errorf("listens at %v", got)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
