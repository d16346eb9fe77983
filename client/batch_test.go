package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

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
