package replication

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

var rowKey = event.IndexKey{Epoch: 946_684_800, DC: "dc1"}

// seed stores a record on some nodes, behind the coordinator's back.
func (r *rig) seed(rec object.Record, nodes ...int) {
	for _, i := range nodes {
		if err := r.nodes[i].take(rec); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) counts() (bodies, heads int64) {
	for _, f := range r.nodes {
		bodies += f.bodies.Load()
		heads += f.heads.Load()
	}
	return bodies, heads
}

// TestGetMovesOneBody: one value, and one header to be certain.
func TestGetMovesOneBody(t *testing.T) {
	for _, self := range []int{-1, 0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, self, nil)
			defer r.close()
			rec := blob(t, time.Now().Unix(), 0, "value")
			defer rec.Release()
			r.seed(rec, 0, 1, 2)
			if v, err := r.get(&rec); v != "value" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
			if b, h := r.counts(); b != 1 || h != 1 {
				t.Errorf("%d bodies and %d headers moved", b, h)
			}
			if self >= 0 && r.nodes[self].bodies.Load() != 1 {
				t.Error("the body came from another node")
			}
			head, err := r.c.Head(t.Context(), rec.Type, rec.Bucket, rec.Key)
			if err != nil || head.Version() != rec.Version() || string(head.Key) != string(rec.Key) {
				t.Errorf("head %+v, %v", head.Header, err)
			}
			head.Release()
			if b, h := r.counts(); b != 1 || h != 3 {
				t.Errorf("%d bodies and %d headers moved", b, h)
			}
		})
	}
}

// TestSlowReadIsHedged: a silent owner costs the delay, and after that it is
// asked last for a while.
func TestSlowReadIsHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, func(c *Config) { c.HedgeLeast, c.HedgeMost = 10*ms, 10*ms })
		defer r.close()
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		r.seed(rec, 0, 1, 2)
		r.nodes[0].hang = true
		start := time.Now()
		if v, err := r.get(&rec); v != "value" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
		if took := time.Since(start); took < 10*ms || took > 12*ms {
			t.Errorf("it took %v, want the delay of 10 ms", took)
		}
		start = time.Now()
		if v, err := r.get(&rec); v != "value" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the next read took %v: the slow owner was asked again", took)
		}
		if b, _ := r.counts(); b != 3 {
			t.Errorf("%d bodies, want 3: one hedge", b)
		}
		r.nodes[0].release()
		if s := r.c.Stats(); s.Hedges != 1 || s.Late != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Second)
		if _, err := r.get(&rec); err != nil || r.nodes[0].bodies.Load() != 2 {
			t.Errorf("the owner is not tried again: %v", err)
		}
	})
}

// TestHedgeStopsAtTheDeadline: with nobody left to ask, the read ends in time.
func TestHedgeStopsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		for _, f := range r.nodes {
			f.hang = true
		}
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 300*ms)
		defer cancel()
		if _, err := r.c.Get(ctx, rec.Type, rec.Bucket, rec.Key); !errors.Is(err, object.CodeDeadline) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < 300*ms || took > 301*ms {
			t.Errorf("it took %v", took)
		}
		start = time.Now()
		if _, err := r.get(&rec); !errors.Is(err, object.CodeDeadline) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, f := range r.nodes {
			f.release()
		}
	})
}

