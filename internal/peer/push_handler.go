package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A PushLocal decides who is told what. Its methods may be called by any
// goroutine, for every subscriber of every push: they must be quick.
type PushLocal interface {
	// PushesDelta tells whether this node tells that one what is added to a row.
	PushesDelta(to ring.NodeID, key event.IndexKey) bool
	// PushesBody tells whether this node sends that one a blob, whose placement
	// hash is given.
	PushesBody(to ring.NodeID, key event.Key, hash uint64) bool
}

// A PushConfig configures a PushHandler. Local and Cluster must be set.
type PushConfig struct {
	Local   PushLocal
	Cluster wire.ID

	Subscribers int   // at once; default 256
	QueueItems  int   // that wait for one subscriber; default 8192
	QueueBytes  int64 // of buffers that wait for one subscriber; default 16 MiB
}

// A PushHandler tells subscribed nodes what this node has just made durable. It
// is a [wire.Handler] for the operations that [Pushes] names; each subscription is
// served by the goroutine of its request. Delta and Body never wait for a
// subscriber.
type PushHandler struct {
	cfg      PushConfig
	counters pushCounters

	mu       sync.Mutex // held while subscribers come and go
	closed   bool
	stopping chan struct{} // closed with closed
	all      atomic.Pointer[[]*subscriber]
}

// PushStats are the counts of a PushHandler since it was made.
type PushStats struct {
	Subscribers  int   // now
	WaitingItems int   // now, for all subscribers
	WaitingBytes int64 // of buffers, now; one that waits for many counts for each

	Deltas, Bodies               uint64 // handed to connections, once for each subscriber
	BodyBytes                    uint64 // of those bodies
	DroppedDeltas, DroppedBodies uint64 // for which a subscriber had no room: it finds them in the index, or reads them
	TooLarge                     uint64 // deltas and bodies that are never pushed for their size
	Subscriptions                uint64 // taken
	Refused                      uint64 // subscriptions of strangers, malformed ones, and those too many
}

type pushCounters struct {
	deltas, bodies, bodyBytes, droppedDeltas, droppedBodies, tooLarge, subscriptions, refused atomic.Uint64
}

// NewPushHandler returns a PushHandler that nobody subscribes to yet.
func NewPushHandler(cfg PushConfig) *PushHandler {
	if cfg.Local == nil || cfg.Cluster.IsZero() {
		panic("peer: BUG: a push handler without placement or cluster")
	}
	setDefault(&cfg.Subscribers, 256)
	setDefault(&cfg.QueueItems, 8192)
	setDefault(&cfg.QueueBytes, 16<<20)
	h := &PushHandler{cfg: cfg, stopping: make(chan struct{})}
	h.all.Store(new([]*subscriber))
	return h
}

// Close ends all subscriptions: they are told to go elsewhere. It must be called
// before the server is shut down, which waits for them.
func (h *PushHandler) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.stopping)
	}
}

// Stats returns the handler's counts.
func (h *PushHandler) Stats() PushStats {
	c := &h.counters
	s := PushStats{
		Deltas: c.deltas.Load(), Bodies: c.bodies.Load(), BodyBytes: c.bodyBytes.Load(),
		DroppedDeltas: c.droppedDeltas.Load(), DroppedBodies: c.droppedBodies.Load(), TooLarge: c.tooLarge.Load(),
		Subscriptions: c.subscriptions.Load(), Refused: c.refused.Load(),
	}
	for _, sub := range *h.all.Load() {
		sub.mu.Lock()
		s.WaitingItems += len(sub.queue.items)
		s.WaitingBytes += sub.queue.bytes
		sub.mu.Unlock()
		s.Subscribers++
	}
	return s
}

// Subscribed tells whether any node subscribes at present.
func (h *PushHandler) Subscribed() bool { return len(*h.all.Load()) > 0 }

// Delta pushes what was added to an index row, and is durable, to those who want
// it, but not to from, which has it.
func (h *PushHandler) Delta(from ring.NodeID, key event.IndexKey, delta index.Row) {
	var p push
	for _, s := range *h.all.Load() {
		if s.node == from || !s.wants.Wants(key.DC) || !h.cfg.Local.PushesDelta(s.node, key) {
			continue
		}
		if p.meta == nil {
			size := delta.Size()
			if size > maxPushedRow {
				h.counters.tooLarge.Add(1)
				return
			}
			buf := object.NewBuffer(size)
			p.piece = wire.Piece{Bytes: index.AppendRow(buf.Bytes()[:0], delta), Buf: buf}
			p.meta = appendPushDeltaMeta(nil, key, p.piece.Bytes)
		}
		h.push(s, p)
	}
	p.piece.Release()
}

var bodyMeta = []byte{byte(pushBody)}

