package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// Timeouts bound the waits of a connection. A zero field takes its default.
type Timeouts struct {
	Hello time.Duration // for both hellos together; 5 s
	Frame time.Duration // for what is missing of a frame that was begun; its bytes' time comes on top; 10 s
	Write time.Duration // for a write call; its bytes' time comes on top; 10 s
	// Idle is how long a connection may be silent between frames: a server then
	// closes it (60 s), a Conn sends a ping (10 s).
	Idle time.Duration
	Ping time.Duration // how long a Conn then waits for any frame before it gives the connection up; 20 s
}

// withDefaults returns t with its zero fields filled in.
func (t Timeouts) withDefaults(idle time.Duration) Timeouts {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&t.Hello, 5*time.Second)
	set(&t.Frame, 10*time.Second)
	set(&t.Write, 10*time.Second)
	set(&t.Idle, idle)
	set(&t.Ping, 20*time.Second)
	return t
}

// completeHello fills in what a hello says about this program.
func completeHello(h Hello, maxRequests int) Hello {
	if h.ProtocolMax == 0 {
		h.ProtocolMin, h.ProtocolMax = ProtocolMin, ProtocolMax
	}
	if h.MaxBodyBytes == 0 || h.MaxBodyBytes > MaxBodyBytes {
		h.MaxBodyBytes = MaxBodyBytes
	}
	h.MaxRequests, h.Refusal = uint32(maxRequests), ""
	return h
}

// introduce is the calling side of the hello: it sends mine and returns the
// server's. It ends by ctx or timeout at the latest. Every error is an
// object.Error, not done.
func introduce(ctx context.Context, nc net.Conn, mine *Hello, timeout time.Duration) (Hello, error) {
	_ = nc.SetDeadline(time.Now().Add(timeout)) // fails only on a closed connection, which the write reports
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	theirs, err := exchange(nc, mine)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return Hello{}, helloFailed(nc, err)
	}
	if theirs.Refusal != "" {
		return Hello{}, object.Errorf(object.CodeRefused, object.NotDone, "%s at %s: %s", theirs.who(), nc.RemoteAddr(), theirs.Refusal)
	}
	if err := agree(mine, &theirs); err != nil {
		return Hello{}, err
	}
	_ = nc.SetDeadline(time.Time{})
	return theirs, nil
}

func exchange(nc net.Conn, mine *Hello) (Hello, error) {
	if _, err := nc.Write(AppendHello(nil, mine)); err != nil {
		return Hello{}, err
	}
	return readHello(nc)
}

func helloFailed(nc net.Conn, err error) error {
	switch {
	case errors.Is(err, ErrHello):
		return object.Errorf(object.CodeRefused, object.NotDone,
			"what listens at %s is %w: give the address of a node's native port", nc.RemoteAddr(), err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return object.Errorf(object.CodeUnavailable, object.NotDone,
			"%s accepted the connection but said nothing in time: %w", nc.RemoteAddr(), err)
	}
	return object.Errorf(object.CodeUnavailable, object.NotDone, "greeting %s: %w", nc.RemoteAddr(), err)
}

// readHello reads one hello and not a byte more. It stops at the first byte
// that cannot belong to one.
func readHello(r io.Reader) (Hello, error) {
	var b [maxHelloBytes]byte
	for have, want := 0, len(helloMagic); ; {
		n, err := io.ReadAtLeast(r, b[have:want], 1)
		have += n
		if err != nil {
			if have > 0 && errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: it ended inside its hello", ErrHello)
			}
			return Hello{}, err
		}
		size, err := helloSize(b[:have])
		switch {
		case err != nil:
			return Hello{}, err
		case have < want:
		case size == 0:
			want = helloFixedSize
		case size == have:
			return ParseHello(b[:have])
		default:
			want = size
		}
	}
}

// linger closes a connection so that what was written last can still be read: it
// ends its own side and waits briefly for the peer to end the other. Closing at
// once, with bytes unread, would take the last words back.
func linger(nc net.Conn) {
	defer nc.Close()
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, nc, 1<<20)
}
