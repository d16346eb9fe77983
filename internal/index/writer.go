package index

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Writer is one start of one pushing process. The zero Writer is anonymous:
// all who give no name share it, it makes no promises (no hello, final, goodbye)
// and is never expected.
type Writer struct {
	Name        string // 0..object.MaxNameBytes bytes; empty: anonymous
	Incarnation uint64 // random, one for each start of the process; 0 if anonymous
}

// WriterOf returns the writer named in a record's header. A header without a
// name gives the anonymous writer, whatever its incarnation.
func WriterOf(h *object.Header) Writer {
	if len(h.Writer) == 0 {
		return Writer{}
	}
	return Writer{Name: string(h.Writer), Incarnation: h.Incarnation}
}

// Anonymous reports whether w is the writer without a name.
func (w Writer) Anonymous() bool { return w.Name == "" }

// Compare orders writers by name, then by incarnation: the order of a row.
func (w Writer) Compare(v Writer) int {
	if c := strings.Compare(w.Name, v.Name); c != 0 {
		return c
	}
	return cmp.Compare(w.Incarnation, v.Incarnation)
}

// String returns "name/incarnation", the incarnation as 16 hex digits, or
// "anonymous". Bytes of the name that do not print are escaped.
func (w Writer) String() string {
	if w.Anonymous() {
		return "anonymous"
	}
	name := fmt.Sprintf("%q", w.Name)
	return fmt.Sprintf("%s/%016x", name[1:len(name)-1], w.Incarnation)
}

// fault says what is wrong with w, or returns "".
func (w Writer) fault() string {
	switch {
	case len(w.Name) > object.MaxNameBytes:
		return "a writer name that is too long"
	case w.Name == "" && w.Incarnation != 0:
		return "an incarnation without a writer name"
	}
	return ""
}
