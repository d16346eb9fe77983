package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const ms = time.Millisecond

// A slow replica must not slow the caller, and must still get its copy although
// the caller's context ends as soon as Put returns.
func TestPutReturnsAtQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		r.nodes[0].delay, r.nodes[1].delay, r.nodes[2].delay = 80*ms, 5*ms, 1*ms
		ctx, cancel := context.WithCancel(t.Context())
		rec := blob(t, time.Now().Unix(), 0, "value")
		start := time.Now()
		if err := r.c.Put(ctx, rec); err != nil {
			t.Fatal(err)
		}
		cancel()
		rec.Release()
		if took := time.Since(start); took != 5*ms {
			t.Errorf("Put took %v, want 5 ms: the second fastest of three", took)
		}
		if s := r.c.Stats(); s.LingerBytes == 0 || s.Active != 1 {
			t.Errorf("the slow copy is not counted: %+v", s)
		}
		time.Sleep(100 * ms)
		if n := r.holders(&rec); n != 3 {
			t.Errorf("%d nodes have it, want 3", n)
		}
	})
}

func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		r.nodes[1].delay, r.nodes[2].delay = 5*ms, 6*ms
		ctx, cancel := context.WithTimeout(t.Context(), 2*ms)
		defer cancel()
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		err := r.c.Put(ctx, rec)
		if !errors.Is(err, object.CodeDeadline) || object.AsError(err).Outcome != object.MaybeDone {
			t.Errorf("the caller was told %v", err)
		}
		time.Sleep(10 * ms)
		if n := r.holders(&rec); n != 3 {
			t.Errorf("%d nodes have it: the caller's end cost it a copy", n)
		}
		if s := r.c.Stats(); s.Late != 0 || s.Owed.Added != 0 {
			t.Errorf("nobody waited for the copies: %+v", s)
		}
		if err := r.c.Put(ctx, rec); object.AsError(err).Outcome != object.NotDone {
			t.Errorf("a caller without time was told %v", err)
		}
	})
}

func TestFewerNodesThanCopies(t *testing.T) {
	for n := 1; n <= 4; n++ {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, n, 0, nil)
			defer r.close()
			rec := blob(t, time.Now().Unix(), 0, "value")
			defer rec.Release()
			for range 2 { // the second is an identical retry
				if err := r.c.Put(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
			if got := r.holders(&rec); got != min(n, 3) {
				t.Errorf("%d nodes: %d copies", n, got)
			}
			if v, err := r.get(&rec); v != "value" || err != nil {
				t.Errorf("%d nodes: got %q, %v", n, v, err)
			}
			other := blob(t, time.Now().Unix(), 1, "value")
			defer other.Release()
			if _, err := r.get(&other); !errors.Is(err, object.CodeAbsent) {
				t.Errorf("%d nodes: absent is %v", n, err)
			}
		})
	}
}

// TestOneNodeSpeaksForItself: with one owner its error is the caller's.
func TestOneNodeSpeaksForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, 0, nil)
		defer r.close()
		r.nodes[0].fail = full
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		if err := r.c.Put(t.Context(), rec); err != error(full) {
			t.Errorf("got %v", err)
		}
	})
}

// TestNothingIsOwedTooEarly: a copy that one owner refused is owed when the others
// have answered, not before: there would be nothing to pay it with.
func TestNothingIsOwedTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		r.nodes[0].delay, r.nodes[1].delay = 10*ms, 20*ms
		r.nodes[2].fail = full
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		done := make(chan error, 1)
		go func() { done <- r.c.Put(t.Context(), rec) }()
		time.Sleep(5 * ms)
		if n := r.c.Owed().Stats().Added; n != 0 {
			t.Errorf("%d copies are owed while nobody has the record", n)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d := r.c.Owed().Debts(r.nodes[2].id); len(d) != 1 || len(d[0].Keys) != 1 {
			t.Errorf("owed after the write: %+v", d)
		}
	})
}

func TestSilentReplicaIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		r.nodes[2].hang = true
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		if err := r.c.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if n := r.c.Owed().Stats().Added; n != 0 {
			t.Errorf("owed before its time was over: %d", n)
		}
		time.Sleep(2 * time.Second)
		debts := r.c.Owed().Debts(r.nodes[2].id)
		if len(debts) != 1 || len(debts[0].Keys) != 1 || debts[0].Keys[0] != string(rec.Key) || debts[0].Bucket != "events" {
			t.Errorf("owed %+v", debts)
		}
		r.nodes[2].release() // an answer after the end
		if s := r.c.Stats(); s.Late != 1 || s.FlightBytes != 0 {
			t.Errorf("the late answer: %+v", s)
		}
	})
}

// TestAnswersTwice: a second answer, even much later, counts for nothing.
func TestAnswersTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		r.nodes[1].twice, r.nodes[1].delay = true, ms
		r.nodes[0].fail, r.nodes[2].fail = full, full
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		if err := r.c.Put(t.Context(), rec); !errors.Is(err, object.CodeLowSpace) {
			t.Errorf("one node that answered twice made two: %v", err)
		}
		if s := r.c.Stats(); s.Stray != 0 { // the reply came with the failures, the strays with the answer
			t.Errorf("%d stray answers", s.Stray)
		}
		time.Sleep(2 * ms)
		if s := r.c.Stats(); s.Stray != 1 {
			t.Errorf("%d stray answers, want 1", s.Stray)
		}
	})
}

// TestStaleAnswer: the operation's memory serves another put when an old
// replica answers for the first one again.
func TestStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		var stale []func()
		for _, f := range r.nodes {
			r.c.cfg.Replica = wrapPut(r.c.cfg.Replica, f.id, func(ask Ask, done func(uint64, *object.Error)) {
				stale = append(stale, func() { done(ask.Call, nil) })
			})
		}
		first := blob(t, time.Now().Unix(), 0, "value")
		defer first.Release()
		if err := r.c.Put(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		old := stale
		for _, f := range r.nodes {
			f.hang = true
		}
		second := blob(t, time.Now().Unix(), 1, "value")
		defer second.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		time.AfterFunc(10*ms, func() {
			for _, again := range old {
				again()
			}
		})
		if err := r.c.Put(ctx, second); !errors.Is(err, object.CodeDeadline) {
			t.Errorf("answers to another put acknowledged this one: %v", err)
		}
		if s := r.c.Stats(); s.Stray != 3 {
			t.Errorf("%d stray answers, want 3", s.Stray)
		}
		for _, f := range r.nodes {
			f.release()
		}
	})
}

// wrapPut lets f see the puts to one node.
func wrapPut(find func(ring.NodeID) Replica, id ring.NodeID, f func(Ask, func(uint64, *object.Error))) func(ring.NodeID) Replica {
	return func(want ring.NodeID) Replica {
		to := find(want)
		if want != id {
			return to
		}
		return putSpy{to, f}
	}
}

type putSpy struct {
	Replica
	see func(Ask, func(uint64, *object.Error))
}

func (s putSpy) Put(ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	s.see(ask, done)
	s.Replica.Put(ask, rec, done)
}

// TestRemoteFirst: the others are asked before the local disk is waited for, which
// is done on the caller's goroutine.
func TestRemoteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		me := goroutine()
		r.nodes[1].delay, r.nodes[2].delay = ms, ms
		local := 0
		r.nodes[0].before = func(*fake) {
			local++
			if r.nodes[1].puts.Load()+r.nodes[2].puts.Load() != int64(2*local) {
				t.Error("the local replica is asked before the others")
			}
			if goroutine() != me {
				t.Error("the local replica is asked on another goroutine")
			}
		}
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		if err := r.c.Put(t.Context(), rec); err != nil || local != 1 {
			t.Errorf("%d local puts, %v", local, err)
		}
		time.Sleep(5 * ms)
	})
}

