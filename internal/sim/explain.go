package sim

import (
	"fmt"
	"strings"
)

// Explain simulates again what came to a breach and returns the last lines of its
// trace: those about the key of the breach, or all if it names none.
func Explain(cfg Config, b *Breach, lines int) []string {
	_, about, _ := strings.Cut(b.Key, "/")
	var last []string
	cfg.Trace = func(line string) {
		if about != "" && !strings.Contains(line, " "+about+" ") && !strings.Contains(line, "FAULT") && !strings.Contains(line, "HEALED") && !strings.Contains(line, "is up") && !strings.Contains(line, "begins tailer") {
			return
		}
		if last = append(last, line); len(last) > 2*lines {
			last = append(last[:0], last[len(last)-lines:]...)
		}
	}
	Run(cfg)
	return last[max(0, len(last)-lines):]
}

// String tells of a breach in a sentence.
func (b *Breach) String() string {
	if b.Key == "" {
		return fmt.Sprintf("%s, at %v: %s", b.Invariant, b.At, b.What)
	}
	return fmt.Sprintf("%s, %s, at %v: %s", b.Invariant, b.Key, b.At, b.What)
}
