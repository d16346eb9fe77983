package index

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/internal/object"
)

// genRow draws small rows over few writers, suffixes and versions, so that the
// rows of one test meet in the same entries.
func genRow(late bool) *rapid.Generator[Row] {
	return rapid.Custom(func(t *rapid.T) Row {
		var acc Accumulator
		for range rapid.IntRange(0, 4).Draw(t, "sections") {
			acc.Add(Row{[]Section{genSection(late).Draw(t, "section")}})
		}
		return acc.Row()
	})
}

func genWriter() *rapid.Generator[Writer] {
	return rapid.SampledFrom([]Writer{{}, {"agg-1", 1}, {"agg-1", 2}, {"agg-2", 7}, {"\x00 odd\xff", 1 << 63}})
}

func genSection(late bool) *rapid.Generator[Section] {
	return rapid.Custom(func(t *rapid.T) Section {
		s := Section{Writer: genWriter().Draw(t, "writer")}
		if !s.Writer.Anonymous() {
			s.Hello = rapid.Bool().Draw(t, "hello")
			s.Goodbye = rapid.Bool().Draw(t, "goodbye")
			if rapid.Bool().Draw(t, "final?") {
				s.Final = &Final{
					Count:  rapid.Uint32Range(0, 3).Draw(t, "count"),
					Digest: object.Digest{Hi: rapid.Uint64Range(0, 2).Draw(t, "hi"), Lo: rapid.Uint64Range(0, 2).Draw(t, "lo")},
				}
			}
			for _, w := range []Writer{{"agg-0", 9}, {"agg-1", 0}} {
				if rapid.Bool().Draw(t, "succeeds") {
					s.Succeeds = append(s.Succeeds, w)
				}
			}
		}
		least := 0
		if !s.Hello && !s.Goodbye && s.Final == nil && s.Succeeds == nil {
			least = 1
		}
		s.Entries = rapid.SliceOfNDistinct(genEntry(late), least, 5, func(e Entry) string { return e.Suffix }).Draw(t, "entries")
		slices.SortFunc(s.Entries, func(a, b Entry) int { return cmp.Compare(a.Suffix, b.Suffix) })
		return s
	})
}

func genEntry(late bool) *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		e := Entry{
			Suffix: fmt.Sprintf("web:%s:%d", rapid.SampledFrom([]string{"nl", "de"}).Draw(t, "subtype"), rapid.IntRange(0, 3).Draw(t, "chunk")),
			Version: object.Version{
				TimestampMicros: rapid.Int64Range(1, 3).Draw(t, "timestamp"),
				Tombstone:       rapid.Bool().Draw(t, "tombstone"),
				HeaderCRC:       rapid.Uint32Range(0, 2).Draw(t, "crc"),
			},
			Flags: Flags(rapid.Uint8Range(0, uint8(knownFlags)).Draw(t, "flags")),
		}
		if late {
			e.Suffix = fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "epoch")) + ":" + e.Suffix
			e.Flags |= Late | Listed
		}
		if e.Version.Tombstone {
			e.Flags |= Erased
			return e
		}
		e.Bytes = rapid.Uint32Range(0, 2).Draw(t, "bytes")
		e.Events = rapid.Uint32Range(0, 2).Draw(t, "events")
		e.Checksum = rapid.Uint64Range(0, 2).Draw(t, "checksum")
		return e
	})
}

func encode(r Row) []byte { return AppendRow(nil, r) }

func same(a, b Row) bool { return bytes.Equal(encode(a), encode(b)) }