func goroutine() string {
	var room [64]byte
	b := room[:runtime.Stack(room[:], false)]
	return string(bytes.Fields(b)[1])
}

// TestSlowPeerIsBounded: what is under way to a node that does not answer stops
// at its bound; puts go on without it, and it is owed.
func TestSlowPeerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, func(c *Config) { c.PeerBytes = 10_000 })
		defer r.close()
		r.nodes[2].hang = true
		const puts = 50
		value := string(make([]byte, 1000))
		for i := range puts {
			rec := blob(t, time.Now().Unix(), i, value)
			if err := r.c.Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			rec.Release()
		}
		sent := r.nodes[2].puts.Load()
		s := r.c.Stats()
		if sent < 5 || sent > 10 || s.FlightBytes > 10_000 || s.CopiesRefused != uint64(puts-sent) {
			t.Errorf("%d copies were sent, %+v", sent, s)
		}
		if got := len(r.c.Owed().Debts(r.nodes[2].id)[0].Keys); got != puts-int(sent) {
			t.Errorf("%d keys are owed, want %d", got, puts-sent)
		}
		huge := blob(t, time.Now().Unix(), puts, string(make([]byte, 50_000)))
		defer huge.Release()
		if err := r.c.Put(t.Context(), huge); err != nil || !r.nodes[1].has(mapKey(huge.Type, huge.Bucket, huge.Key)) {
			t.Errorf("an object above the bound does not go alone: %v", err)
		}
		r.nodes[2].release()
		time.Sleep(11 * time.Second)
	})
}

// TestLingeringIsBounded: acknowledged puts wait for their last copies only within
// a bound.
func TestLingeringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, func(c *Config) { c.LingerBytes = 5_000 })
		defer r.close()
		r.nodes[2].hang = true
		value := string(make([]byte, 1000))
		for i := range 20 {
			rec := blob(t, time.Now().Unix(), i, value)
			if err := r.c.Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			rec.Release()
		}
		s := r.c.Stats()
		if s.LingerBytes > 5_000 || s.Active > 5 || s.CopiesAbandoned != uint64(20-s.Active) || s.Owed.Keys != 20-s.Active {
			t.Errorf("%+v", s)
		}
		r.nodes[2].release()
		if s := r.c.Stats(); s.LingerBytes != 0 || s.Active != 0 {
			t.Errorf("after the answers: %+v", s)
		}
	})
}

// TestReroute: an owner that knows a newer history makes the put begin again
// under it, once.
func TestReroute(t *testing.T) {
	wrong := object.Errorf(object.CodeWrongOwner, object.NotDone, "it is not mine")
	for _, self := range []int{-1, 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, self, nil)
			defer r.close()
			for i := 3; i < 6; i++ {
				r.nodes = append(r.nodes, newFake(nodeID(i)))
			}
			// Node 1 of the old owners refuses, and all learn the new history then: the
			// local node (if any) and two others own from now on.
			keep := 0
			for i := range 3 {
				if r.nodes[0].id == nodeID(i) {
					keep = i
				}
			}
			newer := testHistory(t, 2, keep, 3, 4)
			for _, f := range r.nodes[1:3] {
				f.delay, f.fail = ms, wrong
				f.before = func(*fake) { r.past.Store(newer) }
			}
			me, local := goroutine(), 0
			if self == 0 {
				r.nodes[0].before = func(*fake) {
					if local++; goroutine() != me {
						t.Error("the local replica is asked on another goroutine")
					}
				}
			}
			rec := blob(t, time.Now().Unix(), 0, "value")
			defer rec.Release()
			if err := r.c.Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * ms)
			for _, id := range newer.Newest().Owners(ring.Partition{}) {
				f := r.node(id)
				if !f.has(mapKey(rec.Type, rec.Bucket, rec.Key)) || f.history != newer.Version() {
					t.Errorf("self %d: owner %v has not got it under history %v", self, id, f.history)
				}
			}
			if s := r.c.Stats(); s.Reroutes != 1 || self == 0 && local != 2 {
				t.Errorf("%d reroutes, %d local puts", s.Reroutes, local)
			}
		})
	}
}

