package index

import (
	"testing"

	"pgregory.net/rapid"
)

// What a row lacks of another makes the union of it, and nothing else; and it is
// the least that does.
func TestLacking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		late := rapid.Bool().Draw(t, "late")
		have, want := genRow(late).Draw(t, "have"), genRow(late).Draw(t, "want")
		lacking := Lacking(have, want)
		if err := lacking.Validate(); err != nil {
			t.Fatal(err)
		}
		if !same(Merge(have, lacking), Merge(have, want)) {
			t.Fatal("with what it lacks it is not the union")
		}
		if lacking.Empty() != same(Merge(have, want), have) {
			t.Fatalf("it lacks nothing: %v", lacking.Empty())
		}
		if !Lacking(Merge(have, lacking), want).Empty() {
			t.Fatal("it still lacks something")
		}
		if lacking.Len() > want.Len() {
			t.Fatal("it lacks more than there is")
		}
	})
}
