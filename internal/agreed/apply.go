package agreed

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A step is a command being applied: d is a copy of the document before, whose
// fields are replaced and never written through.
type step struct {
	d     *Document
	now   int64
	notes []string
}

// Apply returns the document after a command, and what came of it. It depends
// on nothing but the two. d stays as it is; a command that is refused, or that
// changes nothing, returns d itself.
func (d *Document) Apply(c Command) (*Document, Result) {
	next := *d
	next.Version.Index++
	s := &step{d: &next, now: c.Now}
	if err := s.apply(c); err != nil {
		return d, Result{Version: d.Version, Err: object.AsError(err)}
	}
	if same(d, &next) {
		return d, Result{Version: d.Version, Notes: s.notes}
	}
	return &next, Result{Version: next.Version, Changed: true, Notes: s.notes}
}

func (s *step) apply(c Command) error {
	switch c.Kind {
	case Join:
		return s.join(c.Member)
	case Introduce:
		return s.introduce(c.Member)
	}
	return refuse(object.CodeUnsupported, "%v: this version does not know the command", c.Kind)
}

func (s *step) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
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
	return a.Round == b.Round && a.Phase == b.Phase && a.Boundary == b.Boundary && sameSlice(a.Members, b.Members) && sameSlice(a.Waiting, b.Waiting)
}
