package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
)

// TestAcknowledgedWhenSettled: D takes the place of A. What D and B have is not
// acknowledged while A and C have not heard of it: they would call it absent.
func TestAcknowledgedWhenSettled(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 4)...)
	nodes := map[ring.NodeID]*Node{}
	for i, n := range c.startAll(numbered(1, 4)...) {
		nodes[councilID(fmt.Sprint("n", i+1))] = n
	}
	a := councilID("n4")
	name := func(id ring.NodeID) string { return nodes[id].cfg.Name }
	c.do(agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageLeave, Node: a}})

	// A plain object that A owns.
	before := c.present().History.Newest()
	var rec object.Record
	var owners []ring.NodeID
	for i := 0; !before.Owns(a, before.PartitionOf(ring.Hash("default", "notes", string(rec.Key)))) || rec.Key == nil; i++ {
		rec = record(t, "notes", fmt.Sprint("k", i), "v")
		owners = before.Owners(before.PartitionOf(ring.Hash(rec.Type, rec.Bucket, rec.Key)))
	}
	var bc []ring.NodeID
	d := councilID("n1")
	for id := range nodes {
		isOwner := false
		for _, o := range owners {
			isOwner = isOwner || o == id
		}
		switch {
		case id == a:
		case isOwner:
			bc = append(bc, id)
		default:
			d = id
		}
	}
	b, deaf := bc[0], bc[1]

	c.refuse(func(cmd agreed.Command) bool { return cmd.Kind == agreed.Promised && cmd.Node == b })
	c.commit()
	until(t, "A and C have promised", func() bool { return c.heardPromise(name(a)) && c.heardPromise(name(deaf)) })
	c.deafen(name(a), true, true)
	c.deafen(name(deaf), true, true)
	c.refuse(nil)
	c.nudge()
	c.awaitFixed()
	until(t, "B and D know", func() bool { return nodes[b].ring().Len() == 2 && nodes[d].ring().Len() == 2 })

	if err := putOnce(t, nodes[d], rec); err == nil || !object.AsError(err).Code.Retryable() || object.AsError(err).Outcome != object.MaybeDone {
		t.Errorf("a put that A and C would deny: %v", err)
	}
	// That A is held for down does not make it silent: it may be up beside C.
	c.do(agreed.Command{Kind: agreed.Down, Node: a})
	until(t, "D knows that A is held for down", func() bool { m, _ := nodes[d].document().Member(a); return m.Down })
	if o, w := nodes[d].local.fence.placing.of(rec.Type, rec.Bucket, rec.Key, ring.Hash(rec.Type, rec.Bucket, rec.Key)); nodes[d].isSettled(nodes[d].view.Load(), o, w) {
		t.Error("what A, held for down, and C would deny is settled")
	}
	if _, err := get(nodes[a], rec); err == nil {
		t.Error("who has not heard of it finds it: the test is none")
	}
	c.deafen(name(deaf), false, false)
	until(t, "it is put", func() bool { return putOnce(t, nodes[d], rec) == nil })
	if _, err := get(nodes[a], rec); errors.Is(err, object.CodeAbsent) {
		t.Error("what was acknowledged is absent")
	}
	c.deafen(name(a), false, false)
	until(t, "all have heard of each other", func() bool { return putOnce(t, nodes[d], rec) == nil && nodes[d].view.Load().settled.Load() })
}

// TestFenceTellsTheBuckets: what is judged depends on the bucket, and costs nothing.
func TestFenceTellsTheBuckets(t *testing.T) {
	c := newCouncil(t, numbered(1, 3)...)
	n := start(t, c.config("n1"))
	rec := c.blobAt(c.clock.Load(), 1)
	ref := peer.Ref{Type: rec.Type, Bucket: rec.Bucket, Key: rec.Key, Hash: ring.Hash(rec.Type, rec.Bucket, rec.Key)}
	if o, w := n.local.fence.placing.of(ref.Type, ref.Bucket, ref.Key, ref.Hash); !o.Timed || o.Epoch != c.clock.Load() || o.N != 3 || w != 2 {
		t.Errorf("a blob is placed as %+v, w %d", o, w)
	}
	if o, w := n.local.fence.placing.of([]byte("default"), []byte("notes"), []byte("k"), 7); o.Timed || o.N != 3 || w != 2 || o.Hash != 7 {
		t.Errorf("a plain object is placed as %+v, w %d", o, w)
	}
	v := n.ring().Version()
	if n.local.fence.judge(v, ref, true) != peer.Same {
		t.Error("an owner may not be put to")
	}
	if got := testing.AllocsPerRun(100, func() { n.local.fence.judge(v, ref, true) }); got > 0 {
		t.Errorf("judging allocates %v times", got)
	}
	if got := testing.AllocsPerRun(100, func() { _ = n.settle(t.Context(), &rec.Header) }); got > 0 {
		t.Errorf("settling allocates %v times", got)
	}
	if n.doubted() == 0 {
		t.Error("a new node of three vouches for what it cannot know")
	}
	later := v
	later.Index++
	if n.local.fence.judge(later, ref, false) != peer.Behind {
		t.Error("a newer history is not")
	}
}

