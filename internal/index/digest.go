package index

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/internal/object"
)

// FinalOf returns the final of a section: count and digest of the entries that
// finals count, which are those that are neither late nor a tombstone. The
// digest is the sum of their versions, each under the xxhash64 of its suffix in
// the place of a placement hash.
func FinalOf(s *Section) Final {
	var f Final
	for i := range s.Entries {
		f.add(&s.Entries[i])
	}
	return f
}

// Add counts one more blob: writers make their finals with it as they go. e must
// be an entry of the second, as [EntryOf] gives it, each blob once; late ones and
// tombstones are passed over.
func (f *Final) Add(e Entry) { f.add(&e) }

func (f *Final) add(e *Entry) {
	if e.counts() {
		f.Count++
		f.Digest.Add(xxhash.Sum64String(e.Suffix), e.Version)
	}
}

// reproduces reports whether the entries at hand bear out the section's final,
// and how many of them it counts. Entries the writer stamped after those of its
// final do not take a complete second back: of more entries than the final
// counts, the first by version are compared.
func (s *Section) reproduces() (have uint32, ok bool) {
	f := FinalOf(s)
	if s.Final == nil || f.Count <= s.Final.Count {
		return f.Count, s.Final != nil && f == *s.Final
	}
	counted := make([]*Entry, 0, f.Count)
	for i := range s.Entries {
		if e := &s.Entries[i]; e.counts() {
			counted = append(counted, e)
		}
	}
	slices.SortFunc(counted, func(a, b *Entry) int {
		return cmp.Or(a.Version.Compare(b.Version), cmp.Compare(a.Suffix, b.Suffix))
	})
	first := Final{}
	for _, e := range counted[:s.Final.Count] {
		first.add(e)
	}
	return f.Count, first == *s.Final
}

// Digest returns a digest of the row's content: replicas whose rows are equal
// have equal digests, whatever records they were merged from. It is the xxhash64
// of the encoded row, and a second one with the complement of the first, little-
// endian, before it; an empty row has the zero digest.
func (r Row) Digest() object.Digest {
	if r.Empty() {
		return object.Digest{}
	}
	const room = 8 // for the first hash
	b := AppendRow(make([]byte, room, room+r.Size()), r)
	lo := xxhash.Sum64(b[room:])
	for i := range room {
		b[i] = byte(^lo >> (8 * i))
	}
	return object.Digest{Hi: xxhash.Sum64(b), Lo: lo}
}
