package index

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

// MaxSucceeds bounds how many earlier writers one section can succeed.
const MaxSucceeds = 1024

// ErrRow: the bytes or the values are not a row. Nothing was taken from them,
// and the same bytes will never be one.
var ErrRow = errors.New("the index row is corrupt")

// A Final is a writer's word on a second: so many blobs, with this digest over
// them. It is also sent for seconds without any.
type Final struct {
	Count  uint32
	Digest object.Digest
}

// Compare orders finals: of two for one second the greater count stands, then
// the greater digest.
func (f Final) Compare(g Final) int {
	return cmp.Or(
		cmp.Compare(f.Count, g.Count),
		cmp.Compare(f.Digest.Hi, g.Digest.Hi),
		cmp.Compare(f.Digest.Lo, g.Digest.Lo),
	)
}

// A Section is what one writer has in a row. The anonymous writer has entries
// only.
type Section struct {
	Writer   Writer
	Hello    bool     // it begins with the next second; what it has for this one or earlier is late
	Goodbye  bool     // this was its last second
	Final    *Final   // nil: none yet
	Succeeds []Writer // whose place it takes, ascending, each once, not anonymous
	Entries  []Entry  // ascending by suffix, each once
}

// A Row is what is known of one second of one dc. The zero Row is empty. Rows
// are made by [ParseRow], [Merge], [DeltaOf] and [Accumulator]; whoever builds one by
// hand keeps the order that [Row.Validate] checks. A Row is not modified once
// made.
type Row struct {
	Sections []Section // ascending by writer, each once, none of them empty
}

// Empty reports whether the row says nothing.
func (r Row) Empty() bool { return len(r.Sections) == 0 }

// Len returns the number of entries.
func (r Row) Len() int {
	n := 0
	for i := range r.Sections {
		n += len(r.Sections[i].Entries)
	}
	return n
}

// All walks the entries, writer by writer. A blob that two writers claim comes
// twice; see [Row.Blobs]. The entries are the row's own: not to be modified.
func (r Row) All() iter.Seq2[Writer, *Entry] {
	return func(yield func(Writer, *Entry) bool) {
		for i := range r.Sections {
			s := &r.Sections[i]
			for j := range s.Entries {
				if !yield(s.Writer, &s.Entries[j]) {
					return
				}
			}
		}
	}
}

// Blobs returns the entries of all writers joined, ascending by suffix, each
// blob once: of two claims to one key the greater version stands, and an erased
// blob is marked whoever erased it. The slice is the caller's.
func (r Row) Blobs() []Entry {
	all := make([]Entry, 0, r.Len())
	for _, e := range r.All() {
		all = append(all, *e)
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Compare(a.Suffix, b.Suffix) })
	return compactEntries(all)
}

// compactEntries joins neighbours with one suffix, in place.
func compactEntries(sorted []Entry) []Entry {
	kept := sorted[:0]
	for i := range sorted {
		if n := len(kept); n > 0 && kept[n-1].Suffix == sorted[i].Suffix {
			kept[n-1] = join(&kept[n-1], &sorted[i])
			continue
		}
		kept = append(kept, sorted[i])
	}
	return kept
}

// Section returns w's section, or nil. It is the row's own: not to be modified.
func (r Row) Section(w Writer) *Section {
	i, ok := slices.BinarySearchFunc(r.Sections, w, func(s Section, w Writer) int { return s.Writer.Compare(w) })
	if !ok {
		return nil
	}
	return &r.Sections[i]
}

// Validate checks the order and the bounds of a row made by hand; others have
// them by construction. The error is an ErrRow.
func (r Row) Validate() error {
	_, err := r.validate()
	return err
}

// ValidateFor checks also that the row can belong to that key: in a late list
// every blob is named with its epoch, elsewhere none is. Doors ask this of what
// strangers send. The error is an ErrRow.
func (r Row) ValidateFor(key event.IndexKey) error {
	late, err := r.validate()
	if err != nil || r.Len() == 0 {
		return err
	}
	if late != key.Late {
		return fmt.Errorf("%w: an entry of a late list and an index key that is not one, or the other way round", ErrRow)
	}
	return nil
}

// validate reports whether the entries are those of a late list.
func (r Row) validate() (late bool, err error) {
	size, entries := rowHeadSize, 0
	for i := range r.Sections {
		s := &r.Sections[i]
		if i > 0 && r.Sections[i-1].Writer.Compare(s.Writer) >= 0 {
			return false, rowError("writers out of order")
		}
		if fault := s.fault(); fault != "" {
			return false, rowError(fault)
		}
		for j := range s.Entries {
			e := &s.Entries[j]
			inList, fault := e.fault()
			if fault != "" {
				return false, rowError(fault)
			}
			if j > 0 && s.Entries[j-1].Suffix >= e.Suffix {
				return false, rowError("blob names out of order")
			}
			if entries > 0 && inList != late {
				return false, rowError("entries of a late list among others")
			}
			late = inList
			entries++
		}
		size += s.size()
	}
	if size > MaxRowBytes {
		return false, rowError("more than fits into an object")
	}
	return late, nil
}

// fault says what is wrong with s, its entries apart, or returns "".
func (s *Section) fault() string {
	if fault := s.Writer.fault(); fault != "" {
		return fault
	}
	marked := s.Hello || s.Goodbye || s.Final != nil || len(s.Succeeds) > 0
	switch {
	case s.Writer.Anonymous() && marked:
		return "an anonymous writer that says more than entries"
	case !marked && len(s.Entries) == 0:
		return "a section that says nothing"
	case len(s.Succeeds) > MaxSucceeds:
		return "a writer that succeeds too many"
	}
	for i, w := range s.Succeeds {
		if fault := w.fault(); fault != "" {
			return fault
		}
		if w.Anonymous() || w == s.Writer || i > 0 && s.Succeeds[i-1].Compare(w) >= 0 {
			return "succeeded writers out of order, or one that nobody can succeed"
		}
	}
	return ""
}

func rowError(what string) error { return fmt.Errorf("%w: %s", ErrRow, what) }
