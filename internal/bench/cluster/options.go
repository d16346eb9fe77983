// Package cluster measures three nodes of mayfly against three of raw3, the
// least that keeps three copies, in alternating pairs. All nodes are processes
// of the running program, on loopback; the client is this process.
package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/config"
)

// A Part is what is measured of a run.
type Part string

// The parts, in their order.
const (
	Put Part = "put" // each worker stores one blob after the other
	Get Part = "get" // each worker reads blobs of the put part, at random, and compares every byte
)

// Options say what a benchmark does.
type Options struct {
	Program string   // the executable that nodes are started from
	Env     []string // of the nodes: "NAME=value"
	Serve   []string // more arguments of "mayfly serve"
	Sync    string   // what these make the sync policy of events, for the report

	Sizes      []int         // of values, bytes
	Pairs      int           // of a run of each system, for each size
	Workers    int           // that put and get side by side
	For        time.Duration // of each measured part
	MaxBytes   int64         // of values stored in one run: a put part ends there if its time is not up
	Parts      []Part        // that are measured; gets need puts before them, which then go unmeasured
	Data       string        // directory for the nodes' directories, which are removed; "" is the system's for temporary files
	ProfileDir string        // where CPU profiles go; "" makes none

	// Progress is told, before each run, how many runs are done, how many there
	// are in all, and what comes. May be nil.
	Progress func(done, all int, next string)
}

// Bounds of options: beyond them a run measures something else, or fills the
// memory of the one who runs it.
const (
	maxSize    = 8 << 20 // bytes
	maxPairs   = 1000
	maxWorkers = 1024
	minFor     = 100 * time.Millisecond
	maxFor     = 5 * time.Minute
)

// Validate reports all that is wrong with the options.
func (o *Options) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(o.Sizes) == 0, "no sizes: give at least one, such as 100KB")
	for i, s := range o.Sizes {
		fault(s < 1 || s > maxSize, "a size of %v: give 1 to %v", config.Size(s), config.Size(maxSize))
		fault(slices.Contains(o.Sizes[:i], s), "the size %v is there twice", config.Size(s))
		fault(s >= 1 && s <= maxSize && o.MaxBytes < int64(s), "at most %v in a run: give %v, which is one value, or more", config.Size(o.MaxBytes), config.Size(s))
	}
	fault(o.Pairs < 1 || o.Pairs > maxPairs, "%d pairs: give 1 to %d", o.Pairs, maxPairs)
	fault(o.Workers < 1 || o.Workers > maxWorkers, "%d writers: give 1 to %d", o.Workers, maxWorkers)
	fault(o.For < minFor || o.For > maxFor, "parts of %v: give %v to %v", o.For, minFor, maxFor)
	return errors.Join(faults...)
}
