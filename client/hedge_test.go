package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/replication"
)

var threeNodes = []string{"a:1", "b:1", "c:1"}

// slowly has a node take that long for each request, and count those that were
// given up meanwhile.
func slowly(n *fakeNet, address string, d time.Duration) (givenUp *atomic.Int32) {
	givenUp = new(atomic.Int32)
	n.set(address, func(ctx context.Context, _ *wire.Request) (wire.Answer, bool, error) {
		select {
		case <-time.After(d):
			return wire.Answer{}, false, nil
		case <-ctx.Done():
			givenUp.Add(1)
			return wire.Answer{}, true, object.Errorf(object.CodeDeadline, object.NotDone, "given up")
		}
	}, nil)
	return givenUp
}

// ownersOfK are those of the object "k" in bucket "b", which is there.
func ownersOfK(t *testing.T, c *Client) []string {
	t.Helper()
	if err := c.Put(t.Context(), Object{Bucket: "b", Key: "k", Value: make([]byte, 10_000)}); err != nil {
		t.Fatal(err)
	}
	return ownersOf(history(t, 1, threeNodes...).Rings, false, "b", "k")
}

func getK(t *testing.T, c *Client) time.Duration {
	t.Helper()
	start := time.Now()
	rec, err := c.Get(t.Context(), "", "b", "k")
	if err != nil {
		t.Error(err)
		return 0
	}
	if string(rec.Key) != "k" || len(rec.Value()) != 10_000 {
		t.Errorf("got %q with %d bytes", rec.Key, len(rec.Value()))
	}
	rec.Release()
	return time.Since(start)
}

// TestHedgeWins: a slow owner is overtaken by the next one, and its question given
// up; after a few times it is not asked first.
func TestHedgeWins(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOfK(t, c)
		givenUp := slowly(n, owners[0], time.Second)
		for range beatenInARow {
			if took := getK(t, c); took != hedgeFirst {
				t.Errorf("a get took %v, want %v", took, time.Duration(hedgeFirst))
			}
		}
		synctest.Wait()
		if took := getK(t, c); took != 0 {
			t.Errorf("a get from the owner that was faster took %v", took)
		}
		if s := c.Stats(); s.Hedges != beatenInARow || s.HedgesWon != beatenInARow || s.Retries != 0 || s.Failures != 0 || givenUp.Load() != beatenInARow {
			t.Errorf("%d given up; %+v", givenUp.Load(), s)
		}
	})
}

// TestHedgeLoses: the first owner answers after all, before the second.
func TestHedgeLoses(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOfK(t, c)
		slowly(n, owners[0], 80*time.Millisecond)
		givenUp := slowly(n, owners[1], time.Second)
		if took := getK(t, c); took != 80*time.Millisecond {
			t.Errorf("a get took %v", took)
		}
		synctest.Wait()
		if s := c.Stats(); s.Hedges != 1 || s.HedgesWon != 0 || givenUp.Load() != 1 || s.InFlightBytes != 0 {
			t.Errorf("%d given up; %+v", givenUp.Load(), s)
		}
	})
}

// TestHedgeAtOnce: both answer in the same instant, many times: one answer is
// handed out and the other released.
func TestHedgeAtOnce(t *testing.T) {
	onCluster(t, Config{RetryBudget: 1000}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOfK(t, c)
		slowly(n, owners[0], hedgeFirst+10*time.Millisecond)
		slowly(n, owners[1], 10*time.Millisecond)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { getK(t, c) })
		}
		wg.Wait()
		if s := c.Stats(); s.Hedges == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestLateAnswerIsReleased: the second question is answered although it was given
// up, after the call has returned.
func TestLateAnswerIsReleased(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, _ *fakeNet, c *Client) {
		var asked atomic.Int32
		err := c.do(t.Context(), &request{what: "question", reads: true, latency: new(replication.Latency), ask: func(context.Context, *wire.Conn) (wire.Reply, error) {
			if asked.Add(1) == 1 {
				time.Sleep(80 * time.Millisecond)
				return wire.Reply{}, nil
			}
			time.Sleep(200 * time.Millisecond)
			return wire.Reply{Buf: object.NewBuffer(10)}, nil
		}})
		time.Sleep(time.Second)
		if err != nil || asked.Load() != 2 {
			t.Errorf("%d questions, %v", asked.Load(), err)
		}
	})
}

