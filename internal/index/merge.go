package index

import (
	"slices"
	"strings"
)

// Merge joins rows: the union of their sections and entries. It is commutative,
// associative and idempotent, so replicas that merge the same deltas in any
// order hold the same row. Per writer the union of the entries is taken by
// suffix, hello and goodbye from whoever has them, the greater final, the union
// of the succeeded. The result may share memory with the rows.
func Merge(rows ...Row) Row {
	switch len(rows) {
	case 0:
		return Row{}
	case 1:
		return rows[0]
	}
	half := len(rows) / 2 // pairs of similar length: n log n, not n²
	return merge2(Merge(rows[:half]...), Merge(rows[half:]...))
}

func merge2(a, b Row) Row {
	if a.Empty() {
		return b
	}
	if b.Empty() {
		return a
	}
	return Row{mergeSorted(a.Sections, b.Sections,
		func(x, y *Section) int { return x.Writer.Compare(y.Writer) }, mergeSections)}
}

// mergeSections joins two sections of one writer.
func mergeSections(a, b *Section) Section {
	return Section{
		Writer:   a.Writer,
		Hello:    a.Hello || b.Hello,
		Goodbye:  a.Goodbye || b.Goodbye,
		Final:    greaterFinal(a.Final, b.Final),
		Succeeds: mergeWriters(a.Succeeds, b.Succeeds),
		Entries: mergeSorted(a.Entries, b.Entries,
			func(x, y *Entry) int { return strings.Compare(x.Suffix, y.Suffix) }, join),
	}
}

func greaterFinal(a, b *Final) *Final {
	if a == nil || b != nil && a.Compare(*b) < 0 {
		return b
	}
	return a
}

// mergeWriters unites two lists of writers. What exceeds MaxSucceeds, which only
// a broken writer can bring about, is dropped from the end: the least ones stand
// on every replica.
func mergeWriters(a, b []Writer) []Writer {
	all := mergeSorted(a, b,
		func(x, y *Writer) int { return x.Compare(*y) }, func(x, _ *Writer) Writer { return *x })
	return all[:min(len(all), MaxSucceeds)]
}

// mergeSorted merges two ascending lists without repeats; both is called for
// elements that are in either. The result may alias a or b.
func mergeSorted[T any](a, b []T, compare func(x, y *T) int, both func(x, y *T) T) []T {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	if last := len(a) - 1; compare(&a[last], &b[0]) < 0 {
		return slices.Concat(a, b)
	}
	merged := make([]T, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := compare(&a[0], &b[0]); {
		case c < 0:
			merged, a = append(merged, a[0]), a[1:]
		case c > 0:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged, a, b = append(merged, both(&a[0], &b[0])), a[1:], b[1:]
		}
	}
	return append(append(merged, a...), b...)
}
