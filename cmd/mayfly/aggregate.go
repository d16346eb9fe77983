package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/aggregate"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/config"
)

const aggregateLong = `aggregate takes events by UDP and stores, for each second, one blob of each dc,
type and subtype, or a few of less than 500 KB.

A datagram holds one or more envelopes: msgpack maps, one after another, or JSON
objects, a line each.

  {"type":"WEB","subtype":"checkout","event":{"path":"/pay","ms":12}}

"epoch" (Unix time) and "dc" may be given; otherwise the clock and --dc count.
Events are waited for half a second (--grace) after the end of their second;
later ones are stored as late ones. What cannot be stored is tried again until
it is; memory is bounded, and what is dropped is counted, by reason, in the
metrics.

It runs until SIGINT or SIGTERM, then stores what it has, says goodbye to the
index, and leaves; a second signal ends it at once.`

func (a *app) aggregateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "aggregate",
		GroupID: groupRun,
		Short:   "turn events that come by UDP into blobs, second by second",
		Long:    aggregateLong,
		Example: `  mayfly aggregate
  mayfly aggregate --dc ams --listen 0.0.0.0:7071 --node 192.0.2.7:7070,192.0.2.8:7070
  echo '{"type":"A","subtype":"b","event":{"n":1}}' | nc -u -w1 127.0.0.1 7071   # then: mayfly tail
  curl -s http://127.0.0.1:7078/metrics | grep dropped`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd).flag("listen", "aggregate.listen").flag("dc", "aggregate.dc").flag("name", "aggregate.name").
		flag("grace", "aggregate.grace").clientFlags().
		flagAs("metrics", "metrics.aggregate", "address of the HTTP listener for metrics and health; \"\" is off")
	s.logFlags()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		return a.aggregate(cmd.Context(), e)
	}
	return cmd
}

// lateSeconds is how long after the lateness bound nodes take ordinary entries
// of a second.
const lateSeconds = 5

// aggregateOptions returns the settings as the aggregator takes them.
func aggregateOptions(c *config.Config, log *slog.Logger) aggregate.Options {
	seconds := func(d config.Duration) int64 { return int64(time.Duration(d) / time.Second) }
	o := aggregate.Options{
		Listen: c.Aggregate.Listen, DC: c.Aggregate.DC, Writer: writerName(c.Aggregate.Name),
		Grace: time.Duration(c.Aggregate.Grace), OpenSeconds: seconds(c.Node.Lateness) + lateSeconds,
		AheadSeconds: seconds(c.Node.Ahead), MaxBufferedBytes: int64(c.Aggregate.MaxMemory),
		ReceiveBufferBytes: int(c.Aggregate.ReceiveBuffer), StopTimeout: time.Duration(c.Aggregate.StopTimeout), Log: log,
	}
	for _, b := range c.Buckets {
		if b.Type == bucket.DefaultType && b.Name == bucket.Events {
			o.TTLSeconds = cmp.Or(seconds(b.TTL), bucket.MaxTTLSeconds)
		}
	}
	return o
}

// writerName returns a writer's name: the setting, or the host's.
func writerName(name string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "aggregate"
	}
	return cmp.Or(name, host, "aggregate")
}

// aggregate runs an aggregator until ctx ends.
func (a *app) aggregate(ctx context.Context, e *config.Effective) error {
	log := newLogger(a.stderr, e.Log)
	admin, err := listenAdmin(e.Metrics.Aggregate, "metrics.aggregate")
	if err != nil {
		return fmt.Errorf("aggregate: %w", err)
	}
	defer admin.close()
	c, err := client.New(clientConfig(&e.Config, log))
	if err != nil {
		return fmt.Errorf("aggregate: %w", err)
	}
	defer c.Close() //nolint:errcheck // the aggregator has ended
	agg, err := aggregate.Open(aggregateOptions(&e.Config, log), c)
	if err != nil {
		return fmt.Errorf("aggregate: %w", err)
	}
	registry := newRegistry()
	registerAggregate(registry, agg.Counters())
	registerClient(registry, c)
	admin.serve(registry, func() error {
		select {
		case <-agg.Ready():
			return nil
		default:
			return errors.New("no node has taken the hello yet: is one running at " + strings.Join(e.Client.Nodes, ", ") + "?")
		}
	}, log)
	log.Info("aggregating", "listen", fmt.Sprint(agg.Addrs()), "dc", e.Aggregate.DC, "nodes", e.Client.Nodes, "metrics", admin.url(), "version", version().String())
	stopped := context.AfterFunc(ctx, func() { log.Info("stopping; a second signal ends the program at once") })
	defer stopped()
	if err := agg.Run(ctx); err != nil {
		return fmt.Errorf("aggregate: %w", err)
	}
	log.Info("stopped", "events", agg.Counters().Events.Load(), "acknowledged", agg.Counters().EventsAcknowledged.Load(), "dropped", agg.Counters().DroppedTotal())
	return nil
}