// TestReadReroute: a read begins again under the history that an owner knows.
// What a connection's answer makes the next question to the local replica, the one
// who waits puts, and not the connection.
func TestReadReroute(t *testing.T) {
	for _, self := range []int{-1, 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, self, nil)
			defer r.close()
			keep := int(r.nodes[0].id[15]) - 1
			r.nodes = append(r.nodes, newFake(nodeID(3)), newFake(nodeID(4)))
			newer := testHistory(t, 2, keep, 3, 4)
			for _, f := range r.nodes[1:3] {
				f.delay, f.fail = ms, object.Errorf(object.CodeWrongOwner, object.NotDone, "it is not mine")
				f.before = func(*fake) { r.past.Store(newer) }
			}
			me := goroutine()
			if self == 0 {
				r.nodes[0].before = func(*fake) {
					if goroutine() != me {
						t.Error("the local replica is asked on another goroutine")
					}
				}
			}
			rec := blob(t, time.Now().Unix(), 0, "value")
			defer rec.Release()
			r.seed(rec, 0, 3, 4)
			if v, err := r.get(&rec); v != "value" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
			if s := r.c.Stats(); s.Reroutes != 1 {
				t.Errorf("%d reroutes", s.Reroutes)
			}
			r.past.Store(testHistory(t, 1, 0, 1, 2))
			r.nodes[0].rows[rowKey] = rowOf(1)
			r.nodes[3].rows[rowKey], r.nodes[4].rows[rowKey] = rowOf(2), rowOf(2)
			if row, certain, err := r.c.Row(t.Context(), rowKey); err != nil || !certain || row.Len() == 0 {
				t.Errorf("row %v, %v, %v", row, certain, err)
			}
			time.Sleep(5 * ms)
		})
	}
}

// TestEndsTogether: the caller's end, the deadline and the last answers at one
// instant end a read once.
func TestEndsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		defer r.close()
		rec := blob(t, time.Now().Unix(), 0, "value")
		defer rec.Release()
		r.seed(rec, 0, 1, 2)
		for i := range 100 {
			for _, f := range r.nodes {
				f.delay = 50 * ms
				f.hang = i%2 == 0
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
			got, err := r.c.Get(ctx, rec.Type, rec.Bucket, rec.Key)
			if err == nil {
				got.Release()
			} else if !errors.Is(err, object.CodeDeadline) {
				t.Errorf("got %v", err)
			}
			cancel()
			for _, f := range r.nodes {
				f.release()
			}
			time.Sleep(200 * ms)
		}
	})
}

func TestReadRepair(t *testing.T) {
	for _, c := range []struct {
		claim string
		age   int64 // seconds
		mends bool
	}{{"what is new is left alone", 29, false}, {"what is older is mended", 30, true}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, 0, nil)
			defer r.close()
			rec := blob(t, time.Now().Unix()-c.age, 0, "value")
			defer rec.Release()
			r.seed(rec, 1, 2)
			if v, err := r.get(&rec); v != "value" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
			synctest.Wait()
			if has := r.holders(&rec) == 3; has != c.mends {
				t.Errorf("%s: mended %v", c.claim, has)
			}
			if s := r.c.Stats(); (s.Mended == 1) != c.mends {
				t.Errorf("%s: %+v", c.claim, s)
			}
		})
	}
}

// TestRepairIsBounded: what has no room, only a header, or fails, is owed.
func TestRepairIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, func(c *Config) { c.RepairBytes = 3000 })
		defer r.close()
		var recs []object.Record
		for i := range 10 {
			rec := blob(t, time.Now().Unix()-100, i, string(make([]byte, 1000)))
			defer rec.Release()
			r.seed(rec, 1, 2)
			recs = append(recs, rec)
		}
		r.nodes[0].hangPuts = true
		for i := range recs {
			if _, err := r.get(&recs[i]); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		s := r.c.Stats()
		if s.RepairBytes > 3000 || s.MendsFailed+uint64(r.nodes[0].puts.Load()) != 10 || s.Owed.Keys != int(s.MendsFailed) || s.MendsFailed == 0 {
			t.Errorf("%+v, %d puts", s, r.nodes[0].puts.Load())
		}
		head, err := r.c.Head(t.Context(), recs[0].Type, recs[0].Bucket, recs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		head.Release()
		if got := r.c.Stats().Owed.Keys; got != s.Owed.Keys+1 {
			t.Errorf("a head that misses a copy owes it: %d, %d before", got, s.Owed.Keys)
		}
	})
}

