package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestClientOfThree: a client that was given one address of three nodes learns the
// others, asks owners, and goes on, its tail too, when that node dies.
func TestClientOfThree(t *testing.T) {
	c := startTrio(t)
	cl, err := client.Dial(t.Context(), client.Config{Addrs: []string{c.nodes[0].Addr().String()}, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	now := time.Now().Unix()
	tl, err := cl.Tail(client.TailOptions{From: now}) // it waits for the others to be learnt
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	const blobs = 60
	var tailing sync.WaitGroup
	begun := make(chan struct{}) // the first item came
	tailing.Go(func() {
		defer tl.Close()
		seen := make(map[string]bool)
		for len(seen) < blobs {
			item, err := tl.Next(ctx)
			if err != nil {
				t.Errorf("the tail ended after %d of %d blobs: %v", len(seen), blobs, err)
				return
			}
			if item.Kind == client.KindBlob {
				if len(seen) == 0 {
					close(begun)
				}
				seen[item.Blob.Key.String()] = true
			}
			item.Release()
		}
	})
	value := make([]byte, 2000)
	key := func(i int) string { return fmt.Sprintf("%d:ams:WEB:app:%d", now, i) }
	put := func(from, to int) {
		t.Helper()
		var recs []object.Record
		for i := from; i < to; i++ {
			rec, err := cl.Encode(client.Object{Bucket: "events", Key: key(i), Value: value, EventCount: 1, Writer: "w", Incarnation: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			recs = append(recs, rec)
		}
		for i, err := range cl.PutBatch(ctx, recs) {
			if err != nil {
				t.Fatalf("blob %d: %v", from+i, err)
			}
		}
	}
	check := func(to int) {
		t.Helper()
		for i := range to {
			rec, err := cl.Get(ctx, "", "events", key(i))
			if err != nil {
				t.Fatalf("blob %d: %v", i, err)
			}
			rec.Release()
		}
		if keys, certain, err := cl.Keys(ctx, now, "ams"); err != nil || !certain || len(keys) != to {
			t.Errorf("%d keys of %d, certain %v, %v", len(keys), to, certain, err)
		}
	}
	put(0, blobs/2)
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("nothing came from the tail")
	}
	check(blobs / 2)
	before := cl.Stats()
	if before.Endpoints != 3 || before.Routed == 0 {
		t.Errorf("nothing was learnt: %+v", before)
	}
	stop(t, c.nodes[0])
	put(blobs/2, blobs)
	check(blobs)
	tailing.Wait()
	if s := cl.Stats(); s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}
