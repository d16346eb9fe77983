package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/mayflydb/mayfly/internal/bench/cluster"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/config"
)

const benchClusterLong = `cluster starts three nodes, each a process of this program, on loopback, and puts
and gets blobs through the client, as an aggregator and a batch job would: into
the bucket events, index included, one blob a request, each writer waiting for
its acknowledgement. The same blobs go to raw3, the floor: three processes of
which one takes a blob, appends it to a file and forwards it to two others; it
answers when two have written. raw3 has no checksum, no index, no sync, no
repair and no expiry; what mayfly costs more is the price of these, or waste.

Runs alternate, and who is first changes from pair to pair. Each has new nodes
in new directories; they are warmed up by small blobs, unmeasured, and the memory
they will need is touched first. Values are windows of random bytes.

  MB/S             10^6 bytes of values a second, until the last acknowledgement
  P50 P99 P99.9    milliseconds a put or get took
  SERVER CPU       seconds, user and system, of the three nodes, per GiB of values
  CLIENT CPU       the same of this process: the client, and comparing what is got
  RSS              of the three nodes at the end, without pages of files
  DISK B/B         bytes sent towards the disk per byte of value, in whole pages
  CALLS B/B        bytes given to write calls, of files and sockets, per byte of value
  WRITES/OP        such calls for each put or get
  ratio            mayfly over raw3, each pair a ratio: their median [quartiles]

How far to trust it: everything shares this machine's processors and page cache,
so rates are not those of three machines. Another program at work moves rates by
a factor of two, and the processor time per GiB by some ten percent: read the
ratios of processor time first, and look at the last line, which says what
others took. Quartiles that are far apart mean: run it again, longer. A run ends
before anything has to leave the page cache; power loss is not tested.

--config and --set are given to mayfly's nodes: --set bucket.events.sync=none
shows what syncing costs. The environment is not. Exit status 1: a put failed, or
a get failed or returned other bytes than were put.`

func (a *app) benchClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		GroupID: groupLook,
		Short:   "put and get on three nodes, against the floor of three bare copies",
		Long:    benchClusterLong,
		Example: `  mayfly bench cluster                                     # about ten minutes
  mayfly bench cluster --sizes 100KB --pairs 3 --for 1s    # a first look
  mayfly bench cluster --json > bench.json
  mayfly bench cluster --sizes 100KB --set bucket.events.sync=none
  mayfly bench cluster --sizes 100KB --pairs 1 --cpuprofile ./profiles   # then: go tool pprof -top $(command -v mayfly) ./profiles/put-*-n?.pprof`,
		Args: noArguments(),
	}
	o := cluster.Options{Sizes: []int{4_000, 100_000, 500_000}, MaxBytes: 1 << 30}
	f := cmd.Flags()
	f.Var(sizesFlag{&o.Sizes}, "sizes", "sizes of values, separated by commas")
	f.IntVar(&o.Pairs, "pairs", 9, "runs of mayfly and of raw3, for each size")
	f.IntVar(&o.Workers, "writers", 16, "how many put, or get, side by side")
	length := durationVar(f, "for", 3*time.Second, "how long each part, of puts or of gets, is measured")
	f.Var(sizeFlag{&o.MaxBytes}, "max-bytes", "values put in one run at most; the disk needs three times that")
	f.StringVar(&o.Data, "data", "", "keep the nodes' data in a new directory in this `DIRECTORY`; \"\" is the system's for temporary files")
	f.StringVar(&o.ProfileDir, "cpuprofile", "", "write CPU profiles of each node and of the client to this `DIRECTORY`, for each run")
	only := f.String("only", "", "measure `PART` alone: put or get")
	complete(cmd, "only", string(cluster.Put), string(cluster.Get))
	asJSON := f.Bool("json", false, "print one JSON object that holds every run")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.For = *length
		switch *only {
		case "":
			o.Parts = []cluster.Part{cluster.Put, cluster.Get}
		case string(cluster.Put), string(cluster.Get):
			o.Parts = []cluster.Part{cluster.Part(*only)}
		default:
			return usagef("--only %q: give put or get, or leave it out for both", *only)
		}
		if err := a.benchNodes(cmd, &o); err != nil {
			return err
		}
		return a.benchCluster(cmd.Context(), o, *asJSON)
	}
	return cmd
}

