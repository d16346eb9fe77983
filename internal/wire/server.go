package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Handler serves requests. ServeWire is called in a goroutine that serves no
// other request meanwhile, for many requests at once.
//
// It answers by returning: an Answer, or an error, which travels as
// [object.AsError] makes it. Before that it may send any number of messages
// with [Request.Send]. ctx ends when the caller's time runs out, when it
// cancels, when the connection is lost, and when ServeWire has returned.
//
// A handler that meets an operation it does not know returns an error with
// CodeUnsupported.
type Handler interface {
	ServeWire(ctx context.Context, r *Request) (Answer, error)
}

// An Answer is what a request gets. Meta is copied; the Body's use of its
// Buffer passes to the connection, which releases it when it is written.
type Answer struct {
	Meta []byte
	Body Piece
}

// ServerConfig configures a Server. Handler must be set; a zero value elsewhere
// takes the default.
type ServerConfig struct {
	Handler  Handler
	Logger   *slog.Logger   // default: nothing is logged
	Hello    Hello          // cluster, node, name, features; the other fields are filled in
	History  func() History // stamps answers; may be nil
	Greeted  func(Hello)    // told of each caller that is served, before its requests; must be quick; may be nil
	Timeouts Timeouts

	MaxConns           int   // connections at once, in all; 4096
	MaxRequestsPerConn int   // requests running at once on a connection; 256
	MaxRequests        int   // requests running at once, in all; 8192; see Class for who is shed first
	ConnBytes          int64 // bytes of requests held for one connection; 64 MiB
	UserBytes          int64 // bytes of requests held for all users; 256 MiB
	NodeBytes          int64 // bytes of requests held for all nodes, apart from users' so that replicas are never waiting for each other; 256 MiB
	QueueBytes         int   // bytes of answers waiting to be written on one connection; 8 MiB
	// StallTimeout is how long a request waits for bytes in flight before it is
	// answered with overload; 2 s.
	StallTimeout time.Duration
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Timeouts = c.Timeouts.withDefaults(60 * time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setInt := func(f *int, v int) {
		if *f <= 0 {
			*f = v
		}
	}
	setInt64 := func(f *int64, v int64) {
		if *f <= 0 {
			*f = v
		}
	}
	setInt(&c.MaxConns, 4096)
	setInt(&c.MaxRequestsPerConn, 256)
	setInt(&c.MaxRequests, 8192)
	setInt64(&c.ConnBytes, 64<<20)
	setInt64(&c.UserBytes, 256<<20)
	setInt64(&c.NodeBytes, 256<<20)
	setInt(&c.QueueBytes, 8<<20)
	if c.StallTimeout <= 0 {
		c.StallTimeout = 2 * time.Second
	}
	c.Hello = completeHello(c.Hello, c.MaxRequestsPerConn)
	return c
}

// maxRefusing bounds how many connections are being told that there are too
// many: the next are closed without a word.
const maxRefusing = 32

// A Server answers the requests of many connections. Each connection has a
// reader, a writer and a goroutine per running request.
type Server struct {
	cfg          ServerConfig
	stats        counters
	users, nodes Budget
	wg           sync.WaitGroup // connections
	handlers     handlers

	mu        sync.Mutex
	stopping  bool
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	conns     int // connections, including those that have not said hello yet
	refusing  int
	greeting  map[net.Conn]struct{} // connections that have not said hello yet
}

// NewServer returns a Server, which serves nothing yet.
func NewServer(cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	if cfg.Handler == nil {
		panic("wire: BUG: a server without a handler")
	}
	return &Server{
		cfg:       cfg,
		users:     Budget{limit: cfg.UserBytes},
		nodes:     Budget{limit: cfg.NodeBytes},
		listeners: make(map[net.Listener]struct{}),
		sessions:  make(map[*session]struct{}),
		greeting:  make(map[net.Conn]struct{}),
	}
}

// Stats returns the server's counts.
func (s *Server) Stats() Stats {
	st := s.stats.snapshot()
	st.InFlightBytes = s.users.InUse() + s.nodes.InUse()
	return st
}

// Serve accepts connections from ln, which it closes at the end. It returns nil
// after Shutdown or Close, otherwise why the listener failed.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if !s.track(ln) {
		return nil
	}
	defer s.untrack(ln)
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			if serve := s.claim(nc); serve != nil {
				go serve(nc)
			}
		case s.isStopping():
			return nil
		case temporary(err):
			// Out of file descriptors, or a connection that went away: others will come.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.cfg.Logger.Warn("accepting a connection failed; going on", "error", err, "pause", pause)
			time.Sleep(pause)
		default:
			return fmt.Errorf("accepting connections: %w", err)
		}
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (s *Server) track(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.listeners[ln] = struct{}{}
	}
	return !s.stopping
}