// TestFailedRepairIsOwed: a copy that read repair could not make is owed, unless it
// was refused for good. A conflict is not: whoever pays the debt resolves it.
func TestFailedRepairIsOwed(t *testing.T) {
	expired := object.Errorf(object.CodeExpired, object.NotDone, "it has expired")
	for fault, want := range map[*object.Error]struct {
		owed              int
		mended, conflicts uint64
	}{full: {owed: 1}, conflict: {owed: 1, conflicts: 1}, expired: {mended: 1}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, 0, nil)
			defer r.close()
			rec := blob(t, time.Now().Unix()-100, 0, "value")
			defer rec.Release()
			r.seed(rec, 1, 2)
			r.nodes[0].failPuts = fault
			if _, err := r.get(&rec); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			s := r.c.Stats()
			if s.Owed.Keys != want.owed || s.MendsFailed != uint64(want.owed) || s.Mended != want.mended || s.MendConflicts != want.conflicts || r.nodes[0].puts.Load() != 1 {
				t.Errorf("%v: %+v", fault, s)
			}
		})
	}
}

// TestRepairMeetsAnotherValue: an owner that has another value of a write-once key
// keeps it, and the greater one is owed to those that the read found without it.
func TestRepairMeetsAnotherValue(t *testing.T) {
	for _, c := range []struct {
		claim string
		stamp int64 // of the other value, against that of the two
		owed  []int
	}{{"lesser", -1, []int{0}}, {"greater", 1, []int{1}}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, 0, nil)
			defer r.close()
			epoch := time.Now().Unix() - 100
			rec := blob(t, epoch, 0, "value")
			other := record(t, object.Value, "events", string(rec.Key), epoch*1_000_000+c.stamp, "another")
			defer func() { rec.Release(); other.Release() }()
			r.seed(other, 0)
			r.seed(rec, 1, 2)
			for range 2 { // it is owed once, however often it is read
				head, err := r.c.Head(t.Context(), rec.Type, rec.Bucket, rec.Key)
				if err != nil {
					t.Fatal(err)
				}
				head.Release()
				if _, err := r.get(&rec); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			s := r.c.Stats()
			if s.Mended != 0 || s.MendConflicts == 0 || s.Owed.Keys != len(c.owed) {
				t.Errorf("%s: %+v", c.claim, s)
			}
			for _, i := range c.owed {
				if debts := r.c.Owed().Debts(r.nodes[i].id); len(debts) != 1 || !slices.Equal(debts[0].Keys, []string{string(rec.Key)}) {
					t.Errorf("%s: owner %d is owed %+v", c.claim, i, debts)
				}
			}
			if got := r.nodes[0].recs[mapKey(rec.Type, rec.Bucket, rec.Key)]; got.Version() != other.Version() {
				t.Errorf("%s: the other value was replaced", c.claim)
			}
		})
	}
}

// TestDamageIsNotMended: a value that went bad on the disk of who answered is not given
// to who lacks it; the copy is owed.
func TestDamageIsNotMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		rec := blob(t, time.Now().Unix()-100, 0, "value")
		defer rec.Release()
		r.seed(rec, 1, 2)
		raw := rec.Raw()
		raw[len(raw)-1] ^= 1 // the nodes have the same bytes
		got, err := r.c.Get(t.Context(), rec.Type, rec.Bucket, rec.Key)
		if err != nil || got.Verify() == nil {
			t.Fatal("what is stored is not damaged", err)
		}
		got.Release()
		synctest.Wait()
		if s := r.c.Stats(); r.nodes[0].puts.Load() != 0 || s.Mended != 0 || s.Owed.Keys != 1 {
			t.Errorf("%+v, %d puts", s, r.nodes[0].puts.Load())
		}
	})
}

func TestTombstoneIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		value := record(t, object.Value, "plain", "k", 5, "value")
		grave := record(t, object.Tombstone, "plain", "k", 6, "")
		defer func() { value.Release(); grave.Release() }()
		r.seed(value, 1)
		r.seed(grave, 0, 2)
		if _, err := r.get(&value); !errors.Is(err, object.CodeAbsent) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if got := r.nodes[1].recs["default/plain/k"]; got.Kind != object.Tombstone {
			t.Error("the tombstone did not reach the owner that missed it")
		}
	})
}

func TestRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 0, nil)
		defer r.close()
		first, second := delta(t, rowKey, rowOf(1)), delta(t, rowKey, rowOf(2))
		defer func() { first.Release(); second.Release() }()
		r.nodes[0].fail = closed
		if err := r.c.AppendDelta(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		r.nodes[0].fail, r.nodes[1].fail = nil, full
		if err := r.c.AppendDelta(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		r.nodes[1].fail = nil
		if n := r.c.Owed().Stats().Keys; n != 2 {
			t.Errorf("%d copies are owed, want 2", n)
		}
		row, certain, err := r.c.Row(t.Context(), rowKey)
		if err != nil || !certain || row.Len() != 2 {
			t.Errorf("%d entries, certain %v, %v", row.Len(), certain, err)
		}
		rec, err := r.c.Get(t.Context(), first.Type, first.Bucket, first.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := index.ParseRow(rec.Value()); err != nil || got.Len() != 2 {
			t.Errorf("as an object: %v, %v", got, err)
		}
		rec.Release()
		for _, f := range r.nodes[1:] {
			f.incomplete = true
		}
		row, certain, err = r.c.Row(t.Context(), rowKey)
		if err != nil || certain || row.Len() != 2 {
			t.Errorf("two incomplete: %d entries, certain %v, %v", row.Len(), certain, err)
		}
		if _, err := r.c.Get(t.Context(), first.Type, first.Bucket, first.Key); !errors.Is(err, object.CodeUnknown) {
			t.Errorf("an uncertain row as an object: %v", err)
		}
		for _, f := range r.nodes {
			f.fail = closed
		}
		if err := r.c.AppendDelta(t.Context(), first); !errors.Is(err, object.CodeClosed) {
			t.Errorf("a closed second: %v", err)
		}
		if _, _, err := r.c.Row(t.Context(), event.IndexKey{Epoch: 5, DC: "a b"}); !errors.Is(err, object.CodeBadRequest) {
			t.Errorf("a bad key: %v", err)
		}
	})
}

// TestNobodyThere: without any way to a replica, everything is a retryable error.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, -1, nil)
		rec := blob(t, time.Now().Unix(), 0, "value")
		nodes := r.nodes
		r.nodes = nil
		if err := r.c.Put(t.Context(), rec); !errors.Is(err, object.CodeUnavailable) {
			t.Errorf("put: %v", err)
		}
		if _, err := r.get(&rec); !errors.Is(err, object.CodeUnknown) {
			t.Errorf("get: %v", err)
		}
		if _, _, err := r.c.Row(t.Context(), rowKey); !errors.Is(err, object.CodeUnavailable) {
			t.Errorf("row: %v", err)
		}
		r.nodes = nodes
		rec.Release()
		r.close()
	})
}

func TestBadNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, 0, nil)
		defer r.close()
		long := make([]byte, 70_000)
		for _, c := range [][3][]byte{
			{nil, []byte("b"), []byte("k")}, {[]byte("t"), nil, []byte("k")}, {[]byte("t"), []byte("b"), nil},
			{long, []byte("b"), []byte("k")}, {[]byte("t"), long, []byte("k")}, {[]byte("t"), []byte("b"), long},
			{[]byte(bucket.DefaultType), []byte(bucket.Events), []byte("no epoch")},
			{[]byte(bucket.DefaultType), []byte(bucket.Epochs), []byte("no epoch")},
		} {
			if _, err := r.c.Get(t.Context(), c[0], c[1], c[2]); !errors.Is(err, object.CodeBadRequest) {
				t.Errorf("%.20q: %v", c, err)
			}
		}
	})
}
