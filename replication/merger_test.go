package replication

import (
	"fmt"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// TestMergerBringsBack: a node that was wiped has everything again, in one go.
func TestMergerBringsBack(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	w.fill("two", 0, 1)
	w.fill("other", 1, 2)
	w.nodes[1].horizons[bucket.Events], w.nodes[2].horizons[bucket.Events] = 7200, 3600
	w.nodes[0].wipe(10_002)
	m := w.merger(0)
	w.rounds(m)
	if w.nodes[0].InDoubt(ring.Partition{}) || w.nodes[0].horizons[bucket.Events] != 7200 {
		t.Fatalf("since %d, plain %v, %v, horizon %d", w.nodes[0].since, w.nodes[0].plain, w.nodes[0].doubts, w.nodes[0].horizons[bucket.Events])
	}
	w.same("brought back", 0, 1)
	w.same("brought back", 1, 2) // two-way: what one of the others lacked it has, too
	if st := m.Stats(); st.Pulled == 0 || st.Pushed == 0 || st.LanesFailed > 0 || st.PartitionsInDoubt != 0 {
		t.Errorf("%+v", st)
	}
}

// TestMergerAtEveryCrash: whatever is done last before a crash, the node never
// vouches for more than it has on its disk; and the next run completes it.
func TestMergerAtEveryCrash(t *testing.T) {
	for _, doubt := range []string{"wiped", "one slot", "everything"} {
		for at := 1; ; at += crashStride {
			w := newSyncWorld(t)
			w.fill("all", 1, 2)
			n := w.nodes[0]
			switch doubt {
			case "wiped":
				n.wipe(10_002)
			case "one slot":
				w.fill("all", 0)
				slot := Lane{Type: bucket.DefaultType, Bucket: bucket.Events, Timed: true, Slot: 10_000}
				delete(n.lanes, slot)
				n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(slot.Type, slot.Bucket)), Slot: slot.Slot}}
			case "everything":
				n.doubts = []Doubt{{All: true}}
			}
			n.disk = n.syncState.clone()
			w.crashAt = at
			w.rounds(w.merger(0))
			if err := n.diskHolds(w.nodes[1].lanes); err != nil {
				t.Fatalf("%s: crash at %d: %v", doubt, at, err)
			}
			crashed := w.ops >= at
			if !crashed && n.InDoubt(ring.Partition{}) {
				t.Fatalf("%s: still in doubt after %d operations without a crash", doubt, w.ops)
			}
			w.crashAt = 0
			n.crash()
			w.rounds(w.merger(0))
			if n.InDoubt(ring.Partition{}) {
				t.Fatalf("%s: crash at %d: in doubt after the next run: since %d, plain %v, %v", doubt, at, n.since, n.plain, n.doubts)
			}
			w.same(fmt.Sprint(doubt, ", crash at ", at), 0, 1)
			if t.Failed() || !crashed {
				break
			}
		}
	}
}

// TestMergerNeedsThem: what a node does while others are away or incomplete.
func TestMergerNeedsThem(t *testing.T) {
	for _, c := range []struct {
		claim    string
		change   func(w *syncWorld)
		complete bool
	}{
		{"two complete ones", func(*syncWorld) {}, true},
		{"one is away", func(w *syncWorld) { w.nodes[2].away = true }, false},
		{"both are away", func(w *syncWorld) { w.nodes[1].away, w.nodes[2].away = true, true }, false},
		{"one is away, the other vouches for nothing", func(w *syncWorld) { w.nodes[2].away = true; w.nodes[1].since, w.nodes[1].plain = 1<<62, false }, false},
		{"one vouches for nothing: all were asked", func(w *syncWorld) { w.nodes[1].since, w.nodes[1].plain = 1<<62, false }, true},
		{"one doubts everything: all were asked", func(w *syncWorld) { w.nodes[1].doubts = []Doubt{{All: true}} }, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			w.fill("all", 1, 2)
			w.nodes[0].wipe(10_002)
			c.change(w)
			w.rounds(w.merger(0))
			n := w.nodes[0]
			if n.InDoubt(ring.Partition{}) == c.complete {
				t.Fatalf("since %d, plain %v", n.since, n.plain)
			}
			if !c.complete && (n.since != 10_002 || n.plain) {
				t.Errorf("it vouches for more than before: since %d, plain %v", n.since, n.plain)
			}
		})
	}
}

