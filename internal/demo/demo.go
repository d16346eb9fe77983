package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/aggregate"
	"github.com/mayflydb/mayfly/internal/aggregate/generate"
)

// Options say what a demo does.
type Options struct {
	For             time.Duration // of sending
	EventsPerSecond float64
	Events          []string // NDJSON files, or directories of them, to replay over and over; none = made-up events
	Seed            uint64   // of the made-up events
	Nodes           int      // 1 to MaxNodes; 0 = 1
	Dir             string   // data directory, kept; with several nodes, each has one below it; "" = a temporary one
	Keep            bool     // keep the temporary directory
	Log             *slog.Logger

	// Kill stops one node with no goodbye after that much of the sending, and Back
	// is how long after that it is started again; 0 = 5 s, or half of the rest of
	// the sending. Kill 0 stops none. With it the nodes are processes of their own:
	// "Program serve …", with the further arguments NodeArgs, in the environment
	// Environ, their logs copied to NodeLogs.
	Kill, Back time.Duration

	// Grow adds as many nodes again after that much of the sending; 0 adds none.
	// With it the nodes are processes as well.
	Grow time.Duration

	Program  string   // path of mayfly
	Environ  []string // "NAME=value"; of the nodes
	NodeArgs []string
	NodeLogs io.Writer // may be nil
}

// defaultBack is how long a killed node is away, if the sending lasts.
const defaultBack = 5 * time.Second

// inProcesses tells whether the nodes are processes of their own.
func (o Options) inProcesses() bool { return o.Kill > 0 || o.Grow > 0 }

// back returns how long a killed node is away.
func (o Options) back() time.Duration {
	return cmp.Or(o.Back, min(defaultBack, (o.For-o.Kill)/2))
}

// maxEvents bounds a demo: every event that was sent is remembered until it comes
// out, some 50 bytes each.
const maxEvents = 20_000_000

// MaxNodes bounds the nodes of a demo.
const MaxNodes = 9

// Validate reports all that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(o.Nodes >= 0 && o.Nodes <= MaxNodes, "%d nodes: give 1 to %d", o.Nodes, MaxNodes)
	check(o.For >= time.Second, "a demo of %v: give at least 1s", o.For)
	check(o.EventsPerSecond >= 1 && o.EventsPerSecond <= 1e6, "a rate of %v events a second: give 1 to 1000000", o.EventsPerSecond)
	check(o.EventsPerSecond*o.For.Seconds() <= maxEvents, "%.0f events: the demo remembers each one and takes at most %d; send fewer a second, or for a shorter time", o.EventsPerSecond*o.For.Seconds(), maxEvents)
	if o.Grow > 0 {
		check(o.Kill == 0, "a node is to be killed and others are to join: one at a time")
		check(o.Nodes >= 3 && 2*o.Nodes <= MaxNodes, "%d nodes and as many again: give 3 to %d", o.Nodes, MaxNodes/2)
		check(o.Grow >= time.Second && o.Grow <= o.For-growLeast, "nodes that join after %v of %v: give 1s or more, and leave %v for it", o.Grow, o.For, growLeast)
		check(o.Program != "", "the program to run as nodes is not known")
	}
	if o.Kill == 0 {
		check(o.Back == 0, "a node comes back after %v, and none is killed: say when with --kill", o.Back)
		return errors.Join(faults...)
	}
	check(o.Kill >= time.Second && o.Kill <= o.For-time.Second, "a node killed after %v of %v: give 1s to %v, or send for longer", o.Kill, o.For, max(o.For-time.Second, time.Second))
	check(o.Back == 0 || o.Back >= 100*time.Millisecond, "a node back after %v: give at least 100ms", o.Back)
	check(o.Kill+o.Back <= o.For || o.Kill > o.For-time.Second, "a node killed after %v and back %v later: that is after the %v of sending; send for longer, or bring it back earlier", o.Kill, o.Back, o.For)
	check(o.Program != "", "the program to run as nodes is not known")
	return errors.Join(faults...)
}

const (
	dc           = "demo"
	clusterName  = "demo"
	readyTimeout = 20 * time.Second      // until a node is ready; until the aggregator vouches for a second
	readyPause   = 20 * time.Millisecond // before a node is asked again
	stopTimeout  = 20 * time.Second      // for the nodes to close
	readBacks    = 200                   // blobs read by key at the end, through each node
)

// A Demo is one run. Its parts are started in this order and stopped in reverse;
// those that were not started are nil.
type Demo struct {
	o      Options
	ledger *ledger
	puts   timing
	tails  timing
	dir    string // of the data

	places    []place
	cluster   cluster   // what runs there
	processes processes // the same, if they are processes
	fresh     processes // those that have not joined yet
	killer    *killer
	grower    *grower
	client    *client.Client
	tailer    *tailer
	agg       *aggregate.Aggregator
	stopAgg   context.CancelFunc
	aggDone   chan error // receives what Run of agg returns
	sender    atomic.Pointer[generate.Sender]

	said        atomic.Pointer[string] // about a kill, at the begin of the line
	failed      bool                   // Run came to no good end: the nodes' logs are kept
	tailTimeout time.Duration          // for what is acknowledged to be tailed
	onSend      func()                 // called when sending begins; may be nil
}

