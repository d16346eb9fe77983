package config

import (
	"fmt"
	"strings"
)

// A Fault is one thing wrong with the settings.
type Fault struct {
	Where   string // "mayfly.toml:3:10", "MAYFLY_NODE__LISTEN", "--listen"; "" for a default
	Key     string // the setting, "node.listen"; "" if it is about no single one
	Reason  string // what is wrong, and what to write instead
	Excerpt string // the line of the file with a caret below it; may be ""
}

// Error returns the fault as a sentence, and the excerpt on lines of its own.
func (f *Fault) Error() string {
	var b strings.Builder
	for _, part := range []string{f.Where, f.Key} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(f.Reason)
	if f.Excerpt != "" {
		b.WriteString("\n" + f.Excerpt)
	}
	return b.String()
}

// An Error holds all faults found, never none. Nothing was applied.
type Error struct{ Faults []*Fault }

// Error returns one fault a line; with several, a line above that counts them.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	if len(lines) == 1 {
		return "the configuration has a fault: " + lines[0]
	}
	return fmt.Sprintf("the configuration has %d faults:\n  %s", len(lines), strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  "))
}

// Unwrap returns the faults.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		errs[i] = f
	}
	return errs
}

// faults collects what is wrong.
type faults []*Fault

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, &Fault{Key: key, Reason: fmt.Sprintf(format, args...)})
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &Error{f}
}

// unknownKey says that path is no setting and which one it may have meant.
func unknownKey(what, path string, known []string) string {
	return fmt.Sprintf("%s is not a %s; did you mean %s?", path, what, Nearest(path, known))
}