// TestCancelledDial: a connection that was given up has not failed.
func TestCancelledDial(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, _ *fakeNet, c *Client) {
		c.dial = func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.configured[0].connect(ctx, 0)
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		if h, _ := c.configured[0].health(time.Now()); h != well || c.Stats().DialFailures != 0 {
			t.Errorf("health %v, %+v", h, c.Stats())
		}
	})
}

// TestHedgeIsNoAnswer: a second node that cannot tell does not end the wait for
// the first; a first that fails while the second is asked waits for it.
func TestHedgeIsNoAnswer(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		unknown := func(after time.Duration) func(context.Context, *wire.Request) (wire.Answer, bool, error) {
			return func(context.Context, *wire.Request) (wire.Answer, bool, error) {
				time.Sleep(after)
				return wire.Answer{}, true, object.Errorf(object.CodeUnknown, object.NotDone, "cannot tell")
			}
		}
		owners := ownersOfK(t, c)
		slowly(n, owners[0], 100*time.Millisecond)
		n.set(owners[1], unknown(0), nil)
		if took := getK(t, c); took != 100*time.Millisecond {
			t.Errorf("a get took %v", took)
		}
		n.set(owners[0], unknown(60*time.Millisecond), nil)
		slowly(n, owners[1], 100*time.Millisecond)
		if took := getK(t, c); took != hedgeFirst+100*time.Millisecond {
			t.Errorf("a get took %v", took)
		}
		if s := c.Stats(); s.Hedges != 2 || s.HedgesWon != 1 || s.Retries != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHedgeOfDamagedAnswer: the second answer is damaged; another attempt brings a
// good one, and the damaged one is released.
func TestHedgeOfDamagedAnswer(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOfK(t, c)
		slowly(n, owners[0], time.Second)
		damaged := 1
		n.store.damage = func(string) bool { damaged--; return damaged >= 0 }
		getK(t, c)
		if s := c.Stats(); s.HedgesWon != 1 || s.Corrupt != 1 || s.Retries != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHedgesAreBounded: when all is slow second questions stay a small share, and
// puts have none; nor have reads if there is nobody else to ask.
func TestHedgesAreBounded(t *testing.T) {
	onCluster(t, Config{RetryBudget: 5}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		ownersOfK(t, c)
		for _, a := range threeNodes {
			slowly(n, a, 200*time.Millisecond)
		}
		for range 100 {
			getK(t, c)
		}
		s := c.Stats()
		if s.Hedges < 5 || s.Hedges > 16 || s.HedgesDenied < 80 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
		for i := range 20 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		}
		if after := c.Stats(); after.Hedges != s.Hedges || after.HedgesDenied != s.HedgesDenied {
			t.Error("puts were put to a second node")
		}
	})
	onCluster(t, Config{}, threeNodes[:1], func(t *testing.T, n *fakeNet, c *Client) {
		slowly(n, "a:1", 200*time.Millisecond)
		_, err := c.Head(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeAbsent, object.NotDone)
		if s := c.Stats(); s.Hedges != 0 || s.HedgesDenied != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHedgesOfEveryRead: heads and rows as well; an absence is an answer.
func TestHedgesOfEveryRead(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		at := event.IndexKey{Epoch: time.Now().Unix(), DC: "ams"}
		h := history(t, 1, threeNodes...).Rings
		slowly(n, owner(h, false, "b", "k"), time.Second)
		if _, err := c.Head(t.Context(), "", "b", "k"); object.AsError(err).Code != object.CodeAbsent {
			t.Error(err)
		}
		n.set(owner(h, false, "b", "k"), nil, nil)
		slowly(n, owner(h, true, "epochs", at.String()), time.Second)
		if _, _, err := c.Row(t.Context(), at); err != nil {
			t.Error(err)
		}
		if s := c.Stats(); s.HedgesWon != 2 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHedgeWhileConnecting: an owner whose connection does not come about is
// overtaken, and is connected to apart, so that later it is asked.
func TestHedgeWhileConnecting(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		owners := ownersOf(history(t, 1, threeNodes...).Rings, false, "b", "k")
		rec, err := c.Encode(Object{Bucket: "b", Key: "k", Value: make([]byte, 10_000)})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.store.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		e := c.table.Load().members[idOf(owners[0])]
		for _, s := range e.data {
			s.lock <- struct{}{} // as if somebody were at it
		}
		n.cut(owners[0])
		synctest.Wait()
		if took := getK(t, c); took != hedgeFirst {
			t.Errorf("a get took %v", took)
		}
		for _, s := range e.data {
			<-s.lock
		}
		synctest.Wait()
		if !e.usable() {
			t.Error("nobody connected to the owner")
		}
		if s := c.Stats(); s.HedgesWon != 1 || s.DialFailures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCloseWaitsForHedges: a Client that is closed while a question is put to two
// nodes leaves nothing behind.
func TestCloseWaitsForHedges(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		ownersOfK(t, c)
		for _, a := range threeNodes {
			slowly(n, a, time.Second)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				rec, err := c.Get(t.Context(), "", "b", "k")
				rec.Release()
				if err == nil {
					t.Error("it was answered")
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		c.Close()
		wg.Wait()
		if s := c.Stats(); s.Hedges != 10 {
			t.Errorf("%+v", s)
		}
	})
}

// TestTailGoesOnAtALearntNode although one address was given; several tails do not
// all begin at that one.
func TestTailGoesOnAtALearntNode(t *testing.T) {
	onCluster(t, Config{}, threeNodes, func(t *testing.T, n *fakeNet, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const tails = 6
		var mu sync.Mutex
		seen := make([]map[string]int, tails)
		var wg sync.WaitGroup
		for i := range tails {
			seen[i] = make(map[string]int)
			wg.Go(func() {
				tl, err := c.Tail(TailOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				defer tl.Close()
				for {
					item, err := tl.Next(ctx)
					if err != nil {
						return
					}
					if item.Kind == KindBlob {
						mu.Lock()
						seen[i][item.Blob.Key.String()]++
						mu.Unlock()
					}
					item.Release()
				}
			})
		}
		time.Sleep(time.Second)
		for _, a := range threeNodes {
			if got := tailsAt(n, a); got != tails/3 {
				t.Errorf("%d of %d tails began at %s", got, tails, a)
			}
		}
		var put []string
		for i := range 20 {
			put = append(put, putBlob(t, n, i))
			time.Sleep(500 * time.Millisecond)
			switch i {
			case 5:
				n.kill("a:1")
			case 12:
				n.kill("b:1")
			}
		}
		time.Sleep(20 * time.Second)
		cancel()
		wg.Wait()
		for i := range seen {
			for _, key := range put {
				if seen[i][key] != 1 {
					t.Errorf("tail %d has %s %d times", i, key, seen[i][key])
				}
			}
		}
	})
}

func tailsAt(n *fakeNet, address string) (tails int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.asked[address] {
		if q.op == proto.OpTail {
			tails++
		}
	}
	return tails
}

// TestFirstTailWaitsForOthers: a tail of a client that knows nothing yet hears of
// the other nodes before it chooses one, and does not wait long for it.
func TestFirstTailWaitsForOthers(t *testing.T) {
	began := make(map[string]int)
	for range 20 {
		onNet(t, Config{Addrs: []string{"a:1"}}, func(t *testing.T, n *fakeNet, c *Client) {
			n.start("b:1")
			n.tell(history(t, 1, "a:1", "b:1"), "a:1", "b:1")
			tl, err := c.Tail(TailOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer tl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if item, err := tl.Next(ctx); err == nil {
				item.Release()
			}
			for _, a := range []string{"a:1", "b:1"} {
				began[a] += tailsAt(n, a)
			}
		})
	}
	if began["a:1"] == 0 || began["b:1"] == 0 {
		t.Errorf("tails began at %v", began)
	}
}
