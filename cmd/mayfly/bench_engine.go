package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/bench/engine"
)

const benchEngineLong = `engine measures the storage engine against the file system. Each work is done by
the engine and by its floor, the least that could do the same job (a pwritev a
record to as many files, a pread from a known place), in alternating pairs whose
order is swapped; the ratio is the median of the pairs' ratios, with quartiles.
CPU seconds a GiB stand beside it: they say more where the machine is busy.

Works:
`

func (a *app) benchEngineCommand() *cobra.Command {
	var o engine.Options
	var works strings.Builder
	for _, w := range engine.Works() {
		fmt.Fprintf(&works, "  %-9s %s\n", w[0], w[1])
	}
	cmd := &cobra.Command{
		Use:     "engine",
		GroupID: groupLook,
		Short:   "the storage engine against plain files",
		Long:    benchEngineLong + works.String() + "\nThe alternatives are done only if they are named with --only.",
		Example: `  mayfly bench engine --dir /var/tmp                    # everything: needs 25 GB and a quarter of an hour
  mayfly bench engine --dir /var/tmp --only put,get     # some of it
  mayfly bench engine --dir /tmp --quick                # does it work at all?
  mayfly bench engine --dir /var/tmp --json > report.json`,
		Args: takes(0, 0, ""),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "", "directory on the disk to measure; a new one is made below it and removed")
	flags.IntVar(&o.Pairs, "pairs", 9, "alternating pairs of each comparison")
	flags.StringSliceVar(&o.Only, "only", nil, "works to do, by name")
	flags.BoolVar(&o.Quick, "quick", false, "a small part of each work: shows that it works, its figures mean nothing")
	flags.Int64Var(&o.Keys, "keys", 5_000_000, "keys of the works memory and reopen")
	flags.Int64Var(&o.SlotBytes, "slot-bytes", 10<<30, "size of the slot that expires in the work expiry")
	asJSON := flags.Bool("json", false, "print one JSON object instead of a table")
	if self, err := os.Executable(); err == nil {
		o.Collector = []string{self, "bench", "engine-collections"}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Pairs < 1 || o.Keys < 1 || o.SlotBytes < 1 {
			return usagef("--pairs, --keys and --slot-bytes must be at least 1")
		}
		bar := newStepBar(a.stderr)
		o.Progress = bar.set
		report, err := engine.Run(cmd.Context(), o)
		bar.done()
		if report == nil {
			return fmt.Errorf("bench engine: %w", err)
		}
		if *asJSON {
			return errors.Join(err, printJSON(a.stdout, report))
		}
		return errors.Join(err, report.Table(a.stdout))
	}
	return cmd
}

// benchCollectionsCommand is what "bench engine" runs in a process of its own. It is of
// little other use and not listed.
func (a *app) benchCollectionsCommand() *cobra.Command {
	var dir string
	var keys int64
	cmd := &cobra.Command{
		Use:     "engine-collections",
		GroupID: groupLook,
		Hidden:  true,
		Short:   "measure garbage collections of a process that has keys in open slots",
		Long:    "engine-collections fills open slots with keys in a new directory and prints what collections cost, as JSON.",
		Example: "  mayfly bench engine-collections --dir /var/tmp/new --keys 5000000",
		Args:    takes(0, 0, ""),
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to make; it is removed")
	cmd.Flags().Int64Var(&keys, "keys", 0, "keys to put")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if dir == "" {
			return usagef("--dir is missing: name a directory to make")
		}
		c, err := engine.Collect(cmd.Context(), dir, keys)
		if err != nil {
			return err
		}
		return printJSON(a.stdout, c)
	}
	return cmd
}
