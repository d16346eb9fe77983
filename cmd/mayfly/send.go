package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/aggregate/generate"
)

const sendLong = `send plays producer: it sends events by UDP, as datagrams of one or more
envelopes, to an aggregator. Without arguments it makes events up: web requests,
cron jobs and connections through a load balancer, nested and of varying shape.
Given files, or directories with *.ndjson in them, it replays these, a line an
event, a line from each file in turn:

  {"type":"WEB","subtype":"checkout","event":{"path":"/pay","ms":12}}

Members epoch and dc of a line are dropped: an event is sent with the second in
which it is sent. UDP promises nothing: "sent" is handed to the network.`

func (a *app) sendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "send [FILE or DIRECTORY]...",
		GroupID: groupLook,
		Short:   "send events by UDP: made-up ones, or those of NDJSON files",
		Long:    sendLong,
		Example: `  mayfly send --for 10s                          # 1000 events a second, made up
  mayfly send --rate 5000 --to 192.0.2.7:7071
  mayfly send --rate 0 events.ndjson             # a file, once, as fast as it goes
  mayfly send --loop --for 1m ./events/          # every *.ndjson of a directory
  tail -f app.ndjson | mayfly send /dev/stdin
  mayfly send --count 1 --encoding json --json`,
		Args: cobra.ArbitraryArgs,
	}
	s := a.settingsOf(cmd)
	f := cmd.Flags()
	o := sendOptions{
		to:       f.String("to", "", "UDP address of the aggregator; \"\" is the first one of the setting aggregate.listen"),
		rate:     f.Float64("rate", 1000, "events a second; 0 is as fast as the network takes them"),
		count:    f.Int64("count", 0, "stop after so many events; 0 is no bound"),
		length:   durationVar(f, "for", 0, "stop after this long; 0s is no bound"),
		encoding: f.String("encoding", "msgpack", "how datagrams are written: msgpack or json"),
		dc:       f.String("dc", "", "data centre to say the events are of; \"\" leaves it to the aggregator"),
		size:     f.Int("datagram", generate.DefaultDatagramBytes, "most bytes in a datagram; an event that is larger goes alone"),
		seed:     f.Uint64("seed", 1, "of the events made up: the same seed makes the same events"),
		loop:     f.Bool("loop", false, "begin files again at their end"),
		asJSON:   f.Bool("json", false, "print the summary as one JSON object"),
	}
	complete(cmd, "encoding", "msgpack", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		return a.send(cmd.Context(), cmp.Or(*o.to, e.Aggregate.Listen[0]), o, args)
	}
	return cmd
}

type sendOptions struct {
	to       *string
	rate     *float64
	count    *int64
	length   *time.Duration
	encoding *string
	dc       *string
	size     *int
	seed     *uint64
	loop     *bool
	asJSON   *bool
}

// A sendSummary is what send prints.
type sendSummary struct {
	Events    int64   `json:"events"`
	Datagrams int64   `json:"datagrams"`
	Bytes     int64   `json:"bytes"`
	TooLarge  int64   `json:"too_large"`
	Failed    int64   `json:"failed"`
	Skipped   int64   `json:"skipped"`
	Seconds   float64 `json:"seconds"`
}

func (a *app) send(ctx context.Context, to string, o sendOptions, files []string) error {
	encoding, err := generate.ParseEncoding(*o.encoding)
	if err != nil {
		return usagef("--encoding: %w", err)
	}
	if *o.count < 0 {
		return usagef("--count %d is negative; 0 is no bound", *o.count)
	}
	if *o.loop && len(files) == 0 {
		return usagef("--loop replays files again, and none is given; made-up events have no end anyway")
	}
	opts := generate.SenderOptions{EventsPerSecond: *o.rate, MaxDatagramBytes: *o.size, Encoding: encoding, DC: *o.dc}
	if err := opts.Validate(); err != nil {
		return usageError{err}
	}
	if _, _, err := net.SplitHostPort(to); err != nil {
		return usagef("--to: %q is not an address; write host:port, as in 127.0.0.1:7071", to)
	}
	source, closeSource, err := eventSource(*o.seed, *o.loop, files)
	if err != nil {
		return err
	}
	defer closeSource()
	if *o.count > 0 {
		source = generate.First(source, *o.count)
	}
	conn, err := generate.Dial(to)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is kept in it
	sender, err := generate.NewSender(conn, opts)
	if err != nil {
		return err
	}
	if *o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *o.length)
		defer cancel()
	}
	return a.runSender(ctx, sender, source, to, *o.asJSON)
}

// eventSource opens what is to be sent: the files, or the generator.
func eventSource(seed uint64, loop bool, files []string) (generate.Source, func(), error) {
	if len(files) == 0 {
		return generate.NewGenerator(seed), func() {}, nil
	}
	r, err := generate.OpenReplay(loop, files...)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil //nolint:errcheck // it was only read
}

// runSender sends until source or ctx ends, and prints what was sent.
func (a *app) runSender(ctx context.Context, sender *generate.Sender, source generate.Source, to string, asJSON bool) error {
	begun := time.Now()
	n := sender.Counters()
	status := startStatus(a.stderr, func() string {
		return fmt.Sprintf("%s sent to %s", plural(n.Events.Load(), "event"), to)
	})
	err := sender.Run(ctx, source)
	status.stop()
	sum := sendSummary{
		Events: n.Events.Load(), Datagrams: n.Datagrams.Load(), Bytes: n.Bytes.Load(),
		TooLarge: n.TooLarge.Load(), Failed: n.Failed.Load(), Skipped: n.Skipped.Load(),
		Seconds: time.Since(begun).Seconds(),
	}
	if asJSON {
		err = errors.Join(err, printJSON(a.stdout, sum))
	} else {
		_, werr := fmt.Fprintf(a.stdout, "sent %s in %s, %s, in %.1f s to %s\n",
			plural(sum.Events, "event"), plural(sum.Datagrams, "datagram"), bytesText(sum.Bytes), sum.Seconds, to)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, sum.fault(sender.LastError(), to))
}

// fault says what was not sent and why.
func (s sendSummary) fault(last error, to string) error {
	var faults []error
	switch {
	case errors.Is(last, syscall.ECONNREFUSED):
		faults = append(faults, fmt.Errorf("%s not sent: nobody listens at %s; start \"mayfly aggregate\", or give its address with --to", plural(s.Failed, "event"), to))
	case last != nil:
		faults = append(faults, fmt.Errorf("%s not sent to %s: %w", plural(s.Failed, "event"), to, last))
	}
	if s.TooLarge > 0 {
		faults = append(faults, fmt.Errorf("%s not sent: they fit no datagram, which holds %d bytes at most", plural(s.TooLarge, "event"), generate.MaxDatagramBytes))
	}
	return errors.Join(faults...)
}
