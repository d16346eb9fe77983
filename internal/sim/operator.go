package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// An operator changes the membership, by the commands that people use: stages and
// commits, sees what is refused, and tries again.
type operator struct {
	s      *Sim
	end    time.Duration
	oldest int64 // the first slot of a timed bucket that may have anything
}

// Bounds of what an operator makes of a cluster: valid members.
const (
	mostNodes   = 9
	fewestNodes = 3
)

func (o *operator) init(s *Sim) {
	o.s = s
	o.oldest = s.epoch/slotSeconds - 20
}

// start arranges for changes until end.
func (o *operator) start(end time.Duration) {
	o.end = end
	if o.s.rng.IntN(5) > 0 { // some clusters stay as they are
		o.next()
	}
}

func (o *operator) next() {
	s := o.s
	at := s.now + s.between(2*time.Second, 12*time.Second)
	if at > o.end-2*time.Second {
		return
	}
	s.at(at, func() {
		o.one()
		o.next()
	})
}

// propose brings a command to agreement by way of a member that is up.
func (o *operator) propose(c agreed.Command, then func(agreed.Result)) {
	up := o.s.upNodes()
	if len(up) == 0 {
		return
	}
	o.s.agreement.propose(up[o.s.rng.IntN(len(up))], c, func(r agreed.Result, err *object.Error) {
		if err == nil && then != nil {
			then(r)
		}
	})
}

// valid returns the members that have places.
func (o *operator) valid() []*node {
	return slices.DeleteFunc(slices.Clone(o.s.nodes), func(n *node) bool {
		m, known := o.s.agreement.doc.Member(n.id)
		return !known || m.State != agreed.Valid
	})
}

// one does one thing.
func (o *operator) one() {
	s := o.s
	doc := s.agreement.doc
	valid := o.valid()
	n := valid[s.rng.IntN(len(valid))]
	many := len(valid) + len(doc.Staged)
	k := s.rng.IntN(100)
	switch {
	case doc.Change.Phase == ring.Proposed && doc.Pending != nil && len(doc.Pending.Returning) == 0:
		if k < 20 {
			s.faults.note(nil, "change cancelled")
			o.propose(agreed.Command{Kind: agreed.Cancel}, nil)
		}
	case len(doc.Staged) > 0 && k < 60:
		o.commit()
	case len(doc.Staged) > 0 && k < 65:
		s.faults.note(nil, "staged changes cleared")
		o.propose(agreed.Command{Kind: agreed.Clear}, nil)
	case k < 30 && many < mostNodes:
		o.join(1 + s.rng.IntN(3))
	case k < 50 && len(valid)-o.going() > fewestNodes:
		o.stage("leave", agreed.Staged{Kind: agreed.StageLeave, Node: n.id})
	case k < 65 && many < mostNodes:
		o.replace(n)
	case k < 80:
		o.stage("weight changed", agreed.Staged{Kind: agreed.StageWeight, Node: n.id, Weight: uint32(1 + s.rng.IntN(4))})
	case k < 85:
		o.stage("zone changed", agreed.Staged{Kind: agreed.StageZone, Node: n.id, Zone: fmt.Sprintf("z%d", s.rng.IntN(3))})
	default:
		s.faults.wipe()
	}
}

// going returns how many members are to leave, be replaced or declared lost.
func (o *operator) going() (n int) {
	for _, x := range o.s.agreement.doc.Staged {
		if x.Kind == agreed.StageLeave || x.Kind == agreed.StageReplace || x.Kind == agreed.StageLose {
			n++
		}
	}
	return n
}

// stage stages one thing, and commits a while later.
func (o *operator) stage(what string, x agreed.Staged) {
	o.s.faults.note(o.s.nodeOf(x.Node), what)
	o.propose(agreed.Command{Kind: agreed.Stage, Stage: x}, func(agreed.Result) { o.commitLater() })
}

func (o *operator) commitLater() {
	o.s.after(o.s.between(300*time.Millisecond, 3*time.Second), o.commit)
}

