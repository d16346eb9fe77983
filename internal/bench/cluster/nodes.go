package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// nodes are the processes of one system.
type nodes struct {
	children []*child
	addrs    []string
}

// startTries is how often nodes are started when a port that was free a moment
// ago is taken.
const startTries = 4

// startNodes starts a system's nodes, with their directories in dir, and waits
// until they serve.
func startNodes(ctx context.Context, s system, dir string, o *Options) (*nodes, error) {
	for try := 1; ; try++ {
		n, err := tryNodes(ctx, s, dir, o)
		if err == nil || try == startTries || !strings.Contains(err.Error(), "address already in use") {
			return n, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
}

func tryNodes(ctx context.Context, s system, dir string, o *Options) (n *nodes, err error) {
	n = &nodes{}
	defer func() {
		if err != nil {
			n.kill()
		}
	}()
	if n.addrs, err = freeAddresses(numNodes); err != nil {
		return n, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return n, err
	}
	for i := range numNodes {
		c, err := startChild(o.Program, s.args(i, n.addrs, dir), o.Env)
		if err != nil {
			return n, err
		}
		n.children = append(n.children, c)
	}
	return n, n.awaitServing(ctx)
}

// awaitServing waits until all nodes serve. They may wait for each other: the first
// one that does not get there is told of.
func (n *nodes) awaitServing(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var waiting sync.WaitGroup
	for i, c := range n.children {
		waiting.Go(func() {
			if err := c.awaitServing(ctx); err != nil {
				fail(fmt.Errorf("node %s: %w", nodeName(i), err))
			}
		})
	}
	waiting.Wait()
	return context.Cause(ctx)
}

// freeAddresses returns addresses on loopback that nobody listens on now.
func freeAddresses(n int) (addrs []string, err error) {
	var listeners []net.Listener
	for range n {
		l, lerr := net.Listen("tcp", "127.0.0.1:0")
		if lerr != nil {
			err = lerr
			break
		}
		listeners = append(listeners, l)
		addrs = append(addrs, l.Addr().String())
	}
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return addrs, err
}

func (n *nodes) pids() (all []int) {
	for _, c := range n.children {
		all = append(all, c.pid)
	}
	return all
}

// kill ends all nodes at once: their data is thrown away. It returns when they
// have ended.
func (n *nodes) kill() {
	for _, c := range n.children {
		c.kill()
	}
	for _, c := range n.children {
		<-c.done
	}
}