func (s *Server) untrack(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// claim decides what becomes of a new connection. The function it returns does
// it and must be called; nil means that the connection was closed at once.
func (s *Server) claim(nc net.Conn) func(net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		nc.Close()
		return nil
	case s.conns < s.cfg.MaxConns:
		s.conns++
		s.greeting[nc] = struct{}{}
		s.wg.Add(1)
		return s.serve
	}
	s.stats.refused.Add(1)
	if s.refusing >= maxRefusing {
		nc.Close()
		return nil
	}
	s.refusing++
	s.greeting[nc] = struct{}{}
	s.wg.Add(1)
	return s.refuseCrowd
}

// ServeConn serves one connection that came from elsewhere, as if it had been
// accepted. It takes nc over and returns when it has ended.
func (s *Server) ServeConn(nc net.Conn) {
	if serve := s.claim(nc); serve != nil {
		serve(nc)
	}
}

// serve says hello, then serves requests until the connection ends.
func (s *Server) serve(nc net.Conn) {
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		s.conns--
		s.mu.Unlock()
	}()
	peer, err := s.greet(nc)
	if err != nil {
		s.forget(nc)
		s.stats.refused.Add(1)
		s.cfg.Logger.Info("a connection was refused", "remote", nc.RemoteAddr().String(), "reason", err)
		linger(nc)
		return
	}
	ss := newSession(s, nc, peer)
	if !s.enter(ss) {
		nc.Close()
		return
	}
	s.stats.accepted.Add(1)
	s.stats.open.Add(1)
	if s.cfg.Greeted != nil {
		s.cfg.Greeted(peer)
	}
	if err := ss.run(); err != nil {
		s.cfg.Logger.Info("a connection ended", "remote", nc.RemoteAddr().String(), "peer", peer.who(), "reason", err)
	}
	s.stats.open.Add(-1)
	s.leave(ss)
}

// greet reads the caller's hello and answers it. On an error the caller has been
// told, if it could be.
func (s *Server) greet(nc net.Conn) (Hello, error) {
	_ = nc.SetDeadline(time.Now().Add(s.cfg.Timeouts.Hello)) // fails only on a closed connection, which the read reports
	peer, err := readHello(nc)
	if err != nil {
		return Hello{}, err
	}
	mine := s.cfg.Hello
	refused := agree(&peer, &mine)
	if refused != nil {
		mine.Refusal = refused.Error()
	}
	if _, err := nc.Write(AppendHello(nil, &mine)); err != nil {
		return Hello{}, err
	}
	_ = nc.SetDeadline(time.Time{})
	return peer, refused
}

// refuseCrowd tells a caller that there are too many connections.
func (s *Server) refuseCrowd(nc net.Conn) {
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		s.refusing--
		delete(s.greeting, nc)
		s.mu.Unlock()
	}()
	mine := s.cfg.Hello
	mine.Refusal = fmt.Sprintf("it has %d connections, as many as it takes: use another node, or fewer connections", s.cfg.MaxConns)
	_ = nc.SetDeadline(time.Now().Add(time.Second))
	if _, err := readHello(nc); err == nil {
		_, _ = nc.Write(AppendHello(nil, &mine)) // if it fails, the caller is gone already
	}
	linger(nc)
}

func (s *Server) forget(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.greeting, nc)
}

func (s *Server) enter(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.greeting, ss.nc)
	if s.stopping {
		return false
	}
	s.sessions[ss] = struct{}{}
	return true
}

func (s *Server) leave(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ss)
}

// stop closes the listeners and the connections that have not said hello, and
// returns the others.
func (s *Server) stop() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	for nc := range s.greeting {
		nc.Close()
	}
	var open []*session
	for ss := range s.sessions {
		open = append(open, ss)
	}
	return open
}

// Shutdown ends the server gently. It takes no new connections and no new requests: callers are told to
// go elsewhere. It closes each connection when the requests running on it are
// answered, and returns when all are closed; handlers of endless streams must be
// ended by their owner. When ctx ends first, it does what Close does and returns
// why.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, ss := range s.stop() {
		ss.drain()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.handlers.close()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.Close()
		<-done
		return context.Cause(ctx)
	}
}

// Close ends all connections at once and waits for the handlers, whose contexts
// end.
func (s *Server) Close() {
	for _, ss := range s.stop() {
		ss.fail(object.Errorf(object.CodeStopping, object.MaybeDone, "the server was closed"))
	}
	s.wg.Wait()
	s.handlers.close()
}
