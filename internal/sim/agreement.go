package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// The plain buckets of a simulation.
const (
	plainBucket  = "plain"  // synced at intervals
	alwaysBucket = "always" // synced before it is acknowledged
	quickBucket  = "quick"  // read from one owner
)

// What is agreed on time, and the times of those who agree: shorter than those of a
// real cluster, in the same proportion as slots are.
const (
	aheadSeconds = 4
	skewSeconds  = 2
	leadSeconds  = 3
	downAfter    = 7 * time.Second // until a member that does not answer is replaced
	alone        = downAfter / 2   // how long a member hears nothing until it asks before it answers
	ruleEvery    = time.Second     // of the leader's duties
	trimEvery    = 50              // seconds
	mostVoters   = 5
)

// An agreement is what raft gives: one order of commands, taken only while a
// majority of the voters is up and has ways to each other, and told to each node
// some time later. What is applied, and what a node then does, is the real code.
type agreement struct {
	s         *Sim
	doc       *agreed.Document // the newest
	docs      map[ring.Version]*agreed.Document
	histories []*ring.History // all there ever were
	voters    []*node
	lost      bool                          // a majority of the voters, for ever
	silent    map[ring.NodeID]time.Duration // since when a member does not answer
	ruled     time.Duration                 // when a leader last ruled
}

func newAgreement(s *Sim) *agreement {
	f := agreed.Founding{
		Cluster: agreed.ClusterID{1}, Name: "simulated", Bits: uint8(s.rng.IntN(4)),
		Settings: agreed.Settings{SlotSeconds: slotSeconds, AheadSeconds: aheadSeconds, SkewSeconds: skewSeconds, LeadSeconds: leadSeconds, LatenessSeconds: latenessSeconds},
	}
	for _, n := range s.nodes {
		f.Members = append(f.Members, n.introduction())
	}
	always := bucket.SyncAlways
	r := 1
	var err error
	f.Buckets, err = bucket.DefaultSet().Declare(
		bucket.Declaration{Name: alwaysBucket, Sync: &always},
		bucket.Declaration{Name: quickBucket, R: &r},
	)
	if err != nil {
		panic("sim: BUG: no buckets: " + err.Error())
	}
	doc, err := agreed.Found(f)
	if err != nil {
		panic("sim: BUG: no document: " + err.Error())
	}
	a := &agreement{s: s, docs: map[ring.Version]*agreed.Document{}, silent: map[ring.NodeID]time.Duration{}}
	a.publish(doc)
	a.voters = slices.Clone(s.nodes[:min(len(s.nodes), mostVoters)])
	if len(a.voters)%2 == 0 {
		a.voters = a.voters[1:]
	}
	return a
}

func (a *agreement) publish(doc *agreed.Document) {
	a.doc = doc
	a.docs[doc.Version] = doc
	if n := len(a.histories); n == 0 || a.histories[n-1] != doc.History {
		a.histories = append(a.histories, doc.History)
	}
}

// meet reports whether messages of agreement pass between two nodes, both ways.
func (s *Sim) meet(a, b *node) bool {
	return a == b || !a.deaf && !b.deaf && s.linked(a, b)
}

// linked reports whether messages pass between two nodes, both ways.
func (s *Sim) linked(a, b *node) bool { return !s.net.cut[a.at][b.at] && !s.net.cut[b.at][a.at] }

// leader returns the voter that leads: the first one that meets a majority of them.
func (a *agreement) leader() *node {
	if a.lost {
		return nil
	}
	for _, v := range a.voters {
		if !v.running {
			continue
		}
		met := 0
		for _, w := range a.voters {
			if w.running && a.s.meet(v, w) {
				met++
			}
		}
		if 2*met > len(a.voters) {
			return v
		}
	}
	return nil
}

// reaches reports whether a node has a way to the leader.
func (a *agreement) reaches(n *node) bool {
	leader := a.leader()
	return leader != nil && n.running && a.s.meet(n, leader)
}

var (
	errNoQuorum = object.Errorf(object.CodeUnavailable, object.NotDone, "no majority of the voters is at hand")
	errNoWord   = object.Errorf(object.CodeUnavailable, object.MaybeDone, "no answer of the leader")
)

// propose brings a command to agreement on behalf of a node, in this life of its.
// done is called unless the node dies before.
func (a *agreement) propose(n *node, c agreed.Command, done func(agreed.Result, *object.Error)) {
	s, life := a.s, n.life
	reply := func(d time.Duration, r agreed.Result, err *object.Error) {
		s.after(d, func() {
			if n.running && n.life == life {
				done(r, err)
			}
		})
	}
	s.after(2*s.delay(), func() {
		switch {
		case !n.running || n.life != life:
		case !a.reaches(n):
			reply(time.Second, agreed.Result{}, errNoQuorum)
		default:
			c.Now = a.leader().now().Unix()
			r := a.apply(c)
			if s.rng.IntN(30) == 0 {
				reply(time.Second, agreed.Result{}, errNoWord)
				return
			}
			reply(2*s.delay(), r, nil)
		}
	})
}

