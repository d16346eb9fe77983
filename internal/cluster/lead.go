package cluster

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// A leadership is what a leader remembers of its duties. It is used by one
// goroutine.
type leadership struct {
	quorum  *quorum
	term    uint64
	since   time.Time // when it began to lead
	ready   bool      // all that was agreed before is applied
	trusted bool      // the clock has not jumped lately, see expiry.Trust
	trimmed time.Time // when it last looked whether the history can be trimmed
	said    map[ring.NodeID]string
	nudged  time.Time // when a return that had been given up was proposed again
}

// lead performs the leader's duties while this node leads, until the cluster ends.
func (c *Cluster) lead() {
	tick := time.NewTicker(c.cfg.Timing.Upkeep)
	defer tick.Stop()
	var l leadership
	trust, looked := expiry.NewTrust(expiry.TrustConfig{}, 0), time.Now()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		trusted := trust.Observe(c.cfg.Now(), now.Sub(looked)).Trusted()
		looked = now
		q := c.era()
		if q == nil || !q.leads() {
			l = leadership{}
			continue
		}
		if term := q.raft.CurrentTerm(); l.quorum != q || l.term != term {
			l = leadership{quorum: q, term: term, since: time.Now(), said: map[ring.NodeID]string{}}
		}
		l.trusted = trusted
		c.attend(&l)
	}
}

// attend does what is due now, at most one change of the servers and one command.
func (c *Cluster) attend(l *leadership) {
	q := l.quorum
	if !l.ready {
		if q.raft.Barrier(c.cfg.Timing.Ask).Error() != nil {
			return // it leads no more, or not yet
		}
		if err := c.begin(q); err != nil {
			c.cfg.Log.Warn("the first document of the era is not agreed yet; it is tried again", "error", err)
			return
		}
		l.ready = true
	}
	h, err := q.machine.document()
	if err != nil || h.doc == nil {
		return
	}
	c.changeServers(l, h.doc)
	if cmd, due := c.dueCommand(l, h.doc); due && !c.duty(cmd) {
		delete(l.said, cmd.Node) // it was not tried
	}
}

// begin makes the document an era begins with the first entry of its log.
func (c *Cluster) begin(q *quorum) error {
	if h, _ := q.machine.document(); h.doc != nil {
		return nil
	}
	now := c.keeper.newest()
	if now.version().Era != q.era || now.origin != q.origin {
		return fmt.Errorf("the document here is of era %d, the log of era %d", now.version().Era, q.era)
	}
	entry, err := documentEntry(now)
	if err != nil {
		return err
	}
	return q.raft.Apply(entry, c.cfg.Timing.Ask).Error()
}

func (c *Cluster) changeServers(l *leadership, doc *agreed.Document) {
	servers, err := l.quorum.servers()
	if err != nil {
		return
	}
	v := votersView{
		Self: c.cfg.Node, Servers: servers, MaxVoters: c.cfg.MaxVoters, MaxServers: c.cfg.MaxServers, ReplaceAfter: c.cfg.ReplaceVoterAfter,
		Peers: c.peers(l, doc, servers),
	}
	step := v.next()
	if step.Kind == stepNone {
		return
	}
	c.stats.duties.Add(1)
	if err := l.quorum.do(step, c.cfg.Timing.Ask); err != nil {
		c.stats.dutyFailures.Add(1)
		c.cfg.Log.Info("who takes part in the agreement could not be changed; it is tried again", "step", step.String(), "error", err)
		return
	}
	c.cfg.Log.Info("who takes part in the agreement has changed", "step", step.String())
}

// peers returns what is known of all live members and of all servers.
func (c *Cluster) peers(l *leadership, doc *agreed.Document, servers []server) map[ring.NodeID]peerView {
	all := make(map[ring.NodeID]peerView)
	for _, s := range servers {
		all[s.Node] = peerView{Node: s.Node}
	}
	for _, m := range doc.Members {
		if m.State.Live() {
			all[m.ID] = peerView{Node: m.ID, Zone: m.Zone, Live: true}
		}
	}
	for id, p := range all {
		p.Alive, p.Silent = c.silence(l, id)
		if s, seen := c.gossip.sighting(id); seen && s.News.Version.Era == l.quorum.era && s.News.Origin == l.quorum.origin {
			p.Log = s.News.Log
		}
		if id == c.cfg.Node {
			p.Log = l.quorum.log
		}
		all[id] = p
	}
	return all
}

// silence tells whether a node answers, and since when it does not. One that was
// never seen is silent since this node leads.
func (c *Cluster) silence(l *leadership, id ring.NodeID) (alive bool, silent time.Duration) {
	if id == c.cfg.Node {
		return true, 0
	}
	s, seen := c.gossip.sighting(id)
	switch {
	case !seen:
		return false, time.Since(l.since)
	case s.Alive:
		return true, 0
	}
	return false, time.Since(s.Since)
}

