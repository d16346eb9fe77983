package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/demo"
)

const demoLong = `demo runs all of mayfly in this one process, and checks it. Over real UDP and TCP
on loopback ports of its own, and with a data directory of its own:

  a sender      sends events by UDP: made-up ones, or those of --events
  an aggregator makes one blob a second of each kind of them
  a node        stores the blobs and lists them in the index
  a tailer      follows the node over TCP and gets the blobs

What the tailer gets is compared with what was sent, event by event, and with
what the node acknowledged, blob by blob. Then blobs are read back by their
keys, every one is looked up in the index, the node is stopped, and its data
directory is held against every promise of the format.

Exit status 0: everything acknowledged came out as it went in. 1: it did not.
Ctrl-C ends the sending early; what was sent is still compared.`

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupLook,
		Short:   "run all of mayfly in one process and check it from end to end",
		Long:    demoLong,
		Example: `  mayfly demo
  mayfly demo --nodes 3
  mayfly demo --for 20s --json | jq .tail_ms
  mayfly demo --rate 20000 --for 1m
  mayfly demo --events ./events/             # replay *.ndjson: {"type":…,"subtype":…,"event":{…}}
  mayfly demo --dir ./demo-data              # keep the data; then: mayfly dump ./demo-data`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd)
	f := cmd.Flags()
	length := durationVar(f, "for", 20*time.Second, "how long to send")
	rate := f.Float64("rate", 4000, "events a second")
	events := f.StringArray("events", nil, "replay this NDJSON `FILE`, or the *.ndjson of this directory, over and over (may be repeated)")
	nodes := f.Int("nodes", 1, fmt.Sprintf("nodes, 1 to %d; with three or more everything is kept three times", demo.MaxNodes))
	dir := f.String("dir", "", "keep the data in this `DIRECTORY`; \"\" is a temporary one")
	keep := f.Bool("keep", false, "do not remove the temporary directory")
	seed := f.Uint64("seed", 1, "of the events made up: the same seed makes the same events")
	asJSON := f.Bool("json", false, "print the summary as one JSON object")
	s.flag("log-format", "log.format")
	verbose := f.BoolP("verbose", "v", false, "log what the parts do, to standard error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		if *nodes < 1 || *nodes > demo.MaxNodes {
			return usagef("--nodes %d: give 1 to %d", *nodes, demo.MaxNodes)
		}
		o := demo.Options{For: *length, Nodes: *nodes, EventsPerSecond: *rate, Events: *events, Seed: *seed, Dir: *dir, Keep: *keep}
		if *verbose {
			o.Log = newLogger(a.stderr, e.Log)
		}
		d, err := demo.New(o)
		if err != nil {
			return usagef("demo: %w", err)
		}
		return a.demo(cmd.Context(), d, *asJSON)
	}
	return cmd
}

// demo runs d and prints its summary.
func (a *app) demo(ctx context.Context, d *demo.Demo, asJSON bool) error {
	status := startStatus(a.stderr, d.Line)
	sum, err := d.Run(ctx)
	status.stop()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if asJSON {
		err = printJSON(a.stdout, sum)
	} else {
		err = sum.Print(a.stdout)
	}
	if err == nil && !sum.OK() {
		for _, f := range sum.Faults {
			fmt.Fprintf(a.stderr, "mayfly: demo: %s\n", f)
		}
		return errSilent
	}
	return err
}