// TestOwnReplicaIsFenced: this node's coordinator may have looked at the history before
// it changed, and its put may be stored after.
func TestOwnReplicaIsFenced(t *testing.T) {
	c := newCouncil(t, numbered(1, 3)...)
	n := start(t, c.config("n1"))
	old := n.view.Load().fence
	moved, err := ring.NewHistory(ring.Version{Era: 9, Index: 9}, councilSlot, mustClaim(t, "n7", "n8", "n9"))
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, "notes", "k", "v")
	ask := replication.Ask{Hash: ring.Hash(rec.Type, rec.Bucket, rec.Key), History: old.History().Version()}
	put := func(fences ...*ring.Fence) (err *object.Error) {
		l := *n.local
		l.fence = &fence{me: n.id, placing: placing{present: n.buckets.Load}, present: func() *ring.Fence {
			f := fences[0]
			fences = fences[min(1, len(fences)-1):]
			return f
		}}
		l.Put(ask, rec, func(_ uint64, e *object.Error) { err = e })
		return err
	}
	if err := put(old); err != nil {
		t.Errorf("under the same history: %v", err)
	}
	if err := put(old.Adopt(moved)); err == nil || err.Code != object.CodeWrongOwner || err.Outcome != object.NotDone {
		t.Errorf("the owners are others: %v", err)
	}
	if err := put(old, old.Adopt(moved)); err == nil || err.Code != object.CodeWrongOwner || err.Outcome != object.MaybeDone {
		t.Errorf("the owners are others by the time it is stored: %v", err)
	}
}

func mustClaim(t *testing.T, names ...string) *ring.Ring {
	t.Helper()
	var nodes []ring.Node
	for _, name := range names {
		nodes = append(nodes, ring.Node{ID: councilID(name), Name: name, Weight: 1})
	}
	r, _, err := ring.Claim(nodes, 2, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPromiseOnDisks: the latest promise that any disk has counts; one that is
// damaged everywhere is in the way.
func TestPromiseOnDisks(t *testing.T) {
	a, b := vfs.NewMem(), vfs.NewMem()
	disks := []vfs.FS{a, b}
	want := func(claim string, p ring.Promise) {
		t.Helper()
		if got, err := readPromise(disks); err != nil || got != p {
			t.Errorf("%s: %+v, %v; want %+v", claim, got, err, p)
		}
	}
	want("none", ring.Promise{})
	first, second := ring.Promise{Round: 3, Boundary: 70}, ring.Promise{Round: 4, Boundary: 80}
	if err := writePromise(disks, first); err != nil {
		t.Fatal(err)
	}
	want("on both", first)
	if err := writePromise(disks[1:], second); err != nil {
		t.Fatal(err)
	}
	want("a later one on one of them", second)
	second.Fixed = true
	if err := writePromise(disks[:1], second); err != nil {
		t.Fatal(err)
	}
	want("settled on one of them", second)
	if err := vfs.PublishBytes(a, promiseName, []byte("x")); err != nil {
		t.Fatal(err)
	}
	second.Fixed = false
	want("damaged on one of them", second)
	added := vfs.NewMem()
	if p, err := readPromise([]vfs.FS{a, added}); err == nil {
		t.Errorf("damaged, and a disk was added: %+v", p)
	}
	disks = append(disks, added)
	want("a disk was added", second)
	n := &Node{homes: disks}
	n.spreadPromise(second)
	for i, disk := range disks {
		if got, err := readPromise([]vfs.FS{disk}); err != nil || got != second {
			t.Errorf("disk %d has %+v, %v", i, got, err)
		}
	}
	disks = disks[:2]
	if err := vfs.PublishBytes(a, promiseName, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := vfs.PublishBytes(b, promiseName, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if p, err := readPromise(disks); err == nil {
		t.Errorf("damaged on both: %+v", p)
	}
	b.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return errors.New("no")
		}
		return nil
	})
	if writePromise(disks, first) == nil {
		t.Error("a promise that is not on all disks was given")
	}
}
