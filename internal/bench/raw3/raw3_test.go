package raw3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGoldenRequest(t *testing.T) {
	got := append(appendHead(nil, head{opPut, 3, 0x01020304}), "key"...)
	if want := []byte("P\x03\x00\x04\x03\x02\x01key"); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBadHeads(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                  nil,
		"cut":                    []byte("P\x03\x00\x04\x03\x02"),
		"another operation":      appendHead(nil, head{'X', 3, 4}),
		"no key":                 appendHead(nil, head{opPut, 0, 4}),
		"a key too long":         appendHead(nil, head{opPut, maxKey + 1, 4}),
		"a value too long":       appendHead(nil, head{opPut, 3, MaxValue + 1}),
		"a get that has a value": appendHead(nil, head{opGet, 3, 1}),
	} {
		if h, err := parseHead(b); !errors.Is(err, errRequest) || h != (head{}) {
			t.Errorf("%s: got %+v, %v", name, h, err)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add(appendHead(nil, head{opPut, 3, 4}))
	f.Add(appendHead(nil, head{opGet, maxKey, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err != nil {
			if !errors.Is(err, errRequest) {
				t.Fatal(err)
			}
			return
		}
		if h.size() > headBytes+maxKey+MaxValue {
			t.Fatalf("%+v is larger than a request may be", h)
		}
		if back := appendHead(nil, h); !bytes.Equal(back, b[:headBytes]) {
			t.Fatalf("%q came back as %q", b[:headBytes], back)
		}
	})
}

// A rig is three nodes in this process.
type rig struct {
	addrs []string
	nodes []*Node
	kill  []context.CancelFunc
}

func startRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{}
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		r.addrs = append(r.addrs, l.Addr().String())
	}
	for i, l := range listeners {
		n, err := Open(t.TempDir(), []string{r.addrs[(i+1)%3], r.addrs[(i+2)%3]})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- n.Serve(ctx, l) }()
		r.nodes = append(r.nodes, n)
		ended := false
		r.kill = append(r.kill, func() {
			if ended {
				return
			}
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		for _, kill := range r.kill {
			kill()
		}
	})
	return r
}

func (r *rig) client(t *testing.T, n int) *Client {
	c := NewClient(r.addrs, n)
	t.Cleanup(c.Close)
	return c
}

func TestPutIsOnAllNodes(t *testing.T) {
	r := startRig(t)
	for i, size := range []int{0, 1, 4096, 100_000, 2 << 20} {
		key, value := fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i), 7}, size/2)
		if err := r.client(t, i).Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		for n := range r.nodes {
			got, err := r.client(t, n).Get(t.Context(), key)
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%d bytes from node %d: %d bytes, %v", len(value), n, len(got), err)
			}
		}
	}
	if got, err := r.client(t, 0).Get(t.Context(), "nothing"); err == nil {
		t.Errorf("a key that was never put gave %d bytes", len(got))
	}
}

// Two of three are enough, one is not.
func TestQuorum(t *testing.T) {
	r := startRig(t)
	r.kill[2]()
	if err := r.client(t, 0).Put(t.Context(), "two", []byte("v")); err != nil {
		t.Fatal(err)
	}
	r.kill[1]()
	if err := r.client(t, 0).Put(t.Context(), "one", []byte("v")); err == nil {
		t.Error("a put was acknowledged that one node alone has written")
	}
}

// Whoever speaks another language is cut off, and nothing is allocated for it.
func TestHostileBytes(t *testing.T) {
	r := startRig(t)
	for _, b := range [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n"), appendHead(nil, head{opPut, 3, 1<<31 - 1})} {
		nc, err := net.Dial("tcp", r.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := nc.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it was answered: %d, %v", n, err)
		}
		nc.Close()
	}
}
