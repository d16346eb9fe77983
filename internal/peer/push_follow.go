package peer

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A Sink takes what other nodes push. Its methods are called by one goroutine a
// Following, and hold up that node's pushes while they run.
type Sink interface {
	// PushedDelta takes what was added to an index row. It is durable on the node
	// that pushed it, and it may come many times.
	PushedDelta(key event.IndexKey, delta index.Row)
	// PushedBody takes a blob, verified, of which the index may not tell yet, or
	// never. The record is retained if it is kept.
	PushedBody(key event.Key, rec object.Record)
}

// FollowCounters are the counts of all the Followings that are given them.
type FollowCounters struct {
	live                                       atomic.Int64
	streams, ended                             atomic.Uint64
	deltas, bodies, bodyBytes, malformedPushes atomic.Uint64
}

// FollowStats are FollowCounters at one time.
type FollowStats struct {
	Live           int64  // streams now on which everything is pushed
	Streams        uint64 // begun
	Ended          uint64 // ended, by the other node or with the connection
	Deltas, Bodies uint64 // received
	BodyBytes      uint64 // of those bodies
	Malformed      uint64 // pushes that could not be used; their streams were ended
}

// Stats returns the counts.
func (c *FollowCounters) Stats() FollowStats {
	return FollowStats{
		Live: c.live.Load(), Streams: c.streams.Load(), Ended: c.ended.Load(),
		Deltas: c.deltas.Load(), Bodies: c.bodies.Load(), BodyBytes: c.bodyBytes.Load(), Malformed: c.malformedPushes.Load(),
	}
}

// A Following keeps one stream of pushes from a peer alive until it is closed: if
// the stream ends, or the connection, it begins another, at growing intervals.
type Following struct {
	peer  *Peer
	args  []byte // the subscription, encoded
	sink  Sink
	count *FollowCounters

	ready chan struct{} // closed once everything is pushed
	once  sync.Once     // closes ready
	stop  context.CancelFunc
	wg    sync.WaitGroup // its goroutine
}

// Follow has the peer push to sink what s asks for. The caller closes the
// Following, before the Peer.
func (p *Peer) Follow(s Subscription, sink Sink, count *FollowCounters) *Following {
	f := &Following{peer: p, args: appendSubscription(nil, &s), sink: sink, count: count, ready: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.wg.Go(func() { f.run(ctx) })
	return f
}

// Ready is closed when the peer has taken the subscription for the first time:
// what it makes durable from then on is pushed, as long as the stream lasts.
func (f *Following) Ready() <-chan struct{} { return f.ready }

// Close ends the stream. When it returns, the sink is not called any more.
func (f *Following) Close() {
	f.stop()
	f.wg.Wait()
}

func (f *Following) run(ctx context.Context) {
	p := f.peer
	pause := p.cfg.BackOffLeast
	for {
		if p.Connect(ctx) != nil {
			return // closed, or the Peer is
		}
		began := time.Now()
		err := f.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		f.count.ended.Add(1)
		p.cfg.Logger.Info("a peer pushes no more; the index tells until it does again", "node", p.cfg.Node.String(), "reason", err, "pause", pause)
		if time.Since(began) > p.cfg.BackOffMost { // it was up for a while: this is something new
			pause = p.cfg.BackOffLeast
		}
		if !sleep(ctx, pause/2+rand.N(pause/2+1)) {
			return
		}
		pause = min(2*pause, p.cfg.BackOffMost)
	}
}

// hold begins a stream and takes from it until it ends, and says why it did. It
// takes the bulk connection: bodies must not stand before answers.
func (f *Following) hold(ctx context.Context) error {
	conn, why := f.peer.pick(true, f.peer.start)
	if conn == nil {
		return why
	}
	stream, err := conn.Stream(ctx, &wire.Call{Op: OpSubscribe, Class: wire.Tail, Meta: f.args})
	if err != nil {
		return err
	}
	defer stream.Close()
	f.count.streams.Add(1)
	live := false
	defer func() {
		if live {
			f.count.live.Add(-1)
		}
	}()
	for {
		r, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		if v := ring.Version(r.History); f.peer.learn(v) {
			f.peer.cfg.CatchUp(v, time.Time{}, func() {})
		}
		kind, err := f.take(&r)
		r.Release()
		if err != nil {
			f.count.malformedPushes.Add(1)
			return err
		}
		if kind == pushReady && !live {
			live = true
			f.count.live.Add(1)
			f.once.Do(func() { close(f.ready) })
		}
	}
}

// take hands a message to the sink.
func (f *Following) take(r *wire.Reply) (pushKind, error) {
	m, err := parsePush(r.Meta, r.Body)
	if err != nil {
		return 0, badAnswer(object.Done, err)
	}
	switch m.kind {
	case pushDelta:
		f.count.deltas.Add(1)
		f.sink.PushedDelta(m.row, m.delta)
	case pushBody:
		f.count.bodies.Add(1)
		f.count.bodyBytes.Add(uint64(len(r.Body)))
		m.rec.Buf = r.Buf
		f.sink.PushedBody(m.key, m.rec)
	}
	return m.kind, nil
}
