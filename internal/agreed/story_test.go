package agreed

import (
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const noon = 1_800_000_000 // second 0 of slot 500,000

// A story is a document that commands are told to, one after the other.
type story struct {
	*testing.T
	d   *Document
	now int64
}

func newStory(t *testing.T, founders int) *story { return &story{t, mustFound(t, founders), noon} }

// must applies a command, which must not be refused.
func (s *story) must(c Command) Result {
	s.Helper()
	c.Now = s.now
	next, r := s.d.Apply(c)
	if r.Err != nil {
		s.Fatalf("%v: %v", c.Kind, r.Err)
	}
	if err := next.check(); err != nil {
		s.Fatalf("%v: %v", c.Kind, err)
	}
	s.d = next
	return r
}

// refused applies a command, which must be refused with a sentence.
func (s *story) refused(code object.Code, sentence string, c Command) {
	s.Helper()
	c.Now = s.now
	next, r := s.d.Apply(c)
	if r.Err == nil || next != s.d || r.Changed || r.Err.Code != code || r.Err.Outcome != object.NotDone || !strings.Contains(r.Err.Message, sentence) {
		s.Errorf("%v:\n got %v\nwant %v: …%s…", c.Kind, r.Err, code, sentence)
	}
}

func (s *story) join(i int) ring.NodeID {
	m := testMember(i, string(rune('a'+i%3)))
	s.must(Command{Kind: Join, Member: m})
	return m.ID
}

func (s *story) stage(kind StageKind, i int) {
	s.Helper()
	s.must(Command{Kind: Stage, Stage: Staged{Kind: kind, Node: nodeID(i)}})
}

func (s *story) commit() Result {
	s.Helper()
	return s.must(Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
}

// promise lets members promise that never admitted anything.
func (s *story) promise(ids ...ring.NodeID) {
	s.Helper()
	for _, id := range ids {
		s.must(Command{Kind: Promised, Node: id, Round: s.d.Change.Round, Highest: ring.NoEpoch})
	}
}

func (s *story) allPromise() {
	s.Helper()
	s.promise(s.d.Change.Waiting...)
	if s.d.Change.Phase != ring.Fixed {
		s.Fatalf("not fixed: %+v", s.d.Change)
	}
}

func (s *story) expect(i int, state MemberState) Member {
	s.Helper()
	m, known := s.d.Member(nodeID(i))
	if known != (state != 0) || m.State != state {
		s.Errorf("n%d is %v, want %v", i, m.State, state)
	}
	return m
}

func nodeID(i int) ring.NodeID { return testMember(i, "").ID }

// completeAll lets every member complete all it lacks.
func (s *story) completeAll() {
	s.Helper()
	var all []ring.Completion
	for _, m := range s.d.Members {
		if m.State.Live() {
			all = append(all, ring.Completion{Node: m.ID, Until: ring.Forever}, ring.Completion{Node: m.ID, Plain: true})
		}
	}
	s.must(Command{Kind: Completed, Completions: all, History: s.d.History.Version()})
}
