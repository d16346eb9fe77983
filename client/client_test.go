package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
