package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// askNode asks one question at an address. The answer's own error is returned as
// *object.Error. What failed before the question was sent was not done; after
// that, maybe.
func askNode(ctx context.Context, s *streamCounters, address string, p preface, q message, timeout time.Duration) (message, answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p.Kind = kindRequest
	nc, who, err := s.call(ctx, address, p, timeout)
	if err != nil {
		return message{}, who, &object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone, Message: err.Error(), Cause: err}
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	defer stop()
	_, err = nc.Write(appendMessage(nil, q))
	var a message
	if err == nil {
		a, err = readMessage(nc, false)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return message{}, who, object.Errorf(object.CodeDeadline, object.MaybeDone, "%s did not answer in time: %w", address, context.Cause(ctx))
	case err != nil:
		return message{}, who, object.Errorf(object.CodeUnavailable, object.MaybeDone, "%s did not answer: %w", address, err)
	case a.Err != nil:
		return message{}, who, a.Err
	case a.Op != q.Op:
		return message{}, who, object.Errorf(object.CodeInternal, object.MaybeDone, "%s answered something else than it was asked", address)
	}
	return a, who, nil
}

// askDocument asks a node for its document. none is returned if it has no newer one.
func askDocument(ctx context.Context, s *streamCounters, address string, p preface, have ring.Version, timeout time.Duration) (held, error) {
	a, _, err := askNode(ctx, s, address, p, message{Op: opDocument, Body: appendVersion(nil, have)}, timeout)
	if err != nil || len(a.Body) == 0 {
		return held{}, err
	}
	h, err := parseEnvelope(a.Body)
	if err != nil {
		return held{}, fmt.Errorf("%s gave its document: %w", address, err)
	}
	return h, nil
}

// ask asks another node of the cluster, or whoever is at the address if node is zero.
func (c *Cluster) ask(ctx context.Context, node ring.NodeID, address string, q message, timeout time.Duration) (message, error) {
	a, who, err := askNode(ctx, &c.streamC, address, preface{From: c.identity(), WantNode: node}, q, timeout)
	if err == nil && who.From.Cluster == c.identity().Cluster {
		c.hear()
	}
	return a, err
}

// A fetch is a document being fetched from a node. Who comes while it is under way
// waits for it; but it may have been asked for before what is wanted was there, so
// then it is fetched once more.
type fetch chan struct{} // capacity 1: holds something while it is under way

// documentSlack is how many times Timing.Ask a document may take.
const documentSlack = 6

// fetchFrom brings the document of a node, if it is newer. It is shown when
// fetchFrom returns.
func (c *Cluster) fetchFrom(ctx context.Context, node ring.NodeID, want ring.Version) error {
	address, err := c.lookup(node)
	if err != nil {
		return err
	}
	x, _ := c.sessions.LoadOrStore(node, make(fetch, 1))
	one := x.(fetch)
	select {
	case one <- struct{}{}:
		defer func() { <-one }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now := c.keeper.newest()
	if want != (ring.Version{}) && !now.version().Before(want) {
		return nil // whoever was before has brought it
	}
	h, err := askDocument(ctx, &c.streamC, address, preface{From: c.identity(), WantNode: node}, now.version(), documentSlack*c.cfg.Timing.Ask)
	if err != nil {
		return err
	}
	c.hear()
	if h.doc == nil {
		return nil
	}
	if err := c.learn(h); err != nil {
		return fmt.Errorf("the document of node %v is not taken: %w", node, err)
	}
	return c.await(ctx, h.version())
}

// await waits until a document of a version, or a later one, is shown.
func (c *Cluster) await(ctx context.Context, v ring.Version) error {
	for {
		changed := c.keeper.changed()
		if !c.keeper.newest().version().Before(v) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ctx.Done():
			return errStopping()
		}
	}
}

func errStopping() error {
	return object.Errorf(object.CodeStopping, object.NotDone, "this node is stopping: ask another one")
}

// CatchUp makes sure that the document is of version v or a later one: it waits for
// nothing but the node that has it, and works without a quorum. A document whose
// history is not before v is enough: requests carry the history's version.
func (c *Cluster) CatchUp(ctx context.Context, v ring.Version, from ring.NodeID) error {
	if c.has(v) {
		return nil
	}
	c.stats.catchUps.Add(1)
	if err := c.fetchFrom(ctx, from, ring.Version{}); err != nil {
		c.stats.catchUpFailures.Add(1)
		return fmt.Errorf("catch up with node %v: %w", from, err)
	}
	if !c.has(v) {
		c.stats.catchUpFailures.Add(1)
		return fmt.Errorf("catch up with node %v: its document is of version %v, before %v", from, c.Document().Version, v)
	}
	return nil
}

func (c *Cluster) has(v ring.Version) bool { return !c.Document().Version.Before(v) }

// maxAsked bounds how many nodes Refresh asks.
const maxAsked = 16

// Refresh makes sure that the document is as new as the leader's, or, where there is
// no leader, as that of all the members that can be reached. It fails if none can. A
// node whose cluster has no other member has nobody to ask.
func (c *Cluster) Refresh(ctx context.Context) error {
	q := c.era()
	if q != nil && q.leads() && q.raft.VerifyLeader().Error() == nil {
		if h, err := q.machine.document(); err == nil && h.doc != nil {
			return c.await(ctx, h.version())
		}
	}
	if q != nil {
		if leader := q.leader(); !leader.IsZero() && leader != c.cfg.Node && c.fetchFrom(ctx, leader, ring.Version{}) == nil {
			return nil
		}
	}
	var others []ring.NodeID
	for _, alive := range []bool{true, false} {
		for _, m := range c.Document().Members {
			if m.ID != c.cfg.Node && m.State.Live() && c.Alive(m.ID) == alive && len(others) < maxAsked {
				others = append(others, m.ID)
			}
		}
	}
	if len(others) == 0 {
		return nil
	}
	faults := make([]error, len(others))
	var wg sync.WaitGroup
	for i, id := range others {
		wg.Go(func() { faults[i] = c.fetchFrom(ctx, id, ring.Version{}) })
	}
	wg.Wait()
	for _, err := range faults {
		if err == nil {
			return nil
		}
	}
	return object.Errorf(object.CodeUnavailable, object.NotDone, "no other member of cluster %q can be reached, so nobody can tell whether this node's document, of version %v, is the newest: %w",
		c.Document().Name, c.Document().Version, errors.Join(faults...))
}
