package aggregate

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A batchReceiver takes up to batchDatagrams with one recvmmsg and learns, from
// the SO_RXQ_OVFL control message, how many the kernel has dropped. It allocates
// nothing per call.
type batchReceiver struct {
	conn     syscall.RawConn
	messages [batchDatagrams]mmsghdr
	vectors  [batchDatagrams]unix.Iovec
	controls [batchDatagrams][controlBytes]byte
	buffers  []byte // batchDatagrams of datagramBuffer each
	overflow uint32 // the kernel's count of drops, as last told

	wait  bool // arguments and results of read
	n     int
	errno syscall.Errno
	read  func(fd uintptr) (done bool)
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	bytes  uint32 // of the datagram
}

// controlBytes is room for the one control message that was asked for, a
// uint32, aligned as a control message is.
const controlBytes = 32

func newReceiver(conn *net.UDPConn) (receiver, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Old kernels lack the option; then drops are not told, and nothing else changes.
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1) })
	r := &batchReceiver{conn: raw, buffers: make([]byte, batchDatagrams*datagramBuffer)}
	for i := range r.messages {
		r.vectors[i].Base = &r.buffers[i*datagramBuffer]
		r.vectors[i].SetLen(datagramBuffer)
		h := &r.messages[i].header
		h.Iov = &r.vectors[i]
		h.SetIovlen(1)
		h.Control = &r.controls[i][0]
	}
	r.read = r.recvmmsg
	return r, nil
}

func (r *batchReceiver) receive(b *batch, wait bool) error {
	b.reset()
	r.wait = wait
	if err := r.conn.Read(r.read); err != nil {
		return err
	}
	if r.errno == syscall.EAGAIN && !wait {
		return nil
	}
	if r.errno != 0 {
		return os.NewSyscallError("recvmmsg", r.errno)
	}
	for i := range r.n {
		r.take(b, i)
	}
	return nil
}

// recvmmsg is one call; it is done unless there is nothing and it may wait.
func (r *batchReceiver) recvmmsg(fd uintptr) (done bool) {
	for i := range r.messages {
		r.messages[i].header.SetControllen(controlBytes) // the kernel overwrites it
	}
	n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd,
		uintptr(unsafe.Pointer(&r.messages[0])), batchDatagrams, unix.MSG_DONTWAIT, 0, 0)
	if errno == syscall.EINTR {
		errno = syscall.EAGAIN
	}
	r.n, r.errno = int(n), errno
	return errno != syscall.EAGAIN || !r.wait
}

// take adds message i to b.
func (r *batchReceiver) take(b *batch, i int) {
	m := &r.messages[i]
	if count, ok := overflowOf(r.controls[i][:min(int(m.header.Controllen), controlBytes)]); ok {
		b.dropped += int(count - r.overflow) // it wraps
		r.overflow = count
	}
	if m.header.Flags&unix.MSG_TRUNC != 0 {
		b.truncated++
		return
	}
	at := i * datagramBuffer
	b.datagrams = append(b.datagrams, r.buffers[at:at+int(m.bytes):at+int(m.bytes)])
}

// overflowOf reads the kernel's count of drops from a message's control part.
func overflowOf(control []byte) (count uint32, ok bool) {
	if len(control) < unix.CmsgLen(4) {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_RXQ_OVFL {
		return 0, false
	}
	return binary.NativeEndian.Uint32(control[unix.CmsgLen(0):]), true
}

// growReceiveBuffer asks for a socket buffer of n bytes, past the system's bound
// if the process may, and returns how many bytes there are now, as the kernel
// counts them: twice what was asked for, bookkeeping included.
func growReceiveBuffer(conn *net.UDPConn, n int) (effective int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, n) != nil {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, n)
		}
		if inner == nil {
			effective, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		}
	})
	if err == nil {
		err = inner
	}
	return effective, err
}
