package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A host is whoever the streams of a port are for: a node that looks for its
// cluster, or one that has it.
type host interface {
	identity() identity
	// judge says what becomes of a caller, and why if it is refused.
	judge(p preface) (Verdict, string)
	// take is given a welcome connection of Raft or gossip. It does not wait: it hands
	// it on to who will close it, or closes it.
	take(p preface, nc net.Conn)
	// answer answers the question of another node, before ctx ends.
	answer(ctx context.Context, p preface, q message) message
}

// Bounds of the connections of a port.
const (
	maxTalking   = 256  // that have not said yet what they have to say; who is silent for longest goes when there are more
	maxStreams   = 1024 // these, and those whose question is being answered; more are closed
	prefaceSlack = 2    // how many times Timing.Ask a connection may take to say its preface and hear the answer
	requestSlack = 4    // how many times Timing.Ask a question and its answer may take

	smallQuestion    = 64 << 10 // bytes
	maxQuestionBytes = 32 << 20 // of longer questions that are being read or answered, in all
)

// streams greets the callers of a port's own protocol and hands them to the host.
// Its run loop and one goroutine a connection are all that it starts.
type streams struct {
	mux   *Mux
	host  host
	ask   time.Duration
	log   *slog.Logger
	stats *streamCounters

	stop      context.CancelFunc
	wg        sync.WaitGroup
	open      atomic.Int64
	talking   *conns
	questions atomic.Int64 // bytes of those that are not small
}

type streamCounters struct {
	welcome [kindRequest + 1]atomic.Uint64
	refused [verdicts]atomic.Uint64 // here, by verdict
	garbled atomic.Uint64           // here: no preface, or not in time
	crowded atomic.Uint64           // closed: too many at once
	dialed  atomic.Uint64
	failed  atomic.Uint64           // of these: no connection, or no answer
	turned  [verdicts]atomic.Uint64 // of these refused by the other side, by verdict
}

// serveStreams begins to take connections from the port.
func serveStreams(mux *Mux, h host, ask time.Duration, log *slog.Logger, stats *streamCounters) *streams {
	ctx, stop := context.WithCancel(context.Background())
	s := &streams{mux: mux, host: h, ask: ask, log: log, stats: stats, stop: stop, talking: newConns(maxTalking, 0, &stats.crowded)}
	s.wg.Go(func() { s.run(ctx) })
	return s
}

// close stops taking connections and waits for those that are being greeted or
// served here. Connections that were handed on are not its concern.
func (s *streams) close() {
	s.stop()
	s.wg.Wait()
}

func (s *streams) run(ctx context.Context) {
	for {
		nc, err := s.mux.streams.accept(ctx)
		if err != nil {
			return
		}
		if s.open.Add(1) > maxStreams {
			s.open.Add(-1)
			s.stats.crowded.Add(1)
			_ = nc.Close()
			continue
		}
		talking, err := s.talking.add(nc)
		if err != nil {
			s.open.Add(-1)
			continue
		}
		s.wg.Go(func() {
			defer s.open.Add(-1)
			s.greet(ctx, talking)
		})
	}
}

