package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
	"github.com/mayflydb/mayfly/internal/wire"
)

// putBlob stores a blob of this second past the client under test.
func putBlob(t testing.TB, n *fakeNet, chunk int) string {
	t.Helper()
	return putBlobAs(t, n, blobKey(time.Now().Unix(), chunk))
}

func putBlobAs(t testing.TB, n *fakeNet, key string) string {
	t.Helper()
	rec, err := object.Encode(object.Header{
		Kind: object.Value, EventCount: 1, TimestampMicros: time.Now().UnixMicro(),
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key), Writer: []byte("w"), Incarnation: 1,
	}, []byte("value of "+key))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	if err := n.store.Put(context.Background(), rec); err != nil {
		t.Fatal(err)
	}
	return key
}

// A taker follows a tail and notes the blobs.
type taker struct {
	seen  map[string]int
	gaps  int
	marks int
}

func (k *taker) take(t testing.TB, item *Item) {
	switch item.Kind {
	case KindBlob:
		key := item.Blob.Key.String()
		if k.seen[key]++; k.seen[key] > 1 {
			t.Errorf("%s came %d times", key, k.seen[key])
		}
		if v := string(item.Blob.Record.Value()); v != "value of "+key {
			t.Errorf("%s came with %q", key, v)
		}
	case KindWatermark:
		k.marks++
	case KindGap:
		k.gaps++
		t.Errorf("a gap: %+v", item.Gap)
	}
	item.Release()
}

// TestTailSurvivesEverything: while blobs come, connections are cut, nodes die and
// come back, and the reader itself stops and resumes by its cursor. Every blob
// comes once.
func TestTailSurvivesEverything(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			onNet(t, Config{Addrs: []string{"a:1", "b:1"}}, func(t *testing.T, n *fakeNet, c *Client) {
				source := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
				ctx, cancel := context.WithCancel(t.Context())
				var trouble, reading sync.WaitGroup
				put := make(map[string]bool)
				k := &taker{seen: make(map[string]int)}
				o := TailOptions{}

				reading.Go(func() {
					rng := source(1)
					for ctx.Err() == nil {
						tl, err := c.Tail(o)
						if err != nil {
							t.Error(err)
							return
						}
						for range 1 + rng.IntN(40) {
							item, err := tl.Next(ctx)
							if err != nil {
								break
							}
							k.take(t, &item)
						}
						o.Cursor = tl.Cursor()
						tl.Close()
					}
				})
				time.Sleep(time.Second) // the tail begins in the present
				trouble.Go(func() {
					rng := source(2)
					for range 40 {
						time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
						switch a := []string{"a:1", "b:1"}[rng.IntN(2)]; rng.IntN(3) {
						case 0, 1:
							n.cut(a)
						case 2:
							n.kill(a)
							time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
							n.start(a)
						}
					}
				})
				rng := source(3)
				for i := range 400 {
					time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
					put[putBlob(t, n, i)] = true
				}
				trouble.Wait()
				time.Sleep(time.Minute) // all is in order again
				cancel()
				reading.Wait()
				for key := range put {
					if k.seen[key] == 0 {
						t.Errorf("%s never came", key)
					}
				}
				if at, err := cursor.Parse(o.Cursor); err != nil || at.Low() < time.Now().Unix()-60 {
					t.Errorf("the cursor did not move with the tail: it remembers %d deliveries since %d, %v", at.Len(), at.Low(), err)
				}
				if c.Stats().TailResumes < 5 {
					t.Errorf("the tail was interrupted %d times only", c.Stats().TailResumes)
				}
			})
		})
	}
}

// TestTailFromNowIsPinned: the tail begins in the second in which it was first
// asked for, although its first connection brought nothing.
func TestTailFromNowIsPinned(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		if tl.Cursor() != "" {
			t.Errorf("a tail that has not begun has the cursor %q", tl.Cursor())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := tl.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if tl.Cursor() == "" {
			t.Error("the tail has begun and has no cursor")
		}
		n.kill("a:1")
		key := putBlob(t, n, 0)
		time.Sleep(30 * time.Second)
		n.start("a:1")
		for {
			item, err := tl.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := item.Kind == KindBlob && item.Blob.Key.String() == key
			item.Release()
			if found {
				break
			}
		}
	})
}

// TestTailOutlivesOneNext: the deadline of a Next is not the stream's.
// TestTailBeginsWhenItIsAsked: a tail from now that finds its node only later has
// what came meanwhile.
func TestTailBeginsWhenItIsAsked(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		n.kill("a:1")
		tail, err := c.Tail(TailOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		key := putBlob(t, n, 0)
		time.AfterFunc(3*time.Second, func() { n.start("a:1") })
		item, err := tail.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer item.Release()
		if item.Kind != KindBlob || item.Blob.Key.String() != key {
			t.Errorf("got %+v, want %s", item, key)
		}
	})
}

func TestTailOutlivesOneNext(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{From: time.Now().Unix(), DC: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if item, err := tl.Next(ctx); err == nil {
				item.Release()
			}
			cancel()
		}
		if s := c.Stats(); s.Dials != 2 || s.TailResumes != 0 { // its own, and that on which it was asked for others
			t.Errorf("%+v", s)
		}
	})
}