// TestMergerWaits: a put that this node acknowledged and lost may still be on its
// way to the others: nothing is merged before it must be over, except in a
// cluster that begins.
func TestMergerWaits(t *testing.T) {
	for _, c := range []struct {
		claim string
		after time.Duration
		fresh bool
		data  bool
		done  bool
	}{
		{"at once", 0, false, true, false},
		{"before the grace is over", 10 * time.Second, false, true, false},
		{"after the grace", 11 * time.Second, false, true, true},
		{"at once in a cluster that begins", 0, true, false, true},
		{"not at once if there is anything", 0, true, true, false},
		{"not at once if the others are older", 0, false, false, false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newSyncWorld(t)
			if c.data {
				w.fill("all", 1, 2)
			}
			w.nodes[0].wipe(10_002)
			for _, n := range w.nodes[1:] {
				if n.born = w.now.Unix(); !c.fresh {
					n.born -= 3600
				}
			}
			m := w.merger(0)
			m.Round(t.Context())
			if c.after > 0 {
				w.now = w.now.Add(c.after)
				for range 3 {
					m.Round(t.Context())
				}
			}
			if w.nodes[0].InDoubt(ring.Partition{}) == c.done {
				t.Errorf("done: %v, want %v", !c.done, c.done)
			}
		})
	}
}

// TestMergerWaitsForEachDoubt: one that is found later waits from then on.
func TestMergerWaitsForEachDoubt(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	n, m := w.nodes[0], w.merger(0)
	id := uint64(bucket.IDOf(bucket.DefaultType, bucket.Events))
	n.doubts = []Doubt{{Bucket: id, Slot: 10_000}}
	m.Round(t.Context())
	w.now = w.now.Add(6 * time.Second)
	n.doubts = append(n.doubts, Doubt{Bucket: id, Slot: 9_999})
	m.Round(t.Context())
	w.now = w.now.Add(6 * time.Second)
	m.Round(t.Context())
	if len(n.doubts) != 1 || n.doubts[0].Slot != 9_999 {
		t.Fatalf("after 12 and 6 seconds: %v", n.doubts)
	}
	w.now = w.now.Add(6 * time.Second)
	m.Round(t.Context())
	if len(n.doubts) != 0 {
		t.Errorf("%v", n.doubts)
	}
}

// TestBootstrap: three nodes at their first start become complete one after the
// other, as soon as all are there.
func TestBootstrap(t *testing.T) {
	w := newSyncWorld(t)
	for _, n := range w.nodes {
		n.wipe(10_002)
	}
	w.nodes[2].away = true
	mergers := []*Merger{w.merger(0), w.merger(1), w.merger(2)}
	mergers[0].Round(t.Context())
	mergers[1].Round(t.Context())
	if !w.nodes[0].InDoubt(ring.Partition{}) || !w.nodes[1].InDoubt(ring.Partition{}) {
		t.Fatal("two of three are complete without the third")
	}
	w.nodes[2].away = false
	for i, m := range mergers {
		m.Round(t.Context())
		if w.nodes[i].InDoubt(ring.Partition{}) {
			t.Errorf("node %d is in doubt", i)
		}
	}
}

// TestTwoBodiesOfOneKey: the lesser one is kept elsewhere.
func TestTwoBodiesOfOneKey(t *testing.T) {
	w := newSyncWorld(t)
	key := "36000000:ams:WEB:app:1"
	w.put(w.record(bucket.Events, key, "lesser", 1000), 0)
	w.put(w.record(bucket.Events, key, "greater", 2000), 1, 2)
	n := w.nodes[0]
	n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: 10_000}}
	w.rounds(w.merger(0))
	if len(n.doubts) > 0 || !w.rescued["lesser"] || len(w.rescued) != 1 {
		t.Errorf("doubts %v, rescued %v", n.doubts, w.rescued)
	}
	w.same("the greater one", 0, 1)
}
