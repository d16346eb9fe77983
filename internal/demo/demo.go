package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/aggregate"
	"github.com/mayflydb/mayfly/internal/aggregate/generate"
	"github.com/mayflydb/mayfly/internal/node"
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
	return errors.Join(faults...)
}

const (
	dc           = "demo"
	readyTimeout = 20 * time.Second // until the aggregator vouches for a second
	stopTimeout  = 15 * time.Second // for the node to close
	readBacks    = 200              // blobs read by key at the end
)

// A Demo is one run. Its parts are started in this order and stopped in reverse;
// those that were not started are nil.
type Demo struct {
	o      Options
	ledger *ledger
	puts   timing
	tails  timing
	dir    string // of the data

	nodes   []*node.Node
	client  *client.Client
	tailer  *tailer
	agg     *aggregate.Aggregator
	stopAgg context.CancelFunc
	aggDone chan error // receives what Run of agg returns
	sender  atomic.Pointer[generate.Sender]

	tailTimeout time.Duration // for what is acknowledged to be tailed
	onSend      func()        // called when sending begins; may be nil
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
	if err := errors.Join(err, d.stop()); err != nil {
		return nil, err
	}
	if err := d.checkData(s); err != nil {
		return nil, err
	}
	if d.o.Dir != "" || d.o.Keep {
		s.Directory = d.dir
	}
	s.judge()
	return s, nil
}

func (d *Demo) makeDir() error {
	if d.o.Dir != "" {
		d.dir = d.o.Dir
		return nil
	}
	dir, err := os.MkdirTemp("", "mayfly-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w; give another place with --dir", err)
	}
	d.dir = filepath.Join(dir, "data")
	return nil
}

func (d *Demo) removeDir() {
	if d.o.Dir == "" && !d.o.Keep {
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

// start starts node, client, tailer and aggregator, and waits until the
// aggregator vouches for what it takes in.
func (d *Demo) start(ctx, whole context.Context) (err error) {
	addrs, err := d.startNodes(ctx)
	if err != nil {
		return err
	}
	d.client, err = client.Dial(ctx, client.Config{Addrs: addrs, User: "demo", Log: d.o.Log})
	if err != nil {
		return err
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
		return fmt.Errorf("the node did not take the aggregator's hello in %v", readyTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startNodes starts the nodes and returns their addresses.
func (d *Demo) startNodes(ctx context.Context) (addrs []string, err error) {
	dirs := d.nodeDirs()
	listeners := make([]net.Listener, len(dirs))
	members := make([]node.Member, len(dirs))
	for i := range dirs {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, errors.Join(err, closeListeners(listeners[:i]))
		}
		addrs = append(addrs, listeners[i].Addr().String())
		members[i] = node.Member{Name: fmt.Sprintf("demo-%d", i+1), Address: addrs[i]}
	}
	if len(dirs) == 1 {
		members = nil // alone
	}
	for i := range dirs {
		n, err := node.Start(ctx, node.Config{
			Name: fmt.Sprintf("demo-%d", i+1), Cluster: "demo", Members: members, Listener: listeners[i], Data: []string{dirs[i]},
			SlotSeconds: 10, SealAfterSeconds: 11, // so that a short demo seals files as well
			Log: d.o.Log,
		})
		if err != nil {
			return nil, errors.Join(err, closeListeners(listeners[i+1:]))
		}
		d.nodes = append(d.nodes, n)
	}
	return addrs, nil
}

func closeListeners(listeners []net.Listener) error {
	var faults []error
	for _, ln := range listeners {
		faults = append(faults, ln.Close())
	}
	return errors.Join(faults...)
}

// nodeDirs returns the data directories of the nodes.
func (d *Demo) nodeDirs() []string {
	if d.o.Nodes <= 1 {
		return []string{d.dir}
	}
	dirs := make([]string, d.o.Nodes)
	for i := range dirs {
		dirs[i] = filepath.Join(d.dir, fmt.Sprintf("node-%d", i+1))
	}
	return dirs
}

// run sends, lets everything come out, and reads some of it back.
func (d *Demo) run(ctx, whole context.Context, source generate.Source) (*Summary, error) {
	begun := time.Now()
	if err := d.send(ctx, source); err != nil {
		return nil, err
	}
	took := time.Since(begun)
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
	d.readBack(whole, s)
	total := d.ledger.totalsNow()
	s.Lost, s.Corrupt = total.lost, total.corrupt
	s.Faults = d.ledger.verdict()
	return s, nil
}

// send sends the events until the time is over, or ctx.
func (d *Demo) send(ctx context.Context, source generate.Source) error {
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

// summarize returns the figures so far.
func (d *Demo) summarize(took time.Duration) *Summary {
	total, agg := d.ledger.totalsNow(), d.agg.Counters()
	sent, received := d.sender.Load().Counters().Events.Load(), agg.Events.Load()
	s := &Summary{
		Nodes: len(d.nodes), Seconds: float64(took.Milliseconds()) / 1000,
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
	return fmt.Sprintf("sent %d, acknowledged %d, tailed %d events in %d blobs; tail %.0f ms behind the second; differences: %d",
		sender.Counters().Events.Load(), total.acknowledged, total.tailed, total.tailedBlobs,
		quantiles(&d.tails).P50, total.corrupt+total.duplicates)
}

// stop ends what still runs, in reverse.
func (d *Demo) stop() error {
	faults := []error{d.endAggregator()}
	if d.tailer != nil {
		faults = append(faults, d.tailer.end())
	}
	if d.client != nil {
		faults = append(faults, d.client.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	closed := make(chan error)
	for _, n := range d.nodes {
		go func() { closed <- n.Close(ctx) }()
	}
	for range d.nodes {
		faults = append(faults, <-closed)
	}
	return errors.Join(faults...)
}
