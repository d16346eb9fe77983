package sim

import (
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// loseMajority takes a majority of the voters away for long. Sometimes the operator
// does not wait for them and recovers agreement by hand, on a node that has the
// newest document of those that are left; what the voters agreed among themselves
// just before, and told nobody, is lost then, and they come back with it.
func (f *faults) loseMajority() {
	s, a := f.s, f.s.agreement
	if a.lost || a.leader() == nil || a.doc.Change.Phase == ring.Proposed {
		return
	}
	for _, n := range s.members() {
		if doc, err := n.stored(); !n.running || n.doc != a.doc || err != nil || doc != a.doc {
			return // others might be the only ones who know more than those that are left
		}
	}
	f.note(nil, "majority of voters lost")
	away := a.voters[:len(a.voters)/2+1]
	recovers := s.rng.IntN(2) == 0 && len(s.members()) > len(away)
	if recovers {
		a.lost = true
		a.forge(away)
	}
	for _, v := range away {
		if v.up {
			v.kill()
		}
		v.barred = recovers
	}
	s.after(s.between(8*time.Second, 25*time.Second), func() { f.voterBack(away) })
	if recovers {
		s.after(s.between(3*time.Second, 7*time.Second), func() { a.recoverOn(away) })
	}
}

// voterBack lets voters start again, if agreement needs them no more.
func (f *faults) voterBack(away []*node) {
	switch {
	case f.s.ended:
		return
	case f.s.agreement.lost:
		f.s.after(time.Second, func() { f.voterBack(away) })
		return
	}
	for _, v := range away {
		v.barred = false
		if !v.running {
			v.start()
		}
	}
}

// forge gives voters a later document, which nobody else will have heard of.
func (a *agreement) forge(voters []*node) {
	doc := a.doc
	for range 1 + a.s.rng.IntN(40) {
		m := doc.Members[a.s.rng.IntN(len(doc.Members))]
		next, _ := doc.Apply(agreed.Command{Kind: agreed.Stage, Now: a.s.timeAt(a.s.now).Unix(), Stage: agreed.Staged{Kind: agreed.StageWeight, Node: m.ID, Weight: uint32(1 + a.s.rng.IntN(9))}})
		doc = next
		a.docs[doc.Version] = doc
	}
	for _, v := range voters {
		v.store(doc)
	}
}

// recoverOn makes a node that is left, with the newest document, the only voter of
// the next era.
func (a *agreement) recoverOn(away []*node) {
	s := a.s
	for _, n := range s.members() {
		if n.barred || !n.running {
			continue
		}
		doc, err := n.stored()
		if err != nil || doc != a.doc {
			continue
		}
		if n.up {
			n.shutDown()
		}
		n.running = false
		next := doc.Recovered()
		s.trace.note(s.now, n.at, "RECOVERS", next.Version.String(), 0)
		s.notes.add("eras", 1)
		s.checkStep(a.doc, next)
		a.publish(next)
		a.voters, a.lost = []*node{n}, false
		clear(a.silent)
		n.store(next)
		n.start()
		return
	}
	if !s.ended {
		s.after(time.Second, func() { a.recoverOn(away) })
	}
}
