package index

import (
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

// benchRow is a second of 4 writers with 50 blobs each.
func benchRow() Row {
	var acc Accumulator
	for w := range 4 {
		s := Section{Writer: Writer{fmt.Sprintf("agg-%d", w), uint64(w)}}
		for i := range 50 {
			s.Entries = append(s.Entries, Entry{Suffix: fmt.Sprintf("web:nl:%016x-%d", w, i), Version: object.Version{TimestampMicros: int64(1 + i)}})
		}
		s = s.final()
		acc.Add(Row{[]Section{s}})
	}
	return acc.Row()
}

func BenchmarkAppendRow(b *testing.B) {
	r := benchRow()
	buf := make([]byte, 0, r.Size())
	b.SetBytes(int64(r.Size()))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendRow(buf[:0], r)
	}
}

func BenchmarkParseRow(b *testing.B) {
	enc := AppendRow(nil, benchRow())
	b.SetBytes(int64(len(enc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRow(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccumulatorAddOne(b *testing.B) {
	var acc Accumulator
	acc.Add(benchRow())
	one := Row{[]Section{{Writer: Writer{"agg-0", 0}, Entries: []Entry{{Suffix: "web:nl:0000000000000000-7", Version: object.Version{TimestampMicros: 8}}}}}}
	b.ReportAllocs()
	for b.Loop() {
		acc.Add(one)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	r := benchRow()
	expected := ExpectedIn(r)
	b.ReportAllocs()
	for b.Loop() {
		if Evaluate(1, r, expected, true, 2, 5).State != Complete {
			b.Fatal("not complete")
		}
	}
}
