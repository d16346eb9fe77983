package tail

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/internal/object"
)

func TestPattern(t *testing.T) {
	for _, row := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "web", true},
		{"*", "web", true},
		{"web", "web", true},
		{"web", "webx", false},
		{"web*", "webx", true},
		{"*b", "web", true},
		{"w*b", "web", true},
		{"w*b", "wb", true},
		{"w*b", "wbx", false},
		{"*e*", "web", true},
		{"**", "web", true},
		{"cron,web", "web", true},
		{"cron,lb*", "web", false},
		{"a.b", "axb", false},
	} {
		p, err := parsePattern("type", row.pattern)
		if err != nil || p.matches(row.s) != row.want {
			t.Errorf("%q on %q: want %v (%v)", row.pattern, row.s, row.want, err)
		}
	}
}

func TestGlobAgainstRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		glob := rapid.StringOfN(rapid.SampledFrom([]rune("ab*")), 0, 8, -1).Draw(t, "glob")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 0, 10, -1).Draw(t, "s")
		want := regexp.MustCompile("^" + strings.ReplaceAll(glob, "*", ".*") + "$").MatchString(s)
		if matchGlob(glob, s) != want {
			t.Fatalf("%q on %q: want %v", glob, s, want)
		}
	})
}

func FuzzParsePattern(f *testing.F) {
	f.Add("web,cron*", "web")
	f.Add("*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, text, s string) {
		p, err := parsePattern("type", text)
		if err != nil {
			if !errors.Is(err, object.CodeBadRequest) {
				t.Fatal(err)
			}
			return
		}
		p.matches(s)
	})
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{}.Validate()
	for _, field := range []string{"LatenessSeconds", "OpenSeconds", "SettleSeconds", "Subscriptions", "QueueItems", "WindowBlobs", "Reads", "ReadTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not reported: %v", field, err)
		}
	}
}
