package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Options say what to measure and how much of it.
type Options struct {
	Dir   string   // where to work: a new directory below it is made and removed
	Pairs int      // of each comparison; at least 1, 9 for a figure to quote
	Only  []string // the works to do; none means all but those that must be asked for
	Quick bool     // a small part of each, to see that it works: figures mean nothing

	Keys      int64 // of the works memory and reopen; 0 means 5 million
	SlotBytes int64 // of the work expiry; 0 means 10 GB

	// Collector is a program, with arguments, that prints what Collect returns as JSON
	// when it is given --dir and --keys. Without it collections are measured in this process.
	Collector []string

	part int64 // in a quick run, of how many parts one is done; 0 means 50; more in tests

	// Progress is told how much is done, in steps of the whole run. It may be
	// nil, and is called by one goroutine at a time.
	Progress func(work string, done, total int)
}

const (
	defaultKeys      = 5_000_000
	defaultSlotBytes = 10 << 30
)

// A work is one subject of measurement.
type work struct {
	name  string
	about string
	asked bool // done only if it is asked for by name
	run   func(ctx context.Context, r *runner) error
}

// works lists them in the order they are done.
var works = []work{
	{"put", "append records, sync none: 2, 100 and 500 KB, 1 and 8 writers", false, runPut},
	{"always", "append and sync before the acknowledgement, 1, 8 and 16 writers", false, runAlways},
	{"get", "random gets, warm: open and sealed slots, with and without checking values, 1 and 8 readers", false, runGet},
	{"cold", "random gets of what the page cache lacks", false, runCold},
	{"mix", "writers beside readers of the newest keys", false, runMix},
	{"memory", "memory a key of open and sealed slots, and the collector's time", false, runMemory},
	{"reopen", "from opening a disk to the first get, by segments and keys", false, runReopen},
	{"expiry", "a slot expires while puts go on; write amplification", false, runExpiry},
	{"hour", "puts across the turn of a slot", false, runHour},
	{"lanes", "alternatives: one file a partition, or a few append lanes a node", true, runLanes},
	{"hints", "alternatives: hints read by pread, or mapped", true, runHints},
	{"recycled", "alternatives: fresh, allocated and recycled blocks", true, runRecycled},
}

// Works returns the name of each work and a line about it.
func Works() [][2]string {
	var all [][2]string
	for _, w := range works {
		all = append(all, [2]string{w.name, w.about})
	}
	return all
}

// chosen returns the works to do.
func (o *Options) chosen() ([]work, error) {
	var names []string
	for _, w := range works {
		names = append(names, w.name)
	}
	for _, name := range o.Only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no work %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	var some []work
	for _, w := range works {
		if slices.Contains(o.Only, w.name) || len(o.Only) == 0 && !w.asked {
			some = append(some, w)
		}
	}
	return some, nil
}
