package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
)

// trio is a cluster of three nodes on loopback.
type trio struct {
	cfg   [3]Config
	nodes [3]*Node
}

func startTrio(t testing.TB) *trio {
	t.Helper()
	c := &trio{}
	startNow(t, c.cfg[:], c.nodes[:])
	for i := range 3 {
		c.meet(t, i)
	}
	c.complete(t, 0, 1, 2)
	return c
}

// meet waits until a node is connected to the others that run.
func (c *trio) meet(t testing.TB, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for id, p := range c.nodes[i].peers.each() {
		for j, other := range c.nodes {
			if j != i && other.server != nil && other.id == id {
				if err := p.Connect(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (c *trio) restart(t testing.TB, i int) {
	t.Helper()
	c.nodes[i] = start(t, c.cfg[i])
	for j := range 3 {
		if c.nodes[j].server != nil {
			c.meet(t, j)
		}
	}
}

// TestThreeNodesKeepEverything: what one node takes, each can read and list, with
// any one node away; a node that was away answers no false "absent".
func TestThreeNodesKeepEverything(t *testing.T) {
	c := startTrio(t)
	now := time.Now().Unix()
	var recs []object.Record
	put := func(from, n int) {
		t.Helper()
		rec := blob(t, now, uint64(len(recs)), fmt.Sprint("value ", len(recs)))
		if err := c.nodes[from].Store().Put(t.Context(), rec); err != nil {
			t.Fatalf("put %d through node %d: %v", n, from, err)
		}
		recs = append(recs, rec)
	}
	check := func(claim string) {
		t.Helper()
		for i, n := range c.nodes {
			if n.server == nil {
				continue
			}
			for j, rec := range recs {
				if got, err := get(n, rec); err != nil || got != fmt.Sprint("value ", j) {
					t.Fatalf("%s: node %d, blob %d: %q, %v", claim, i, j, got, err)
				}
			}
			row, certain, err := n.Store().Row(t.Context(), event.IndexKey{Epoch: now, DC: "ams"})
			if err != nil || !certain || row.Len() != len(recs) {
				t.Fatalf("%s: node %d: %d entries of %d, certain %v, %v", claim, i, row.Len(), len(recs), certain, err)
			}
			if _, err := get(n, blob(t, now, 9999, "")); !errors.Is(err, object.CodeAbsent) {
				t.Fatalf("%s: node %d: an absent blob: %v", claim, i, err)
			}
		}
	}
	for i := range 30 {
		put(i%3, i)
	}
	check("all there")
	for away := range 3 {
		stop(t, c.nodes[away])
		for i := range 10 {
			put((away+1+i%2)%3, i)
		}
		check(fmt.Sprint("without node ", away))
		c.restart(t, away)
		check(fmt.Sprint("node ", away, " is back"))
	}
}

// TestOneOfThreeIsNotEnough: with two nodes away puts are refused, retryably, and
// reads do not say "absent".
func TestOneOfThreeIsNotEnough(t *testing.T) {
	c := startTrio(t)
	now := time.Now().Unix()
	rec := blob(t, now, 1, "one")
	if err := c.nodes[0].Store().Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	stop(t, c.nodes[1])
	stop(t, c.nodes[2])
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := c.nodes[0].Store().Put(ctx, blob(t, now, 2, "two"))
	if e := object.AsError(err); e == nil || !e.Code.Retryable() || e.Outcome != object.MaybeDone {
		t.Errorf("a put with one node: %v", err)
	}
	if _, err := get(c.nodes[0], blob(t, now, 3, "")); err == nil || errors.Is(err, object.CodeAbsent) {
		t.Errorf("a read of what is not here: %v", err)
	}
	row, certain, err := c.nodes[0].Store().Row(t.Context(), event.IndexKey{Epoch: now, DC: "ams"})
	if err != nil || certain || row.Len() == 0 {
		t.Errorf("the row: %d entries, certain %v, %v", row.Len(), certain, err)
	}
}

// TestTailOfAnyNode: a tail gets what other nodes took, whichever node serves it.
func TestTailOfAnyNode(t *testing.T) {
	c := startTrio(t)
	var subs [3]*tail.Subscription
	for i, n := range c.nodes {
		var err error
		if subs[i], err = n.Store().Subscribe(tail.Options{DC: "ams"}); err != nil {
			t.Fatal(err)
		}
		defer subs[i].Close()
	}
	const blobs = 30
	var wg sync.WaitGroup
	for i := range blobs {
		rec := blob(t, time.Now().Unix(), uint64(i), fmt.Sprint("value ", i))
		wg.Go(func() {
			if err := c.nodes[i%3].Store().Put(t.Context(), rec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, sub := range subs {
		got := map[string]bool{}
		for len(got) < blobs {
			item := nextBlob(t, sub)
			key := item.Blob.Key.String()
			if got[key] {
				t.Errorf("node %d: %s came twice", i, key)
			}
			got[key] = true
			item.Release()
		}
	}
}

// TestMemberThatComesBackIsHeard: a member that connects to a node that had lost
// it is tried again at once; a user is no member.
func TestMemberThatComesBackIsHeard(t *testing.T) {
	c := startTrio(t)
	n, away := c.nodes[0], c.nodes[2].id
	stop(t, c.nodes[2])
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	hello := c.nodes[2].hello()
	for n.peers.get(away).Stats().Hurried == 0 {
		for _, h := range []wire.Hello{{Name: "a user"}, hello} {
			conn, err := wire.Dial(ctx, n.Addr().String(), wire.Config{Hello: h})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	if s := n.peers.get(c.nodes[1].id).Stats(); s.Hurried != 0 {
		t.Errorf("a member that was there all the time: %+v", s)
	}
}
