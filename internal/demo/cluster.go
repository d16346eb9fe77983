package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/node"
	"github.com/mayflydb/mayfly/internal/object"
)

const (
	slotSeconds = 10 // so that a short demo has several slots,
	sealSeconds = 11 // and seals their files
)

// A cluster is the nodes of a demo that run.
type cluster interface {
	// stop ends all nodes in order; when ctx ends, it does not wait any longer.
	stop(ctx context.Context) error
}

// A place is where a node of a demo is.
type place struct {
	name, addr string // host:port of the native protocol
	dir        string // of its data
}

// nodeDirs returns the data directories of the nodes. The logs of processes lie
// beside theirs.
func (d *Demo) nodeDirs() []string {
	if d.o.Nodes <= 1 && !d.o.inProcesses() {
		return []string{d.dir}
	}
	count := max(d.o.Nodes, 1)
	if d.o.Grow > 0 {
		count *= 2
	}
	dirs := make([]string, count)
	for i := range dirs {
		dirs[i] = filepath.Join(d.dir, fmt.Sprintf("node-%d", i+1))
	}
	return dirs
}

// makePlaces notes the demo's nodes, whose addresses are given.
func (d *Demo) makePlaces(addrs []string) {
	for i, dir := range d.nodeDirs() {
		d.places = append(d.places, place{fmt.Sprintf("demo-%d", i+1), addrs[i], dir})
	}
}

// addrs returns the addresses of all nodes.
func (d *Demo) addrs() []string {
	addrs := make([]string, len(d.places))
	for i := range d.places {
		addrs[i] = d.places[i].addr
	}
	return addrs
}

// inProcess are nodes in this process.
type inProcess []*node.Node

// startInProcess starts the nodes in this process. They found a cluster, and wait
// for each other.
func (d *Demo) startInProcess(ctx context.Context) error {
	addrs, err := freeAddresses(len(d.nodeDirs()))
	if err != nil {
		return err
	}
	d.makePlaces(addrs)
	join := node.Join{}
	if len(addrs) > 1 {
		join.Seeds, join.Expect = addrs, len(addrs)
	}
	ctx, stop := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the nodes did not found a cluster within %v", readyTimeout))
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	nodes := make(inProcess, len(d.places))
	var starting sync.WaitGroup
	for i, p := range d.places {
		starting.Go(func() {
			n, err := node.Start(ctx, node.Config{
				Name: p.name, Cluster: clusterName, Join: join, Listen: p.addr, Data: []string{p.dir},
				SlotSeconds: slotSeconds, SealAfterSeconds: sealSeconds, Log: d.o.Log,
			})
			if err != nil {
				fail(err) // the others would wait for it
				return
			}
			nodes[i] = n
		})
	}
	starting.Wait()
	d.cluster = slices.DeleteFunc(nodes, func(n *node.Node) bool { return n == nil })
	return context.Cause(ctx)
}

// stop implements cluster.
func (nodes inProcess) stop(ctx context.Context) error {
	closed := make(chan error)
	for _, n := range nodes {
		go func() { closed <- n.Close(ctx) }()
	}
	var faults []error
	for range nodes {
		faults = append(faults, <-closed)
	}
	return errors.Join(faults...)
}

// await returns when a node says that it is ready and knows for certain that a
// key is absent, which takes other nodes too; or when over is closed, which may
// be nil: then the node will never be.
func await(caller context.Context, p place, over <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(caller, readyTimeout)
	defer cancel()
	go func() {
		select {
		case <-over:
			cancel() // nobody will answer
		case <-ctx.Done():
		}
	}()
	c, err := client.New(client.Config{Addrs: []string{p.addr}, Pinned: true, User: "demo"})
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	key := event.Key{Epoch: time.Now().Unix(), DC: dc, Type: "demo", Subtype: "ready", Chunk: "0"}
	for {
		info, err := c.Info(ctx)
		if err == nil && !info.Ready {
			err = errors.New("it is starting")
		}
		if err == nil {
			_, err = c.Get(ctx, bucket.DefaultType, bucket.Events, key.String())
			if errors.Is(err, object.CodeAbsent) {
				return nil
			}
		}
		select {
		case <-over:
			return fmt.Errorf("%s has ended", p.name)
		default:
		}
		select {
		case <-over:
		case <-ctx.Done():
			if caller.Err() != nil {
				return context.Cause(caller)
			}
			return fmt.Errorf("%s was not ready within %v: %w", p.name, readyTimeout, err)
		case <-time.After(readyPause):
		}
	}
}
