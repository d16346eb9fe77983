package object

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns s as it may travel and be shown: what cannot be printed is
// replaced, and it is shortened to at most n bytes without splitting a character.
func Printable(s string, n int) string {
	if !IsPrintable(s) {
		s = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, strings.ToValidUTF8(s, "?"))
	}
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// IsPrintable tells whether s is valid UTF-8 of printable characters only.
func IsPrintable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
