package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

var fiveNodes = []string{"a:1", "b:1", "c:1", "d:1", "e:1"}

// claim makes a ring of the nodes at the addresses, three owners a partition.
func claim(t testing.TB, addresses ...string) *ring.Ring {
	t.Helper()
	var nodes []ring.Node
	for _, a := range addresses {
		nodes = append(nodes, ring.Node{ID: idOf(a), Name: a, Weight: 1})
	}
	slices.SortFunc(nodes, func(a, b ring.Node) int { return a.ID.Compare(b.ID) })
	r, _, err := ring.Claim(nodes, 6, min(3, len(nodes)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func history(t testing.TB, version uint64, addresses ...string) proto.History {
	t.Helper()
	h, err := ring.NewHistory(ring.Version{Era: 1, Index: version}, 10, claim(t, addresses...))
	if err != nil {
		t.Fatal(err)
	}
	return proto.History{Rings: h, Addresses: addressesOf(addresses...)}
}

func addressesOf(addresses ...string) (as []proto.Address) {
	for _, a := range addresses {
		as = append(as, proto.Address{Node: idOf(a), At: a})
	}
	return as
}

// onCluster is onNet with nodes that know who owns what. The client was given the
// first address, or what cfg says, and has learnt the others.
func onCluster(t *testing.T, cfg Config, addresses []string, f func(t *testing.T, n *fakeNet, c *Client)) {
	t.Helper()
	if cfg.Addrs == nil {
		cfg.Addrs = addresses[:1]
	}
	onNet(t, cfg, func(t *testing.T, n *fakeNet, c *Client) {
		for _, a := range addresses {
			if n.nodes[a] == nil {
				n.start(a)
			}
		}
		n.tell(history(t, 1, addresses...), addresses...)
		c.learn(nil, ring.Version{})
		synctest.Wait()
		if !cfg.Pinned && c.table.Load().known == nil {
			t.Fatal("nothing was learnt")
		}
		n.forget()
		f(t, n, c)
	})
}

// owner returns the address of the preferred owner of an object.
func owner(h *ring.History, timed bool, bucketName, key string) string {
	return ownersOf(h, timed, bucketName, key)[0]
}

func ownersOf(h *ring.History, timed bool, bucketName, key string) (addresses []string) {
	var epoch int64
	if timed {
		fmt.Sscanf(key, "%d", &epoch) //nolint:errcheck // a wrong epoch fails the test
	}
	r, p := h.For(timed, ring.Hash("default", bucketName, key), epoch)
	for _, id := range r.Owners(p) {
		node, _ := r.Node(id)
		addresses = append(addresses, node.Name)
	}
	return addresses
}

// TestOwnersAreAsked: each call goes to the preferred owner of what it is about,
// under the ring of its slot if its bucket is timed.
func TestOwnersAreAsked(t *testing.T) {
	onCluster(t, Config{}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		now := time.Now().Unix()
		h := history(t, 1, fiveNodes...)
		later, err := h.Rings.Append(ring.Version{Era: 1, Index: 2}, now/10+1, claim(t, "b:1", "c:1", "d:1"))
		if err != nil {
			t.Fatal(err)
		}
		h.Rings = later
		n.tell(h, fiveNodes...)
		if _, err := c.Info(t.Context()); err != nil { // its answer comes under the newer history
			t.Fatal(err)
		}
		synctest.Wait()

		ctx := t.Context()
		put := func(bucket, key string) error {
			return c.Put(ctx, Object{Bucket: bucket, Key: key, Value: []byte("v")})
		}
		get := func(bucket, key string) error {
			rec, err := c.Get(ctx, "", bucket, key)
			rec.Release()
			return err
		}
		check := func(what, want string, calls int, err error) {
			t.Helper()
			if err != nil && !errors.Is(err, object.CodeAbsent) {
				t.Errorf("%s: %v", what, err)
			}
			if got := n.count(want); got != calls {
				t.Errorf("%s: %d of %d questions came to %s", what, got, calls, want)
			}
			n.forget()
		}
		for i := range 40 {
			epoch := now + int64(i%2)*10 // of the old ring, and of the new one
			key, at := blobKey(epoch, i), event.IndexKey{Epoch: epoch, DC: fmt.Sprint("dc", i)}
			check("put", owner(later, true, "events", key), 1, put("events", key))
			check("get", owner(later, true, "events", key), 1, get("events", key))
			_, err := c.Head(ctx, "", "events", key)
			check("head", owner(later, true, "events", key), 1, err)
			check("delete", owner(later, true, "events", key), 2, c.Delete(ctx, "", "events", key))
			plain := fmt.Sprintf("%d:plain", epoch)
			check("plain put", owner(later, false, "b", plain), 1, put("b", plain))
			check("plain get", owner(later, false, "b", plain), 1, get("b", plain))
			row := owner(later, true, "epochs", at.String())
			_, _, err = c.Row(ctx, at)
			check("row", row, 1, err)
			check("row as an object", row, 1, get("epochs", fmt.Sprintf("%d-%s", epoch, at.DC)))
			check("index entry", row, 1, c.AppendIndex(ctx, at, index.Row{Sections: []index.Section{{Writer: index.Writer{Name: "w", Incarnation: 1}, Hello: true}}}))
		}
		if s := c.Stats(); s.Retries != 0 || s.Failures != 0 || s.Histories != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBatchesGoToTheirRow: a batch of events goes, whole, to an owner of the index
// row of its first record, and the parts of one that is too large for a request
// to each of the owners.
func TestBatchesGoToTheirRow(t *testing.T) {
	onCluster(t, Config{}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		h := history(t, 1, fiveNodes...).Rings
		batch := func(bucketName string, records, size int, key func(i int) string) {
			var recs []object.Record
			for i := range records {
				rec, err := c.Encode(Object{Bucket: bucketName, Key: key(i), Value: make([]byte, size)})
				if err != nil {
					t.Fatal(err)
				}
				defer rec.Release()
				recs = append(recs, rec)
			}
			n.forget()
			for _, err := range c.PutBatch(t.Context(), recs) {
				if err != nil {
					t.Error(err)
				}
			}
		}
		for i := range int64(30) {
			epoch := time.Now().Unix() + i
			batch("events", 20, 10, func(i int) string { return blobKey(epoch, i) })
			if want := owner(h, true, "epochs", fmt.Sprintf("%d:ams", epoch)); n.count(want) != 1 {
				t.Errorf("the batch of second %d did not go to %s, or not whole", epoch, want)
			}
			batch("plain", 20, 10, func(i int) string { return fmt.Sprint(epoch, i) })
			if want := owner(h, false, "plain", fmt.Sprint(epoch, 0)); n.count(want) != 1 {
				t.Errorf("a plain batch did not go to %s", want)
			}
		}
		epoch := time.Now().Unix() + 1000
		batch("events", 6, 600_000, func(i int) string { return blobKey(epoch, i) })
		for _, a := range ownersOf(h, true, "epochs", fmt.Sprintf("%d:ams", epoch)) {
			if n.count(a) != 2 {
				t.Errorf("%d of 6 parts went to %s", n.count(a), a)
			}
		}
	})
}

// TestEvenLoad: calls about many objects spread over the nodes as the ring spreads
// the objects.
func TestEvenLoad(t *testing.T) {
	onCluster(t, Config{}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		now := time.Now().Unix()
		even := func(what string, calls int, call func(i int) error) {
			t.Helper()
			n.forget()
			for i := range calls {
				if err := call(i); err != nil && !errors.Is(err, object.CodeAbsent) {
					t.Fatal(err)
				}
			}
			var counts []int
			for _, a := range fiveNodes {
				counts = append(counts, n.count(a))
			}
			t.Logf("%d %s: %v", calls, what, counts)
			if least, most := slices.Min(counts), slices.Max(counts); least*10 < calls*14/10 || most*10 > calls*26/10 {
				t.Errorf("%s: %v, want a fifth each, and no more than 30 %% off", what, counts)
			}
		}
		even("puts", 800, func(i int) error { return c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}) })
		even("gets", 800, func(i int) error {
			rec, err := c.Get(t.Context(), "", "events", blobKey(now-int64(i), i))
			rec.Release()
			return err
		})
		even("batches, one a second", 800, func(i int) error {
			rec, err := c.Encode(Object{Bucket: "events", Key: blobKey(now-int64(i), i)})
			if err != nil {
				return err
			}
			defer rec.Release()
			return errors.Join(c.PutBatch(t.Context(), []object.Record{rec, rec})...)
		})
		even("requests for information", 800, func(int) error { // count leaves them out: see that they are spread as well
			_, err := c.Info(t.Context())
			if err == nil {
				n.mu.Lock()
				for _, a := range fiveNodes {
					for i := range n.asked[a] {
						n.asked[a][i].op = proto.OpGet
					}
				}
				n.mu.Unlock()
			}
			return err
		})
	})
}

// TestStaleRing: nodes have another history than the client. It hears so with the
// first answer, asks what it is, once, and then asks the new owners; a node that
// is not a member any more is let go of. No call notices.
func TestStaleRing(t *testing.T) {
	onCluster(t, Config{Addrs: []string{"b:1"}}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		calls := func() {
			t.Helper()
			for i := range 60 {
				if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		calls()
		hold := make(chan struct{})
		n.set("e:1", func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
			if r.Op == proto.OpRow {
				<-hold
			}
			return wire.Answer{}, false, nil
		}, nil)
		h := history(t, 1, fiveNodes...).Rings
		at := event.IndexKey{Epoch: time.Now().Unix(), DC: "ams"}
		for owner(h, true, "epochs", at.String()) != "e:1" {
			at.Epoch++
		}
		begun := make(chan error)
		late, cancel := context.WithCancel(t.Context())
		defer cancel()
		c.cfg.HedgeLeast, c.cfg.HedgeMost = time.Minute, time.Minute
		go func() {
			_, _, err := c.Row(late, at)
			begun <- err
		}()
		synctest.Wait()

		n.tell(history(t, 2, fiveNodes[:4]...), fiveNodes...)
		calls()
		n.forget()
		calls()
		now := history(t, 2, fiveNodes[:4]...).Rings
		for i := range 60 {
			a := owner(now, false, "b", fmt.Sprint(i))
			if n.count(a) == 0 {
				t.Errorf("%s was not asked", a)
			}
		}
		if got := n.count("e:1"); got != 0 {
			t.Errorf("a node that left was asked %d times", got)
		}
		close(hold) // what was under way there is answered
		if err := <-begun; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		n.mu.Lock()
		conns := len(n.nodes["e:1"].conns)
		n.mu.Unlock()
		if s := c.Stats(); conns != 0 || s.Endpoints != 4 || s.Histories != 2 || s.Failures != 0 || s.Retries != 0 {
			t.Errorf("%d connections to the node that left; %+v", conns, s)
		}
	})
}

// TestOldHistoryIsNotTaken: a node that is behind the others does not take the
// client back.
func TestOldHistoryIsNotTaken(t *testing.T) {
	onCluster(t, Config{}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		n.tell(history(t, 3, fiveNodes...), "a:1", "b:1")
		for i := range 300 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for i := range 300 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		c.adopt(newKnowledge(history(t, 1, fiveNodes...), nil, wire.ID{}))
		if v := c.table.Load().version().Index; v != 3 {
			t.Errorf("version %d is known, want 3", v)
		}
		if s := c.Stats(); s.Histories > 1+2*learnTries || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestWrongOwner: a node that says it is not the owner any more costs neither a
// failure nor the budget; one that keeps saying so is not asked for ever.
func TestWrongOwner(t *testing.T) {
	wrong := func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
		return wire.Answer{}, r.Op != proto.OpInfo, object.Errorf(object.CodeWrongOwner, object.NotDone, "the ring has changed")
	}
	onCluster(t, Config{RetryBudget: 1}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		key := "k"
		n.set(owner(history(t, 1, fiveNodes...).Rings, false, "b", key), wrong, nil)
		for range 5 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: key}); err != nil {
				t.Fatal(err)
			}
		}
		if s := c.Stats(); s.Rerouted != 5 || s.Retries != 0 || s.RetriesDenied != 0 || s.Failures != 0 || s.Histories != 6 {
			t.Errorf("%+v", s)
		}
		for _, a := range fiveNodes {
			n.set(a, wrong, nil)
		}
		n.forget()
		wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: key}), object.CodeWrongOwner, object.NotDone)
		asked := 0
		for _, a := range fiveNodes {
			asked += n.count(a)
		}
		if asked > 1+maxReroutes+1 {
			t.Errorf("%d nodes were asked", asked)
		}
	})
}

