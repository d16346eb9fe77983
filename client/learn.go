package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

const (
	learnTries = 4                // questions before the nodes are left in peace for a while
	learnRest  = 5 * time.Second  // that while
	learnLater = 60 * time.Second // the same, if the nodes do not know the question
	meetWait   = time.Second      // how long a tail waits to hear of other nodes before it chooses one
)

// A learner keeps what the Client knows of the cluster in step with what nodes
// say. It asks only when there is a reason: nothing is known, or an answer came
// under a newer history. One goroutine asks at a time.
type learner struct {
	mu    sync.Mutex
	want  ring.Version  // the newest version heard of
	round chan struct{} // closed when the round under way has ended; nil if there is none
	rest  time.Time     // no round begins before
}

// learn has the history fetched, from e first if it is not nil, and returns a
// channel that is closed when that has been tried; nil if it is not tried now,
// or never, as the Client is pinned. want is a version that was heard of.
func (c *Client) learn(e *endpoint, want ring.Version) <-chan struct{} {
	if c.cfg.Pinned {
		return nil
	}
	l := &c.learner
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want.Before(want) {
		l.want = want
	}
	if l.round != nil || time.Now().Before(l.rest) || !c.enter() {
		return l.round
	}
	done := make(chan struct{})
	l.round = done
	go func() {
		defer c.leave()
		rest := c.learnRound(e)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.round, l.rest = nil, time.Now().Add(rest)
		close(done)
	}()
	return done
}

// meet waits a little for the other nodes to become known, if none is: what stays
// where it begins should not begin at the one node that was named.
func (c *Client) meet(ctx context.Context) {
	if c.table.Load().known != nil {
		return
	}
	if done := c.learn(nil, ring.Version{}); done != nil {
		c.await(ctx, done, meetWait)
	}
}

// relearn has e asked anew who owns what, and waits for it. It tells whether that
// was tried: a node that knows better should not be asked in the old way again.
func (c *Client) relearn(ctx context.Context, e *endpoint, most time.Duration) bool {
	done := c.learn(e, ring.Version{})
	return done != nil && c.await(ctx, done, most)
}

// await waits for done, and tells whether that came first.
func (c *Client) await(ctx context.Context, done <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return false
}

// learnRound asks until the newest version heard of is known, a few times. It
// returns how long not to ask again.
func (c *Client) learnRound(e *endpoint) time.Duration {
	pause := firstPause
	for range learnTries {
		k, err := c.fetch(c.ctx, e)
		c.stats.histories.Add(1)
		if err == nil {
			c.adopt(k)
			if !c.behind() {
				return 0
			}
			err = object.Errorf(object.CodeUnknown, object.NotDone, "a node tells an older history than another one")
		}
		c.stats.historyFailures.Add(1)
		if object.AsError(err).Code == object.CodeUnsupported {
			return learnLater
		}
		c.cfg.Log.Debug("who owns what was not learnt; any node is asked meanwhile", "error", err)
		e = nil
		if !c.sleep(c.ctx, jitter(pause)) {
			break
		}
		pause = min(4*pause, maxPause)
	}
	return learnRest
}

// behind tells whether a newer version has been heard of than is known.
func (c *Client) behind() bool {
	c.learner.mu.Lock()
	defer c.learner.mu.Unlock()
	return c.table.Load().version().Before(c.learner.want)
}

// fetch asks e, or if that is nil any node, who owns what.
func (c *Client) fetch(ctx context.Context, e *endpoint) (*knowledge, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.AttemptTimeout)
	defer cancel()
	if e == nil {
		var err error
		if e, err = c.chooseAny(ctx, c.next.Add(1)); err != nil {
			return nil, err
		}
	}
	e.hold()
	defer e.drop()
	conn, err := e.anyConn(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := conn.Call(ctx, &wire.Call{Op: proto.OpHistory, Class: wire.Control})
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	h, err := proto.ParseHistory(reply.Body)
	if err != nil {
		return nil, object.Errorf(object.CodeCorrupt, object.NotDone, "the history of the rings: %w", err)
	}
	info, err := callInfo(ctx, conn)
	if err != nil {
		return nil, err
	}
	return newKnowledge(h, info.Buckets, conn.Peer().Cluster), nil
}

// heard takes note of the version of the history that an answer came under.
func (c *Client) heard(e *endpoint, h wire.History) {
	v := ring.Version{Era: h.Era, Index: h.Index}
	if known := c.table.Load().version(); known.Before(v) || known == (ring.Version{}) {
		c.learn(e, v)
	}
}

// adopt takes over what was learnt, unless it is older than what is known.
func (c *Client) adopt(k *knowledge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.rings.Version().Before(c.table.Load().version()) {
		c.remapLocked(k)
	}
}

// remap finds the endpoints of the members anew: one turned out to be another
// node than was thought.
func (c *Client) remap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remapLocked(c.table.Load().known)
}

// remapLocked makes the table for what is known. Endpoints that are of no more
// use are closed when nobody uses them any more.
func (c *Client) remapLocked(k *knowledge) {
	if c.shut {
		return
	}
	learnt := make(map[ring.NodeID]*endpoint)
	t := newTable(k, c.configured, c.learnt, func(a proto.Address) *endpoint {
		e := newEndpoint(c, a.At)
		e.expects, e.cluster = a.Node, k.cluster
		return e
	})
	for _, e := range t.all[len(c.configured):] {
		learnt[e.expects] = e
	}
	c.table.Store(t)
	c.leaving = slices.DeleteFunc(c.leaving, (*endpoint).isClosed)
	for id, e := range c.learnt {
		if learnt[id] != e && !e.retire() {
			c.leaving = append(c.leaving, e)
		}
	}
	c.learnt = learnt
}

// probe connects to a node that could not be connected to, so that no call has
// to find out whether it is back.
func (c *Client) probe(e *endpoint) {
	if !e.probing.CompareAndSwap(false, true) {
		return
	}
	if !c.enter() {
		return
	}
	go func() {
		defer c.leave()
		defer e.probing.Store(false)
		e.hold()
		defer e.drop()
		_, err := e.anyConn(c.ctx)
		if err != nil {
			c.cfg.Log.Debug("a node is still away", "node", e.address, "error", err)
		}
	}()
}