// accept is Accept with an end.
func (r *route) accept(ctx context.Context) (net.Conn, error) {
	select {
	case nc := <-r.queue:
		return nc, nil
	case <-r.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// greet reads a preface, answers it, and hands the connection to the host.
func (s *streams) greet(ctx context.Context, nc *ownedConn) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	_ = nc.SetDeadline(time.Now().Add(prefaceSlack * s.ask)) // fails only on a closed connection, which the read reports
	p, err := readPreface(nc)
	if err != nil {
		stop()
		s.stats.garbled.Add(1)
		s.log.Debug("a connection to the cluster was dropped", "remote", nc.RemoteAddr().String(), "error", err)
		_ = nc.Close()
		return
	}
	verdict, why := s.host.judge(p)
	_, err = nc.Write(appendAnswer(nil, answer{Verdict: verdict, From: s.host.identity(), Sentence: why}))
	if verdict != Welcome {
		s.stats.refused[min(verdict, verdicts-1)].Add(1)
		s.log.Debug("a node was refused", "remote", nc.RemoteAddr().String(), "kind", p.Kind.String(), "reason", why)
	}
	if !stop() || verdict != Welcome || err != nil {
		_ = nc.Close()
		return
	}
	s.stats.welcome[p.Kind].Add(1)
	if p.Kind == kindRequest {
		s.serve(ctx, p, nc)
		return
	}
	_ = nc.SetDeadline(time.Time{})
	s.host.take(p, nc.leave())
}

// serve answers the one question of a connection.
func (s *streams) serve(ctx context.Context, p preface, nc *ownedConn) {
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	defer stop()
	_ = nc.SetDeadline(time.Now().Add(requestSlack * s.ask)) // fails only on a closed connection, which the read reports
	q, done, err := s.readQuestion(nc)
	defer done()
	if err != nil {
		if e, ok := errors.AsType[*object.Error](err); ok {
			_ = writeMessage(nc, message{Op: opHello, Err: e}) // who asked will see that nothing came
		}
		return
	}
	defer nc.leave().Close() // it has said all, and may wait
	ctx, cancel := context.WithTimeout(ctx, requestSlack*s.ask)
	defer cancel()
	a := s.host.answer(ctx, p, q)
	a.Op = q.Op
	_ = writeMessage(nc, a)
}

// readQuestion reads a question, if there is room for it. done is to be called when
// it is needed no more.
func (s *streams) readQuestion(nc net.Conn) (q message, done func(), err error) {
	done = func() {}
	h, err := readHead(nc, true)
	if err == nil && h.size > smallQuestion {
		done = func() { s.questions.Add(-h.size) }
		if s.questions.Add(h.size) > maxQuestionBytes {
			s.stats.crowded.Add(1)
			return q, done, object.Errorf(object.CodeOverload, object.NotDone, "this node is being asked more than it can hold at once: try again")
		}
	}
	if err == nil {
		q, err = h.readBody(nc)
	}
	if errors.Is(err, ErrMessage) {
		err = object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	return q, done, err
}

// past is a deadline that has passed: it ends reads and writes under way.
var past = time.Unix(1, 0)

// call connects to an address and says a preface. Errors are a *Refusal, or say
// that nobody answered; either way nothing was done.
func (s *streamCounters) call(ctx context.Context, address string, p preface, timeout time.Duration) (net.Conn, answer, error) {
	s.dialed.Add(1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		s.failed.Add(1)
		return nil, answer{}, fmt.Errorf("%s cannot be reached: %w", address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	a, err := introduceTo(nc, p)
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		s.failed.Add(1)
		return nil, answer{}, errors.Join(fmt.Errorf("%s did not answer as a node of a cluster: %w", address, err), ignoreClosed(nc.Close()))
	case a.Verdict != Welcome:
		s.turned[min(a.Verdict, verdicts-1)].Add(1)
		_ = nc.Close()
		return nil, a, &Refusal{Verdict: a.Verdict, Address: address, Sentence: a.Sentence, by: a.From}
	}
	_ = nc.SetDeadline(time.Time{})
	return nc, a, nil
}

func introduceTo(nc net.Conn, p preface) (answer, error) {
	if _, err := nc.Write(appendPreface(nil, p)); err != nil {
		return answer{}, err
	}
	return readAnswer(nc)
}

// judgeAll is what every host asks of a caller, whatever the kind.
func judgeAll(me identity, p preface) (Verdict, string) {
	switch {
	case p.Kind < kindRaft || p.Kind > kindRequest:
		return UnknownKind, fmt.Sprintf("a connection of %v is not known here: run releases that have it in common", p.Kind)
	case p.From.Node == me.Node && p.Kind != kindRaft:
		return Itself, fmt.Sprintf("this is node %v, as the caller is: the address is its own, or its data directory was copied", me.Node)
	case !p.WantNode.IsZero() && p.WantNode != me.Node:
		return OtherNode, fmt.Sprintf("this is node %v, not %v: the address was that one's before", me.Node, p.WantNode)
	case me.Cluster != ([16]byte{}) && p.From.Cluster != ([16]byte{}) && me.Cluster != p.From.Cluster:
		return OtherCluster, fmt.Sprintf("this node belongs to cluster %x, the caller to %x: the two never mix; check the addresses in the configuration", me.Cluster, p.From.Cluster)
	case p.Kind != kindRequest && me.Cluster == [16]byte{}:
		return OtherCluster, "this node belongs to no cluster yet"
	case p.Kind != kindRequest && p.From.Cluster == [16]byte{}:
		return OtherCluster, "the caller belongs to no cluster yet"
	}
	return Welcome, ""
}

// conns are connections that were handed to a library: it closes them, and if it
// forgets to, they are closed with it. Where there is a bound, the one that has said
// nothing for longest makes room for another.
type conns struct {
	most    int            // at once; 0: no bound
	heard   int64          // bytes that may have come and were not answered, in all, besides littleHeard of each; 0: no bound
	crowded *atomic.Uint64 // counts those that had to go

	unanswered atomic.Int64

	mu     sync.Mutex
	closed bool
	open   map[*ownedConn]struct{}
	idle   sync.Cond // when none is open
}

func newConns(most int, heard int64, crowded *atomic.Uint64) *conns {
	c := &conns{most: most, heard: heard, crowded: crowded, open: make(map[*ownedConn]struct{})}
	c.idle.L = &c.mu
	return c
}

// littleHeard is how much may come on a connection before an answer without being
// counted.
const littleHeard = 64 << 10 // bytes

// An ownedConn leaves its set when it is closed.
type ownedConn struct {
	net.Conn
	set     *conns
	said    atomic.Int64 // when bytes came last, nanoseconds of Unix time
	pending atomic.Int64 // bytes that came and were not answered
	gone    bool         // it had to go, and whoever has it has not closed it yet; under set.mu
}

// Read implements [net.Conn]. Whoever reads keeps what comes until it answers.
func (o *ownedConn) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	o.said.Store(time.Now().UnixNano())
	if o.set.heard == 0 {
		return n, err
	}
	all := o.set.unanswered.Add(int64(n))
	if mine := o.pending.Add(int64(n)); mine > littleHeard && all > o.set.heard {
		o.set.crowded.Add(1)
		return 0, fmt.Errorf("%w: %d bytes came without an answer, %d on all connections", errCrowded, mine, all)
	}
	return n, err
}

// Write implements [net.Conn].
func (o *ownedConn) Write(p []byte) (int, error) {
	o.answered()
	return o.Conn.Write(p)
}

func (o *ownedConn) answered() { o.set.unanswered.Add(-o.pending.Swap(0)) }

// add returns the connection as one of the set, or closes it if the set is closed, or
// full of those that had to go and were not closed yet.
func (c *conns) add(nc net.Conn) (*ownedConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	if c.most > 0 && len(c.open) >= 2*c.most {
		c.crowded.Add(1)
		_ = nc.Close()
		return nil, errCrowded
	}
	o := &ownedConn{Conn: nc, set: c}
	o.said.Store(time.Now().UnixNano())
	c.makeRoomLocked()
	c.open[o] = struct{}{}
	return o, nil
}

var errCrowded = errors.New("too many connections at once")

// makeRoomLocked closes the one that has said nothing for longest, if there are as
// many as there may be.
func (c *conns) makeRoomLocked() {
	var oldest *ownedConn
	n := 0
	for o := range c.open {
		if o.gone {
			continue
		}
		if n++; oldest == nil || o.said.Load() < oldest.said.Load() {
			oldest = o
		}
	}
	if c.most == 0 || n < c.most {
		return
	}
	c.crowded.Add(1)
	oldest.gone = true
	_ = oldest.Conn.Close()
}

// leave takes the connection out of the set and returns it.
func (o *ownedConn) leave() net.Conn {
	o.answered()
	o.set.mu.Lock()
	defer o.set.mu.Unlock()
	delete(o.set.open, o)
	if len(o.set.open) == 0 {
		o.set.idle.Broadcast()
	}
	return o.Conn
}

// Close implements [net.Conn].
func (o *ownedConn) Close() error { return o.leave().Close() }

// cut ends all that is under way: reads and writes fail. Whoever has a connection
// still has to close it.
func (c *conns) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for o := range c.open {
		_ = o.SetDeadline(past)
		_ = o.Conn.Close()
	}
}

// wait returns when all were closed by who has them, or after a while.
func (c *conns) wait(atMost time.Duration) {
	late := false
	timer := time.AfterFunc(atMost, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.idle.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) > 0 && !late {
		c.idle.Wait()
	}
}

func (c *conns) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// lookup returns the address of a node, or says that none is known.
type lookup func(ring.NodeID) (string, error)
