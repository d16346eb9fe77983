package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// newDutyWorld is a world in which what is completed is agreed.
func newDutyWorld(t *testing.T, nodes int) *syncWorld {
	w := newSyncWorldOf(t, nodes)
	w.completed = func(_ ring.Version, done []ring.Completion) error {
		h, err := w.history.Complete(w.nextVersion(), done...)
		if err != nil {
			t.Fatal(err)
		}
		w.history = h
		return nil
	}
	return w
}

func (w *syncWorld) nextVersion() ring.Version {
	v := w.history.Version()
	v.Index++
	return v
}

// unwritten is the first slot that nothing is put into in these tests: the newest
// that is filled is 10,000.
const unwritten = 10_010

// owners has these nodes be the members of the newest ring, from the first unwritten
// slot on.
func (w *syncWorld) owners(ids ...int) {
	w.t.Helper()
	var nodes []ring.Node
	for _, i := range ids {
		nodes = append(nodes, ring.Node{ID: w.nodes[i].id, Name: fmt.Sprint("n", i), Weight: 1})
	}
	r, _, err := ring.Claim(nodes, 0, 3, w.history.Newest())
	if err == nil {
		w.history, err = w.history.Append(w.nextVersion(), unwritten, r)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// leave has node out leave, and one of the candidates take its place.
func (w *syncWorld) leave(out int, reason ring.Reason, candidates ...int) {
	w.t.Helper()
	var nodes []ring.Node
	for _, i := range candidates {
		nodes = append(nodes, ring.Node{ID: w.nodes[i].id, Name: fmt.Sprint("n", i), Weight: 1})
	}
	h, short, err := w.history.Replace(w.nextVersion(), ring.Replacement{
		Out: w.nodes[out].id, Reason: reason, Until: ring.Forever, Unwritten: unwritten, Candidates: nodes,
	})
	if err != nil || short != nil {
		w.t.Fatal(err, short)
	}
	w.history = h
}

// timedLanes are the lanes of timed buckets that a node has something of.
func (n *syncNode) timedLanes() (lanes []Lane) {
	for l := range n.lanes {
		if l.Timed {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// takes fails unless a node has, on its disk, all that others have of the lanes of a
// kind.
func (w *syncWorld) takes(claim string, node int, timed bool, others ...int) {
	w.t.Helper()
	n := w.nodes[node]
	for _, i := range others {
		for l, keys := range w.nodes[i].lanes {
			for key := range keys {
				if l.Timed == timed && n.disk.lanes[l][key] == nil {
					w.t.Errorf("%s: node %d lacks %s %q of slot %d, which node %d has", claim, node, l.Bucket, key, l.Slot, i)
					return
				}
			}
		}
	}
}

// TestTakingOver: who has to be there for a newcomer to have everything.
func TestTakingOver(t *testing.T) {
	doubt := []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: 9_999}}
	for _, c := range []struct {
		claim  string
		change func(w *syncWorld) // of the owner that leaves, 0, those that stay, 1 and 2, and the newcomer, 3
		done   bool
	}{
		{"all are there", func(*syncWorld) {}, true},
		{"the source is away, and two owners are complete", func(w *syncWorld) { w.nodes[0].away = true }, true},
		{"an owner is away, and the source is complete", func(w *syncWorld) { w.nodes[2].away = true }, true},
		{"the source alone is there", func(w *syncWorld) { w.nodes[1].away, w.nodes[2].away = true, true }, true},
		{"one owner alone is there", func(w *syncWorld) { w.nodes[0].away, w.nodes[2].away = true, true }, false},
		{"the source has lost something, and an owner is away", func(w *syncWorld) { w.nodes[0].doubts, w.nodes[2].away = doubt, true }, false},
		{"the source has lost something, and two owners are complete", func(w *syncWorld) { w.nodes[0].doubts = doubt }, true},
		{"an owner has lost something, and the source is complete", func(w *syncWorld) { w.nodes[1].doubts = doubt }, true},
		{"all have lost something: they are all there are", func(w *syncWorld) {
			for _, n := range w.nodes[:3] {
				n.doubts = doubt
			}
		}, true},
		{"the newcomer has lost something, and an owner is away", func(w *syncWorld) { w.nodes[3].doubts, w.nodes[2].away = doubt, true }, false},
		{"the newcomer has lost something, and two owners are complete", func(w *syncWorld) { w.nodes[3].doubts = doubt }, true},
		{"the newcomer vouches from later on, and an owner is away", func(w *syncWorld) { w.nodes[3].since, w.nodes[2].away = 10_002, true }, false},
		{"the newcomer vouches from later on, and all are there", func(w *syncWorld) { w.nodes[3].since = 10_002 }, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			w := newDutyWorld(t, 4)
			w.fill("all", 0, 1, 2)
			w.fill("two", 0, 1)
			w.fill("other", 1, 2)
			w.fill("third", 0, 2)
			w.leave(0, ring.Leaving, 3)
			w.fill("late", 1, 3)
			if len(w.history.Duties(w.nodes[3].id)) != 1 {
				t.Fatal("it has no duty")
			}
			c.change(w)
			source := len(w.nodes[0].timedLanes())
			before := w.ops
			m := w.merger(3)
			w.rounds(m)
			if done := len(w.history.Duties(w.nodes[3].id)) == 0; done != c.done {
				t.Fatalf("done: %v, after %d operations: %+v", done, w.ops-before, m.Stats())
			}
			if !c.done {
				return
			}
			w.takes("what the owners before had, of which it was one", 3, true, 0)
			if w.nodes[1].away != true || w.nodes[2].away != true {
				if rows := w.history.Rows(10_000, ring.Partition{}); rows != nil {
					t.Errorf("still rows: %v", rows)
				}
			}
			if got := len(w.nodes[0].timedLanes()); got != source {
				t.Errorf("the source was given %d lanes more", got-source)
			}
			if st := m.Stats(); st.LanesVerified == 0 || st.SlotsToGet != 0 || st.PartitionsToGet != 0 || st.Completions == 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestTakingOverNothing: where nobody lists anything enough of them have to vouch for
// that; drop horizons are taken over all the same.
func TestTakingOverNothing(t *testing.T) {
	for _, c := range []struct {
		claim  string
		change func(w *syncWorld)
		done   bool
	}{
		{"two owners are complete", func(*syncWorld) {}, true},
		{"one owner is away", func(w *syncWorld) { w.nodes[2].away = true }, false},
		{"one owner vouches from later on", func(w *syncWorld) { w.nodes[2].since = 10_002 }, false},
		{"the newcomer vouches from later on, and so does an owner", func(w *syncWorld) { w.nodes[2].since, w.nodes[3].since = 10_002, 10_002 }, false},
	} {
		w := newDutyWorld(t, 4)
		w.nodes[0].away = true
		w.nodes[1].horizons[bucket.Events] = 7200
		w.leave(0, ring.Leaving, 3)
		c.change(w)
		w.rounds(w.merger(3))
		if done := len(w.history.Duties(w.nodes[3].id)) == 0; done != c.done || done && w.nodes[3].disk.horizons[bucket.Events] != 7200 {
			t.Errorf("%s: done: %v, horizon %d", c.claim, done, w.nodes[3].disk.horizons[bucket.Events])
		}
	}
}

// TestDoubtedSlotsAreWalked: what may be lost here is not compared by sums, which may
// be of what is in memory.
func TestDoubtedSlotsAreWalked(t *testing.T) {
	w := newSyncWorld(t)
	w.fill("all", 0, 1, 2)
	n := w.nodes[0]
	n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: 9_999}}
	w.rounds(w.merger(0))
	if len(n.doubts) > 0 || w.digests > 0 {
		t.Errorf("%d doubts left, %d digests asked for", len(n.doubts), w.digests)
	}
}

// TestTakingOverOfLost: nothing can be had of a node that is lost: n-w+1 others have
// to be there, or all.
func TestTakingOverOfLost(t *testing.T) {
	for _, away := range []bool{false, true} {
		w := newDutyWorld(t, 4)
		w.fill("all", 0, 1, 2)
		w.fill("two", 0, 1)
		w.nodes[0].away = true
		w.leave(0, ring.Lost, 3)
		w.nodes[2].away = away
		w.rounds(w.merger(3))
		if done := len(w.history.Duties(w.nodes[3].id)) == 0; done == away {
			t.Errorf("an owner is away: %v; done: %v", away, done)
		}
	}
}

// TestChainOfTakingOver: who is replaced before it has everything leaves its source
// to its successor.
func TestChainOfTakingOver(t *testing.T) {
	w := newDutyWorld(t, 5)
	w.fill("all", 0, 1, 2)
	w.fill("two", 0, 1)
	w.leave(0, ring.Leaving, 3)
	w.fill("late", 1, 3)
	w.leave(3, ring.Leaving, 4)
	w.nodes[1].away, w.nodes[2].away = true, true
	w.nodes[3].away = true
	m := w.merger(4)
	w.rounds(m)
	if len(w.history.Duties(w.nodes[4].id)) != 1 {
		t.Fatal("done although the one it replaced is away")
	}
	w.nodes[3].away = false
	w.now = w.now.Add(time.Minute)
	w.rounds(m)
	if len(w.history.Duties(w.nodes[4].id)) != 0 || len(w.history.Sources(10_000, ring.Partition{})) != 0 {
		t.Fatalf("duties %v, sources %v", w.history.Duties(w.nodes[4].id), w.history.Sources(10_000, ring.Partition{}))
	}
	w.takes("both before it", 4, true, 0, 3)
}

// TestPlainHandoverIsTakenOver: two of three owners change, and each newcomer gets
// what any two of those before acknowledged.
func TestPlainHandoverIsTakenOver(t *testing.T) {
	w := newDutyWorld(t, 5)
	w.fill("all", 0, 1, 2)
	w.fill("one", 0, 1)
	w.fill("two", 1, 2)
	w.fill("three", 0, 2)
	w.owners(2, 3, 4)
	w.put(w.record("notes", "late", "late", 2000), 3, 4)
	before := w.history
	w.nodes[1].away = true
	for _, i := range []int{3, 4} {
		w.rounds(w.merger(i))
		if len(w.history.Duties(w.nodes[i].id)) != 0 {
			t.Fatalf("node %d is a newcomer still: %v", i, w.history.Duties(w.nodes[i].id))
		}
		w.takes("the handover", i, false, 0, 2)
	}
	if rows := before.PlainRows(ring.Partition{}); len(rows) != 2 || w.history.PlainRows(ring.Partition{}) != nil || len(w.history.PlainSources(ring.Partition{})) != 0 {
		t.Errorf("rows before %v, after %v", rows, w.history.PlainRows(ring.Partition{}))
	}
	if len(w.nodes[3].timedLanes()) != 0 {
		t.Error("timed data of before the ring moved")
	}
}

// TestPlainHandoverOutlivesItsRing: newcomers get what the owners of a ring before
// acknowledged, also when all timed data of that ring has expired long ago.
func TestPlainHandoverOutlivesItsRing(t *testing.T) {
	w := newDutyWorld(t, 5)
	w.fill("all", 0, 1, 2)
	w.fill("two", 1, 2)
	w.owners(0, 3, 4)
	h, err := w.history.Trim(w.nextVersion(), unwritten+5)
	if err != nil {
		t.Fatal(err)
	}
	w.history = h
	w.nodes[2].away = true
	for _, i := range []int{3, 4} {
		w.rounds(w.merger(i))
		if len(w.history.Duties(w.nodes[i].id)) != 0 {
			t.Errorf("node %d is a newcomer still", i)
		}
		w.takes("the handover", i, false, 1)
	}
}

// TestGrowingFromOne: two nodes join one; each takes over from that one alone, the
// other being away.
func TestGrowingFromOne(t *testing.T) {
	w := newDutyWorld(t, 3)
	w.history = testHistory(t, 1, 0)
	at := func(id ring.NodeID) int {
		return slices.IndexFunc(w.nodes, func(n *syncNode) bool { return n.id == id })
	}
	first := at(w.history.Newest().Owners(ring.Partition{})[0])
	w.fill("all", first)
	var nodes []ring.Node
	for i, n := range w.nodes {
		nodes = append(nodes, ring.Node{ID: n.id, Name: fmt.Sprint("n", i), Weight: 1})
	}
	slices.SortFunc(nodes, func(a, b ring.Node) int { return a.ID.Compare(b.ID) })
	r, _, err := ring.Claim(nodes, 0, 3, w.history.Newest())
	if err != nil {
		t.Fatal(err)
	}
	if w.history, err = w.history.Append(w.nextVersion(), unwritten, r); err != nil {
		t.Fatal(err)
	}
	if w.history, _, err = w.history.Fill(w.nextVersion(), 3, 0, unwritten, unwritten, nodes); err != nil {
		t.Fatal(err)
	}
	one, other := (first+1)%3, (first+2)%3
	w.nodes[other].away = true
	w.rounds(w.merger(one))
	if d := w.history.Duties(w.nodes[one].id); len(d) != 0 {
		t.Errorf("duties left with the other newcomer away: %v", d)
	}
	for _, timed := range []bool{false, true} {
		w.takes("from one", one, timed, first)
	}
	w.nodes[first].away, w.nodes[other].away = true, false
	w.rounds(w.merger(other))
	if d := w.history.Duties(w.nodes[other].id); len(d) != 0 {
		t.Errorf("duties left with the first one away, and one that is complete: %v", d)
	}
}

// TestPlainDataOfOtherPartitions: between rings of different sizes it is not taken
// over, and never called complete.
func TestPlainDataOfOtherPartitions(t *testing.T) {
	w := newDutyWorld(t, 3)
	w.fill("all", 0, 1, 2)
	r, _, err := ring.Claim([]ring.Node{{ID: w.nodes[0].id, Name: "n0", Weight: 1}, {ID: w.nodes[1].id, Name: "n1", Weight: 1}}, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.history, err = w.history.Append(w.nextVersion(), unwritten, r); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		before := w.history.Duties(w.nodes[i].id)
		w.rounds(w.merger(i))
		if after := w.history.Duties(w.nodes[i].id); len(before) == 0 || !slices.Equal(before, after) {
			t.Errorf("duties %v, then %v", before, after)
		}
	}
	props := bucket.Plain(bucket.DefaultType, "notes")
	for p := range r.Partitions() {
		if c := castOf(w.history, &props, p, 0); c.proves(1<<len(c.nodes) - 1) {
			t.Errorf("%v: all together prove an absence", p)
		}
	}
}

// TestTakingOverWaits: puts under the history before may be on their way on a node
// for some time after it has learnt of the newcomer.
func TestTakingOverWaits(t *testing.T) {
	w := newDutyWorld(t, 4)
	w.fill("all", 0, 1, 2)
	w.nodes[2].away = true
	w.leave(0, ring.Leaving, 3)
	m := w.merger(3)
	round := func(after time.Duration) bool {
		w.now = w.now.Add(after)
		for range 5 {
			m.Round(t.Context())
		}
		return len(w.history.Duties(w.nodes[3].id)) == 0
	}
	if round(0) || round(10*time.Second) {
		t.Error("done before the grace was over")
	}
	w.nodes[2].away = false
	if round(5 * time.Second) {
		t.Error("done although one owner has just learnt of it")
	}
	if !round(12 * time.Second) {
		t.Error("not done after the grace of all")
	}
}

// TestTakingOverGoesOn: killed anywhere, the newcomer never says that it has
// everything before its disk has, and goes on where it was.
func TestTakingOverGoesOn(t *testing.T) {
	skipped := uint64(0)
	for at := 1; ; at += crashStride {
		w := newDutyWorld(t, 4)
		w.fill("all", 0, 1, 2)
		w.fill("two", 0, 1)
		w.leave(0, ring.Leaving, 3)
		w.nodes[3].disk = w.nodes[3].syncState.clone()
		complete := w.completed
		w.completed = func(under ring.Version, done []ring.Completion) error {
			w.takes(fmt.Sprint("completed, killed at ", at), 3, true, 0, 1, 2)
			if w.nodes[3].disk.horizons[bucket.Events] != 7200 {
				t.Errorf("killed at %d: completed with the horizon %d", at, w.nodes[3].disk.horizons[bucket.Events])
			}
			if under != w.history.Version() {
				t.Errorf("completed under %v, now it is %v", under, w.history.Version())
			}
			return complete(under, done)
		}
		w.nodes[1].horizons[bucket.Events] = 7200
		w.crashAt = w.ops + at
		w.rounds(w.merger(3))
		killed := w.ops >= w.crashAt
		w.crashAt = 0
		w.nodes[3].crash()
		m := w.merger(3)
		w.rounds(m)
		if len(w.history.Duties(w.nodes[3].id)) != 0 {
			t.Fatalf("killed at %d: not done: %+v", at, m.Stats())
		}
		skipped = max(skipped, m.Stats().LanesSkipped)
		if t.Failed() || !killed {
			break
		}
	}
	if skipped == 0 {
		t.Error("nothing was ever found done already")
	}
}

// TestTakingOverAgain: if too much has changed meanwhile, it is compared again; if it
// cannot be brought to agreement, that is tried again.
func TestTakingOverAgain(t *testing.T) {
	w := newDutyWorld(t, 4)
	w.fill("all", 0, 1, 2)
	w.leave(0, ring.Leaving, 3)
	complete, calls := w.completed, 0
	fault := errors.New("no majority")
	w.completed = func(under ring.Version, done []ring.Completion) error {
		calls++
		switch calls {
		case 1:
			return fault
		case 2:
			w.fill("late", 0, 1, 2) // as if: it was merged before
			return object.Errorf(object.CodeWrongOwner, object.NotDone, "compare again")
		}
		w.takes("compared again", 3, true, 0)
		return complete(under, done)
	}
	m := w.merger(3)
	for range 4 {
		w.rounds(m)
	}
	if calls != 3 || len(w.history.Duties(w.nodes[3].id)) != 0 {
		t.Errorf("%d calls, duties %v", calls, w.history.Duties(w.nodes[3].id))
	}
	if st := m.Stats(); st.CompletionsFailed != 2 || st.Completions != 1 {
		t.Errorf("%+v", st)
	}
}

// TestReportedSoon: after an hour without a majority what is complete is told within
// seconds, though it must be compared again first.
func TestReportedSoon(t *testing.T) {
	w := newDutyWorld(t, 4)
	w.fill("all", 0, 1, 2)
	w.leave(0, ring.Leaving, 3)
	complete, calls, majority := w.completed, 0, false
	w.completed = func(under ring.Version, done []ring.Completion) error {
		calls++
		switch {
		case !majority:
			return errors.New("no majority")
		case calls > 0:
			calls = -1000
			return object.Errorf(object.CodeWrongOwner, object.NotDone, "compare again")
		}
		return complete(under, done)
	}
	m := w.merger(3)
	for range 3600 {
		m.Round(t.Context())
		w.now = w.now.Add(time.Second)
	}
	if calls < 300 {
		t.Errorf("%d reports in an hour", calls)
	}
	majority = true
	for range 30 {
		m.Round(t.Context())
		w.now = w.now.Add(time.Second)
	}
	if left := w.history.Duties(w.nodes[3].id); len(left) != 0 {
		t.Errorf("half a minute later it still has to say that it has %v", left)
	}
}

// TestTrimKeepsWhatIsMerged: as slots expire and are trimmed, the rest goes on.
func TestTrimKeepsWhatIsMerged(t *testing.T) {
	w := newDutyWorld(t, 4)
	w.fill("all", 0, 1, 2)
	w.leave(0, ring.Leaving, 3)
	m := w.merger(3)
	m.Round(t.Context())
	w.now = w.now.Add(time.Minute)
	w.completed = func(ring.Version, []ring.Completion) error { return down }
	m.Round(t.Context())
	asked, merged := w.digests, m.Stats().Lanes
	if merged == 0 {
		t.Fatal("nothing was merged")
	}
	var err error
	if w.history, err = w.history.Trim(w.nextVersion(), 9_990); err != nil {
		t.Fatal(err)
	}
	if d := w.history.Duties(w.nodes[3].id); len(d) != 1 || d[0].From != 9_990 {
		t.Fatalf("duties %v", d)
	}
	complete := false
	w.completed = func(ring.Version, []ring.Completion) error { complete = true; return nil }
	w.now = w.now.Add(5 * time.Second) // less than the grace
	m.Round(t.Context())
	if !complete || w.digests != asked || m.Stats().Lanes != merged {
		t.Errorf("complete %v, %d digests more, %d lanes more", complete, w.digests-asked, m.Stats().Lanes-merged)
	}
}

// TestOlderRingsAreMerged: what a node may have lost of slots of a ring before, and
// of slots that were amended, is merged with those who own these.
func TestOlderRingsAreMerged(t *testing.T) {
	w := newDutyWorld(t, 6)
	w.fill("all", 0, 1, 2)
	var nodes []ring.Node
	for _, i := range []int{3, 4, 5} {
		nodes = append(nodes, ring.Node{ID: w.nodes[i].id, Name: fmt.Sprint("n", i), Weight: 1})
	}
	r, _, err := ring.Claim(nodes, 0, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.history, err = w.history.Append(w.nextVersion(), unwritten, r); err != nil {
		t.Fatal(err)
	}
	n := w.nodes[0]
	n.wipe(10_002)
	m := w.merger(0)
	w.rounds(m)
	if n.since != 0 {
		t.Fatalf("it vouches from slot %d on: %+v", n.since, m.Stats())
	}
	w.takes("an older ring", 0, true, 1, 2)

	n.doubts = []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: unwritten + 5}}
	w.rounds(m)
	if len(n.doubts) > 0 {
		t.Error("a slot in which it owns nothing stays in doubt")
	}
}

// TestDebtsOfOthersAreForgotten: who does not own a slot any more is owed nothing
// there.
func TestDebtsOfOthersAreForgotten(t *testing.T) {
	w := newDutyWorld(t, 4)
	w.fill("all", 1, 2)
	for l := range w.nodes[1].lanes {
		w.owed.Add(placeOf(w.nodes[0].id, l), nil)
	}
	w.leave(0, ring.Leaving, 3)
	m := w.merger(1)
	for range 3 {
		m.Round(t.Context())
	}
	if debts := w.owed.Debts(w.nodes[0].id); len(debts) != 0 {
		t.Errorf("still owed: %+v", debts)
	}
	if got := w.nodes[0].timedLanes(); len(got) != 0 {
		t.Errorf("it was given %v", got)
	}
	w.nodes[0].disk = w.nodes[0].syncState.clone()
	w.takes("plain data, which it owns", 0, false, 1)
}

// TestRate: the bound can be changed while it works.
func TestRate(t *testing.T) {
	w := newSyncWorld(t)
	m := w.merger(0)
	if got := m.Stats().BytesPerSecond; got != 64<<20 {
		t.Errorf("by default %d", got)
	}
	m.SetBytesPerSecond(1 << 40)
	m.slowDown(t.Context(), 1<<20) // a microsecond
	if m.waited == 0 || m.waited > 2*time.Microsecond {
		t.Errorf("%v to wait for", m.waited)
	}
	if m.SetBytesPerSecond(-5); m.Stats().BytesPerSecond != 1 {
		t.Errorf("at least %d", m.Stats().BytesPerSecond)
	}
}

// TestHearsay: when a node is known to have learnt a version, and that it is bounded.
func TestHearsay(t *testing.T) {
	h, id := hearsay{}, ring.NodeID{1}
	at := func(seconds int64) time.Time { return time.Unix(1000+seconds, 0) }
	v := func(index uint64) ring.Version { return ring.Version{Index: index} }
	if _, heard := h.since(id, v(1)); heard {
		t.Error("heard of somebody who said nothing")
	}
	h.add(id, v(3), at(0), 10*time.Second)
	h.add(id, v(3), at(5), 10*time.Second)
	h.add(id, v(7), at(6), 10*time.Second)
	for version, want := range map[uint64]int64{1: 0, 3: 0, 4: 6, 7: 6} {
		if got, heard := h.since(id, v(version)); !heard || got != at(want) {
			t.Errorf("version %d since %v, %v", version, got, heard)
		}
	}
	if _, heard := h.since(id, v(8)); heard {
		t.Error("heard of a version to come")
	}
	for i := range int64(1000) {
		h.add(id, v(uint64(10+i)), at(20+i/100), 10*time.Second)
	}
	if got, heard := h.since(id, v(20)); !heard || got.Before(at(20)) || len(h[id]) > maxLearnt {
		t.Errorf("%d remembered, version 20 since %v, %v", len(h[id]), got, heard)
	}
	if !slices.IsSortedFunc(h[id], func(a, b learnt) int { return a.version.Compare(b.version) }) {
		t.Error("out of order")
	}
}
