package aggregate

import (
	"net"
	"testing"
)

// TestKernelDrops fills a small socket buffer past its end: what the kernel
// dropped is told, exactly, with the next datagram that got through.
func TestKernelDrops(t *testing.T) {
	conn, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	r, err := newReceiver(conn)
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()

	const sent = 500
	for range sent {
		if _, err := to.Write(pattern(1000)); err != nil {
			t.Fatal(err)
		}
	}
	var b batch
	received, dropped := 0, 0
	drain := func() {
		for {
			if err := r.receive(&b, false); err != nil {
				t.Fatal(err)
			}
			if b.empty() {
				return
			}
			received += len(b.datagrams)
			dropped += b.dropped
		}
	}
	drain()
	for i := range 3 {
		if _, err := to.Write([]byte("another")); err != nil {
			t.Fatal(err)
		}
		drain()
		if dropped == 0 || received+dropped != sent+1+i {
			t.Errorf("%d received, %d dropped, of %d sent", received, dropped, sent+1+i)
		}
	}
}

// TestReceiveBuffer: asking past the system's bound gives what there is.
func TestReceiveBuffer(t *testing.T) {
	conn, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	small, err := growReceiveBuffer(conn, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	large, err := growReceiveBuffer(conn, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if small < 64<<10 || large <= small {
		t.Errorf("asked for 64 KiB and 4 MiB, there are %d and %d bytes", small, large)
	}
}