// apply applies a command, and has everybody told.
func (a *agreement) apply(c agreed.Command) agreed.Result {
	s := a.s
	before := a.doc
	next, r := before.Apply(c)
	what := c.Kind.String()
	if r.Err != nil {
		s.trace.note(s.now, -1, "REFUSED "+what+": "+r.Err.Message, "", 0)
		s.notes.add("refused: "+what, 1)
		return r
	}
	if !r.Changed {
		return r
	}
	s.trace.note(s.now, -1, "AGREED "+what, next.Version.String(), int64(next.Change.Phase)<<32|next.Change.Boundary)
	s.notes.add("agreed: "+what, 1)
	s.checkStep(before, next)
	a.publish(next)
	for _, n := range s.nodes {
		a.tell(n, s.between(time.Millisecond, 50*time.Millisecond))
	}
	return r
}

// tell has a node told what is newest, some time later.
func (a *agreement) tell(n *node, d time.Duration) {
	if n.late > 0 {
		d += a.s.upTo(n.late)
	}
	doc := a.doc
	a.s.after(d, func() {
		if a.reaches(n) {
			n.learns(doc)
		}
	})
}

// rule is the leader's duties, for ever.
func (a *agreement) rule() {
	if a.s.ended {
		return
	}
	a.s.after(ruleEvery, a.rule)
	leader := a.leader()
	if leader == nil || leader.doc == nil {
		a.ruled = 0
		return
	}
	if a.ruled == 0 { // it was none, or could not: who is silent is to be silent a while again
		clear(a.silent)
	}
	a.ruled = a.s.now
	now := leader.now().Unix()
	for _, n := range a.s.nodes {
		a.tell(n, a.s.between(time.Millisecond, 50*time.Millisecond)) // what was lost on its way
	}
	if a.doc.Change.Phase == ring.Proposed {
		a.apply(agreed.Command{Kind: agreed.Tick, Now: now})
	}
	if now%trimEvery == 0 {
		a.apply(agreed.Command{Kind: agreed.Trim, Now: now, Oldest: a.oldest()})
	}
	a.judge(now)
	a.elect()
}

// oldest returns the first slot of which anything may be left by the TTLs, whatever
// the clock.
func (a *agreement) oldest() int64 {
	return a.doc.History.SlotOf(a.s.timeAt(a.s.now).Unix()-bucket.DefaultEventsTTL) - 1
}

// judge finds members down, or up again.
func (a *agreement) judge(now int64) {
	s := a.s
	var down []ring.NodeID
	for _, m := range a.doc.Members {
		if n := s.nodeOf(m.ID); !m.State.Live() || n == nil || s.answers(n) {
			delete(a.silent, m.ID)
			continue
		}
		if _, known := a.silent[m.ID]; !known {
			a.silent[m.ID] = s.now
		}
		down = append(down, m.ID)
	}
	for _, m := range a.doc.Members {
		if !m.State.Live() {
			continue
		}
		since, silent := a.silent[m.ID]
		switch {
		case silent && !m.Down && s.now-since >= downAfter:
			others := slices.DeleteFunc(slices.Clone(down), func(id ring.NodeID) bool { return id == m.ID })
			a.apply(agreed.Command{Kind: agreed.Down, Now: now, Node: m.ID, Silent: others})
		case !silent && m.Down:
			a.apply(agreed.Command{Kind: agreed.Up, Now: now, Node: m.ID})
		}
	}
}

// answers reports whether a node answers some other member: those who look for it
// ask others to look as well.
func (s *Sim) answers(n *node) bool {
	return n.up && slices.ContainsFunc(s.nodes, func(o *node) bool { return o != n && o.running && s.linked(o, n) })
}

// elect replaces voters that are no members any more, and makes more of them.
func (a *agreement) elect() {
	live := func(n *node) bool {
		m, known := a.doc.Member(n.id)
		return known && (m.State == agreed.Valid || m.State == agreed.Joining)
	}
	var voters []*node
	for _, v := range a.voters {
		if live(v) && !v.wiped {
			voters = append(voters, v)
		}
	}
	for _, n := range a.s.nodes {
		if len(voters) < mostVoters && n.up && live(n) && !slices.Contains(voters, n) && a.reaches(n) {
			voters = append(voters, n)
		}
	}
	if len(voters)%2 == 0 && len(voters) > 0 {
		voters = voters[:len(voters)-1]
	}
	if len(voters) > 0 {
		a.voters = voters
	}
}

// current reports whether a node's history is the newest there is.
func (a *agreement) current(n *node) bool {
	return n.doc != nil && n.doc.History.Version() == a.doc.History.Version()
}

func (a *agreement) String() string {
	return fmt.Sprintf("%v, %d voters", a.doc.Version, len(a.voters))
}
