package agreed

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Bounds of what a Result says.
const (
	maxNotes     = 64
	maxNoteBytes = 4 << 10 // of a note, and of a refusal
)

// The clock of a proposer that runs later than this, in the year 36812, is wrong.
// Sums with what else is bounded do not overflow.
const maxNow = 1 << 40

// A step is a command being applied: d is a copy of the document before, whose
// fields are replaced and never written through.
type step struct {
	d      *Document
	now    int64
	notes  []string
	gaveUp bool // a change could not be carried out when all had promised
}

// Apply returns the document after a command, and what came of it. It depends
// on nothing but the two. d stays as it is; a command that is refused, or that
// changes nothing, returns d itself.
func (d *Document) Apply(c Command) (*Document, Result) {
	next := *d
	next.Version.Index++
	s := &step{d: &next, now: c.Now}
	err := s.apply(c)
	if err == nil && !s.gaveUp { // a return would be promised, and fail, again and again
		s.beginReturn()
	}
	if err != nil {
		refusal := *object.AsError(err)
		refusal.Outcome, refusal.Message = object.NotDone, cut(refusal.Message)
		return d, Result{Version: d.Version, Err: &refusal}
	}
	if same(d, &next) {
		return d, Result{Version: d.Version, Notes: s.notes}
	}
	return &next, Result{Version: next.Version, Changed: true, Notes: s.notes}
}

func (s *step) apply(c Command) error {
	if c.Now < 0 || c.Now > maxNow {
		return refuse(object.CodeBadRequest, "%v: it is second %d by the proposer's clock: set it right", c.Kind, c.Now)
	}
	switch c.Kind {
	case Join:
		return s.join(c.Member)
	case Introduce:
		return s.introduce(c.Member)
	case Stage:
		return s.stageOf(c.Stage)
	case Clear:
		return s.clear(c.Node)
	case CommitStaged:
		return s.commit(c.Commit)
	case Cancel:
		return s.cancel()
	case Promised:
		return s.promised(c)
	case Tick:
		s.tick()
		return nil
	case Down:
		return s.down(c.Node, c.Silent)
	case Up:
		return s.up(c.Node)
	case Completed:
		return s.completed(c.History, c.Completions)
	case Trim:
		return s.trim(c.Oldest)
	case SetBucket:
		return s.setBucket(c.Bucket, c.Empty)
	case SetTTL:
		return s.setTTL(c.Bucket)
	case SetSettings:
		return s.setSettings(c.Settings)
	}
	return refuse(object.CodeUnsupported, "%v: this version does not know the command; run the same version on all nodes", c.Kind)
}

// note tells the operator something, within bounds.
func (s *step) note(format string, args ...any) {
	if len(s.notes) < maxNotes {
		s.notes = append(s.notes, cut(fmt.Sprintf(format, args...)))
	}
}

func (s *step) noteShort(short []ring.Shortfall) {
	for _, x := range short {
		s.note("%v", x)
	}
}

// cut shortens a sentence that is too long, to valid UTF-8.
func cut(sentence string) string {
	sentence = strings.ToValidUTF8(sentence, "?")
	if len(sentence) > maxNoteBytes {
		return strings.ToValidUTF8(sentence[:maxNoteBytes-len("…")], "") + "…"
	}
	return sentence
}

// change replaces a member, if it differs.
func (s *step) change(m Member) {
	if old, known := s.d.Member(m.ID); !known || !equalMembers(old, m) {
		s.d.Members = s.d.with(m)
	}
}

func equalMembers(a, b Member) bool {
	return sameMember(a, b) && slices.Equal(a.Removed, b.Removed) && a.State == b.State && a.Down == b.Down && a.Back == b.Back
}

// setHistory makes h the history, as of this document's version, if it differs.
func (s *step) setHistory(h *ring.History) {
	if h != s.d.History && !h.Same(s.d.History) {
		s.d.History = h.Versioned(s.d.Version)
	}
}

// later returns some version after that of h.
func later(h *ring.History) ring.Version {
	v := h.Version()
	v.Index++
	return v
}

// same reports whether nothing but the version differs. Fields are replaced by
// what is new and never written through: it is enough to compare where they are.
func same(a, b *Document) bool {
	return sameSlice(a.Members, b.Members) && sameSlice(a.Staged, b.Staged) && a.History == b.History && a.Buckets == b.Buckets &&
		a.Pending == b.Pending && a.Settings == b.Settings && a.Trimmed == b.Trimmed && sameChange(a.Change, b.Change)
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameChange(a, b ring.Change) bool {
	return a.Round == b.Round && a.Phase == b.Phase && a.Boundary == b.Boundary && slices.Equal(a.Members, b.Members) && slices.Equal(a.Waiting, b.Waiting)
}