// TestOverWhileSending: a write ends, and its caller leaves with the record, while
// it is being sent again from another goroutine.
func TestOverWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, func(c *Config) { c.LingerBytes = 1 })
		defer r.close()
		newer := testHistory(t, 2, 0, 1, 2)
		for _, f := range r.nodes {
			f.delay, f.fail = ms, object.Errorf(object.CodeWrongOwner, object.NotDone, "it is not mine")
			f.before = func(*fake) { r.past.Store(newer) }
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		find, asked := r.c.cfg.Replica, 0
		r.c.cfg.Replica = func(id ring.NodeID) Replica {
			if asked++; asked == 4 { // the first question under the new history
				cancel()
				<-left
			}
			return find(id)
		}
		rec := blob(t, time.Now().Unix(), 0, "value")
		if err := r.c.Put(ctx, rec); !errors.Is(err, object.CodeDeadline) {
			t.Errorf("got %v", err)
		}
		rec.Release()
		close(left)
		time.Sleep(5 * ms)
		if s := r.c.Stats(); s.CopiesAbandoned != 1 || s.Owed.Keys != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// TestWrongOwnerForGood: without a newer history there is nothing to begin again.
func TestWrongOwnerForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		for _, f := range r.nodes {
			f.fail = object.Errorf(object.CodeWrongOwner, object.NotDone, "it is not mine")
		}
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		if err := r.c.Put(t.Context(), rec); !errors.Is(err, object.CodeUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := r.get(&rec); !errors.Is(err, object.CodeUnknown) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPutBatch(t *testing.T) {
	for _, sync := range []bucket.Sync{bucket.SyncInterval, bucket.SyncAlways} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, 0, func(c *Config) {
				set, err := bucket.DefaultSet().Declare(bucket.Declaration{Name: "events", Sync: &sync})
				if err != nil {
					t.Fatal(err)
				}
				c.Buckets = func() *bucket.Set { return set }
			})
			defer r.close()
			for _, f := range r.nodes {
				f.delay = 5 * ms
			}
			taken := blob(t, time.Now().Unix(), 3, "other bytes")
			defer taken.Release()
			if err := r.c.Put(t.Context(), taken); err != nil {
				t.Fatal(err)
			}
			time.Sleep(ms)
			var recs []object.Record
			for i := range 40 {
				recs = append(recs, blob(t, time.Now().Unix(), i, fmt.Sprint("value", i)))
			}
			start := time.Now()
			errs := r.c.PutBatch(t.Context(), recs)
			if took := time.Since(start); took != 5*ms {
				t.Errorf("%s: 40 puts took %v, one takes 5 ms", sync, took)
			}
			synctest.Wait()
			for i, err := range errs {
				if i == 3 && !errors.Is(err, object.CodeConflict) || i != 3 && err != nil {
					t.Errorf("record %d: %v", i, err)
				}
				if n := r.holders(&recs[i]); n != 3 {
					t.Errorf("record %d has %d copies", i, n)
				}
				recs[i].Release()
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if errs := r.c.PutBatch(ctx, recs[:1]); !errors.Is(errs[0], object.CodeDeadline) {
				t.Errorf("a batch of one who has left: %v", errs)
			}
		})
	}
}

// TestBatchInWindows: a batch larger than what may be under way to a node passes.
func TestBatchInWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, func(c *Config) { c.PeerBytes = 3 * batchBytes })
		defer r.close()
		var recs []object.Record
		for i := range 24 {
			recs = append(recs, blob(t, time.Now().Unix(), i, string(make([]byte, 900_000))))
		}
		for _, f := range r.nodes {
			f.delay = ms
		}
		for i, err := range r.c.PutBatch(t.Context(), recs) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
			recs[i].Release()
		}
	})
}

