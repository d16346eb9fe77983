package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const (
	maxProposals  = 64                    // under way at once, of this node, and as many that others have brought
	electionWaits = 4                     // times Timing.Election that a leader is waited for
	proposePause  = 50 * time.Millisecond // between two looks whether there is a leader
)

// Propose brings a command to agreement, wherever the leader is. The result tells
// whether it was refused; when it is returned, Document is the one after it, or a
// later one. The error is an *object.Error: the command was not done, or maybe.
// Without a majority of the voters it says which of them cannot be reached.
func (c *Cluster) Propose(ctx context.Context, cmd agreed.Command) (agreed.Result, error) {
	if !c.enter() {
		return agreed.Result{}, errStopping()
	}
	defer c.wg.Done()
	if c.proposing.Add(1) > maxProposals {
		c.proposing.Add(-1)
		return agreed.Result{}, object.Errorf(object.CodeOverload, object.NotDone, "%d changes are being agreed on already: try again", maxProposals)
	}
	defer c.proposing.Add(-1)
	c.stats.proposals.Add(1)
	entry, err := commandEntry(cmd)
	if err != nil {
		return agreed.Result{}, object.Errorf(object.CodeBadRequest, object.NotDone, "the command %v cannot be encoded: %w", cmd.Kind, err)
	}
	result, err := c.propose(ctx, entry, hopOwn)
	if err != nil {
		c.stats.proposalFailures.Add(1)
		return agreed.Result{}, object.AsError(err)
	}
	if result.Changed {
		// What was agreed is agreed, whether it is shown here in time or not.
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Ask)
		defer cancel()
		if q := c.era(); q != nil && !q.leads() && !q.leader().IsZero() {
			_ = c.fetchFrom(ctx, q.leader(), result.Version) // sooner than Raft tells it
		}
		_ = c.await(ctx, result.Version)
	}
	return result, nil
}

// A hop says how a proposal came to this node.
type hop byte

const (
	hopAny    hop = iota // another node does not know the leader: it is passed on to the one this node knows
	hopLeader            // another node takes this one for the leader: it is passed on to nobody
	hopOwn               // it is this node's own
)

// propose looks for the leader until it has one, or nobody can be reached for long
// enough.
func (c *Cluster) propose(ctx context.Context, entry []byte, by hop) (agreed.Result, error) {
	patience := time.Now().Add(c.patience(ctx))
	var last error
	for {
		result, again, err := c.proposeOnce(ctx, entry, by)
		if err == nil || !again {
			return result, err
		}
		last = err
		if time.Now().After(patience) {
			return agreed.Result{}, last
		}
		select {
		case <-ctx.Done():
			return agreed.Result{}, last
		case <-c.ctx.Done():
			return agreed.Result{}, errStopping()
		case <-time.After(proposePause):
		}
	}
}

// patience is how long a leader is waited for: shorter than who asks waits for the
// answer, who would learn nothing otherwise of who is missing.
func (c *Cluster) patience(ctx context.Context) time.Duration {
	patience := electionWaits * c.cfg.Timing.Election
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2)
	}
	return patience
}

// proposeOnce tries what can be done now. again: it was certainly not done, and may
// be with another leader.
func (c *Cluster) proposeOnce(ctx context.Context, entry []byte, by hop) (result agreed.Result, again bool, err error) {
	q := c.era()
	if q == nil {
		return result, true, object.Errorf(object.CodeUnavailable, object.NotDone, "this node has no log of what is agreed at the moment: it is changing to another era, or its disk is full; try again")
	}
	if q.leads() {
		return c.proposeHere(ctx, q, entry)
	}
	leader := q.leader()
	switch {
	case by == hopLeader || leader == c.cfg.Node || leader.IsZero() && by != hopOwn:
		return result, true, c.noLeader(q)
	case !leader.IsZero():
		address, err := c.lookup(leader)
		if err != nil {
			return result, true, object.Errorf(object.CodeUnavailable, object.NotDone, "changes are for the leader to agree on: %w", err)
		}
		return c.forward(ctx, leader, address, entry, hopLeader)
	}
	return c.proposeAnywhere(ctx, q, entry)
}

