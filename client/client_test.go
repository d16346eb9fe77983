package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// onNet runs f in fake time with a network of one node, "a:1", and a client.
func onNet(t *testing.T, cfg Config, f func(t *testing.T, n *fakeNet, c *Client)) {
	t.Helper()
	nothingLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			if cfg.Addrs == nil {
				cfg.Addrs = []string{"a:1"}
			}
			n := newFakeNet(cfg.Addrs...)
			c := n.client(t, cfg)
			defer func() {
				c.Close()
				n.close()
				if b := c.Stats().InFlightBytes; b != 0 {
					t.Errorf("%d bytes are still accounted for", b)
				}
			}()
			f(t, n, c)
		})
	})
}

func TestConfigReportsAllFaults(t *testing.T) {
	_, err := New(Config{Addrs: []string{"nohost", "a:1", "a:1"}, Timeout: -1, Conns: 100, User: strings.Repeat("u", 300)})
	for _, want := range []string{`"nohost" is not host:port`, `"a:1" is given twice`, "timeout", "100 connections", "300 bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("without addresses: %v", err)
	}
}

func blobKey(epoch int64, chunk int) string { return fmt.Sprintf("%d:ams:WEB:app:%d", epoch, chunk) }

func TestEverydayCalls(t *testing.T) {
	onNet(t, Config{User: "ann"}, func(t *testing.T, _ *fakeNet, c *Client) {
		ctx, now := t.Context(), time.Now().Unix()
		value := bytes.Repeat([]byte("v"), 100_000)
		o := Object{Bucket: "events", Key: blobKey(now, 0), Value: value, EventCount: 7, Writer: "w", Incarnation: 9, Metadata: object.AppendField(nil, "k", []byte("v"))}
		if err := c.Put(ctx, o); err != nil {
			t.Fatal(err)
		}
		rec, err := c.Get(ctx, "", "events", o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(rec.Value(), value) || rec.EventCount != 7 || string(rec.Writer) != "w" || string(rec.Type) != "default" {
			t.Errorf("got %+v", rec.Header)
		}
		rec.Release()
		h, err := c.Head(ctx, "", "events", o.Key)
		if err != nil || h.ValueBytes != 100_000 || string(h.Key) != o.Key {
			t.Errorf("head: %+v, %v", h, err)
		}

		w := index.Writer{Name: "w", Incarnation: 9}
		at := event.IndexKey{Epoch: now, DC: "ams"}
		if err := c.AppendIndex(ctx, at, index.Row{Sections: []index.Section{{Writer: w, Hello: true}}}); err != nil {
			t.Error(err)
		}
		row, certain, err := c.Row(ctx, at)
		if err != nil || !certain || row.Len() != 1 || row.Section(w) == nil || !row.Section(w).Hello {
			t.Errorf("row: %+v, %v, %v", row, certain, err)
		}
		keys, certain, err := c.Keys(ctx, now, "ams")
		if err != nil || !certain || len(keys) != 1 || keys[0].String() != o.Key {
			t.Errorf("keys: %v, %v, %v", keys, certain, err)
		}

		if err := c.Delete(ctx, "", "events", o.Key); err != nil {
			t.Error(err)
		}
		_, err = c.Get(ctx, "", "events", o.Key)
		wantError(t, err, object.CodeAbsent, object.NotDone)
		if keys, _, err := c.Keys(ctx, now, "ams"); err != nil || len(keys) != 0 {
			t.Errorf("keys after delete: %v, %v", keys, err)
		}
		if row, _, _ := c.Row(ctx, at); row.Len() != 1 {
			t.Error("the erased blob has no entry in its writer's section")
		}
		wantError(t, c.Delete(ctx, "", "events", o.Key), object.CodeAbsent, object.NotDone)

		info, err := c.Info(ctx)
		if err != nil || info.Name != "fake" {
			t.Errorf("info: %+v, %v", info, err)
		}
		if s := c.Stats(); s.Retries != 0 || s.Failures != 0 || s.Dials > 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBadRequestsStayHere: what no node would take is refused without asking one.
func TestBadRequestsStayHere(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		ctx := t.Context()
		_, getErr := c.Get(ctx, "", "", "k")
		_, headErr := c.Head(ctx, "", "b", "")
		_, _, rowErr := c.Row(ctx, event.IndexKey{Epoch: -1, DC: "ams"})
		_, tailErr := c.Tail(TailOptions{DC: "a b"})
		_, cursorErr := c.Tail(TailOptions{Cursor: "mft1.nonsense"})
		for name, err := range map[string]error{
			"no key":         c.Put(ctx, Object{Bucket: "b"}),
			"no bucket":      c.Put(ctx, Object{Key: "k"}),
			"a long key":     c.Put(ctx, Object{Bucket: "b", Key: strings.Repeat("k", 5000)}),
			"get":            getErr,
			"head":           headErr,
			"row":            rowErr,
			"append":         c.AppendIndex(ctx, event.IndexKey{Epoch: 1, DC: "x y"}, index.Row{}),
			"tail":           tailErr,
			"a wrong cursor": cursorErr,
		} {
			if err == nil {
				t.Errorf("%s was taken", name)
				continue
			}
			wantError(t, err, object.CodeBadRequest, object.NotDone)
		}
		wantError(t, c.Put(ctx, Object{Bucket: "b", Key: "k", Value: make([]byte, object.MaxValueBytes+1)}), object.CodeTooLarge, object.NotDone)
		if n.dials("a:1") != 0 {
			t.Error("a node was asked")
		}
	})
}

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

func TestCallersContextEndsACall(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		n.set("a:1", func(ctx context.Context, _ *wire.Request) (wire.Answer, bool, error) {
			<-ctx.Done()
			return wire.Answer{}, true, ctx.Err()
		}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err := c.Put(ctx, Object{Bucket: "b", Key: "k"})
		wantError(t, err, object.CodeDeadline, object.MaybeDone)
		if !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestBatchTellsRecordsApart: of a batch some are stored, some refused for good,
// some only for now: these alone are sent again.
func TestBatchTellsRecordsApart(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tries := make(map[string]int)
		n.store.refuse = func(key string) error {
			tries[key]++
			switch {
			case strings.HasPrefix(key, "bad"):
				return object.Errorf(object.CodeConflict, object.NotDone, "other bytes")
			case strings.HasPrefix(key, "later") && tries[key] < 3:
				return object.Errorf(object.CodeLowSpace, object.MaybeDone, "not now")
			case strings.HasPrefix(key, "never"):
				return object.Errorf(object.CodeOverload, object.NotDone, "never now")
			case strings.HasPrefix(key, "perhaps"):
				if tries[key] == 1 {
					return object.Errorf(object.CodeUnavailable, object.MaybeDone, "one of two")
				}
				return object.Errorf(object.CodeConflict, object.NotDone, "other bytes")
			}
			return nil
		}
		var recs []object.Record
		for _, key := range []string{"good1", "bad1", "later1", "good2", "never1", "perhaps1"} {
			rec, err := c.Encode(Object{Bucket: "b", Key: key, Value: []byte(key)})
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			recs = append(recs, rec)
		}
		errs := c.PutBatch(t.Context(), recs)
		for i, want := range []struct {
			code    object.Code
			outcome object.Outcome
		}{{}, {object.CodeConflict, object.NotDone}, {}, {}, {object.CodeOverload, object.NotDone}, {object.CodeConflict, object.MaybeDone}} {
			if want.code == 0 {
				if errs[i] != nil {
					t.Errorf("%s: %v", recs[i].Key, errs[i])
				}
				continue
			}
			wantError(t, errs[i], want.code, want.outcome)
		}
		if tries["good1"] != 1 || tries["bad1"] != 1 || tries["later1"] != 3 || tries["perhaps1"] != 2 {
			t.Errorf("tried %v", tries)
		}
	})
}

// TestBatchIsDivided: more records or bytes than one request takes.
func TestBatchIsDivided(t *testing.T) {
	t.Run("by bytes", func(t *testing.T) { testBatchIsDivided(t, 100, 10, 4) })
	t.Run("by records", func(t *testing.T) { testBatchIsDivided(t, proto.MaxBatch+10, proto.MaxBatch+10, 2) })
}

// testBatchIsDivided puts a batch in which one record in large has 500 KB.
func testBatchIsDivided(t *testing.T, records, large, atLeast int) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		var mu sync.Mutex
		var calls []int
		n.set("a:1", func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if r.Op == proto.OpPutBatch {
				calls = append(calls, len(r.Body))
			}
			return wire.Answer{}, false, nil
		}, nil)
		var recs []object.Record
		for i := range records {
			size := 10
			if i%large == 1 {
				size = 500_000
			}
			rec, err := c.Encode(Object{Bucket: "b", Key: fmt.Sprint(i), Value: make([]byte, size)})
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			recs = append(recs, rec)
		}
		for i, err := range c.PutBatch(t.Context(), recs) {
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		if len(calls) < atLeast || len(n.store.puts) != len(recs) {
			t.Errorf("%d requests, %d records", len(calls), len(n.store.puts))
		}
		for _, size := range calls {
			if size > maxBatchBytes {
				t.Errorf("a request of %d bytes", size)
			}
		}
		if errs := c.PutBatch(t.Context(), nil); len(errs) != 0 {
			t.Errorf("an empty batch: %v", errs)
		}
	})
}