// TestOneAddressIsEnough: when the only node that was named dies, the others have
// been learnt and serve; when it is back it is asked again.
func TestOneAddressIsEnough(t *testing.T) {
	onCluster(t, Config{}, []string{"a:1", "b:1", "c:1"}, func(t *testing.T, n *fakeNet, c *Client) {
		n.kill("a:1")
		for i := range 200 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if s := c.Stats(); s.Failures != 0 || s.RetriesDenied != 0 || s.DialFailures > 20 {
			t.Errorf("%+v", s)
		}
		n.start("a:1")
		n.tell(history(t, 1, "a:1", "b:1", "c:1"), "a:1")
		time.Sleep(3 * time.Second)
		for i := range 20 { // somebody sees that it is back
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		n.forget()
		for i := range 100 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if n.count("a:1") < 15 {
			t.Errorf("the node that came back was asked %d times of 100", n.count("a:1"))
		}
	})
}

// TestPinned: a Client that is pinned asks the node that was named, whoever owns
// what, and has nobody else when that node dies.
func TestPinned(t *testing.T) {
	onCluster(t, Config{Pinned: true}, []string{"a:1", "b:1", "c:1"}, func(t *testing.T, n *fakeNet, c *Client) {
		n.forget()
		for i := range 100 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if a, b, c := n.count("a:1"), n.count("b:1"), n.count("c:1"); a != 100 || b != 0 || c != 0 {
			t.Errorf("the nodes were asked %d, %d and %d times", a, b, c)
		}
		if s := c.Stats(); s.Histories != 0 {
			t.Errorf("the history was asked for %d times", s.Histories)
		}
		n.kill("a:1")
		synctest.Wait() // until the connection is known to be lost: a put sent on it may have been done
		wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: "x"}), object.CodeUnavailable, object.NotDone)
	})
}