// New returns a demo that has not begun.
func New(o Options) (*Demo, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Demo{o: o, ledger: newLedger(), tailTimeout: 20 * time.Second}, nil
}

// Run runs the demo. When ctx ends it stops sending early and still compares
// what came out. An error means that a part could not do its work; differences
// are in the Summary.
func (d *Demo) Run(ctx context.Context) (*Summary, error) {
	if err := d.makeDir(); err != nil {
		return nil, err
	}
	defer d.removeDir()
	source, closeSource, err := d.source()
	if err != nil {
		return nil, err
	}
	defer closeSource()
	whole := context.WithoutCancel(ctx)
	var s *Summary
	if err = d.start(ctx, whole); err == nil {
		s, err = d.run(ctx, whole, source)
	}
	err = errors.Join(err, d.stop())
	if err == nil {
		err = d.checkData(s)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil, errors.New("it was stopped before it had begun to send")
		}
		d.failed = true
		return nil, err
	}
	s.judge()
	d.failed = !s.OK()
	if d.keeps() {
		s.Directory = d.dir
	}
	return s, nil
}

// keeps tells whether the directory stays.
func (d *Demo) keeps() bool {
	return d.o.Dir != "" || d.o.Keep || d.failed && len(d.processes) > 0
}

func (d *Demo) makeDir() error {
	if d.o.Dir != "" {
		d.dir = d.o.Dir
		return d.checkOwn()
	}
	dir, err := os.MkdirTemp("", "mayfly-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w; give another place with --dir", err)
	}
	d.dir = filepath.Join(dir, "data")
	return nil
}

// checkOwn refuses a directory for several nodes that has something else in it.
// That of one node is the node's to judge.
func (d *Demo) checkOwn() error {
	dirs := d.nodeDirs()
	if dirs[0] == d.dir {
		return nil
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; give another place with --dir", err)
	}
	for _, e := range entries {
		of := func(dir string) bool {
			name := filepath.Base(dir)
			return e.Name() == name || e.Name() == name+logSuffix
		}
		if !slices.ContainsFunc(dirs, of) {
			return fmt.Errorf("%s: the directory is not empty (%q is in it) and not that of a demo of %d nodes: name an empty one", d.dir, e.Name(), len(dirs))
		}
	}
	return nil
}

func (d *Demo) removeDir() {
	if !d.keeps() {
		os.RemoveAll(filepath.Dir(d.dir)) //nolint:errcheck // the system clears its temporary directory in the end
	}
}

// source opens what is sent.
func (d *Demo) source() (generate.Source, func(), error) {
	if len(d.o.Events) == 0 {
		return generate.NewGenerator(d.o.Seed), func() {}, nil
	}
	r, err := generate.OpenReplay(true, d.o.Events...)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil //nolint:errcheck // it was only read
}

