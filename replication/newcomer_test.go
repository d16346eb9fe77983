package replication

import (
	"errors"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// leave has the i-th node of a rig leave, and another one take its places; slots from
// unwritten on it owns from the beginning.
func (r *rig) leave(i int, unwritten int64, successor *fake) {
	r.t.Helper()
	h := r.past.Load()
	v := h.Version()
	v.Index++
	h, short, err := h.Replace(v, ring.Replacement{
		Out: r.nodes[i].id, Reason: ring.Leaving, Until: ring.Forever, Unwritten: unwritten,
		Candidates: []ring.Node{{ID: successor.id, Name: "successor", Weight: 1}},
	})
	if err != nil || short != nil {
		r.t.Fatal(err, short)
	}
	r.nodes = append(r.nodes, successor)
	r.past.Store(h)
}

// TestSourcesAreAsked: through the coordinator, of values, headers and rows.
func TestSourcesAreAsked(t *testing.T) {
	const epoch = 1_800_000_000
	r := newRig(t, 3, -1, nil)
	defer r.close()
	source, b, c, newcomer := r.nodes[0], r.nodes[1], r.nodes[2], newFake(nodeID(9))
	old, late, never := blob(t, epoch, 1, "old"), blob(t, epoch, 2, "late"), blob(t, epoch, 3, "never")
	defer old.Release()
	defer late.Release()
	defer never.Release()
	c.failPuts = down
	if err := r.c.Put(t.Context(), old); err != nil { // the source and b have it
		t.Fatal(err)
	}
	r.leave(0, epoch/3600+10, newcomer)
	if err := r.c.Put(t.Context(), late); err != nil { // the newcomer and b have it
		t.Fatal(err)
	}
	if source.has(mapKey(late.Type, late.Bucket, late.Key)) || !newcomer.has(mapKey(late.Type, late.Bucket, late.Key)) {
		t.Error("the late one was put to the source")
	}
	for _, away := range []*fake{nil, b, c, newcomer, source} {
		if away != nil {
			away.fail = down
		}
		asked := source.bodies.Load() + source.heads.Load()
		for _, rec := range []*object.Record{&old, &late} {
			if got, err := r.get(rec); err != nil || got != string(rec.Value()) {
				t.Errorf("%v away: %q: %q, %v", away, rec.Key, got, err)
			}
			head, err := r.c.Head(t.Context(), rec.Type, rec.Bucket, rec.Key)
			if err != nil {
				t.Errorf("%v away: %q: %v", away, rec.Key, err)
			}
			head.Release()
		}
		if _, err := r.get(&never); !errors.Is(err, object.CodeAbsent) {
			t.Errorf("%v away: what was never put: %v", away, err)
		}
		switch asked := source.bodies.Load() + source.heads.Load() - asked; {
		case (away == b || away == c) && asked == 0:
			t.Error("an owner is away, and the source was not asked")
		case away == newcomer && asked > 0 || away == nil && asked > 0:
			t.Errorf("two owners are complete, and the source was asked %d times", asked)
		}
		if away != nil {
			away.fail = nil
		}
	}
	// The source alone does not stand for the newcomer.
	c.fail, newcomer.incomplete = down, true
	if _, err := r.get(&never); !errors.Is(err, object.CodeUnknown) {
		t.Errorf("without the newcomer's word: %v", err)
	}
	newcomer.incomplete, source.incomplete = false, true
	if _, err := r.get(&never); !errors.Is(err, object.CodeUnknown) {
		t.Errorf("without the source's word: %v", err)
	}
	source.incomplete = false
	key := event.IndexKey{Epoch: epoch, DC: "dc1"}
	source.rows[key] = rowOf(1)
	newcomer.rows[key] = rowOf(2)
	if row, certain, err := r.c.Row(t.Context(), key); err != nil || !certain || row.Len() != 2 {
		t.Errorf("a row: %d entries, certain %v, %v", row.Len(), certain, err)
	}
	// When it has everything it is an owner like others.
	h := r.past.Load()
	v := h.Version()
	v.Index++
	h, err := h.Complete(v, h.Duties(newcomer.id)...)
	if err != nil {
		t.Fatal(err)
	}
	r.past.Store(h)
	asked := source.bodies.Load() + source.heads.Load()
	if _, err := r.get(&never); !errors.Is(err, object.CodeAbsent) || source.bodies.Load()+source.heads.Load() != asked {
		t.Errorf("once it is complete: %v, and the source is asked", err)
	}
}

// TestRingsOfDifferentSlots: a timed object belongs to the owners of its slot, a
// plain one to the newest.
func TestRingsOfDifferentSlots(t *testing.T) {
	r := newRig(t, 3, 0, nil)
	defer r.close()
	var nodes []ring.Node
	for i := 5; i < 8; i++ {
		r.nodes = append(r.nodes, newFake(nodeID(i)))
		nodes = append(nodes, ring.Node{ID: nodeID(i), Name: string(rune('a' + i)), Weight: 1})
	}
	next, _, err := ring.Claim(nodes, 0, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.past.Load().Append(ring.Version{Index: 2}, 500_000, next)
	if err != nil {
		t.Fatal(err)
	}
	r.past.Store(h)
	before, after := blob(t, 500_000*3600-1, 1, "before"), blob(t, 500_000*3600, 1, "after")
	plain := record(t, object.Value, "plain", "k", 1_800_000_000_000_000, "plain")
	for i, rec := range []*object.Record{&before, &after, &plain} {
		if err := r.c.Put(t.Context(), *rec); err != nil {
			t.Fatal(err)
		}
		for j, n := range r.nodes {
			if has := n.has(mapKey(rec.Type, rec.Bucket, rec.Key)); has != ((j < 3) == (i == 0)) {
				t.Errorf("%s: node %d has it: %v", rec.Value(), j, has)
			}
		}
		if got, err := r.get(rec); err != nil || got != string(rec.Value()) {
			t.Errorf("%q, %v", got, err)
		}
		rec.Release()
	}
}

// TestPutsAreAdmitted: before anything is sent, and before the history is looked up.
func TestPutsAreAdmitted(t *testing.T) {
	notYet := object.Errorf(object.CodeUnavailable, object.NotDone, "who owns this second is not agreed yet")
	var asked []int64
	var look func()
	r := newRig(t, 3, 0, func(c *Config) {
		history := c.History
		c.History = func() *ring.History {
			if look != nil {
				look()
			}
			return history()
		}
		c.Admit = func(epoch int64) error {
			if asked = append(asked, epoch); epoch >= 3600 {
				return notYet
			}
			return nil
		}
	})
	defer r.close()
	look = func() {
		if len(asked) == 0 {
			t.Error("the history was looked up before")
		}
	}
	key := event.IndexKey{Epoch: 3601, DC: "dc1"}
	refused, row := blob(t, 3600, 1, "x"), delta(t, key, rowOf(1))
	for _, err := range append(r.c.PutBatch(t.Context(), []object.Record{refused}), r.c.Put(t.Context(), refused), r.c.AppendDelta(t.Context(), row)) {
		if e := object.AsError(err); err == nil || e.Code != object.CodeUnavailable || e.Outcome != object.NotDone || !e.Code.Retryable() {
			t.Errorf("%v", err)
		}
	}
	if n := r.holders(&refused); n != 0 || r.nodes[0].puts.Load() != 0 {
		t.Errorf("%d nodes were sent it", n)
	}
	look = nil
	taken, plain := blob(t, 3599, 1, "x"), record(t, object.Value, "plain", "k", 1, "x")
	for _, rec := range []object.Record{taken, plain} {
		if err := r.c.Put(t.Context(), rec); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.get(&refused); !errors.Is(err, object.CodeAbsent) {
		t.Errorf("a read: %v", err)
	}
	if !slices.Equal(asked, []int64{3600, 3600, 3601, 3599}) {
		t.Errorf("asked for %v", asked)
	}
	for _, rec := range []object.Record{refused, row, taken, plain} {
		rec.Release()
	}
}

// TestCastOfFewerCopies: a bucket of two copies uses the first two of each row.
func TestCastOfFewerCopies(t *testing.T) {
	h := testHistory(t, 1, 0, 1, 2)
	owners := h.Newest().Owners(ring.Partition{})
	props := bucket.Properties{Type: "t", Name: "b", Timed: true, N: 2, R: 1, W: 2, SmallestW: 1}
	for place := range 3 {
		next, _, err := h.Replace(ring.Version{Index: 2}, ring.Replacement{Out: owners[place], Reason: ring.Leaving, Until: 10, Unwritten: 10, Candidates: []ring.Node{{ID: nodeID(5), Name: "n5", Weight: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		c := castOf(next, &props, ring.Partition{}, 5)
		p := c.partyOf(nodeID(5), nobodyLost)
		if (len(c.nodes) == 3) != (place < 2) || c.n != 2 || p.member != (place < 2) {
			t.Errorf("place %d: %+v, %+v", place, c, p)
		}
		if place < 2 && (c.earlier[0].Need != 2 || !c.proves(0b111) || c.proves(0b011) || c.proves(0b110) && place == 0) {
			t.Errorf("place %d: %+v", place, c)
		}
		if after := castOf(next, &props, ring.Partition{}, 10); len(after.nodes) != 2 || after.earlier != nil {
			t.Errorf("slots that nobody replaced anybody in: %+v", after)
		}
	}
}
