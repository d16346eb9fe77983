package agreed

import (
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// commit begins the change that is staged.
func (s *step) commit(c Commit) error {
	switch {
	case len(s.d.Staged) == 0:
		return errNothingStaged()
	case c.Staged != s.d.StagedHash():
		return refuse(object.CodeConflict, "what is staged has changed since you looked at it: look at the plan again, then commit")
	case len(c.Gaps) > MaxGaps:
		return refuse(object.CodeBadRequest, "%d gaps are more than the %d that a commit can hold: join those of neighbouring slots, or wait until members have merged what they lack", len(c.Gaps), MaxGaps)
	case c.From > s.d.latest(s.now):
		return s.d.tooFar(c.From, s.now)
	case s.d.preparesPlan():
		return s.addLost(c)
	}
	if s.d.Pending != nil { // a return: it makes way
		s.event(ring.ChangeEvent{Kind: ring.Cancel})
		s.d.Pending = nil
	}
	from := max(c.From, s.d.earliest(s.now))
	plan, err := s.d.plan(s.d.Staged, s.d.data(s.now, c), from, c.AcceptLoss)
	if err != nil {
		return err
	}
	if _, err := committed(plan, s.d.History, from); err != nil {
		return err
	}
	if err := s.propose(&Pending{Staged: s.d.Staged, Commit: c}, s.d.promising(s.d.Staged), from); err != nil {
		return err
	}
	s.d.Staged = nil
	s.noteShort(plan.Short)
	s.note("slot %d is proposed; waiting for %s", s.d.Change.Boundary, s.d.Change.WaitingFor(s.d.label))
	return nil
}

// preparesPlan reports whether the pending change is the operator's.
func (d *Document) preparesPlan() bool { return d.Pending != nil && len(d.Pending.Returning) == 0 }

// Promising returns the members whose promise a change to what is staged needs.
func (d *Document) Promising() []ring.NodeID { return d.promising(d.Staged) }

// promising returns the members that have to prepare a plan: all that may take
// part in puts, those apart that it declares lost.
func (d *Document) promising(staged []Staged) (ids []ring.NodeID) {
	for _, m := range d.Members {
		lost := slices.ContainsFunc(staged, func(x Staged) bool { return x.Kind == StageLose && x.Node == m.ID })
		joins := m.State == Joining && slices.ContainsFunc(staged, func(x Staged) bool { return x.concerns(m.ID) })
		if !lost && (m.State == Valid || m.State == Leaving || joins) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// propose begins a change.
func (s *step) propose(p *Pending, members []ring.NodeID, from int64) error {
	next, actions := s.d.Change.Step(s.d.Timing(), ring.ChangeEvent{Kind: ring.Propose, Now: s.now, Members: members, From: from})
	for _, a := range actions {
		if a.Kind == ring.Refuse {
			return refuse(object.CodeConflict, "%s", s.d.withNames(a.Why))
		}
	}
	s.d.Change, s.d.Pending = next, p
	return nil
}

// addLost adds to the pending plan that members are lost: it need not wait for
// them. Nothing else can be added, and stays staged: nodes that start stage their
// joining at any time, and must not keep the change waiting.
func (s *step) addLost(c Commit) error {
	staged := s.d.Pending.Staged
	var lost []ring.NodeID
	var rest []Staged
	for _, x := range s.d.Staged {
		if x.Kind != StageLose || !x.New.IsZero() && !s.d.Pending.concerns(x.New) { // who is new has not promised
			rest = append(rest, x)
			continue
		}
		if i := slices.IndexFunc(staged, func(y Staged) bool { return y.Node == x.Node && y.Kind == StageReplace }); i >= 0 && x.New.IsZero() {
			x.New = staged[i].New
		}
		staged, lost = staging(staged, x), append(lost, x.Node)
	}
	if len(lost) == 0 {
		return refuse(object.CodeConflict, "a change is pending, for slot %d, and waits for %s: wait until it is fixed, cancel it, or remove as lost whom it waits for; nothing else can be added",
			s.d.Change.Boundary, s.d.Change.WaitingFor(s.d.label))
	}
	if c.AcceptLoss = c.AcceptLoss || s.d.Pending.Commit.AcceptLoss; len(c.Gaps) == 0 {
		c.Gaps = s.d.Pending.Commit.Gaps
	}
	plan, err := s.d.plan(staged, s.d.data(s.now, c), s.d.Change.Boundary, c.AcceptLoss)
	if err != nil {
		return err
	}
	s.noteShort(plan.Short)
	s.d.Pending, s.d.Staged = &Pending{Staged: staged, Commit: c}, rest
	for _, id := range lost {
		s.event(ring.ChangeEvent{Kind: ring.DeclaredLost, Node: id})
	}
	if len(rest) > 0 {
		s.note("only who is lost was added to the change that is pending; what else is staged waits for the next one")
	}
	return nil
}

// cancel gives the operator's change up.
func (s *step) cancel() error {
	if !s.d.preparesPlan() {
		return refuse(object.CodeBadRequest, "no change is pending that could be cancelled")
	}
	s.event(ring.ChangeEvent{Kind: ring.Cancel})
	s.unstage()
	return nil
}

// unstage puts what the pending plan was made of back to what is staged.
func (s *step) unstage() {
	staged := s.d.Pending.Staged
	for _, x := range s.d.Staged { // asked for since: it counts
		staged = staging(staged, x)
	}
	s.d.Staged, s.d.Pending = staged, nil
	s.dropStaged()
}

// dropStaged takes out of what is staged what cannot be any more.
func (s *step) dropStaged() {
	left := slices.DeleteFunc(slices.Clone(s.d.Staged), func(x Staged) bool {
		err := s.d.checkStaged(x)
		if err != nil {
			s.note("no longer staged: %v", err)
		}
		return err != nil
	})
	if len(left) < len(s.d.Staged) {
		s.d.Staged = left
	}
}

// event brings something about the pending change, at the agreed time.
func (s *step) event(e ring.ChangeEvent) {
	e.Now = s.now
	next, actions := s.d.Change.Step(s.d.Timing(), e)
	for _, a := range actions {
		switch a.Kind {
		case ring.Withdraw:
			s.note("%s", s.d.withNames(a.Why))
		case ring.Fix:
			if err := s.fix(next.Boundary); err != nil { // nobody has been told: promises can be lifted
				s.note("the change for slot %d was given up as all had promised: %v", next.Boundary, err)
				next, _ = s.d.Change.Step(s.d.Timing(), ring.ChangeEvent{Kind: ring.Cancel, Now: s.now})
				s.unstage()
				s.gaveUp = true
			}
		}
	}
	s.d.Change = next
}

// fix carries out the pending change from a slot on. With an error nothing has
// changed.
func (s *step) fix(boundary int64) error {
	p := s.d.Pending
	if len(p.Returning) > 0 {
		return s.fixReturn(p.Returning, boundary)
	}
	plan, err := s.d.plan(p.Staged, s.d.data(s.now, p.Commit), boundary, p.Commit.AcceptLoss)
	if err != nil {
		return err
	}
	h, err := committed(plan, s.d.History, boundary)
	if err != nil {
		return err
	}
	s.move(h)
	s.d.Pending = nil
	for _, m := range s.d.Members {
		for _, x := range p.Staged {
			m = m.after(x)
		}
		s.change(m)
	}
	s.note("the ring changes from slot %d on", boundary)
	s.noteShort(plan.Short)
	s.dropStaged()
	s.replaceDown()
	s.tidy(s.d.oldest(s.now))
	return nil
}

// committed returns the history with a plan carried out.
func committed(plan *ring.Plan, h *ring.History, boundary int64) (*ring.History, error) {
	next, err := plan.Commit(h, later(h), boundary)
	if err != nil {
		return nil, refused(err)
	}
	return next, checkSize(next)
}

// What is added to a history must leave it with at most so many bytes: with all else
// that is bounded it fits into a document, which could not be written, nor given to
// anybody, if it did not.
var maxHistoryBytes = MaxDocumentBytes / 2

// checkSize refuses a history that would be too long.
func checkSize(h *ring.History) error {
	b, err := h.MarshalBinary()
	switch {
	case err != nil:
		return refused(err)
	case len(b) > maxHistoryBytes:
		return refuse(object.CodeConflict, "the history of rings would have %d bytes, at most %d: wait until slots expire and it is trimmed", len(b), maxHistoryBytes)
	}
	return nil
}

// after returns the member as it is once something that was staged is done.
func (m Member) after(x Staged) Member {
	switch {
	case x.New == m.ID && !x.New.IsZero():
		m.State = Valid
	case x.Node != m.ID:
	case x.Kind == StageJoin:
		m.State = Valid
	case x.Kind == StageLeave || x.Kind == StageReplace:
		m.State, m.Back = Leaving, false
	case x.Kind == StageLose:
		m.State, m.Down, m.Back = Lost, false, false
	case x.Kind == StageWeight:
		m.Weight = x.Weight
	case x.Kind == StageZone:
		m.Zone = x.Zone
	}
	return m
}

// move makes h the history, which has newcomers that the one before had not.
func (s *step) move(h *ring.History) {
	s.d.History = h.Versioned(s.d.Version)
	s.d.Moved = s.d.Version
}

// label names a member for people.
func (d *Document) label(id ring.NodeID) string {
	if m, known := d.Member(id); known {
		return m.Name
	}
	return id.String()
}

// withNames replaces the ids of members in a sentence by their names.
func (d *Document) withNames(sentence string) string {
	for _, m := range d.Members {
		if id := m.ID.String(); strings.Contains(sentence, id) {
			sentence = strings.ReplaceAll(sentence, id, m.Name)
		}
	}
	return sentence
}