// TestTailMendsDamage: a body damaged on its way is read again; one that is
// damaged everywhere becomes a gap, and the tail goes on.
func TestTailMendsDamage(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		bad := make(map[string]int) // key -> reads still damaged
		n.store.damage = func(key string) bool { bad[key]--; return bad[key] >= 0 }
		now := time.Now().Unix()
		mended, lost := putBlob(t, n, 0), putBlob(t, n, 1)
		bad[mended], bad[lost] = 1, 1000
		time.Sleep(2 * time.Second) // the tail finds both in the index, and reads their bodies
		tl, err := c.Tail(TailOptions{From: now})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		for got := 0; got < 2; {
			item, err := tl.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			switch item.Kind {
			case KindBlob:
				got++
				if key := item.Blob.Key.String(); key != mended || string(item.Blob.Record.Value()) != "value of "+key {
					t.Errorf("got %s", key)
				}
			case KindGap:
				got++
				if item.Gap.Key.String() != lost || !errors.Is(item.Gap.Err, object.CodeCorrupt) {
					t.Errorf("a gap: %+v", item.Gap)
				}
			}
			item.Release()
		}
		if c.Stats().Corrupt < 2 {
			t.Errorf("%+v", c.Stats())
		}
	})
}

// TestTailKeepsWhatItCouldNotMend: the reader goes away while a damaged body is
// read again. The blob was not taken, so it comes with the next Next.
func TestTailKeepsWhatItCouldNotMend(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		bad := 1
		n.store.damage = func(string) bool { bad--; return bad >= 0 }
		now := time.Now().Unix()
		key := putBlob(t, n, 0)
		time.Sleep(2 * time.Second)
		n.set("a:1", func(ctx context.Context, r *wire.Request) (wire.Answer, bool, error) {
			if r.Op == proto.OpGet {
				<-ctx.Done()
			}
			return wire.Answer{}, r.Op == proto.OpGet, ctx.Err()
		}, nil)
		tl, err := c.Tail(TailOptions{From: now})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		for {
			ctx, cancel := context.WithCancel(t.Context())
			stop := time.AfterFunc(time.Second, cancel)
			item, err := tl.Next(ctx)
			stop.Stop()
			cancel()
			if errors.Is(err, context.Canceled) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			done := item.Kind == KindBlob && item.Blob.Key.String() == key
			if item.Kind == KindGap || time.Now().Unix() > now+600 {
				t.Fatalf("the blob did not come again: %+v", item)
			}
			item.Release()
			if done {
				break
			}
		}
	})
}

// TestTailGoesToAnotherNode when one takes no more tails.
func TestTailGoesToAnotherNode(t *testing.T) {
	onNet(t, Config{Addrs: []string{"a:1", "b:1", "c:1"}}, func(t *testing.T, n *fakeNet, c *Client) {
		for _, a := range []string{"a:1", "c:1"} {
			n.set(a, func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
				return wire.Answer{}, r.Op == proto.OpTail, object.Errorf(object.CodeOverload, object.NotDone, "too many tails")
			}, nil)
		}
		tl, err := c.Tail(TailOptions{From: time.Now().Unix()})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		putBlob(t, n, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		item, err := tl.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		item.Release()
	})
}

// TestTailThatNobodyServes: what the node refuses for good ends the tail, what it
// refuses for now does not.
func TestTailThatNobodyServes(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{From: time.Now().Unix() + 3600})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tl.Next(t.Context())
		wantError(t, err, object.CodeTooFarAhead, object.NotDone)
		tl.Close()

		n.set("a:1", func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
			return wire.Answer{}, r.Op == proto.OpTail, object.Errorf(object.CodeOverload, object.NotDone, "too many tails")
		}, nil)
		if tl, err = c.Tail(TailOptions{From: 1000}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := tl.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := n.dials("a:1"); d > 100 {
			t.Errorf("it asked %d times in a minute", d)
		}
		tl.Close()
	})
}

// TestTailWithALongCursor: what a node would not take in one request is no
// reason to lose one's place.
func TestTailWithALongCursor(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{From: time.Now().Unix()})
		if err != nil {
			t.Fatal(err)
		}
		const blobs = 7000
		for i := range blobs {
			putBlobAs(t, n, fmt.Sprintf("%d:dc%d:WEB:app:%d", time.Now().Unix(), i%100, i))
		}
		k := &taker{seen: make(map[string]int)}
		for len(k.seen) < blobs {
			item, err := tl.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			k.take(t, &item)
		}
		at := tl.Cursor()
		tl.Close()
		if len(at) < maxCursorBytes {
			t.Fatalf("a cursor of %d bytes is not long", len(at))
		}
		if tl, err = c.Tail(TailOptions{Cursor: at}); err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		last := putBlob(t, n, blobs)
		for k.seen[last] == 0 {
			item, err := tl.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			k.take(t, &item)
		}
	})
}

// TestTailDeliversWatermarks, with what the writers said.
func TestTailDeliversWatermarks(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{From: time.Now().Unix(), WithoutBodies: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		putBlob(t, n, 0)
		var blobs int
		for item, err := range tl.Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if item.Kind == KindBlob {
				blobs++
				if item.Blob.Record.Raw() != nil || item.Blob.Entry.Events != 1 || !strings.HasSuffix(item.Blob.Entry.Suffix, ":0") {
					t.Errorf("%+v", item.Blob)
				}
			}
			if item.Kind == KindWatermark && item.Watermark.Verdict.State == index.Incomplete {
				break
			}
		}
		if blobs != 1 {
			t.Errorf("%d blobs before the watermark", blobs)
		}
	})
}

func TestCloseEndsTails(t *testing.T) {
	onNet(t, Config{}, func(t *testing.T, n *fakeNet, c *Client) {
		tl, err := c.Tail(TailOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				item, err := tl.Next(t.Context())
				if err != nil {
					wantError(t, err, object.CodeStopping, object.NotDone)
					return
				}
				item.Release()
			}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		c.Close()
		wg.Wait()
		tl.Close()
	})
}
