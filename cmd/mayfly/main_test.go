package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// beMayfly makes the test binary the program itself: for tests that need a
// process of its own, to be signalled and killed.
const beMayfly = "BE_MAYFLY"

func TestMain(m *testing.M) {
	if os.Getenv(beMayfly) != "" {
		main()
		return
	}
	for _, pair := range os.Environ() { // a developer's own settings must not decide
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "MAYFLY_") {
			os.Unsetenv(name) //nolint:errcheck // the name is valid: it was listed
		}
	}
	goleak.VerifyTestMain(m)
}

// A result is what one command line gave.
type result struct {
	stdout, stderr string // stderr with the sentence report writes
	status         int
}

// mayfly runs one command line to its end.
func mayfly(t *testing.T, args ...string) result {
	t.Helper()
	return mayflyWith(t, "", args...)
}

// mayflyWith is mayfly with something on standard input.
func mayflyWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	err := run(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	status := report(&stderr, err)
	return result{stdout.String(), stderr.String(), status}
}

// A badInput is a command line and what must be said of it.
type badInput struct {
	args   string // separated by blanks
	status int
	want   string // on standard error, with "mayfly: " before and a line end behind
}

// refuse runs command lines that must fail with exactly a sentence and nothing
// on standard output.
func refuse(t *testing.T, cases []badInput) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			r := mayfly(t, strings.Fields(c.args)...)
			if want := "mayfly: " + c.want + "\n"; r.stderr != want {
				t.Errorf("got\n%swant\n%s", r.stderr, want)
			}
			if r.status != c.status {
				t.Errorf("exit status %d, want %d", r.status, c.status)
			}
			if r.stdout != "" {
				t.Errorf("standard output has %q", r.stdout)
			}
		})
	}
}