// TestRecordWithoutBuffer: bytes that are the caller's are copied.
func TestRecordWithoutBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		for _, f := range r.nodes {
			f.delay = 5 * ms
		}
		r.nodes[2].delay = 20 * ms
		made := blob(t, time.Now().Unix(), 0, "value")
		raw := bytes.Clone(made.Raw())
		key := bytes.Clone(made.Key)
		made.Release()
		rec, err := object.ParseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.c.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		clear(raw)
		time.Sleep(30 * ms)
		for _, f := range r.nodes {
			f.mu.Lock()
			if kept := f.recs["default/events/"+string(key)]; string(kept.Value()) != "value" {
				t.Errorf("a node has %q", kept.Value())
			}
			f.mu.Unlock()
		}
	})
}

func TestDeleteAndKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		value := record(t, object.Value, "plain", "k", 5, "value")
		grave := record(t, object.Tombstone, "plain", "k", 6, "")
		word := delta(t, rowKey, rowOf(1))
		late := record(t, object.Value, bucket.Epochs, rowKey.String(), 5, "value")
		defer func() { value.Release(); grave.Release(); word.Release(); late.Release() }()
		if err := r.c.Put(t.Context(), value); err != nil {
			t.Fatal(err)
		}
		if v, err := r.get(&value); v != "value" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
		if err := r.c.Delete(t.Context(), grave); err != nil {
			t.Fatal(err)
		}
		if _, err := r.get(&value); !errors.Is(err, object.CodeAbsent) {
			t.Errorf("after the delete: %v", err)
		}
		for what, err := range map[string]error{
			"delete a value":    r.c.Delete(t.Context(), value),
			"put a delta":       r.c.Put(t.Context(), word),
			"append a value":    r.c.AppendDelta(t.Context(), value),
			"value in epochs":   r.c.Put(t.Context(), late),
			"a batch of deltas": r.c.PutBatch(t.Context(), []object.Record{word})[0],
		} {
			if !errors.Is(err, object.CodeBadRequest) || object.AsError(err).Outcome != object.NotDone {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		r.nodes[2].delay = 50 * ms
		rec := blob(t, time.Now().Unix(), 0, "value")
		if err := r.c.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		start := time.Now()
		r.close()
		if took := time.Since(start); took != 50*ms {
			t.Errorf("Close took %v: it waits for the last copy", took)
		}
		late := blob(t, time.Now().Unix(), 0, "value")
		defer late.Release()
		if err := r.c.Put(t.Context(), late); !errors.Is(err, object.CodeStopping) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestCloseGivesUp: what is open when Close's time is over is answered and owed.
func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		for _, f := range r.nodes {
			f.hang = true
		}
		rec := blob(t, time.Now().Unix(), 0, "value")
		answers := make(chan error, 2)
		go func() { answers <- r.c.Put(t.Context(), rec) }()
		go func() { _, err := r.get(&rec); answers <- err }()
		time.Sleep(ms)
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		if err := r.c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		for range 2 {
			if err := <-answers; !errors.Is(err, object.CodeDeadline) {
				t.Errorf("a caller was told %v", err)
			}
		}
		if n := r.c.Owed().Stats().Keys; n != 3 {
			t.Errorf("%d copies are owed", n)
		}
		rec.Release()
		r.close()
	})
}

func TestConfig(t *testing.T) {
	_, err := New(Config{PeerBytes: -1, HedgeLeast: 2, HedgeMost: 1, WriteTimeout: -1, OwedKeys: -1})
	if err == nil {
		t.Fatal("it passed")
	}
	for _, want := range []string{"history", "buckets", "replicas", "timeout", "hedging", "in flight", "owed"} {
		if !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%q does not speak of %s", err, want)
		}
	}
}
