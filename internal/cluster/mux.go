package cluster

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A MuxConfig bounds a Mux. A zero field takes its default.
type MuxConfig struct {
	Decide       time.Duration // how long a connection may take for its first bytes; 5 s
	MaxUndecided int           // connections whose first bytes are waited for; the oldest goes when there are more; 256
	Backlog      int           // connections that nobody has taken yet, of each kind; what comes beyond is closed; 128
	Log          *slog.Logger  // default: discards
}

func (c MuxConfig) withDefaults() MuxConfig {
	setDefault(&c.Decide, 5*time.Second)
	setDefault(&c.MaxUndecided, 256)
	setDefault(&c.Backlog, 128)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A Mux lets several protocols share one TCP port and the UDP port of the same
// number. What a connection is, its first bytes tell: a preface belongs to the
// cluster, everything else to the native protocol, whose door refuses what it
// does not know. They are looked at, not read, so whoever takes the connection
// finds it as it came.
//
// A connection that says nothing holds up nobody: each waits in a goroutine of
// its own, for so long, and with so many others at most.
type Mux struct {
	cfg     MuxConfig
	ln      net.Listener
	packets net.PacketConn
	native  *route
	streams *route
	wg      sync.WaitGroup
	stats   muxCounters

	mu        sync.Mutex
	closed    bool
	undecided *list.List // of net.Conn, the oldest first
}

type muxCounters struct {
	accepted, silent, crowded, untaken atomic.Uint64
}

// MuxStats are a Mux's counts since it was made.
type MuxStats struct {
	Accepted  uint64 // connections
	Undecided int    // connections whose first bytes are waited for, now
	Silent    uint64 // closed: no first bytes in time
	Crowded   uint64 // closed: too many others had said nothing either
	Untaken   uint64 // closed: nobody took them in time, or nobody takes this kind
}

// Listen opens a TCP port and the UDP port of the same number. Port 0 takes any
// that is free in both.
func Listen(ctx context.Context, address string) (net.Listener, net.PacketConn, error) {
	for try := 0; ; try++ {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, nil, fmt.Errorf("listen on %s: another program uses the port: stop it, or choose another address: %w", address, err)
		case err != nil:
			return nil, nil, fmt.Errorf("listen on %s: choose an address of this machine and a port from 1 to 65535 that you may use: %w", address, err)
		}
		packets, err := ListenPackets(ctx, ln)
		if err == nil {
			return ln, packets, nil
		}
		_ = ln.Close()
		if _, port, _ := net.SplitHostPort(address); port != "0" || try == 20 {
			return nil, nil, err
		}
	}
}

// ListenPackets opens the UDP port of a listener's number.
func ListenPackets(ctx context.Context, ln net.Listener) (net.PacketConn, error) {
	packets, err := new(net.ListenConfig).ListenPacket(ctx, "udp", ln.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %s, where the nodes of a cluster ask whether each other is alive: stop what uses it, or choose another address: %w", ln.Addr(), err)
	}
	return packets, nil
}

// NewMux begins to accept connections. It takes over both sockets; packets may be
// nil where there is no cluster.
func NewMux(ln net.Listener, packets net.PacketConn, cfg MuxConfig) *Mux {
	cfg = cfg.withDefaults()
	m := &Mux{cfg: cfg, ln: ln, packets: packets, undecided: list.New()}
	m.native, m.streams = newRoute(m), newRoute(m)
	m.wg.Go(m.accept)
	return m
}

// Native returns the listener of the native protocol.
func (m *Mux) Native() net.Listener { return m.native }

// Addr returns the address of both ports.
func (m *Mux) Addr() net.Addr { return m.ln.Addr() }

// Stats returns the counts.
func (m *Mux) Stats() MuxStats {
	m.mu.Lock()
	waiting := m.undecided.Len()
	m.mu.Unlock()
	return MuxStats{
		Accepted: m.stats.accepted.Load(), Undecided: waiting, Silent: m.stats.silent.Load(),
		Crowded: m.stats.crowded.Load(), Untaken: m.stats.untaken.Load(),
	}
}