// benchNodes fills in how nodes are started: from this executable, with the
// settings of the command line and none of the environment.
func (a *app) benchNodes(cmd *cobra.Command, o *cluster.Options) (err error) {
	bare := &app{}
	for _, pair := range a.environ {
		if !strings.HasPrefix(pair, "MAYFLY_") {
			o.Env = append(o.Env, pair)
		}
	}
	bare.environ = o.Env
	e, err := bare.settingsOf(cmd).load()
	if err != nil {
		return err
	}
	for i := range e.Buckets {
		if b := &e.Buckets[i]; b.Type == bucket.DefaultType && b.Name == bucket.Events {
			o.Sync = b.Sync
		}
	}
	if file, _ := cmd.Flags().GetString("config"); file != "" {
		o.Serve = append(o.Serve, "--config", file)
	}
	given, _ := cmd.Flags().GetStringArray("set")
	for _, pair := range given {
		o.Serve = append(o.Serve, "--set", pair)
	}
	if err := o.Validate(); err != nil {
		return usagef("bench cluster: %w", err)
	}
	if o.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("bench cluster: where this program is: %w", err)
	}
	return nil
}

// benchCluster carries the benchmark out and prints its report.
func (a *app) benchCluster(ctx context.Context, o cluster.Options, asJSON bool) error {
	steps := startSteps(a, &o)
	report, err := cluster.Run(ctx, o)
	steps.stop()
	if err != nil {
		if report == nil || !errors.Is(err, context.Canceled) {
			return fmt.Errorf("bench cluster: %w", err)
		}
		fmt.Fprintln(a.stderr, "mayfly: bench cluster: stopped early; this is what was measured")
	}
	if asJSON {
		err = printJSON(a.stdout, report)
	} else {
		err = report.Print(a.stdout)
	}
	if err == nil && !report.OK() {
		for _, f := range report.Faults {
			fmt.Fprintf(a.stderr, "mayfly: bench cluster: %s\n", f)
		}
		return errSilent
	}
	return err
}

// steps shows how many runs are done, on a terminal; elsewhere it is silent.
type steps struct {
	container *mpb.Progress // nil if silent
	bar       *mpb.Bar
}

// startSteps begins a bar that o tells of its progress. stop must be called.
func startSteps(a *app, o *cluster.Options) *steps {
	if !isTerminal(a.stderr) {
		return &steps{}
	}
	what := make(chan string, 1)
	what <- ""
	s := &steps{container: mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))}
	s.bar = s.container.AddBar(0,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			now := <-what
			what <- now
			return now
		}), decor.CountersNoUnit(" run %d of %d")),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})),
	)
	o.Progress = func(done, all int, next string) {
		<-what
		what <- next
		s.bar.SetTotal(int64(all), false)
		s.bar.SetCurrent(int64(done))
	}
	return s
}

// stop removes the bar; the line is free for what follows.
func (s *steps) stop() {
	if s.container != nil {
		s.bar.Abort(true)
		s.container.Wait()
	}
}

// A sizeFlag is a number of bytes as settings write it: "64MiB", "100KB".
type sizeFlag struct{ value *int64 }

func (f sizeFlag) String() string {
	if f.value == nil {
		return ""
	}
	return config.Size(*f.value).String()
}

func (f sizeFlag) Set(s string) error {
	n, err := config.ParseSize(s)
	if err == nil {
		*f.value = int64(n)
	}
	return err
}

func (sizeFlag) Type() string { return "size" }

// A sizesFlag is several sizes, separated by commas.
type sizesFlag struct{ value *[]int }

func (f sizesFlag) String() string {
	if f.value == nil {
		return ""
	}
	var all []string
	for _, n := range *f.value {
		all = append(all, config.Size(n).String())
	}
	return strings.Join(all, ",")
}

func (f sizesFlag) Set(s string) error {
	var all []int
	for text := range strings.SplitSeq(s, ",") {
		n, err := config.ParseSize(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		all = append(all, int(n))
	}
	*f.value = slices.Clip(all)
	return nil
}

func (sizesFlag) Type() string { return "sizes" }
