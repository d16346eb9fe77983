package index

import (
	"cmp"
	"slices"
)

// Lacking returns what have lacks of want: the least delta that makes of have
// what merging the whole of want would make of it. It is empty if want says
// nothing new. The result may share memory with want.
func Lacking(have, want Row) Row {
	var lacking Row
	for i := range want.Sections {
		w := &want.Sections[i]
		h := have.Section(w.Writer)
		if h == nil {
			lacking.Sections = append(lacking.Sections, *w)
			continue
		}
		s := Section{Writer: w.Writer, Hello: w.Hello && !h.Hello, Goodbye: w.Goodbye && !h.Goodbye}
		if final := greaterFinal(h.Final, w.Final); final != nil && (h.Final == nil || *final != *h.Final) {
			s.Final = final
		}
		if united := mergeWriters(h.Succeeds, w.Succeeds); !slices.Equal(united, h.Succeeds) {
			s.Succeeds = w.Succeeds
		}
		for j := range w.Entries {
			if e := &w.Entries[j]; !h.covers(e) {
				s.Entries = append(s.Entries, *e)
			}
		}
		if s.Hello || s.Goodbye || s.Final != nil || len(s.Succeeds) > 0 || len(s.Entries) > 0 {
			lacking.Sections = append(lacking.Sections, s)
		}
	}
	return lacking
}

// covers reports whether merging e would change nothing.
func (s *Section) covers(e *Entry) bool {
	i, found := slices.BinarySearchFunc(s.Entries, e.Suffix, func(have Entry, suffix string) int {
		return cmp.Compare(have.Suffix, suffix)
	})
	return found && join(&s.Entries[i], e) == s.Entries[i]
}