// start starts nodes, client, tailer and aggregator, and waits until the
// aggregator vouches for what it takes in.
func (d *Demo) start(ctx, whole context.Context) (err error) {
	if err := d.startNodes(ctx); err != nil {
		return err
	}
	d.client, err = client.Dial(ctx, client.Config{Addrs: d.addrs(), User: "demo", Log: d.o.Log})
	if err != nil {
		return err
	}
	if d.o.Grow > 0 {
		if err := d.hasten(ctx); err != nil {
			return err
		}
	}
	if d.tailer, err = startTailer(whole, d.client, d.ledger, &d.tails); err != nil {
		return err
	}
	d.agg, err = aggregate.Open(aggregate.Options{
		Listen: []string{"127.0.0.1:0"}, DC: dc, Writer: "demo", OnAck: d.ledger.noteAcknowledged, Log: d.o.Log,
	}, timedSink{d.client, &d.puts})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(whole)
	d.stopAgg, d.aggDone = stop, make(chan error, 1)
	go func() { d.aggDone <- d.agg.Run(run) }()
	select {
	case <-d.agg.Ready():
		return nil
	case <-time.After(readyTimeout):
		return fmt.Errorf("no node took the aggregator's hello in %v", readyTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startNodes starts the nodes and waits until all of them are ready.
func (d *Demo) startNodes(ctx context.Context) (err error) {
	if d.o.inProcesses() {
		err = d.startProcesses()
	} else {
		err = d.startInProcess(ctx)
	}
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var waiting sync.WaitGroup
	for i, p := range d.places {
		var over <-chan struct{}
		if len(d.processes) > 0 {
			over = d.processes[i].ended
		}
		waiting.Go(func() {
			if err := await(ctx, p, over); err != nil {
				fail(err) // the others would wait for it
			}
		})
	}
	waiting.Wait()
	return context.Cause(ctx)
}

// run sends, lets everything come out, and reads some of it back.
func (d *Demo) run(ctx, whole context.Context, source generate.Source) (*Summary, error) {
	begun := time.Now()
	if err := d.send(ctx, whole, source); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	k, g := d.killer, d.grower
	if err := errors.Join(d.endKiller(), d.endGrower(), d.processes.check()); err != nil {
		return nil, err
	}
	if err := d.endAggregator(); err != nil {
		return nil, err
	}
	giveUp := time.AfterFunc(d.tailTimeout, d.ledger.giveUp)
	d.ledger.wait()
	giveUp.Stop()
	if err := d.tailer.end(); err != nil {
		return nil, err
	}
	s := d.summarize(took)
	if k != nil {
		s.Kill = &k.kill
	}
	if g != nil {
		s.Growth = &g.growth
	}
	d.readBack(whole, s)
	total := d.ledger.totalsNow()
	s.Lost, s.Corrupt = total.lost, total.corrupt
	s.Faults = d.ledger.verdict()
	return s, nil
}

// send sends the events until the time is over, or ctx.
func (d *Demo) send(ctx, whole context.Context, source generate.Source) error {
	conn, err := generate.Dial(d.agg.Addrs()[0].String())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is kept in it
	sender, err := generate.NewSender(conn, generate.SenderOptions{EventsPerSecond: d.o.EventsPerSecond})
	if err != nil {
		return err
	}
	d.sender.Store(sender)
	if d.onSend != nil {
		d.onSend()
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.For)
	defer cancel()
	if d.o.Kill > 0 {
		d.killer = d.startKiller(ctx, whole)
	}
	if d.o.Grow > 0 {
		d.grower = d.startGrower(ctx, whole)
	}
	return sender.Run(ctx, &recordingSource{source: source, ledger: d.ledger, hash: xxhash.New()})
}

// endAggregator lets the aggregator store what it has.
func (d *Demo) endAggregator() error {
	if d.stopAgg == nil {
		return nil
	}
	d.stopAgg()
	d.stopAgg = nil
	return <-d.aggDone
}

// endKiller waits until the node that was killed is back.
func (d *Demo) endKiller() error {
	if d.killer == nil {
		return nil
	}
	k := d.killer
	d.killer = nil
	return k.end()
}

// endGrower waits until what was begun of the growth is done.
func (d *Demo) endGrower() error {
	if d.grower == nil {
		return nil
	}
	g := d.grower
	d.grower = nil
	return g.end()
}

// summarize returns the figures so far.
func (d *Demo) summarize(took time.Duration) *Summary {
	total, agg := d.ledger.totalsNow(), d.agg.Counters()
	sent, received := d.sender.Load().Counters().Events.Load(), agg.Events.Load()
	s := &Summary{
		Nodes: len(d.places), Seconds: float64(took.Milliseconds()) / 1000,
		EventsSent: sent, EventsReceived: received, EventsAcknowledged: total.acknowledged, EventsTailed: total.tailed,
		Duplicates: total.duplicates, Blobs: total.acknowledgedBlobs,
		StoredBytes: agg.BytesAcknowledged.Load(), RawBytes: agg.RawBytes.Load(),
		PutMS: quantiles(&d.puts), TailMS: quantiles(&d.tails),
		Dropped: map[string]int64{}, Watermarks: d.tailer.watermarks,
	}
	for _, r := range aggregate.Reasons() {
		s.Dropped[r.String()] = agg.Dropped(r)
	}
	s.Dropped["network"] = max(0, sent-received-agg.DroppedTotal())
	return s
}

// Line says how far the demo is. Any goroutine may call it.
func (d *Demo) Line() string {
	sender := d.sender.Load()
	if sender == nil {
		return "starting"
	}
	total := d.ledger.totalsNow()
	said := ""
	if text := d.said.Load(); text != nil {
		said = *text
	}
	return said + fmt.Sprintf("sent %d, acknowledged %d, tailed %d events in %d blobs; tail %.0f ms behind the second; differences: %d",
		sender.Counters().Events.Load(), total.acknowledged, total.tailed, total.tailedBlobs,
		quantiles(&d.tails).P50, total.corrupt+total.duplicates)
}

// say puts something at the begin of the line.
func (d *Demo) say(text string) { d.said.Store(&text) }

// stop ends what still runs, in reverse.
func (d *Demo) stop() error {
	faults := []error{d.endKiller(), d.endGrower(), d.endAggregator()}
	if d.tailer != nil {
		faults = append(faults, d.tailer.end())
	}
	if d.client != nil {
		faults = append(faults, d.client.Close())
	}
	if d.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		faults = append(faults, d.cluster.stop(ctx))
	}
	return errors.Join(faults...)
}
