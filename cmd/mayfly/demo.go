package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/demo"
)

const demoLong = `demo runs all of mayfly on this machine, and checks it. Over real UDP and TCP on
loopback ports of its own, and with data directories of its own:

  a sender      sends events by UDP: made-up ones, or those of --events
  an aggregator makes one blob a second of each kind of them
  three nodes   each store the blobs and list them in the index
  a tailer      follows one of the nodes over TCP and gets the blobs

What the tailer gets is compared with what was sent, event by event, and with
what the nodes acknowledged, blob by blob. Then blobs are read back by their
keys, every one is looked up in the index, through each node; the nodes are
stopped, and their data directories are held against every promise of the format.

All of it is in this one process, but for --kill: with it the nodes are processes
("mayfly serve"), and the one the tailer is connected to is killed after that
time with no goodbye, and started again --back later. Tailer and aggregator go
on with the others. All the while acknowledged blobs are read through each node,
with the bucket's r at 1: none may say that one is absent. Of one node or two
nobody can be spared: all wait for it, and nothing is lost either.

With --grow the nodes are processes too; after that time three more join their
cluster, which is committed. When the new ring counts, new blobs are on six
nodes; no older one has moved, no call has failed, and nobody was told that a blob
is absent.

Exit status 0: everything acknowledged came out as it went in. 1: it did not.
Ctrl-C ends the sending early; what was sent is still compared.`

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupLook,
		Short:   "run all of mayfly on this machine and check it from end to end",
		Long:    demoLong,
		Example: `  mayfly demo
  mayfly demo --kill 5s                      # one of three nodes is killed and comes back
  mayfly demo --grow 5s --for 45s            # three nodes become six
  mayfly demo --nodes 1
  mayfly demo --for 20s --json | jq .tail_ms
  mayfly demo --rate 20000 --for 1m
  mayfly demo --events ./events/             # replay *.ndjson: {"type":…,"subtype":…,"event":{…}}
  mayfly demo --dir ./demo-data              # keep the data; then: mayfly dump ./demo-data/node-1`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd)
	f := cmd.Flags()
	length := durationVar(f, "for", 20*time.Second, "how long to send")
	rate := f.Float64("rate", 4000, "events a second")
	events := f.StringArray("events", nil, "replay this NDJSON `FILE`, or the *.ndjson of this directory, over and over (may be repeated)")
	nodes := f.Int("nodes", 3, fmt.Sprintf("nodes, 1 to %d; with three or more everything is kept three times", demo.MaxNodes))
	kill := durationVar(f, "kill", 0, "kill a node with no goodbye after this much of the sending; 0s kills none")
	back := durationVar(f, "back", 0, "start the killed node again after this long; 0s is 5s, or half of the rest of the sending")
	grow := durationVar(f, "grow", 0, "have as many nodes again join after this much of the sending; 0s has none")
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
		o := demo.Options{For: *length, Nodes: *nodes, EventsPerSecond: *rate, Events: *events, Seed: *seed, Dir: *dir, Keep: *keep,
			Kill: *kill, Back: *back, Grow: *grow, Environ: environOfNodes(a.environ), NodeArgs: []string{"--log-format", e.Log.Format}}
		if o.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("demo: where is this program? %w", err)
		}
		if *verbose {
			both := &oneByOne{w: a.stderr}
			o.Log, o.NodeLogs = newLogger(both, e.Log), both
		}
		d, err := demo.New(o)
		if err != nil {
			return usagef("demo: %w", err)
		}
		return a.demo(cmd.Context(), d, *asJSON)
	}
	return cmd
}

// environOfNodes returns the environment without the settings in it: those of
// the demo's nodes are all given.
func environOfNodes(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool { return strings.HasPrefix(pair, "MAYFLY_") })
}

// oneByOne is a writer that several goroutines write lines to.
type oneByOne struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (o *oneByOne) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

// demo runs d and prints its summary.
func (a *app) demo(ctx context.Context, d *demo.Demo, asJSON bool) error {
	status := startStatus(a.stderr, d.Line)
	sum, err := d.Run(ctx)
	status.stop()
	if err != nil {
		fmt.Fprint(a.stderr, d.Logs())
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
		fmt.Fprint(a.stderr, d.Logs())
		return errSilent
	}
	return err
}
