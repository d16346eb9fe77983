package index

import (
	"maps"
	"slices"
	"strings"
)

// An Accumulator is a row under construction: it takes deltas one by one, at a
// cost that depends on the delta only, and gives the row they make together. It
// holds some 150 bytes an entry, twice what a Row does: it suits seconds that
// still change. The zero Accumulator is empty and ready. It is not safe for
// concurrent use; the rows it returns are.
type Accumulator struct {
	sections map[Writer]*gathering
	size     int // of the encoded row, bytes, its head apart
	entries  int
	row      Row // the last one made
	stale    bool
}

// A gathering is a section under construction: the section, its Entries nil,
// and its entries by suffix.
type gathering struct {
	Section
	entries map[string]Entry
}

// Add merges a delta, which must be valid, and reports whether it said anything
// new. It may keep parts of it, which as a row is not modified any more.
func (a *Accumulator) Add(delta Row) (changed bool) {
	for i := range delta.Sections {
		changed = a.addSection(&delta.Sections[i]) || changed
	}
	a.stale = a.stale || changed
	return changed
}

func (a *Accumulator) addSection(s *Section) (changed bool) {
	g := a.sections[s.Writer]
	if g == nil {
		g = &gathering{Section: Section{Writer: s.Writer}, entries: make(map[string]Entry, len(s.Entries))}
		if a.sections == nil {
			a.sections = make(map[Writer]*gathering)
		}
		a.sections[s.Writer] = g
		a.size += g.headSize()
		changed = true
	}
	changed = a.addMarks(g, s) || changed
	for i := range s.Entries {
		changed = a.addEntry(g, &s.Entries[i]) || changed
	}
	return changed
}

// addMarks merges what is not entries.
func (a *Accumulator) addMarks(g *gathering, s *Section) (changed bool) {
	if !s.Hello && !s.Goodbye && s.Final == nil && len(s.Succeeds) == 0 {
		return false
	}
	marks := Section{Writer: s.Writer, Hello: s.Hello, Goodbye: s.Goodbye, Final: s.Final, Succeeds: s.Succeeds}
	merged := mergeSections(&g.Section, &marks)
	if merged.sameMarks(&g.Section) {
		return false
	}
	a.size += merged.headSize() - g.headSize()
	g.Section = merged
	return true
}

func (s *Section) sameMarks(t *Section) bool {
	return s.Hello == t.Hello && s.Goodbye == t.Goodbye && slices.Equal(s.Succeeds, t.Succeeds) &&
		(s.Final == nil) == (t.Final == nil) && (s.Final == nil || *s.Final == *t.Final)
}

func (a *Accumulator) addEntry(g *gathering, e *Entry) (changed bool) {
	old, ok := g.entries[e.Suffix]
	if !ok {
		g.entries[e.Suffix] = *e
		a.size += e.size()
		a.entries++
		return true
	}
	merged := join(&old, e)
	if merged == old {
		return false
	}
	g.entries[old.Suffix] = merged
	return true
}

// Len returns the number of entries.
func (a *Accumulator) Len() int { return a.entries }

// Size returns the length of the encoded row, bytes.
func (a *Accumulator) Size() int { return rowHeadSize + a.size }

// Fits reports whether the row would still fit into an object, of at most
// MaxRowBytes, with the delta in it, counting nothing of it as known already.
func (a *Accumulator) Fits(delta Row) bool {
	return a.Size()+delta.Size()-rowHeadSize <= MaxRowBytes
}

// Row returns the row of all deltas so far. It sorts them if there was anything
// new since the last call, otherwise it costs nothing.
func (a *Accumulator) Row() Row {
	if !a.stale {
		return a.row
	}
	sections := make([]Section, 0, len(a.sections))
	for _, g := range a.sections {
		s := g.Section
		s.Entries = slices.SortedFunc(maps.Values(g.entries),
			func(x, y Entry) int { return strings.Compare(x.Suffix, y.Suffix) })
		sections = append(sections, s)
	}
	slices.SortFunc(sections, func(x, y Section) int { return x.Writer.Compare(y.Writer) })
	a.row, a.stale = Row{sections}, false
	return a.row
}
