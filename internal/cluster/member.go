package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// becomeMember finds others, and joins if this node is no member yet.
func (c *Cluster) becomeMember(ctx context.Context) error {
	c.wg.Go(c.meet)
	c.wg.Go(c.lead)
	if _, known := c.Document().Member(c.cfg.Node); known {
		c.wg.Go(c.present)
		return nil
	}
	var last error
	for {
		err := c.presentOnce(ctx)
		if e, ok := errors.AsType[*object.Error](err); ok && e.Outcome == object.NotDone && !e.Code.Retryable() {
			if m, taken := c.Document().MemberNamed(c.cfg.Name); taken && m.ID != c.cfg.Node {
				return fmt.Errorf("node %q cannot join cluster %q: %w. If this is that node and has lost its disks, it is another one now: start it under another name, and \"mayfly cluster replace %s NEW --lost\"",
					c.cfg.Name, c.cfg.Cluster, err, c.cfg.Name)
			}
			return fmt.Errorf("node %q cannot join cluster %q: %w", c.cfg.Name, c.cfg.Cluster, err)
		}
		if err == nil {
			c.wg.Go(c.present)
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %q has not joined cluster %q in time: %w", c.cfg.Name, c.cfg.Cluster, last)
		case <-time.After(c.cfg.Timing.Upkeep):
		}
	}
}

// goneText says what became of a member that takes part no more.
func goneText(s agreed.MemberState) string {
	if s == agreed.Lost {
		return "was declared lost in"
	}
	return "has left"
}

// meet finds the other members by gossip: the seeds at first, later those that are
// not seen.
func (c *Cluster) meet() {
	for {
		if addresses := c.unseen(); len(addresses) > 0 {
			c.gossip.join(addresses)
		}
		wait := c.cfg.Timing.Rejoin
		if !slices.ContainsFunc(c.gossip.sightings(), func(s sighting) bool { return s.Alive }) {
			wait = min(wait, c.cfg.Timing.Upkeep) // nobody has answered yet
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// maxUnseen bounds how many addresses are tried at once.
const maxUnseen = 16

// unseen returns where members may be that are not seen alive, and the seeds as long
// as nobody is.
func (c *Cluster) unseen() (addresses []string) {
	add := func(address string) {
		if len(addresses) >= maxUnseen || address == "" || address == c.advertise {
			return
		}
		if at, err := resolve(c.ctx, address); err == nil && !slices.Contains(addresses, at.String()) {
			addresses = append(addresses, at.String())
		}
	}
	anybody := false
	for _, s := range c.gossip.sightings() {
		anybody = anybody || s.Alive
	}
	if !anybody {
		for _, seed := range c.cfg.Seeds {
			add(seed)
		}
	}
	for _, m := range c.Document().Members {
		if m.ID != c.cfg.Node && m.State.Live() && !c.Alive(m.ID) {
			add(m.Address)
		}
	}
	return addresses
}

// present keeps what the document says of this node true. Why it is not is said once,
// and again when it is another reason.
func (c *Cluster) present() {
	wait := c.cfg.Timing.Upkeep
	said := ""
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = c.cfg.Timing.Upkeep
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Timing.Ask)
		err := c.presentOnce(ctx)
		cancel()
		if err == nil {
			said = ""
			continue
		}
		wait = c.cfg.Timing.Rejoin
		if c.ctx.Err() != nil {
			return
		}
		level := slog.LevelDebug
		if said != err.Error() {
			said, level = err.Error(), slog.LevelWarn
		}
		c.cfg.Log.Log(c.ctx, level, "the cluster has not taken in what this node says of itself; it is tried again", "error", err)
	}
}

// presentOnce joins, or tells a new address or other disks, if the document does not
// have them.
func (c *Cluster) presentOnce(ctx context.Context) error {
	doc := c.Document()
	me := c.cfg.me(c.advertise)
	cmd := agreed.Command{Kind: agreed.Join, Now: c.cfg.Now().Unix(), Member: me}
	if m, known := doc.Member(me.ID); known {
		if !m.State.Live() {
			return c.refuse(object.Errorf(object.CodeRefused, object.NotDone, "this node %s cluster %q: it serves nothing any more; remove its data and start it anew, as another node", goneText(m.State), doc.Name))
		}
		disks := slices.Clone(me.Disks)
		slices.SortFunc(disks, func(a, b agreed.DiskID) int { return ring.NodeID(a).Compare(b) })
		if m.Address == me.Address && m.Name == me.Name && slices.Equal(m.Disks, disks) {
			return c.refuse(nil)
		}
		cmd.Kind = agreed.Introduce
		cmd.Member = agreed.Member{ID: me.ID, Name: me.Name, Disks: me.Disks, Address: me.Address}
	}
	result, err := c.Propose(ctx, cmd)
	if err != nil {
		return err
	}
	return c.refuse(result.Failure())
}

// refuse remembers why this node may not be a member.
func (c *Cluster) refuse(err error) error {
	c.refusedMu.Lock()
	defer c.refusedMu.Unlock()
	c.refused = err
	return err
}

func (c *Cluster) whyRefused() error {
	c.refusedMu.Lock()
	defer c.refusedMu.Unlock()
	return c.refused
}

// upkeep follows what gossip says of newer documents.
func (c *Cluster) upkeep() {
	tick := time.NewTicker(c.cfg.Timing.Upkeep)
	defer tick.Stop()
	var before ring.Version             // the newest version the others had at the last look
	vain := map[ring.NodeID]time.Time{} // who did not give what it says it has, and until when others are asked first
	alone := leaderless{since: time.Now()}
	var differ []string // who has another document of the same version, as was said
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		c.tellLeaderless(&alone)
		differ = c.tellDifferent(differ)
		maps.DeleteFunc(vain, func(_ ring.NodeID, until time.Time) bool { return time.Now().After(until) })
		from, v := newestElsewhere(c.keeper.newest(), c.gossip.sightings(), vain)
		mine := c.keeper.newest().version()
		// What Raft brings in a moment is not fetched; another era it never brings.
		if mine.Before(v) && (mine.Era < v.Era || mine.Before(before)) {
			ctx, cancel := context.WithTimeout(c.ctx, documentSlack*c.cfg.Timing.Ask)
			err := c.fetchFrom(ctx, from, ring.Version{})
			if err != nil || c.keeper.newest().version().Before(v) {
				vain[from] = time.Now().Add(c.cfg.Timing.Rejoin)
			}
			if err != nil && c.ctx.Err() == nil {
				c.cfg.Log.Info("another node has a newer document, which could not be fetched; it is tried again", "node_id", from.String(), "error", err)
			}
			cancel()
		}
		before = v
	}
}