// TestSilentOwner: an owner that is reached and never answers costs a put one
// attempt's time, and for a while others do not go there first.
func TestSilentOwner(t *testing.T) {
	onCluster(t, Config{Timeout: 5 * time.Second}, []string{"a:1", "b:1", "c:1"}, func(t *testing.T, n *fakeNet, c *Client) {
		n.set("b:1", func(ctx context.Context, _ *wire.Request) (wire.Answer, bool, error) {
			<-ctx.Done()
			return wire.Answer{}, true, ctx.Err()
		}, nil)
		start := time.Now()
		for i := range 100 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("100 puts took %v", took)
		}
	})
}

// TestUnknownIsAskedElsewhere, absent is an answer.
func TestUnknownIsAskedElsewhere(t *testing.T) {
	onCluster(t, Config{}, fiveNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOf(history(t, 1, fiveNodes...).Rings, false, "b", "k")
		n.set(owners[0], func(context.Context, *wire.Request) (wire.Answer, bool, error) {
			return wire.Answer{}, true, object.Errorf(object.CodeUnknown, object.NotDone, "cannot tell")
		}, nil)
		_, err := c.Get(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeAbsent, object.NotDone)
		if s := c.Stats(); n.count(owners[0]) != 1 || n.count(owners[1]) != 1 || s.Retries != 1 || s.Failures != 0 {
			t.Errorf("asked %d and %d times; %+v", n.count(owners[0]), n.count(owners[1]), s)
		}
	})
}

