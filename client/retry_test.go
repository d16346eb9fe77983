package client

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// TestRetriesAreIdentical: the node stores a put and vanishes before it answers.
// The second attempt sends the same bytes, and the caller sees one success.
func TestRetriesAreIdentical(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		var served atomic.Int32
		n.set("a:1", nil, func(*wire.Request) {
			if served.Add(1) == 1 {
				n.cut("a:1")
			}
		})
		if err := c.Put(t.Context(), Object{Bucket: "events", Key: blobKey(time.Now().Unix(), 0), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if p := n.store.puts; len(p) != 2 || !bytes.Equal(p[0], p[1]) {
			t.Errorf("%d puts arrived, the same bytes: %v", len(p), len(p) == 2 && bytes.Equal(p[0], p[1]))
		}
		if s := c.Stats(); s.Retries != 1 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOutcomeIsThatOfTheWholeCall: an attempt that may have succeeded is not
// forgotten because the last one surely did nothing.
func TestOutcomeIsThatOfTheWholeCall(t *testing.T) {
	onNet(t, Config{Timeout: 3 * time.Second}, func(t *testing.T, n *fakeNet, c *Client) {
		put := func() error {
			return c.Put(t.Context(), Object{Bucket: "b", Key: "k", Value: []byte("v")})
		}
		var kills sync.WaitGroup
		n.set("a:1", nil, func(*wire.Request) { n.cut("a:1"); kills.Go(func() { n.kill("a:1") }) })
		start := time.Now()
		wantError(t, put(), object.CodeUnavailable, object.MaybeDone)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		kills.Wait()
		wantError(t, put(), object.CodeUnavailable, object.NotDone)
		// A read changes nothing, whatever became of it.
		_, err := c.Get(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		if !strings.Contains(err.Error(), "a:1") {
			t.Errorf("%q does not name the address", err)
		}
	})
}

// TestAnswersAreNotRetried: what a repetition would not change is told at once.
func TestAnswersAreNotRetried(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		for _, code := range []object.Code{object.CodeBadRequest, object.CodeExpired, object.CodeTooFarAhead, object.CodeConflict, object.CodeTooLarge, object.CodeUnsupported, object.CodeRefused} {
			n.store.puts = nil
			n.store.refuse = func(string) error { return object.Errorf(code, object.NotDone, "no") }
			wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: "k"}), code, object.NotDone)
			if len(n.store.puts) != 1 {
				t.Errorf("%v: asked %d times", code, len(n.store.puts))
			}
		}
		if s := c.Stats(); s.Failures != 0 || s.Retries != 0 {
			t.Errorf("answers are counted as failures: %+v", s)
		}
	})
}

// TestPassingTrouble: an overload of a second is not seen by the caller.
func TestPassingTrouble(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		until := time.Now().Add(time.Second)
		n.store.refuse = func(string) error {
			if time.Now().Before(until) {
				return object.Errorf(object.CodeOverload, object.NotDone, "too much")
			}
			return nil
		}
		if err := c.Put(t.Context(), Object{Bucket: "b", Key: "k"}); err != nil {
			t.Error(err)
		}
		if n := len(n.store.puts); n > 10 {
			t.Errorf("an overloaded node was asked %d times in a second", n)
		}
	})
}

// TestRetryBudget: when everything fails, repetitions stay a small share.
func TestRetryBudget(t *testing.T) {
	onNet(t, Config{RetryBudget: 10}, func(t *testing.T, n *fakeNet, c *Client) {
		n.store.refuse = func(string) error { return object.Errorf(object.CodeOverload, object.NotDone, "too much") }
		for range 200 {
			wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: "k"}), object.CodeOverload, object.NotDone)
		}
		if asked := len(n.store.puts); asked < 210 || asked > 235 {
			t.Errorf("200 calls made %d attempts, want 10 and a tenth more", asked)
		}
		if s := c.Stats(); s.RetriesDenied == 0 || s.Failures != 200 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOtherNode: with one of two nodes dead, calls succeed without a wait, and
// the dead one is not asked by each of them.
func TestOtherNode(t *testing.T) {
	onNet(t, Config{Addrs: []string{"a:1", "b:1"}}, func(t *testing.T, n *fakeNet, c *Client) {
		n.kill("a:1")
		start := time.Now()
		for i := range 100 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("100 puts waited %v", took)
		}
		if d := n.dials("a:1"); d > 3 {
			t.Errorf("the dead node was tried %d times", d)
		}
		n.start("a:1")
		time.Sleep(5 * time.Second)
		before := n.dials("a:1")
		for i := range 10 {
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n.dials("a:1") == before {
			t.Error("the node is back, and nobody asks it")
		}
	})
}

// TestLostReadIsNotDone: a read changes nothing, even one whose connection was lost
// while it was served.
func TestLostReadIsNotDone(t *testing.T) {
	onNet(t, Config{Timeout: time.Second, RetryBudget: 1}, func(t *testing.T, n *fakeNet, c *Client) {
		n.set("a:1", nil, func(*wire.Request) { n.cut("a:1") })
		_, err := c.Get(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		_, err = c.Info(t.Context())
		wantError(t, err, object.CodeUnavailable, object.NotDone)
	})
}

// TestHungNode: a node that takes requests and never answers costs one attempt's
// time; the other node then serves.
func TestHungNode(t *testing.T) {
	onNet(t, Config{Addrs: []string{"a:1", "b:1"}, Timeout: 5 * time.Second}, func(t *testing.T, n *fakeNet, c *Client) {
		n.set("a:1", func(ctx context.Context, _ *wire.Request) (wire.Answer, bool, error) {
			<-ctx.Done()
			return wire.Answer{}, true, ctx.Err()
		}, nil)
		for i := range 4 {
			start := time.Now()
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 2*time.Second+100*time.Millisecond {
				t.Errorf("a put took %v", took)
			}
		}
		n.kill("b:1")
		start := time.Now()
		err := c.Put(t.Context(), Object{Bucket: "b", Key: "k"})
		wantError(t, err, object.AsError(err).Code, object.MaybeDone)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the call took %v, want 5s at most", took)
		}
	})
}