// TestBatchThatNeverArrives: every record gets the error.
func TestBatchThatNeverArrives(t *testing.T) {
	onNet(t, Config{Timeout: time.Second}, func(t *testing.T, n *fakeNet, c *Client) {
		n.kill("a:1")
		rec, err := c.Encode(Object{Bucket: "b", Key: "k"})
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Release()
		for _, err := range c.PutBatch(t.Context(), []object.Record{rec, rec}) {
			wantError(t, err, object.CodeUnavailable, object.NotDone)
		}
	})
}

// TestBytesInFlight: no more than the bound are under way at once; the rest wait
// their turn.
func TestBytesInFlight(t *testing.T) {
	onNet(t, Config{MaxInFlightBytes: 250_000}, func(t *testing.T, n *fakeNet, c *Client) {
		var now, most atomic.Int32
		n.set("a:1", func(context.Context, *wire.Request) (wire.Answer, bool, error) {
			if v := now.Add(1); v > most.Load() {
				most.Store(v)
			}
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			return wire.Answer{}, false, nil
		}, nil)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := c.Put(t.Context(), Object{Bucket: "b", Key: fmt.Sprint(i), Value: make([]byte, 100_000)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 {
			t.Errorf("%d puts of 100 KB were under way, the bound is 250 KB", most.Load())
		}
	})
}

// TestDamagedAnswers: a value whose checksum does not match is never handed out;
// another attempt may bring a good one.
func TestDamagedAnswers(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		if err := c.Put(t.Context(), Object{Bucket: "b", Key: "k", Value: []byte("value")}); err != nil {
			t.Fatal(err)
		}
		bad := 2
		n.store.damage = func(string) bool { bad--; return bad >= 0 }
		rec, err := c.Get(t.Context(), "", "b", "k")
		if err != nil || string(rec.Value()) != "value" {
			t.Fatalf("%v", err)
		}
		rec.Release()
		n.store.damage = func(string) bool { return true }
		_, err = c.Get(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeCorrupt, object.NotDone)

		// An answer about another object is no answer.
		n.store.damage = nil
		n.set("a:1", func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
			other, _ := c.Encode(Object{Bucket: "b", Key: "other"})
			return wire.Answer{Body: wire.Piece{Bytes: other.Raw(), Buf: other.Buf}}, r.Op == proto.OpGet || r.Op == proto.OpHead, nil
		}, nil)
		_, err = c.Get(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeCorrupt, object.NotDone)
		_, err = c.Head(t.Context(), "", "b", "k")
		wantError(t, err, object.CodeCorrupt, object.NotDone)
	})
}

