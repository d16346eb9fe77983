package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayflydb/mayfly/internal/bench"
	"github.com/mayflydb/mayfly/internal/config"
)

// poolBytes is what values are windows of.
const poolBytes = 64 << 20

// mostPerSecond is about the most that a system stores in a second, bytes of
// values.
const mostPerSecond = 512 << 20

// maxFaults is how many things may go wrong before the rest is not tried.
const maxFaults = 5

// Run carries the benchmark out. The report holds what was measured even if
// something went wrong in it; an error means that there is none. The nodes have
// ended and their directories are gone when it returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Data, "mayfly-bench-*")
	if err != nil {
		return nil, fmt.Errorf("a directory for the nodes: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in a directory for temporary files
	if o.ProfileDir != "" {
		if err := os.MkdirAll(o.ProfileDir, 0o777); err != nil {
			return nil, fmt.Errorf("a directory for profiles: %w", err)
		}
	}
	b := &benchmark{o: o, dir: dir, pool: bench.NewPool(poolBytes, 1), report: newReport(&o)}
	err = b.all(ctx)
	b.report.finish()
	return b.report, err
}

// A benchmark is one under way.
type benchmark struct {
	o      Options
	dir    string
	pool   *bench.Pool
	report *Report
	done   int // runs
}

// all makes all runs: for each size pairs of both systems, the order changing
// from pair to pair, so that neither always follows the other.
func (b *benchmark) all(ctx context.Context) error {
	for _, size := range b.o.Sizes {
		for pair := 1; pair <= b.o.Pairs; pair++ {
			for _, name := range order(pair) {
				if err := b.one(ctx, b.system(name), size, pair); err != nil {
					return err
				}
				if len(b.report.Faults) >= maxFaults {
					return nil
				}
			}
		}
	}
	return nil
}

// order returns who is first in a pair, the first being 1, and who is second.
func order(pair int) []string {
	if pair%2 == 1 {
		return []string{Mayfly, Raw3}
	}
	return []string{Raw3, Mayfly}
}

func (b *benchmark) system(name string) system {
	if name == Raw3 {
		return &floor{o: &b.o}
	}
	return &mayfly{o: &b.o}
}

// one makes one run: new nodes, what warms them up, the parts.
func (b *benchmark) one(ctx context.Context, s system, size, pair int) (err error) {
	what := fmt.Sprintf("%v %s", config.Size(size), s.name())
	if b.o.Progress != nil {
		b.o.Progress(b.done, len(b.o.Sizes)*b.o.Pairs*2, what)
	}
	defer func() { b.done++ }()
	dir := filepath.Join(b.dir, "run")
	defer os.RemoveAll(dir) //nolint:errcheck // Run removes what is around it
	// Three copies will be in the page cache.
	if err := bench.TouchMemory(3 * min(b.o.MaxBytes, int64(b.o.For.Seconds()*mostPerSecond))); err != nil {
		return err
	}
	nodes, err := startNodes(ctx, s, dir, &b.o)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer nodes.kill()
	l := &load{b: b, system: s, nodes: nodes, size: size}
	defer l.close()
	if err := l.open(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, part := range []Part{Put, Get} {
		run, err := l.measure(ctx, part)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", part, what, err)
		}
		run.Pair = pair
		b.report.add(run, part, &b.o)
		if run.Failures > 0 {
			return nil
		}
	}
	return nil
}
