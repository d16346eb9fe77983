package replication

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
)

// TestDebtsArePaid: keys, whole slots and everything arrive where they are owed,
// and are settled only then.
func TestDebtsArePaid(t *testing.T) {
	for _, c := range []struct {
		claim string
		owe   func(w *syncWorld)
	}{
		{"keys", func(w *syncWorld) {
			for l, keys := range w.nodes[0].lanes {
				for key := range keys {
					w.owed.Add(placeOf(w.nodes[2].id, l), []byte(key))
				}
			}
		}},
		{"whole slots", func(w *syncWorld) {
			for l := range w.nodes[0].lanes {
				w.owed.Add(placeOf(w.nodes[2].id, l), nil)
			}
		}},
		{"everything", func(w *syncWorld) {
			for i := range 20 {
				w.owed.Add(Place{Node: w.nodes[2].id, Type: "t", Bucket: fmt.Sprint(i)}, []byte("k"))
			}
		}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			w.fill("all", 0, 1)
			w.owed = NewOwed(100, 10_000, 10)
			c.owe(w)
			owed := w.owed.Stats()
			w.nodes[2].away = true
			m := w.merger(0)
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places != owed.Places || st.Nodes != owed.Nodes {
				t.Fatalf("settled while it was away: %+v, then %+v", owed, st)
			}
			w.nodes[2].away = false
			w.crashAt = w.ops + 9 // the first attempt is cut short
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places+st.Nodes == 0 {
				t.Fatal("settled before it was paid")
			}
			w.crashAt = 0
			w.now = w.now.Add(time.Minute)
			m.Round(t.Context())
			if st := w.owed.Stats(); st.Places+st.Nodes+st.Keys+st.KeyBytes != 0 {
				t.Errorf("still owed: %+v", st)
			}
			w.same("paid", 0, 2)
		})
	}
}

// TestDebtOfTheLocalReplica: this node's own replica may be owed a copy; another
// node's is taken.
func TestDebtOfTheLocalReplica(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	rec := w.record("notes", "all1", "newer", 5000)
	w.put(rec, 1)
	lane := laneOfRecord(&rec)
	w.owed.Add(placeOf(w.nodes[0].id, lane), rec.Key)
	w.owed.Add(placeOf(w.nodes[2].id, lane), rec.Key)
	w.merger(0).Round(t.Context())
	w.same("the local one", 0, 1)
	w.same("the other one is not paid with the old version", 2, 1)
}

// TestDebtWithADamagedCopy: a copy that is damaged where it is stored keeps no debt
// from being paid; whoever has it is given a whole one.
func TestDebtWithADamagedCopy(t *testing.T) {
	for damaged := range 2 {
		w := newSyncWorld(t)
		rec := w.record("notes", "one", "the value", 5000)
		w.put(rec, 0, 1)
		w.put(w.record("notes", "two", "the next in turn", 5000), 0, 1)
		lane := laneOfRecord(&rec)
		raw := bytes.Clone(w.nodes[damaged].lanes[lane]["one"])
		raw[len(raw)-1] ^= 1
		w.nodes[damaged].lanes[lane]["one"] = raw
		w.owed.Add(placeOf(w.nodes[2].id, lane), rec.Key)
		w.owed.Add(placeOf(w.nodes[2].id, lane), []byte("two"))
		m := w.merger(2)
		for range 2 {
			m.Round(t.Context())
			w.now = w.now.Add(time.Minute)
		}
		if st := w.owed.Stats(); st.Places != 0 {
			t.Errorf("node %d has it damaged: still owed %+v", damaged, st)
		}
		for i, n := range w.nodes {
			for _, key := range []string{"one", "two"} {
				if raw := n.lanes[lane][key]; raw == nil || parse(t, raw).Verify() != nil {
					t.Errorf("node %d has it damaged: node %d has not got %q whole", damaged, i, key)
				}
			}
		}
	}
}

// TestDebtDamagedEverywhere: what nobody has whole cannot be given, and is not owed
// for ever.
func TestDebtDamagedEverywhere(t *testing.T) {
	w := newSyncWorld(t)
	rec := w.record("notes", "one", "the value", 5000)
	w.put(rec, 1)
	lane := laneOfRecord(&rec)
	raw := bytes.Clone(w.nodes[1].lanes[lane]["one"])
	raw[len(raw)-1] ^= 1
	w.nodes[1].lanes[lane]["one"] = raw
	w.owed.Add(placeOf(w.nodes[2].id, lane), rec.Key)
	w.merger(0).Round(t.Context())
	if st := w.owed.Stats(); st.Places != 0 {
		t.Errorf("still owed: %+v", st)
	}
}

// TestDebtOfAnotherValue: whoever has another value of a write-once key, lesser or
// greater, and is owed one, ends with the greater, the lesser being kept elsewhere.
func TestDebtOfAnotherValue(t *testing.T) {
	for claim, stamp := range map[string]int64{"it has the lesser": 1000, "it has the greater": 3000} {
		w := newSyncWorld(t)
		key := "36000000:ams:WEB:app:1"
		rec := w.record(bucket.Events, key, "of two", 2000)
		w.put(w.record(bucket.Events, key, "of one", stamp), 1)
		w.put(rec, 0, 2)
		lane := laneOfRecord(&rec)
		w.owed.Add(placeOf(w.nodes[1].id, lane), rec.Key)
		w.merger(0).Round(t.Context())
		lesser, greater := "of one", "of two"
		if stamp > 2000 {
			lesser, greater = greater, lesser
		}
		if st := w.owed.Stats(); st.Places != 0 || !w.rescued[lesser] || len(w.rescued) != 1 {
			t.Errorf("%s: owed %+v, rescued %v", claim, st, w.rescued)
		}
		for i, n := range w.nodes {
			if got := parse(t, n.lanes[lane][key]); string(got.Value()) != greater {
				t.Errorf("%s: node %d has the value %s", claim, i, got.Value())
			}
		}
	}
}

// TestDebtsOfNobody: what no owner has was never acknowledged, and is owed to
// nobody; but that takes all their words.
func TestDebtsOfNobody(t *testing.T) {
	w := newSyncWorld(t)
	w.owed.Add(Place{Node: w.nodes[2].id, Type: bucket.DefaultType, Bucket: "notes"}, []byte("nothing"))
	w.nodes[1].away = true
	w.merger(0).Round(t.Context())
	if st := w.owed.Stats(); st.Places != 1 {
		t.Errorf("settled although one owner was not asked: %+v", st)
	}
	w.nodes[1].away = false
	w.merger(0).Round(t.Context())
	if st := w.owed.Stats(); st.Places != 0 {
		t.Errorf("still owed: %+v", st)
	}
}
