package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/wire"
)

// TestStoppingNode: a node that shuts down gently costs no call anything.
func TestStoppingNode(t *testing.T) {
	onNet(t, Config{Addrs: []string{"a:1", "b:1"}}, func(t *testing.T, n *fakeNet, c *Client) {
		for i := range 10 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		n.mu.Lock()
		node := n.nodes["a:1"]
		delete(n.nodes, "a:1")
		n.mu.Unlock()
		if err := node.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		for i := range 10 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestBusyStoppingNode: while a node that stops still answers what it has, new
// calls do not go to it, not even over the connection that is open.
func TestBusyStoppingNode(t *testing.T) {
	onNet(t, Config{Conns: 1}, func(t *testing.T, n *fakeNet, c *Client) {
		release := make(chan struct{})
		n.set("a:1", func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
			if r.Op == proto.OpInfo {
				<-release
			}
			return wire.Answer{}, false, nil
		}, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Info(t.Context()); err != nil {
				t.Errorf("what was under way failed: %v", err)
			}
		})
		synctest.Wait()
		n.mu.Lock()
		old := n.nodes["a:1"]
		n.mu.Unlock()
		n.start("a:1") // its successor
		wg.Go(func() {
			if err := old.server.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 5 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		}
		if s := c.Stats(); s.Retries != 0 {
			t.Errorf("new calls went to the old node first: %d retries", s.Retries)
		}
		close(release)
		wg.Wait()
	})
}

// connsOf has the node tell, for each request, which connection it came over.
func connsOf(n *fakeNet, address string, hold <-chan struct{}) (seen func() map[*wire.Hello]int) {
	var mu sync.Mutex
	conns := make(map[*wire.Hello]int)
	n.set(address, func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
		mu.Lock()
		conns[r.Peer()]++
		mu.Unlock()
		if hold != nil {
			<-hold
		}
		return wire.Answer{}, false, nil
	}, nil)
	return func() map[*wire.Hello]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(conns)
	}
}

// TestCallsSpreadOverConnections: a new call goes where the fewest are under way.
func TestCallsSpreadOverConnections(t *testing.T) {
	onNet(t, Config{Conns: 3}, func(t *testing.T, n *fakeNet, c *Client) {
		hold := make(chan struct{})
		seen := connsOf(n, "a:1", hold)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for _, calls := range seen() {
			if calls != 4 {
				t.Errorf("12 calls over 3 connections: %v", slices.Collect(maps.Values(seen())))
			}
		}
		close(hold)
		wg.Wait()
	})
}

// TestLargePutsGoApart: small calls do not wait behind them.
func TestLargePutsGoApart(t *testing.T) {
	onNet(t, Config{Conns: 1}, func(t *testing.T, n *fakeNet, c *Client) {
		seen := connsOf(n, "a:1", nil)
		for _, size := range []int{10, bulkBytes + 1, 10, bulkBytes + 1} {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(size), Value: make([]byte, size)}); err != nil {
				t.Fatal(err)
			}
		}
		if conns := slices.Collect(maps.Values(seen())); !slices.Equal(conns, []int{2, 2}) {
			t.Errorf("calls by connection: %v", conns)
		}
	})
}

// TestNodeThatTakesOneConnection: the client makes do with it, and neither asks
// for another one all the time nor leaves the node in peace.
func TestNodeThatTakesOneConnection(t *testing.T) {
	onNet(t, Config{Conns: 4}, func(t *testing.T, n *fakeNet, c *Client) {
		n.kill("a:1")
		n.maxConns = 1
		n.start("a:1")
		hold := make(chan struct{})
		connsOf(n, "a:1", hold)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if n := c.configured[0].data; len(n) != 4 || c.configured[0].data[0].current() == nil && c.configured[0].data[3].current() == nil {
			t.Error("there is no connection")
		}
		if d := n.dials("a:1"); d > 3 {
			t.Errorf("20 calls tried to connect %d times", d)
		}
		start := time.Now()
		close(hold)
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("calls waited %v although there is a connection", took)
		}
	})
}