// TestLaterPutWins: two puts in one microsecond, by one client, or by one whose
// clock went back, have ascending versions; and a delete takes what is there
// although another clock stamped it.
func TestLaterPutWins(t *testing.T) {
	clock := time.Now()
	onNet(t, Config{Now: func() time.Time { return clock }}, func(t *testing.T, _ *fakeNet, c *Client) {
		for i := range 10 {
			clock = clock.Add(-time.Duration(i) * time.Millisecond)
			value := fmt.Sprint(i)
			if err := c.Put(t.Context(), Object{Bucket: "b", Key: "k", Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
			rec, err := c.Get(t.Context(), "", "b", "k")
			if err != nil || string(rec.Value()) != value {
				t.Fatalf("after put %d: %q, %v", i, rec.Value(), err)
			}
			rec.Release()
		}
		if err := c.Put(t.Context(), Object{Bucket: "b", Key: "ahead", TimestampMicros: clock.Add(time.Hour).UnixMicro()}); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "", "b", "ahead"); err != nil {
			t.Fatal(err)
		}
		_, err := c.Get(t.Context(), "", "b", "ahead")
		wantError(t, err, object.CodeAbsent, object.NotDone)
	})
}

func TestEpochsHaveTwoSpellings(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		rec, err := c.Encode(Object{Bucket: "epochs", Key: "77:ams"})
		if err != nil {
			t.Fatal(err)
		}
		n.set("a:1", func(context.Context, *wire.Request) (wire.Answer, bool, error) {
			r := rec.Retain()
			return wire.Answer{Body: wire.Piece{Bytes: r.Raw(), Buf: r.Buf}}, true, nil
		}, nil)
		got, err := c.Get(t.Context(), "", "epochs", "77-ams")
		if err != nil {
			t.Error(err)
		}
		got.Release()
		rec.Release()
	})
}

func TestCloseEndsCalls(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		n.set("a:1", func(ctx context.Context, _ *wire.Request) (wire.Answer, bool, error) {
			<-ctx.Done()
			return wire.Answer{}, true, ctx.Err()
		}, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: "k"}), object.CodeUnavailable, object.MaybeDone)
		})
		synctest.Wait()
		start := time.Now()
		c.Close()
		c.Close()
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("closing took %v", took)
		}
		wantError(t, c.Put(t.Context(), Object{Bucket: "b", Key: "k"}), object.CodeStopping, object.NotDone)
	})
}

func TestDial(t *testing.T) {
	if _, err := Dial(t.Context(), Config{}); err == nil {
		t.Error("without addresses")
	}
	_, err := Dial(t.Context(), Config{Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}})
	wantError(t, err, object.CodeUnavailable, object.NotDone)
	for _, a := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		if !strings.Contains(err.Error(), a) {
			t.Errorf("%q does not name %s", err, a)
		}
	}
}