// do performs a change of the servers.
func (q *quorum) do(step serverStep, timeout time.Duration) error {
	id, address := serverID(step.Server.Log), serverAddress(step.Server.Node, step.Server.Log)
	switch step.Kind {
	case stepAdd:
		return q.raft.AddNonvoter(id, address, 0, timeout).Error()
	case stepPromote:
		return q.raft.AddVoter(id, address, 0, timeout).Error()
	case stepDemote:
		return q.raft.DemoteVoter(id, 0, timeout).Error()
	case stepRemove:
		return q.raft.RemoveServer(id, 0, timeout).Error()
	case stepHandOver:
		return q.raft.LeadershipTransfer().Error()
	}
	panic(fmt.Sprintf("cluster: BUG: %v is no step", step.Kind))
}

// dueCommand returns the command that the leader should propose now. What would be
// refused, or change nothing, is not proposed.
func (c *Cluster) dueCommand(l *leadership, doc *agreed.Document) (agreed.Command, bool) {
	now := c.cfg.Now().Unix()
	if doc.Change.Phase == ring.Proposed {
		if cmd := (agreed.Command{Kind: agreed.Tick, Now: now}); wouldChange(doc, cmd) == "" {
			return cmd, true
		}
	}
	for _, m := range doc.Members {
		if cmd, due := c.dueFor(l, doc, m, now); due {
			return cmd, true
		}
	}
	if l.trusted && time.Since(l.trimmed) >= c.cfg.Timing.Trim { // what is trimmed is gone
		l.trimmed = time.Now()
		if oldest, ends := firstUnexpired(doc, now); ends && oldest > doc.Trimmed {
			if cmd := (agreed.Command{Kind: agreed.Trim, Now: now, Oldest: oldest}); wouldChange(doc, cmd) == "" {
				return cmd, true
			}
		}
	}
	return agreed.Command{}, false
}

// dueFor returns Down for a member that has been silent for too long, also if it was
// back meanwhile, and others wait for its promise; and Up for one that is back. What
// came to nothing is proposed again, but not all the time.
func (c *Cluster) dueFor(l *leadership, doc *agreed.Document, m agreed.Member, now int64) (agreed.Command, bool) {
	alive, silent := c.silence(l, m.ID)
	cmd := agreed.Command{Now: now, Node: m.ID}
	switch {
	case m.State == agreed.Valid && (!m.Down || m.Back) && !alive && silent >= c.cfg.DownAfter:
		cmd.Kind = agreed.Down
		for _, other := range doc.Members {
			if other.ID != m.ID && other.State.Live() && !c.Alive(other.ID) {
				cmd.Silent = append(cmd.Silent, other.ID)
			}
		}
	case m.Back && alive && time.Since(l.nudged) < c.cfg.DownAfter:
		return cmd, false
	case m.Down && alive:
		cmd.Kind = agreed.Up
	default:
		delete(l.said, m.ID)
		return cmd, false
	}
	key := fmt.Sprint(cmd.Kind, doc.Version, cmd.Silent)
	if l.said[m.ID] == key {
		return cmd, false // it was tried with this document
	}
	l.said[m.ID] = key
	if why := wouldChange(doc, cmd); why != "" {
		c.cfg.Log.Info("a member cannot be marked now; it is tried again when the document has changed", "member", m.Name, "as", cmd.Kind.String(), "reason", why)
		return cmd, false
	}
	if m.Back && cmd.Kind == agreed.Up {
		l.nudged = time.Now()
	}
	return cmd, true
}

// wouldChange says why a command would change nothing.
func wouldChange(doc *agreed.Document, cmd agreed.Command) string {
	_, result, err := applyTo(doc, cmd)
	switch {
	case err != nil:
		return err.Error()
	case result.Err != nil:
		return result.Err.Message
	case !result.Changed:
		return "it would change nothing"
	}
	return ""
}

// firstUnexpired returns the first slot that may hold something; ends is false if a
// bucket keeps its objects for ever. Clocks may differ by what the settings allow.
func firstUnexpired(doc *agreed.Document, now int64) (slot int64, ends bool) {
	var longest int64
	for p := range doc.Buckets.All() {
		switch {
		case !p.Timed:
		case p.TTLSeconds == 0:
			return 0, false
		default:
			longest = max(longest, p.TTLSeconds)
		}
	}
	if longest == 0 {
		return 0, false
	}
	return doc.History.SlotOf(now - longest - doc.Settings.SkewSeconds), true
}

// duty proposes a command of the leader's own. It reports whether that came to
// agreement, a refusal included.
func (c *Cluster) duty(cmd agreed.Command) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Timing.Ask)
	defer cancel()
	c.stats.duties.Add(1)
	result, err := c.Propose(ctx, cmd)
	agreedOn := err == nil
	if err = cmp.Or(err, result.Failure()); err != nil {
		c.stats.dutyFailures.Add(1)
		c.cfg.Log.Info("what the leader proposed was not agreed", "command", cmd.Kind.String(), "error", err)
		return agreedOn
	}
	if cmd.Kind != agreed.Tick && cmd.Kind != agreed.Trim {
		c.cfg.Log.Warn("the leader has marked a member", "member", memberName(c.Document(), cmd.Node), "as", cmd.Kind.String(), "notes", result.Notes)
	}
	return true
}

func memberName(doc *agreed.Document, id ring.NodeID) string {
	if m, known := doc.Member(id); known {
		return m.Name
	}
	return id.String()
}
