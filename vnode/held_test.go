package vnode

import (
	"errors"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// ringOf is a ring of two owners a partition.
func ringOf(t testing.TB, bits uint8, ids ...byte) *ring.Ring {
	t.Helper()
	var members []ring.Node
	for _, id := range ids {
		members = append(members, ring.Node{ID: ring.NodeID{id}, Name: string('a' + rune(id)), Weight: 1})
	}
	r, _, err := ring.Claim(members, bits, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withRing has a ring count from a slot on.
func (n *node) withRing(from expiry.Slot, r *ring.Ring) *ring.History {
	n.t.Helper()
	v := n.history.Version()
	v.Index++
	h, err := n.history.Append(v, int64(from), r)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// TestPartitionsGivenInTheMiddleOfALife: what a new ring gives to a node that never
// held it, it vouches for from the first day on, plain data and the slots of now
// included: it lacks nothing that it acknowledged. That lasts; and a node that begins
// with the same history on an empty disk cannot know that.
func TestPartitionsGivenInTheMiddleOfALife(t *testing.T) {
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	mem := vfs.NewMem()
	start := func(mem *vfs.Mem) *node {
		n := onEngine(t, mem)
		var err error
		if n.history, err = ring.NewHistory(ring.Version{Index: 1}, testSlotSeconds, ringOf(t, 2, 2, 3)); err != nil {
			t.Fatal(err)
		}
		n.cfg.Self = ring.NodeID{1}
		return n
	}
	n := start(mem)
	n.open()
	next := n.withRing(slot, ringOf(t, 2, 1, 2))
	if got := n.history.HeldBy(n.cfg.Self); len(got) != 0 {
		t.Fatalf("it holds %v", got)
	}
	if err := n.set.Open(n.now, next.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	n.history = next
	check := func(claim string) {
		t.Helper()
		if got := len(n.set.Vnodes()); got != 4 {
			t.Errorf("%s: %d vnodes", claim, got)
		}
		for _, v := range n.set.Vnodes() {
			if s := v.Since(); !s.Whole() || s.Born != noon.Unix() {
				t.Errorf("%s: partition %v vouches for %+v", claim, v.Partition(), s)
			}
		}
		n.want(claim+": a slot of its ring", n.get("events", noonKey), "absent")
		n.want(claim+": a plain object", n.get("plain", "k"), "absent")
	}
	check("given")
	if !slices.Contains(next.PlainNewcomers(ring.Partition{Bits: 2}), n.cfg.Self) {
		t.Error("the history does not call it a newcomer of plain data")
	}
	n.restart()
	if err := n.set.Open(n.now, next.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	check("after a restart")

	wiped := start(vfs.NewMem())
	wiped.history = next
	wiped.open()
	if err := wiped.set.Open(n.now, next.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	wiped.want("on an empty disk", wiped.get("events", noonKey), "unknown")

	late := start(vfs.NewMem())
	late.open()
	late.history = next
	late.want("opened by its first use", late.get("events", noonKey), "unknown")

	unknown := start(vfs.NewMem())
	unknown.cfg.Self = ring.NodeID{}
	unknown.open()
	if err := unknown.set.Open(n.now, next.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	unknown.history = next
	unknown.want("by a node that does not know itself", unknown.get("events", noonKey), "unknown")

	finer := start(vfs.NewMem())
	finer.open()
	other := finer.withRing(slot, ringOf(t, 3, 1, 2))
	finer.history = other // whichever counts: there are two sizes of partitions
	if err := finer.set.Open(n.now, other.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	finer.want("in partitions of another size, timed", finer.get("events", noonKey), "absent")
	finer.want("in partitions of another size, plain", finer.get("plain", "k"), "unknown")
}

// TestOwnedAgain: a node owned a partition, then did not, and owns it again. Its vnode
// vouches for the slots in between, of which it has nothing. That does no harm: nobody
// asks it, unless an amendment gives it a place there; and then the history calls it a
// newcomer until it has everything.
func TestOwnedAgain(t *testing.T) {
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	n := onEngine(t, vfs.NewMem())
	var err error
	if n.history, err = ring.NewHistory(ring.Version{Index: 1}, testSlotSeconds, ringOf(t, 2, 1, 2)); err != nil {
		t.Fatal(err)
	}
	n.cfg.Self = ring.NodeID{1}
	n.open()
	if err := n.set.Open(n.now, n.history.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	since := n.set.Vnodes()[0].Since()
	between, again := slot+5, slot+9
	n.history = n.withRing(between, ringOf(t, 2, 2, 3))
	n.history = n.withRing(again, ringOf(t, 2, 1, 2))
	n.restart()
	if err := n.set.Open(n.now, n.history.HeldBy(n.cfg.Self)...); err != nil {
		t.Fatal(err)
	}
	p := ring.Partition{Bits: 2}
	v, err := n.set.Vnode(p)
	if err != nil {
		t.Fatal(err)
	}
	if v.Since() != since || !v.Since().Covers(between) || since.Whole() {
		t.Errorf("it vouches for %+v, and did for %+v", v.Since(), since)
	}
	if n.history.At(int64(between)).Owns(n.cfg.Self, p) || slices.Contains(n.history.Sources(int64(between), p), n.cfg.Self) {
		t.Error("it is asked about the slots in between")
	}
	for _, reason := range []ring.Reason{ring.Leaving, ring.Lost, ring.Down} {
		version := n.history.Version()
		version.Index++
		h, _, err := n.history.Replace(version, ring.Replacement{Out: ring.NodeID{3}, Reason: reason, From: int64(between), Until: int64(again), Unwritten: int64(again),
			Candidates: []ring.Node{{ID: n.cfg.Self, Name: "one", Weight: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if !h.At(int64(between)).Owns(n.cfg.Self, p) || !slices.Contains(h.Newcomers(int64(between), p), n.cfg.Self) || len(h.Duties(n.cfg.Self)) == 0 {
			t.Errorf("%v: it owns the slots in between and is no newcomer of them", reason)
		}
	}
}

// TestAdmitAsksTheGate: of puts and deltas of timed buckets, before anything is
// stored; what other replicas have was admitted there.
func TestAdmitAsksTheGate(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	notYet := object.Errorf(object.CodeUnavailable, object.NotDone, "not yet")
	var asked []int64
	n.cfg.Admit = func(epoch int64) error {
		if asked = append(asked, epoch); epoch >= noon.Unix() {
			return notYet
		}
		return nil
	}
	n.open()
	n.want("a blob", n.put("events", noonKey, "x"), object.CodeUnavailable.String())
	n.want("nothing is stored", n.get("events", noonKey), "absent")
	n.want("one before", n.put("events", blobKey(noon.Unix()-1, 0), "x"), "stored")
	n.want("a plain object", n.put("plain", "k", "x"), "stored")
	if !slices.Equal(asked, []int64{noon.Unix(), noon.Unix() - 1}) {
		t.Errorf("asked for %v", asked)
	}
	rec := recordOf(t, object.Value, "events", noonKey, "x", n.now)
	v, err := n.set.find(rec.Type, rec.Bucket, rec.Key, ring.HashBytes(rec.Type, rec.Bucket, rec.Key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Repair(n.now, ring.HashBytes(rec.Type, rec.Bucket, rec.Key), rec, object.Version{}); err != nil {
		t.Errorf("what another replica has: %v", err)
	}
	if err := n.set.Add(n.now, noonRow, deltaOf(t, noon.Unix(), 1)); !errors.Is(err, object.CodeUnavailable) {
		t.Errorf("a delta: %v", err)
	}
}

// TestVouchesForWhatIsAgreed: of an epoch whose owners are not known nothing is absent
// for certain, and a page or a sum of its slot is not complete.
func TestVouchesForWhatIsAgreed(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	n.cfg.Vouches = func(epoch int64) bool { return epoch < slot.Start(testSlotSeconds) }
	n.open()
	n.want("of the slot", n.get("events", noonKey), "unknown")
	n.want("of the slot before", n.get("events", blobKey(slot.Start(testSlotSeconds)-1, 0)), "absent")
	n.want("plain", n.get("plain", "k"), "absent")
	for _, c := range []struct {
		slot expiry.Slot
		want bool
	}{{slot, false}, {slot - 1, true}} {
		s, err := n.set.Vnodes()[0].Sum(n.now, []byte(bucket.DefaultType), []byte(bucket.Events), c.slot)
		if err != nil || s.Complete != c.want {
			t.Errorf("slot %d: %+v, %v", c.slot, s, err)
		}
	}
}

// TestSum: replicas with the same content have equal sums, those of rows too.
func TestSum(t *testing.T) {
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	sums := func(n *node, name string) (all []Sum) {
		at := slot
		if name == "plain" {
			at = plainSlot
		}
		for _, p := range n.partitions() {
			v, err := n.set.Vnode(p)
			if err != nil {
				t.Fatal(err)
			}
			s, err := v.Sum(n.now, []byte(bucket.DefaultType), []byte(name), at)
			if err != nil || !s.Complete {
				t.Fatalf("%s: %+v, %v", name, s, err)
			}
			all = append(all, s)
		}
		return all
	}
	a, b := onEngine(t, vfs.NewMem()), onEngine(t, vfs.NewMem())
	for i, n := range []*node{a, b} {
		for j := range 8 {
			n.want("put", n.put("events", blobKey(noon.Unix(), (j+i)%8), "x"), "stored")
			n.want("put", n.put("plain", string(rune('a'+(j+i)%8)), "x"), "stored")
		}
		for j := range 4 {
			if err := n.set.Add(n.now, noonRow, deltaOf(t, noon.Unix(), (j+i)%4)); err != nil {
				t.Fatal(err)
			}
		}
	}
	same := func(name string) bool {
		return slices.EqualFunc(sums(a, name), sums(b, name), func(x, y Sum) bool { return slices.Equal(x.Minutes, y.Minutes) && x.Horizon == y.Horizon })
	}
	for _, name := range []string{"events", "epochs", "plain"} {
		count := int64(0)
		for _, s := range sums(a, name) {
			for _, m := range s.Minutes {
				count += m.Count
			}
		}
		if !same(name) || count == 0 {
			t.Errorf("%s: %d things, equal %v", name, count, same(name))
		}
	}
	b.want("put", b.put("events", blobKey(noon.Unix(), 99), "x"), "stored")
	b.want("put", b.put("plain", "z", "x"), "stored")
	if err := b.set.Add(b.now, noonRow, deltaOf(t, noon.Unix(), 9)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"events", "epochs", "plain"} {
		if same(name) {
			t.Errorf("%s: equal although one has more", name)
		}
	}
}
