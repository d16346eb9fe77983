package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/internal/node"
)

const serveLong = `serve runs a node: it keeps blobs, lists them second by second, hands them to
tails as they come, and unlinks them when they expire. It runs until SIGINT or
SIGTERM, syncs its files and leaves; a second signal ends it at once, and costs
nothing but a slower start.

A node is a member of a cluster. A new one without --join is a cluster of its own,
which others may join. With --join it joins the cluster that the nodes at these
addresses belong to, and gets its places when that is committed: see "mayfly
cluster". With --expect 3 and the same --join, three new nodes found a cluster
together. A node that has a data directory is the member it was, also with other
disks or at another address; what it says then of --join it may leave out.

Its data directory is made if there is none. It belongs to one node of one
cluster: serve refuses the directory of another, one that another process uses,
and one that holds something else. It always starts on a directory of its own;
what is damaged in it is set aside and reported. "mayfly check" says what.

The length of slots, the number of partitions and what buckets promise are those
of the cluster: the settings count when one is founded. Slots and partitions never
change; buckets are changed with "mayfly cluster bucket" and "ttl".`

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "serve",
		GroupID: groupRun,
		Short:   "run a node",
		Long:    serveLong,
		Example: `  mayfly serve                                      # data in ./mayfly-data, clients on 127.0.0.1:7070
  mayfly serve --data /var/lib/mayfly --listen 0.0.0.0:7070
  mayfly serve --name n1 --zone a --listen 10.0.0.1:7070 --join 10.0.0.1:7070,10.0.0.2:7070,10.0.0.3:7070 --expect 3
  mayfly serve --name n4 --zone a --listen 10.0.0.4:7070 --join 10.0.0.1:7070    # then: mayfly cluster plan
  mayfly serve --set bucket.events.ttl=2d --log-level debug
  curl -s http://127.0.0.1:7079/readyz              # does it serve?
  mayfly config --example > m.toml && mayfly serve --config m.toml`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd).flag("data", "node.data").flag("listen", "node.listen").flag("name", "node.name").
		flag("cluster", "node.cluster").flag("join", "node.join").flag("expect", "node.expect").flag("advertise", "node.advertise").
		flag("zone", "node.zone").flag("weight", "node.weight").flag("slot", "node.slot").
		flagAs("metrics", "metrics.node", "address of the HTTP listener for metrics and health; \"\" is off")
	s.logFlags()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		return a.serve(cmd.Context(), e)
	}
	return cmd
}

// nodeConfig returns the settings as the node takes them.
func nodeConfig(c *config.Config, log *slog.Logger) (node.Config, error) {
	buckets, err := c.BucketSet()
	if err != nil {
		return node.Config{}, usageError{err}
	}
	seconds := func(d config.Duration) int64 { return int64(time.Duration(d) / time.Second) }
	return node.Config{
		Name: c.Node.Name, Cluster: c.Node.Cluster, Listen: c.Node.Listen, Data: c.Node.Data, Version: version().String(),
		Join: node.Join{
			Seeds: c.Node.Join, Expect: c.Node.Expect, Advertise: c.Node.Advertise, Zone: c.Node.Zone, Weight: uint32(c.Node.Weight),
		},
		SlotSeconds: seconds(c.Node.Slot), Partitions: c.Node.Partitions, Buckets: buckets,
		AheadSeconds: seconds(c.Node.Ahead), LatenessSeconds: seconds(c.Node.Lateness), SealAfterSeconds: seconds(c.Node.SealAfter),
		SyncInterval: time.Duration(c.Node.SyncInterval), MinFreeBytes: int64(c.Node.MinFree),
		MergeBytesPerSecond: orNone(c.Node.MergeRate), TombstoneGraceSeconds: seconds(c.Node.TombstoneGrace), MaxHandles: c.Node.MaxHandles, HintCacheBytes: orNone(c.Node.HintCache),
		MaxInFlightBytes: int64(c.Node.MaxInFlight), TailBufferBytes: int64(c.Node.TailBuffer),
		Log: log,
	}, nil
}

// orNone returns what a size is where 0 asks for the default and a negative one for
// none.
func orNone(s config.Size) int64 {
	if s == 0 {
		return -1
	}
	return int64(s)
}

// stopTimeout bounds a clean stop: requests under way, then syncing.
const stopTimeout = 15 * time.Second

// tellStarting is how long a start may take before the log says that it is under
// way: what is refused at once is refused with a sentence and nothing else.
const tellStarting = time.Second

// serve runs a node until ctx ends.
func (a *app) serve(ctx context.Context, e *config.Effective) error {
	log := newLogger(a.stderr, e.Log)
	cfg, err := nodeConfig(&e.Config, log)
	if err != nil {
		return err
	}
	admin, err := listenAdmin(e.Metrics.Node, "metrics.node")
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer admin.close()
	registry, started := newRegistry(), new(atomic.Pointer[node.Node])
	admin.serve(registry, func() error { return readiness(started.Load()) }, log) // a node may wait for others long before it serves
	slow := time.AfterFunc(tellStarting, func() {
		log.Info("starting: the disks are read, or the cluster is looked for", "cluster", cfg.Cluster, "data", cfg.Data, "join", cfg.Join.Seeds, "expect", cfg.Join.Expect)
	})
	n, err := node.Start(ctx, cfg)
	slow.Stop()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	registry.MustRegister(n.Collectors()...)
	started.Store(n)
	log.Info("serving", "node", n.ID().String(), "addr", n.Addr().String(), "data", cfg.Data, "metrics", admin.url(), "version", version().String())
	<-ctx.Done()
	log.Info("stopping; a second signal ends the program at once")
	err = closeNode(n)
	log.Info("stopped", "clean", err == nil)
	return err
}

// readiness says why a node cannot do its work now; n is nil before it has started.
func readiness(n *node.Node) error {
	switch {
	case n == nil:
		return errors.New("the node is starting: it reads its disks, or waits for its cluster; its log says for whom")
	case !n.Ready():
		return errors.New("the node is stopping, or has lost its listener")
	}
	return nil
}

func closeNode(n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return n.Close(ctx)
}