// tellDifferent logs who has another document than this node, of the same version: the
// nodes have applied the same commands, and have not come to the same. said is who was
// named last; it returns who is to be named now.
func (c *Cluster) tellDifferent(said []string) (now []string) {
	mine := c.news()
	for _, s := range c.gossip.sightings() {
		if s.Alive && differs(mine, s.News) {
			now = append(now, memberName(c.Document(), s.Node))
		}
	}
	c.stats.different.Store(int64(len(now)))
	if len(now) > 0 && !slices.Equal(now, said) {
		c.cfg.Log.Error("other nodes have another document than this one, of the same version: do all run the same release? Find out who has the wrong one, stop it, "+
			"remove node/agreed and node/raft-* from its data directories, and start it again", "version", fmt.Sprint(mine.Version), "nodes", now)
	}
	return now
}

func differs(a, b news) bool {
	return a.Version == b.Version && a.Origin == b.Origin && a.Sum != b.Sum && a.Sum != 0 && b.Sum != 0
}

// A leaderless is what was said of there being no leader.
type leaderless struct {
	since time.Time // when a leader was last known, or this node began
	said  string    // why there is none; "" if there is one, or it is not long ago
}

// tellLeaderless logs that there has been no leader for longer than elections take, when
// that begins, when other voters are missing, and when it is over.
func (c *Cluster) tellLeaderless(l *leaderless) {
	q := c.era()
	switch {
	case q == nil || !c.isServer(q): // it hears of no leader
	case !q.leader().IsZero():
		if l.said != "" {
			c.cfg.Log.Info("there is a leader again: changes of the cluster are taken", "leader", memberName(c.Document(), q.leader()))
		}
		*l = leaderless{since: time.Now()}
	case time.Since(l.since) > electionWaits*c.cfg.Timing.Election:
		if why := c.noLeader(q).Message; why != l.said {
			l.said = why
			c.cfg.Log.Warn("nothing can be agreed on", "reason", why)
		}
	}
}

// isServer reports whether this node is a live member that takes part in an era.
func (c *Cluster) isServer(q *quorum) bool {
	m, known := c.Document().Member(c.cfg.Node)
	servers, err := q.servers()
	return known && m.State.Live() && err == nil && slices.ContainsFunc(servers, func(s server) bool { return s.Node == c.cfg.Node && s.Log == q.log })
}

// newestElsewhere returns the newest version that a node says it has, of those that
// were asked for it in vain only if no other has a newer one than this node.
func newestElsewhere(mine held, all []sighting, vain map[ring.NodeID]time.Time) (from ring.NodeID, v ring.Version) {
	hopeful := false
	for _, s := range all {
		if !s.Alive || !mine.version().Before(s.News.Version) || !believable(mine, s.News) {
			continue
		}
		_, wasVain := vain[s.Node]
		if hopes := !wasVain; hopes != hopeful && hopes || hopes == hopeful && v.Before(s.News.Version) {
			from, v, hopeful = s.Node, s.News.Version, hopes
		}
	}
	return from, v
}

// believable reports whether a document may be the newest: one of the same era that
// was begun elsewhere is of another agreement.
func believable(mine held, n news) bool {
	return n.Version.Era != mine.version().Era || n.Origin == mine.origin
}
