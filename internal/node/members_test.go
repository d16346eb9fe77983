package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// trio is a cluster of three nodes on loopback.
type trio struct {
	cfg   [3]Config
	nodes [3]*Node
}

func startTrio(t testing.TB) *trio {
	t.Helper()
	c := &trio{}
	var members []Member
	var listeners [3]net.Listener
	for i := range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = ln
		members = append(members, Member{Name: fmt.Sprint("n", i+1), Address: ln.Addr().String()})
	}
	for i := range 3 {
		cfg := testConfig(t, t.TempDir())
		cfg.Name, cfg.Members, cfg.Listen, cfg.Listener = members[i].Name, members, members[i].Address, listeners[i]
		cfg.mergeGrace = time.Millisecond
		c.cfg[i] = cfg
		c.nodes[i] = start(t, cfg)
		c.cfg[i].Listener = nil // a restart listens anew
	}
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

func TestMemberRefusals(t *testing.T) {
	three := []Member{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}, {"n3", "127.0.0.1:3"}}
	for _, c := range []struct {
		want   string
		name   string
		change []Member
	}{
		{"not among the members", "other", three},
		{"twice", "n1", append(three, Member{"n1", "127.0.0.1:4"})},
		{"a name and an address", "n1", append(three, Member{"n4", ""})},
	} {
		cfg := testConfig(t, t.TempDir())
		cfg.Name, cfg.Members = c.name, c.change
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v does not say %q", err, c.want)
		}
	}
	for _, text := range []string{"", "n1", "=127.0.0.1:1", "n1=nowhere"} {
		if _, err := ParseMember(text); err == nil {
			t.Errorf("%q passed", text)
		}
	}
	if m, err := ParseMember("n1=127.0.0.1:7070"); err != nil || m != three[0] && m.Address != "127.0.0.1:7070" {
		t.Errorf("%+v, %v", m, err)
	}
	// A directory of a node that was alone is not one of three.
	dir := t.TempDir()
	stop(t, start(t, testConfig(t, dir)))
	cfg := testConfig(t, dir)
	cfg.Members = three
	if n, err := Start(t.Context(), cfg); err == nil {
		stop(t, n)
		t.Error("a node that was alone became one of three behind its data's back")
	}
}

// TestMembersAgree: all nodes make the same ring, whatever the order of the list.
func TestMembersAgree(t *testing.T) {
	a := Config{Name: "n1", Cluster: "c", Members: []Member{{"n1", "a:1"}, {"n2", "b:1"}, {"n3", "c:1"}}}
	b := a
	b.Members = []Member{a.Members[2], a.Members[0], a.Members[1]}
	ra, _, err := ring.Claim(a.ringNodes(ring.NodeID{}), 6, owners, nil)
	if err != nil {
		t.Fatal(err)
	}
	rb, _, err := ring.Claim(b.ringNodes(ring.NodeID{}), 6, owners, nil)
	if err != nil {
		t.Fatal(err)
	}
	ba, _ := ra.MarshalBinary()
	bb, _ := rb.MarshalBinary()
	if string(ba) != string(bb) {
		t.Error("two orders of one list make two rings")
	}
	if n, r, w := bucket.DefaultSet().Lookup(bucket.DefaultType, bucket.Events).For(3); n != 3 || r != 2 || w != 2 {
		t.Errorf("events are kept with n=%d r=%d w=%d", n, r, w)
	}
}