// TestOneNodeTwoAddresses: an address that was given turns out to be a member's:
// there is one endpoint for it. When nobody is there any more, the member's own
// address counts.
func TestOneNodeTwoAddresses(t *testing.T) {
	onCluster(t, Config{Addrs: []string{"a:1"}}, []string{"a:1", "b:1", "c:1"}, func(t *testing.T, n *fakeNet, _ *Client) {
		n.mu.Lock()
		n.alias = map[string]string{"other:1": "a:1", "second:1": "b:1"}
		n.mu.Unlock()
		c := n.client(t, Config{Addrs: []string{"other:1", "second:1"}})
		defer c.Close()
		c.learn(c.configured[0], ring.Version{})
		synctest.Wait()
		if got := c.Stats().Endpoints; got != 4 { // second:1 may be anybody
			t.Errorf("%d endpoints", got)
		}
		if _, err := c.configured[1].anyConn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.Stats().Endpoints; got != 3 {
			t.Errorf("%d endpoints after second:1 said that it is b", got)
		}
		n.mu.Lock()
		delete(n.alias, "second:1")
		n.mu.Unlock()
		n.cut("b:1")
		time.Sleep(time.Second)
		for range 5 {
			c.configured[1].anyConn(t.Context()) //nolint:errcheck // it fails
			time.Sleep(3 * time.Second)
		}
		if e := c.table.Load().members[idOf("b:1")]; e == nil || e.address != "b:1" {
			t.Error("the member's own address is not used")
		}
	})
}

// TestForeignCluster: what answers at a learnt address and belongs to another
// cluster is not given anything.
func TestForeignCluster(t *testing.T) {
	onCluster(t, Config{}, []string{"a:1"}, func(t *testing.T, n *fakeNet, _ *Client) {
		n.kill("a:1")
		n.cluster = wire.ID{1}
		n.start("a:1")
		n.tell(history(t, 1, "a:1", "b:1"), "a:1")
		n.cluster = wire.ID{2}
		n.start("b:1")
		c := n.client(t, Config{Addrs: []string{"a:1"}})
		defer c.Close()
		c.learn(nil, ring.Version{})
		synctest.Wait()
		n.forget()
		for i := range 50 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if n.count("b:1") != 0 || n.count("a:1") != 50 || n.dials("b:1") == 0 {
			t.Errorf("%d and %d puts", n.count("a:1"), n.count("b:1"))
		}
	})
}

