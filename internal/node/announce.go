package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// What is acknowledged under a new history must not be denied under the one before
// by nodes that have not heard of the new one. So a node that adopts a history tells
// all others at once, knows of each which one it has adopted, and holds back what it
// would acknowledge until enough of the owners of before have left their history
// behind: ring.Fence.Settled.

// Bounds of an announcement.
const (
	tellTimeout = 2 * time.Second
	tellAtOnce  = 8
	tellLeast   = 100 * time.Millisecond // pause before those who did not answer are told again
	tellMost    = 5 * time.Second
)

// A signal is closed, and replaced, each time that something happens.
type signal struct{ now atomic.Pointer[chan struct{}] }

func newSignal() *signal {
	s := new(signal)
	s.init()
	return s
}

func (s *signal) init() { s.now.Store(new(make(chan struct{}))) }

// next returns a channel that is closed when it happens next.
func (s *signal) next() <-chan struct{} { return *s.now.Load() }

// happened wakes all who wait. It may be called by any goroutine.
func (s *signal) happened() { close(*s.now.Swap(new(make(chan struct{})))) }

// announce tells the other members which history counts here, whenever that changes,
// until each of them is known to have adopted it. It returns when ctx ends.
func (n *Node) announce(ctx context.Context) {
	pause := tellLeast
	for ctx.Err() == nil {
		adopted := n.adopted.next()
		if n.tell(ctx, n.ring().Version()) {
			pause = tellLeast
			select {
			case <-adopted:
			case <-ctx.Done():
			}
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-adopted:
			pause = tellLeast
		case <-timer.C:
			pause = min(2*pause, tellMost)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// tell announces the history to those that are not known to have it, and reports
// whether none was left.
func (n *Node) tell(ctx context.Context, v ring.Version) (all bool) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, tellAtOnce)
	all = true
	for _, p := range n.peers.each() {
		if !p.Seen().Before(v) {
			continue
		}
		all = false
		atOnce <- struct{}{}
		wg.Go(func() {
			defer func() { <-atOnce }()
			if p.Announce(ctx, v) == nil && !p.Seen().Before(v) {
				n.heardOf.happened()
			}
		})
	}
	wg.Wait()
	return all
}

// heard is told with each request of a member which history that has adopted.
func (n *Node) heard(from ring.NodeID, v ring.Version) {
	p := n.peers.get(from)
	if p == nil || !p.Saw(v) {
		return
	}
	n.heardOf.happened()
	n.catcher.later(v, from, time.Now().Add(catchUpTimeout), func() {})
}

// settleTimeout bounds how long an acknowledgement is held back.
const settleTimeout = 3 * time.Second

var errUnsettled = &object.Error{Code: object.CodeUnavailable, Outcome: object.MaybeDone,
	Message: "the owners of the key have changed, and too few of those before have heard of it yet: send it again a little later"}

// settle returns when nobody can deny any more, under an older history, what is
// stored of an object: it may be acknowledged.
func (n *Node) settle(ctx context.Context, h *object.Header) error {
	if n.view.Load().settled.Load() {
		return nil
	}
	o, w := n.local.fence.placing.of(h.Type, h.Bucket, h.Key, ring.HashBytes(h.Type, h.Bucket, h.Key))
	var timer *time.Timer
	for {
		heard, adopted := n.heardOf.next(), n.adopted.next()
		if n.isSettled(n.view.Load(), o, w) {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(settleTimeout)
			defer timer.Stop()
		}
		select {
		case <-heard:
		case <-adopted:
		case <-timer.C:
			return errUnsettled
		case <-ctx.Done():
			return errUnsettled
		}
	}
}

func (n *Node) isSettled(view *view, o ring.Placed, w int) bool {
	peers, now := n.peers.each(), view.fence.History().Version()
	behind := func(id ring.NodeID, v ring.Version) bool {
		if id == n.id {
			return !now.Before(v)
		}
		if p := peers[id]; p != nil && !p.Seen().Before(v) {
			return true
		}
		m, known := view.doc.Member(id)
		return !known || m.State == agreed.Left || m.State == agreed.Lost
	}
	latest, began := 0, 0 // members that may not have this history, and not even that which this node began with
	for _, m := range view.doc.Members {
		if !behind(m.ID, now) {
			latest++
		}
		if !m.Down && !behind(m.ID, n.began) {
			began++
		}
	}
	if latest == 0 { // and stays so: members that come begin with this history
		view.settled.Store(true)
		return true
	}
	// Who owned what before this node began is not known: whoever it was, no quorum
	// may be left of them. Members that are down are taken to be silent here: after a
	// zone is lost all that start anew would wait for it.
	return began <= max(0, o.N-w) && view.fence.Settled(o, w, behind)
}