// join starts machines that ask to be members.
func (o *operator) join(count int) {
	s := o.s
	for range count {
		n := s.addNode("")
		s.faults.note(n, "join")
		n.start()
	}
	o.commitLater()
}

// replace starts a machine that takes all the places of a member.
func (o *operator) replace(old *node) {
	s := o.s
	n := s.addNode("")
	s.faults.note(n, "join, to replace")
	n.start()
	s.after(s.between(300*time.Millisecond, 2*time.Second), func() {
		o.stage("replaced", agreed.Staged{Kind: agreed.StageReplace, Node: old.id, New: n.id})
	})
}

// lose has a member declared lost that will not come back. Another machine may ask
// to have its name, and is refused until then.
func (o *operator) lose(lost *node) {
	s := o.s
	if s.rng.IntN(2) == 0 {
		n := s.addNode(lost.name)
		s.faults.note(n, "join under an old name")
		n.start()
	}
	s.after(s.between(500*time.Millisecond, 8*time.Second), func() { o.declareLost(lost) })
}

func (o *operator) declareLost(lost *node) {
	m, known := o.s.agreement.doc.Member(lost.id)
	if o.s.ended || !known || !m.State.Live() {
		return
	}
	o.stage("removed as lost", agreed.Staged{Kind: agreed.StageLose, Node: lost.id})
	o.s.after(5*time.Second, func() { o.declareLost(lost) }) // unless it was done
}

// commit commits what is staged, as it is seen at some node.
func (o *operator) commit() {
	doc := o.s.agreement.doc
	if len(doc.Staged) == 0 {
		return
	}
	o.propose(agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: doc.StagedHash(), Oldest: o.oldest, Gaps: o.gaps()}}, nil)
}

// gaps is what nodes say that they lack: as a command line would ask them.
func (o *operator) gaps() (gaps []ring.Gap) {
	for _, n := range o.s.members() {
		if !n.up {
			continue
		}
		for _, p := range n.history().HeldBy(n.id) {
			v, err := n.vnodes.Vnode(p)
			if err != nil {
				gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, Plain: true}, ring.Gap{Node: n.id, Partition: p, From: 0, Until: ring.Forever})
				continue
			}
			if s := v.Since(); !s.Whole() {
				if !s.Plain {
					gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, Plain: true})
				}
				if s.Slot > 0 {
					gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, From: 0, Until: int64(s.Slot)})
				}
			}
			for _, d := range v.Doubts() {
				switch {
				case d.All:
					gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, Plain: true}, ring.Gap{Node: n.id, Partition: p, From: 0, Until: ring.Forever})
				case d.Slot < 0:
					gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, Plain: true})
				default:
					gaps = append(gaps, ring.Gap{Node: n.id, Partition: p, From: int64(d.Slot), Until: int64(d.Slot) + 1})
				}
			}
		}
	}
	return gaps
}

// finish brings what is begun to an end, when all is healed: it commits what is
// staged, or takes it back if it is refused.
func (o *operator) finish() {
	s := o.s
	if s.ended {
		return
	}
	s.after(2*time.Second, o.finish)
	doc := s.agreement.doc
	for _, m := range doc.Members { // its join was taken back
		if m.State == agreed.Joining && !slices.ContainsFunc(doc.Staged, func(x agreed.Staged) bool { return x.Node == m.ID || x.New == m.ID }) {
			o.propose(agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageJoin, Node: m.ID}}, nil)
		}
	}
	if len(doc.Staged) == 0 || doc.Change.Phase == ring.Proposed && (doc.Pending == nil || len(doc.Pending.Returning) == 0) {
		return
	}
	o.propose(agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: doc.StagedHash(), Oldest: o.oldest, Gaps: o.gaps()}}, func(r agreed.Result) {
		if r.Err != nil && s.faults.wiped == nil {
			o.propose(agreed.Command{Kind: agreed.Clear}, nil)
		}
	})
}