// TestNothingToLearn: nodes that do not tell, or tell nonsense, are asked a few
// times, and no call fails or waits for it.
func TestNothingToLearn(t *testing.T) {
	nonsense := history(t, 1, "a:1")
	nonsense.Addresses = []proto.Address{{Node: idOf("a:1"), At: "nonsense"}}
	for what, h := range map[string]proto.History{"an old node": {}, "nonsense": nonsense} {
		t.Run(what, func(t *testing.T) {
			onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
				n.tell(h, "a:1")
				start := time.Now()
				for i := range 100 {
					if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("puts waited %v", took)
				}
				time.Sleep(learnRest - time.Second)
				for i := range 10 {
					if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if s := c.Stats(); s.Histories == 0 || s.Histories > learnTries || s.HistoryFailures != s.Histories || s.Failures != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestOwnersOfBuckets: a bucket of fewer owners has the first of the ring's; what
// no node would take has none.
func TestOwnersOfBuckets(t *testing.T) {
	h := history(t, 1, fiveNodes...)
	few := bucket.Plain("default", "few")
	few.N = 2
	k := newKnowledge(h, append(slices.Collect(bucket.DefaultSet().All()), few), wire.ID{})
	name := func(bucket, key string) proto.Name {
		return proto.Name{Type: []byte("default"), Bucket: []byte(bucket), Key: []byte(key)}
	}
	for _, c := range []struct {
		claim string
		name  proto.Name
		want  int
	}{
		{"undeclared", name("b", "k"), 3},
		{"two owners", name("few", "k"), 2},
		{"timed", name("events", "77:ams:WEB:app:0"), 3},
		{"timed, without a time", name("events", "k"), 0},
		{"no object", proto.Name{}, 0},
	} {
		if got := k.owners(c.name); len(got) != c.want {
			t.Errorf("%s: %d owners, want %d", c.claim, len(got), c.want)
		}
	}
}

// TestPlan: who is asked in which order, by how each of them is.
func TestPlan(t *testing.T) {
	c, err := New(Config{Addrs: fiveNodes})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.adopt(newKnowledge(history(t, 1, fiveNodes...), nil, wire.ID{}))
	about := proto.Name{Type: []byte("default"), Bucket: []byte("b"), Key: []byte("k")}
	o := ownersOf(history(t, 1, fiveNodes...).Rings, false, "b", "k")
	now := time.Now()
	for _, x := range []struct {
		claim            string
		doubted, resting []string
		part             int
		want             []string // what is asked first, second, …
	}{
		{"owners by preference", nil, nil, 0, o},
		{"another part begins with another owner", nil, nil, 1, []string{o[1], o[2], o[0]}},
		{"one that failed comes last", []string{o[0]}, nil, 0, []string{o[1], o[2]}},
		{"one that cannot be reached is not asked", nil, []string{o[0], o[1]}, 0, []string{o[2]}},
		{"if all failed, owners come first", fiveNodes, nil, 0, o},
		{"somebody must be asked", fiveNodes, fiveNodes[1:], 0, []string{"a:1", "a:1", "a:1"}},
	} {
		for _, e := range c.configured {
			e.doubted.Store(0)
			e.failures, e.rested = 0, time.Time{}
			if slices.Contains(x.doubted, e.address) {
				e.doubt(now)
			}
			if slices.Contains(x.resting, e.address) {
				e.failures, e.rested = 1, now.Add(time.Second)
			}
		}
		p := plan{about: about, part: x.part}
		p.use(c.table.Load())
		for i, want := range x.want {
			if e, _ := p.next(now); e == nil || e.address != want {
				t.Errorf("%s: question %d goes to %v, want %s", x.claim, i+1, e.address, want)
			}
		}
	}
	p := plan{about: about}
	p.use(c.table.Load())
	seen := make(map[*endpoint]bool)
	for range 5 {
		e, _ := p.next(now.Add(time.Minute))
		seen[e] = true
	}
	if len(seen) != 5 {
		t.Errorf("5 questions went to %d of 5 nodes", len(seen))
	}
	for _, e := range c.configured {
		e.failures, e.rested = 1, now.Add(time.Second)
	}
	if e, d := p.next(now); e != nil || d != time.Second {
		t.Errorf("all rest: %v, %v", e, d)
	}
}