// Body pushes a blob that was stored, to those who want it, but not to from, which
// has it. The record is the caller's, and is retained while it waits; one without
// a Buffer is not pushed.
func (h *PushHandler) Body(from ring.NodeID, key event.Key, hash uint64, rec object.Record) {
	if rec.Buf == nil {
		return
	}
	p := push{body: true}
	for _, s := range *h.all.Load() {
		if s.node == from || !s.wants.Bodies || !s.wants.Wants(key.DC) || !h.cfg.Local.PushesBody(s.node, key, hash) {
			continue
		}
		if p.meta == nil {
			if len(rec.Raw()) > maxPushedBody {
				h.counters.tooLarge.Add(1)
				return
			}
			p.meta, p.piece = bodyMeta, ownPiece(&rec)
		}
		h.push(s, p)
	}
	p.piece.Release()
}

// ownPiece returns a use of a Buffer that has little but the record: one of a
// batch would keep the whole batch in memory while it waits.
func ownPiece(rec *object.Record) wire.Piece {
	raw := rec.Raw()
	if rec.Buf.Cap() <= 2*len(raw)+4096 {
		return wire.Piece{Bytes: raw, Buf: rec.Buf.Retain()}
	}
	buf := object.NewBuffer(len(raw))
	copy(buf.Bytes(), raw)
	return wire.Piece{Bytes: buf.Bytes(), Buf: buf}
}

// push queues p, which stays the caller's, for a subscriber.
func (h *PushHandler) push(s *subscriber, p push) {
	p.piece.Buf.Retain()
	d := s.add(p)
	if d != (dropped{}) {
		h.counters.droppedDeltas.Add(uint64(d.deltas))
		h.counters.droppedBodies.Add(uint64(d.bodies))
	}
}

// A subscriber is one subscription and what waits for it.
type subscriber struct {
	node  ring.NodeID
	wants Subscription
	wake  chan struct{} // capacity 1: the queue is not empty any more

	mu    sync.Mutex
	queue pushQueue
	gone  bool // nobody takes from the queue any more
}

func (s *subscriber) add(p push) dropped {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		p.piece.Release()
		return dropped{}
	}
	d := s.queue.add(p)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return d
}

func (s *subscriber) next() (push, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.next()
}

func (s *subscriber) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.queue.drop()
}

var (
	errPushStopping = &object.Error{Code: object.CodeStopping, Outcome: object.Done, Message: "this node is stopping: what it would push is in the index"}
	errManyFollow   = &object.Error{Code: object.CodeOverload, Outcome: object.NotDone, Message: "too many nodes subscribe here already: the index tells the same, a little later"}
)

// ServeWire serves one subscription until the subscriber leaves or the handler is
// closed.
func (h *PushHandler) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	s, err := h.admit(r)
	if err == nil {
		err = h.enter(s)
	}
	if err != nil {
		h.counters.refused.Add(1)
		return wire.Answer{}, err
	}
	defer h.leave(s)
	h.counters.subscriptions.Add(1)
	return wire.Answer{}, h.serve(ctx, r, s)
}

// serve sends what is queued. Its error is never nil.
func (h *PushHandler) serve(ctx context.Context, r *wire.Request, s *subscriber) error {
	if err := r.Send([]byte{byte(pushReady)}, wire.Piece{}); err != nil {
		return err
	}
	for {
		select {
		case <-h.stopping:
			return errPushStopping
		default:
		}
		p, ok := s.next()
		if !ok {
			select {
			case <-s.wake:
			case <-h.stopping:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		size := len(p.piece.Bytes)
		if err := r.Send(p.meta, p.piece); err != nil {
			return err
		}
		if p.body {
			h.counters.bodies.Add(1)
			h.counters.bodyBytes.Add(uint64(size))
		} else {
			h.counters.deltas.Add(1)
		}
	}
}

// admit decodes a subscription, and refuses who is no peer.
func (h *PushHandler) admit(r *wire.Request) (*subscriber, error) {
	who := r.Peer()
	switch {
	case !Pushes(r.Op):
		return nil, object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known to this node: run the same release everywhere", r.Op)
	case !who.IsNode() || who.Cluster != h.cfg.Cluster:
		return nil, errStranger
	case r.Class != wire.Tail || len(r.Body) > 0:
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", malformed(fmt.Sprintf("a subscription in class %v with a body of %d bytes", r.Class, len(r.Body))))
	}
	wants, err := parseSubscription(r.Meta)
	if err != nil {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	return &subscriber{
		node: ring.NodeID(who.Node), wants: wants, wake: make(chan struct{}, 1),
		queue: pushQueue{maxItems: h.cfg.QueueItems, maxBytes: h.cfg.QueueBytes},
	}, nil
}

func (h *PushHandler) enter(s *subscriber) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := *h.all.Load()
	switch {
	case h.closed:
		return errPushStopping
	case len(all) >= h.cfg.Subscribers:
		return errManyFollow
	}
	all = append(slices.Clip(all), s) // a copy: who walks the old list goes on
	h.all.Store(&all)
	return nil
}

func (h *PushHandler) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*h.all.Load()), func(t *subscriber) bool { return t == s })
	h.all.Store(&all)
	s.leave()
}
