package agreed

import (
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// completed takes in that members have all of some partitions.
func (s *step) completed(under ring.Version, all []ring.Completion) error {
	switch {
	case len(all) == 0 || len(all) > MaxCompletions:
		return refuse(object.CodeBadRequest, "%d completions, want 1 to %d", len(all), MaxCompletions)
	case under.Before(s.d.Moved):
		return refuse(object.CodeWrongOwner, "what was completed under history %v may lack what history %v asks for: compare again under the newest one", under, s.d.Moved)
	case s.d.History.Version().Before(under):
		return refuse(object.CodeBadRequest, "completed under history %v, which is not agreed: the newest is %v", under, s.d.History.Version())
	}
	for _, c := range all {
		m, known := s.d.Member(c.Node)
		if !known || !m.State.Live() {
			return refuse(object.CodeRefused, "node %v completes a partition and is no member", c.Node)
		}
		if c.Partition.Bits > ring.MaxBits || c.Partition.Prefix>>c.Partition.Bits != 0 || !c.Plain && c.From >= c.Until || c.Plain && (c.From != 0 || c.Until != 0) {
			return refuse(object.CodeBadRequest, "node %q completes what is no partition or no slots: %+v", m.Name, c)
		}
	}
	h, err := s.d.History.Complete(later(s.d.History), all...)
	if err != nil {
		return refused(err)
	}
	s.setHistory(h)
	s.tidy(s.d.oldest(s.now))
	return nil
}

// trim forgets what only counts for slots that have expired.
func (s *step) trim(oldest int64) error {
	if expired := s.d.oldest(s.now); oldest > expired {
		if _, ends := s.d.longestTTL(); !ends {
			return refuse(object.CodeConflict, "a timed bucket keeps its data for ever: the history of its slots cannot be trimmed")
		}
		return refuse(object.CodeConflict, "slot %d has not expired, the first that may hold something is %d: trim up to that", oldest, expired)
	}
	oldest = max(oldest, s.d.Trimmed)
	h, err := s.d.History.Trim(later(s.d.History), oldest)
	if err != nil {
		return refused(err)
	}
	before := *s.d
	s.setHistory(h)
	s.tidy(oldest)
	if !same(&before, s.d) {
		s.d.Trimmed = oldest
	}
	return nil
}

// tidy lets members go that nobody needs any more, oldest being the first slot
// that may hold something.
func (s *step) tidy(oldest int64) {
	var left []ring.NodeID
	for _, m := range s.d.Members { // of before: what changes makes another slice
		if m.State == Leaving && !s.d.History.Serves(m.ID, oldest) && !s.d.Pending.concerns(m.ID) {
			m.State, m.Down = Left, false
			s.change(m)
			s.note("node %q has nothing that anybody needs: it may be switched off", m.Name)
			left = append(left, m.ID)
		}
		if !m.State.Live() && !s.d.History.Names(m.ID) {
			s.forget(m.ID)
		}
	}
	for _, id := range left { // owns nothing: its promise is not needed, and may never come
		if s.d.Pending != nil {
			s.event(ring.ChangeEvent{Kind: ring.DeclaredLost, Node: id})
		}
	}
	s.dropStaged()
}