// proposeAnywhere asks others for their leader's answer: a node that is no server
// yet hears of none.
func (c *Cluster) proposeAnywhere(ctx context.Context, q *quorum, entry []byte) (result agreed.Result, again bool, err error) {
	servers, err := q.servers()
	if err == nil && len(servers) > 0 {
		return result, true, c.noLeader(q)
	}
	err = c.noLeader(q)
	for _, s := range c.gossip.sightings() {
		if !s.Alive || s.News.Version.Era != q.era {
			continue
		}
		result, again, err = c.forward(ctx, s.Node, s.Address, entry, hopAny)
		if err == nil || !again {
			return result, again, err
		}
	}
	return result, true, err
}

// proposeHere agrees on an entry as the leader.
func (c *Cluster) proposeHere(ctx context.Context, q *quorum, entry []byte) (result agreed.Result, again bool, err error) {
	now, stuck := q.machine.document()
	if stuck == nil { // what nobody could apply must not be agreed on
		_, _, stuck = applyEntry(now, entry)
		if f, ok := errors.AsType[*fault](stuck); ok {
			c.cfg.Log.Error("a change is refused because of a fault of this program, please report it", "what", f.what, "stack", string(f.stack))
		}
	}
	if stuck != nil {
		return result, false, object.Errorf(object.CodeUnsupported, object.NotDone, "%w", stuck)
	}
	future := q.raft.Apply(entry, c.cfg.Timing.Ask)
	answered := make(chan error, 1)
	c.wg.Go(func() { answered <- future.Error() }) // ends when it is agreed, or the lead is lost
	select {
	case err = <-answered:
	case <-ctx.Done():
		return result, false, object.Errorf(object.CodeDeadline, object.MaybeDone, "it was not agreed in time: %w", context.Cause(ctx))
	}
	switch {
	case err == nil:
		result, ok := future.Response().(agreed.Result)
		if !ok {
			panic(fmt.Sprintf("cluster: BUG: a command came to %T", future.Response()))
		}
		return result, result.Err != nil && result.Err.Code == object.CodeUnavailable, resultError(result)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return result, true, c.noLeader(q)
	case errors.Is(err, raft.ErrRaftShutdown):
		return result, false, object.Errorf(object.CodeStopping, object.MaybeDone, "this node stopped before it was agreed: look, and try again")
	}
	sentence := c.noLeader(q)
	return result, false, object.Errorf(object.CodeUnavailable, object.MaybeDone, "it may still be agreed, for the leader has lost the majority of the voters meanwhile: %w", sentence)
}

// resultError tells of a cluster that has no document yet: everything else that is
// refused is a result.
func resultError(r agreed.Result) error {
	if r.Err != nil && r.Err.Code == object.CodeUnavailable {
		return r.Err
	}
	return nil
}

// forward asks the leader, or a node that may know it.
func (c *Cluster) forward(ctx context.Context, node ring.NodeID, address string, entry []byte, as hop) (result agreed.Result, again bool, err error) {
	c.stats.forwarded.Add(1)
	timeout := requestSlack * c.cfg.Timing.Ask
	body := append([]byte{byte(as)}, entry[1:]...)
	a, err := c.ask(ctx, node, address, message{Op: opPropose, Body: body}, timeout)
	if err != nil {
		e := object.AsError(err)
		return result, e.Outcome == object.NotDone && e.Code == object.CodeUnavailable, e
	}
	result, err = agreed.UnmarshalResult(a.Body)
	if err != nil {
		return result, false, object.Errorf(object.CodeInternal, object.MaybeDone, "%s answered with what is no result: %w", address, err)
	}
	return result, false, nil
}

// noLeader says why nothing can be agreed on now.
func (c *Cluster) noLeader(q *quorum) *object.Error {
	servers, err := q.servers()
	if err != nil {
		return object.Errorf(object.CodeUnavailable, object.NotDone, "changes are refused: the voters are not known: %w", err)
	}
	return sentenceOf(c.cfg.Node, c.Document(), servers, c.Alive, c.Address)
}

