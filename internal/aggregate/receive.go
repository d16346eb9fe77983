package aggregate

import (
	"errors"
	"net"
	"time"
)

// What one call to the kernel may return.
const (
	batchDatagrams = 64      // datagrams
	datagramBuffer = 1 << 16 // bytes: no UDP payload is longer, so none is cut off
)

// A batch holds the datagrams of one receive. Its buffers are reused.
type batch struct {
	datagrams [][]byte // valid until the next receive
	truncated int      // datagrams that were cut off, and dropped
	dropped   int      // datagrams the kernel dropped since the last receive: its buffer was full
}

func (b *batch) reset() { b.datagrams, b.truncated, b.dropped = b.datagrams[:0], 0, 0 }

func (b *batch) empty() bool { return len(b.datagrams)+b.truncated == 0 }

// A receiver fills batches from one socket. It belongs to one goroutine.
type receiver interface {
	// receive waits for at least one datagram, unless wait is false, and takes
	// what else is there, up to a batch. The error is os.ErrDeadlineExceeded
	// after the socket's read deadline, net.ErrClosed after its Close; others
	// concern one datagram and do not end the socket.
	receive(b *batch, wait bool) error
}

// A plainReceiver takes one datagram a call with the net package alone: for
// systems other than Linux.
type plainReceiver struct {
	conn   *net.UDPConn
	buffer []byte
}

func newPlainReceiver(conn *net.UDPConn) *plainReceiver {
	return &plainReceiver{conn, make([]byte, datagramBuffer)}
}

// drainWait is how long a plainReceiver waits where it should not: the net
// package cannot look without waiting.
const drainWait = time.Millisecond

func (r *plainReceiver) receive(b *batch, wait bool) error {
	b.reset()
	if !wait {
		if err := r.conn.SetReadDeadline(time.Now().Add(drainWait)); err != nil {
			return err
		}
		defer func() { _ = r.conn.SetReadDeadline(time.Time{}) }()
	}
	n, _, err := r.conn.ReadFromUDPAddrPort(r.buffer)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() && !wait {
		return nil
	}
	if err != nil {
		return err
	}
	b.datagrams = append(b.datagrams, r.buffer[:n])
	return nil
}
