package object

import "testing"

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		name, in string
		n        int
		want     string
	}{
		{"what is printable stays", "zwölf Äpfel, 12 €", 40, "zwölf Äpfel, 12 €"},
		{"what controls a terminal is blank", "a\x1b[2Jb\nc\x00", 40, "a [2Jb c "},
		{"what is no UTF-8 is a question mark", "a\xff\xfeb", 40, "a?b"},
		{"exactly as long as it may be", "abcdef", 6, "abcdef"},
		{"longer than it may be", "abcdef", 5, "abcde"},
		{"no character is split", "ab€", 4, "ab"},
		{"nor is the only one", "€", 2, ""},
		{"nothing may stay", "abc", 0, ""},
		{"it is shortened after it was replaced", "\xff\xff\xffabc", 3, "?ab"},
	} {
		got := Printable(c.in, c.n)
		if got != c.want || !IsPrintable(got) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if IsPrintable(c.in) != (Printable(c.in, len(c.in)) == c.in) {
			t.Errorf("%s: IsPrintable(%q) is %v", c.name, c.in, IsPrintable(c.in))
		}
	}
}