// sentenceOf says which voters are missing.
func sentenceOf(me ring.NodeID, doc *agreed.Document, servers []server, alive func(ring.NodeID) bool, address func(ring.NodeID) string) *object.Error {
	var missing []string
	voters := 0
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		voters++
		if alive(s.Node) {
			continue
		}
		name := fmt.Sprintf("node %v", s.Node)
		if m, known := doc.Member(s.Node); known {
			name = m.Name
		}
		if at := address(s.Node); at != "" {
			name += " at " + at
		}
		missing = append(missing, name)
	}
	refuse := func(format string, args ...any) *object.Error {
		return object.Errorf(object.CodeUnavailable, object.NotDone, "changes of cluster %q are refused: "+format, append([]any{doc.Name}, args...)...)
	}
	alone := !slices.ContainsFunc(doc.Members, func(m agreed.Member) bool { return m.ID != me && m.State.Live() })
	switch {
	case voters == 0 && alone:
		return refuse("the log of what is agreed is lost, or was set aside because it is damaged, and no other member has one. Data is served all the same: stop this node and run 'mayfly cluster recover' on it")
	case voters == 0:
		return refuse("this node has not been made part of it yet, and no node that knows the leader can be reached: try again")
	case 2*len(missing) >= voters:
		return refuse("no majority of the %d voters can be reached; missing: %s. Data is served where enough owners answer. Start these nodes again; if they will never come back, stop one of the others and run \"mayfly cluster recover\" there",
			voters, strings.Join(missing, ", "))
	case len(missing) > 0:
		return refuse("the voters have no leader at the moment, and cannot all be reached; missing: %s: try again", strings.Join(missing, ", "))
	}
	return refuse("the %d voters have no leader at the moment: try again", voters)
}

// answer implements host.
func (c *Cluster) answer(ctx context.Context, p preface, q message) message {
	if q.Op != opHello && p.From.Cluster != c.identity().Cluster && q.Op != opDocument {
		return message{Err: object.Errorf(object.CodeRefused, object.NotDone, "this node belongs to a cluster, and the caller to none yet: join first")}
	}
	switch q.Op {
	case opHello:
		return message{Body: appendGreeting(nil, c.greeting())}
	case opDocument:
		return c.answerDocument(q)
	case opPropose:
		return c.answerProposal(ctx, q)
	}
	return message{Err: object.Errorf(object.CodeRefused, object.NotDone, "this node belongs to cluster %q already, and founds none", c.Document().Name)}
}

func (c *Cluster) greeting() greeting {
	now := c.keeper.newest()
	return greeting{
		Cluster: now.doc.Cluster, Version: now.version(), Name: now.doc.Name,
		Self: candidate{Member: c.cfg.me(c.advertise)},
	}
}

func (c *Cluster) answerDocument(q message) message {
	cut := &cutter{b: q.Body}
	have := cut.version()
	if err := cut.done("a question for the document"); err != nil {
		return message{Err: object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)}
	}
	now := c.keeper.newest()
	if !have.Before(now.version()) {
		return message{}
	}
	b, err := c.encoded.envelope(now)
	if err != nil {
		return message{Err: object.Errorf(object.CodeInternal, object.NotDone, "the document cannot be encoded: %w", err)}
	}
	return message{Body: b}
}

func (c *Cluster) answerProposal(ctx context.Context, q message) message {
	if len(q.Body) < 2 || hop(q.Body[0]) > hopLeader {
		return message{Err: object.Errorf(object.CodeBadRequest, object.NotDone, "a proposal without a command")}
	}
	if _, err := agreed.UnmarshalCommand(q.Body[1:]); err != nil {
		return message{Err: object.Errorf(object.CodeBadRequest, object.NotDone, "a command that cannot be read: %w", err)}
	}
	if c.passing.Add(1) > maxProposals {
		c.passing.Add(-1)
		return message{Err: object.Errorf(object.CodeOverload, object.NotDone, "%d changes are being agreed on already: try again", maxProposals)}
	}
	defer c.passing.Add(-1)
	result, err := c.propose(ctx, append([]byte{entryCommand}, q.Body[1:]...), hop(q.Body[0]))
	if err != nil {
		return message{Err: object.AsError(err)}
	}
	b, err := result.MarshalBinary()
	if err != nil {
		return message{Err: object.Errorf(object.CodeInternal, object.Done, "it was agreed, and its result cannot be encoded: %w", err)}
	}
	return message{Body: b}
}