// Close closes both ports and what nobody has taken, and waits until the Mux is
// done. Connections that were taken stay as they are.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	for e := m.undecided.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
	m.mu.Unlock()
	err := m.ln.Close()
	if m.packets != nil {
		err = errors.Join(err, ignoreClosed(m.packets.Close()))
	}
	m.wg.Wait()
	m.native.shut(nil)
	m.streams.shut(nil)
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (m *Mux) accept() {
	for pause := time.Duration(0); ; {
		nc, err := m.ln.Accept()
		switch {
		case err == nil:
			pause = 0
			m.stats.accepted.Add(1)
			if e := m.enter(nc); e != nil {
				m.wg.Go(func() { m.route(nc, e) })
			}
		case m.isClosed():
			return
		case temporary(err):
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.cfg.Log.Warn("accepting a connection failed; going on", "error", err, "pause", pause)
			time.Sleep(pause)
		default:
			failed := fmt.Errorf("the listener on %s failed; restart the node: %w", m.ln.Addr(), err)
			m.native.shut(failed)
			m.streams.shut(failed)
			return
		}
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (m *Mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// enter puts a new connection among those that have said nothing yet. It returns
// nil if the Mux is closed, and the connection with it.
func (m *Mux) enter(nc net.Conn) *list.Element {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = nc.Close()
		return nil
	}
	if m.undecided.Len() >= m.cfg.MaxUndecided {
		oldest := m.undecided.Front()
		m.undecided.Remove(oldest)
		m.stats.crowded.Add(1)
		_ = oldest.Value.(net.Conn).Close()
	}
	return m.undecided.PushBack(nc)
}

// route waits for a connection's first bytes and hands it on.
func (m *Mux) route(nc net.Conn, e *list.Element) {
	_ = nc.SetReadDeadline(time.Now().Add(m.cfg.Decide)) // fails only on a closed connection, which the read reports
	nc, mine, err := peekMagic(nc)
	m.mu.Lock()
	m.undecided.Remove(e) // does nothing if it was the oldest and had to go
	m.mu.Unlock()
	if err != nil {
		if isTimeout(err) {
			m.stats.silent.Add(1)
		}
		_ = nc.Close()
		return
	}
	_ = nc.SetReadDeadline(time.Time{})
	to := m.native
	if mine {
		to = m.streams
	}
	if !to.offer(nc) {
		m.stats.untaken.Add(1)
		_ = nc.Close()
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// A route is the listener of one kind of connections.
type route struct {
	mux   *Mux
	queue chan net.Conn
	done  chan struct{} // closed when nobody takes connections any more

	mu   sync.Mutex
	shot bool
	err  error // why, if the listener failed
}

func newRoute(m *Mux) *route {
	return &route{mux: m, queue: make(chan net.Conn, m.cfg.Backlog), done: make(chan struct{})}
}

// offer hands a connection over, without waiting.
func (r *route) offer(nc net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shot {
		return false
	}
	select {
	case r.queue <- nc:
		return true
	default:
		return false
	}
}

// shut closes what waits and refuses what comes.
func (r *route) shut(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shot {
		return
	}
	r.shot, r.err = true, err
	close(r.done)
	for {
		select {
		case nc := <-r.queue:
			_ = nc.Close()
		default:
			return
		}
	}
}

// Accept implements [net.Listener].
func (r *route) Accept() (net.Conn, error) {
	select {
	case nc := <-r.queue:
		return nc, nil
	case <-r.done:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: r.mux.Addr(), Err: net.ErrClosed}
}

// Close implements [net.Listener]. The port stays open for the other kind.
func (r *route) Close() error {
	r.shut(nil)
	return nil
}

// Addr implements [net.Listener].
func (r *route) Addr() net.Addr { return r.mux.Addr() }

// peekMagic waits until it is certain whether a connection begins with a preface.
// The connection it returns is to be used from then on.
func peekMagic(nc net.Conn) (net.Conn, bool, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return readMagic(nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc, false, err
	}
	var head [len(streamMagic)]byte
	var mine bool
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), head[:], unix.MSG_PEEK)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			return false
		case err != nil:
			failed = err
			return true
		case n == 0:
			failed = net.ErrClosed
			return true
		}
		var certain bool
		mine, certain = judgeMagic(head[:n])
		return certain
	})
	return nc, mine, errors.Join(err, failed)
}

// judgeMagic tells whether bytes begin a preface, and whether that is certain yet.
func judgeMagic(b []byte) (mine, certain bool) {
	n := min(len(b), len(streamMagic))
	mine = string(b[:n]) == streamMagic[:n]
	return mine, !mine || n == len(streamMagic)
}

// readMagic is peekMagic for what is no socket: the bytes are read, and given
// again.
func readMagic(nc net.Conn) (net.Conn, bool, error) {
	var head []byte
	for {
		b := make([]byte, len(streamMagic)-len(head))
		n, err := nc.Read(b)
		head = append(head, b[:n]...)
		if mine, certain := judgeMagic(head); certain {
			return &rereadConn{nc, head}, mine, nil
		}
		if err != nil {
			return nc, false, err
		}
	}
}

// A rereadConn gives bytes that were read before once more.
type rereadConn struct {
	net.Conn
	head []byte
}

func (c *rereadConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}
