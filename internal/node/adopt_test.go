package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// blobAt makes the record of a blob of that second.
func (c *council) blobAt(epoch int64, chunk uint64) object.Record {
	c.t.Helper()
	return stamped(c.t, c.now(), bucket.Events, blobKey(epoch, chunk), fmt.Sprint("value ", chunk))
}

// note is an object of a plain bucket.
func (c *council) note(i int) object.Record {
	c.t.Helper()
	return stamped(c.t, c.now(), "notes", fmt.Sprint("k", i), fmt.Sprint("v", i))
}

// putOnce puts with one attempt of the node's.
func putOnce(t testing.TB, n *Node, rec object.Record) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return n.Store().Put(ctx, rec)
}

// TestStaleNode: a node that has missed a change of the ring learns of it from the
// first that answers or asks, and if it cannot, serves nothing of what changed and
// all that did not.
func TestStaleNode(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	c.join(numbered(4, 6)...)
	nodes = append(nodes, c.startAll(numbered(4, 6)...)...)
	before := c.blobAt(c.clock.Load(), 1)
	if err := putOnce(t, nodes[1], before); err != nil {
		t.Fatal(err)
	}
	// n1 has promised, and hears nothing more.
	c.refuse(func(cmd agreed.Command) bool { return cmd.Kind == agreed.Promised && cmd.Node == councilID("n2") })
	c.commit()
	until(t, "n1 has promised", func() bool { return c.heardPromise("n1") })
	c.deafen("n1", true, true)
	c.refuse(nil)
	c.nudge()
	boundary := c.awaitFixed()
	for _, n := range nodes[1:] {
		until(t, "the others have adopted", func() bool { return n.ring().Len() == 2 })
	}
	stale := nodes[0]
	if stale.ring().Len() != 1 {
		t.Fatal("n1 has heard of it")
	}
	c.clock.Store(boundary*councilSlot + 1)
	for i := range uint64(20) {
		rec := c.blobAt(boundary*councilSlot, 100+i)
		if err := putOnce(t, stale, rec); err == nil || !object.AsError(err).Code.Retryable() {
			t.Errorf("a put into a slot of the new ring through n1: %v", err)
		}
		if _, err := get(stale, rec); errors.Is(err, object.CodeAbsent) {
			t.Error("n1 says that what it cannot know is absent")
		}
		if err := putOnce(t, nodes[1+i%5], rec); err != nil {
			t.Errorf("a put that does not need n1: %v", err)
		}
		if got, err := get(nodes[1+i%5], rec); err != nil || got != string(rec.Value()) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if got, err := get(stale, before); err != nil || got != string(before.Value()) {
		t.Errorf("what was put before, through n1: %q, %v", got, err)
	}
	if stale.ring().Len() != 1 {
		t.Error("n1 has heard of it")
	}
	// It may ask again.
	c.deafen("n1", true, false)
	rec := c.blobAt(boundary*councilSlot, 1000)
	until(t, "n1 has caught up", func() bool { return putOnce(t, stale, rec) == nil })
	if stale.ring().Len() != 2 {
		t.Error("n1 has put into a slot of the new ring and does not know it")
	}
}

// TestRestartBetweenPromiseAndFix: what was promised binds a node that was started
// again.
func TestRestartBetweenPromiseAndFix(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 2)...)
	cfg := c.config("n3")
	nodes = append(nodes, start(t, cfg))
	rec := c.blobAt(c.clock.Load()+5, 1)
	if err := putOnce(t, nodes[0], rec); err != nil {
		t.Fatal(err)
	}
	c.join("n4")
	nodes = append(nodes, c.startAll("n4")...)
	c.refuse(func(cmd agreed.Command) bool { return cmd.Kind == agreed.Promised && cmd.Node == councilID("n1") })
	c.commit()
	until(t, "n3 has promised", func() bool { return c.heardPromise("n3") })
	boundary := c.present().Change.Boundary
	if h := nodes[2].ring(); h.At(0).Owns(nodes[2].id, h.At(0).PartitionOf(ring.Hash(rec.Type, rec.Bucket, rec.Key))) { // maybe the last of three to get it
		until(t, "n3 has stored it", func() bool { return nodes[2].highestStored() != ring.NoEpoch })
	}
	stop(t, nodes[2])
	cfg.Listener, cfg.Listen = nil, nodes[2].Addr().String()
	n3 := start(t, cfg)
	nodes[2] = n3
	if p := n3.gate.Promise(); p.Boundary != boundary || p.Fixed || p.Lifted || n3.gate.Vouches(boundary*councilSlot) || !n3.gate.Vouches(boundary*councilSlot-1) {
		t.Errorf("after the restart n3 has promised %+v, the boundary is %d", p, boundary)
	}
	h := n3.ring()
	if owned := h.At(boundary).Owns(n3.id, h.At(boundary).PartitionOf(ring.Hash(rec.Type, rec.Bucket, rec.Key))); owned {
		if slot, want := h.SlotOf(n3.gate.Highest()), h.SlotOf(c.clock.Load()+5); slot != want {
			t.Errorf("the highest epoch stored is of slot %d, want %d", slot, want)
		}
	}
	// While nothing is agreed, nothing past the boundary is taken in, or absent.
	c.clock.Store(boundary * councilSlot)
	undecided := c.blobAt(boundary*councilSlot, 2)
	for i, n := range nodes {
		if err := putOnce(t, n, undecided); !errors.Is(err, object.CodeUnavailable) || object.AsError(err).Outcome != object.NotDone {
			t.Errorf("node %d: a put past the boundary that was promised: %v", i, err)
		}
		if _, err := get(n, undecided); err == nil || errors.Is(err, object.CodeAbsent) {
			t.Errorf("node %d: what others may have acknowledged under the new ring: %v", i, err)
		}
	}
	c.refuse(nil)
	c.nudge()
	boundary = c.awaitFixed()
	until(t, "n3 has adopted", func() bool { return n3.ring().Len() == 2 && n3.gate.Promise().Fixed })
	c.clock.Store(boundary*councilSlot + 1)
	for i := range uint64(10) {
		rec := c.blobAt(boundary*councilSlot, 10+i)
		until(t, "it is put", func() bool { return putOnce(t, nodes[i%4], rec) == nil })
		if got, err := get(nodes[(i+1)%4], rec); err != nil || got != string(rec.Value()) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestDownAndUp: the places of a node that is down are given to others in the open
// slot and in later ones, and back to it from a boundary on that all have promised.
// Nothing acknowledged is lost, and nothing fails for good.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 4)...)
	nodes := c.startAll(numbered(1, 3)...)
	cfg := c.config("n4")
	nodes = append(nodes, start(t, cfg))
	c.run(40 * time.Millisecond)
	load := c.load(nodes[:3]...)
	until(t, "there is something", func() bool { return len(slotsOf(t, nodes[0])) >= 2 })

	stop(t, nodes[3])
	c.do(agreed.Command{Kind: agreed.Down, Node: councilID("n4")})
	at := c.clock.Load()
	until(t, "three slots are over", func() bool { return c.clock.Load() > at+3*councilSlot })
	cfg.Listener, cfg.Listen = nil, nodes[3].Addr().String()
	nodes[3] = start(t, cfg)
	c.do(agreed.Command{Kind: agreed.Up, Node: councilID("n4")})
	boundary := c.awaitFixed()
	until(t, "two slots after its return are over", func() bool { return c.clock.Load() > (boundary+2)*councilSlot })
	load.end()
	load.check("after its return", nodes...)
	owned := 0
	for slot := range slotsOf(t, nodes[3]) {
		if slot >= boundary {
			owned++
		}
	}
	if owned == 0 {
		t.Error("the node that returned has nothing that was put since")
	}
	if m, _ := c.present().Member(councilID("n4")); m.Down || m.Back {
		t.Errorf("it counts as down: %+v", m)
	}
}

// TestPeersComeAndGo: there is a way to each member, and to none that is gone.
func TestPeersComeAndGo(t *testing.T) {
	c := newCouncil(t, "n1")
	n := c.startAll("n1")[0]
	if len(n.peers.each()) != 0 {
		t.Error("a node alone has peers")
	}
	c.join("n2")
	until(t, "there is a way to n2", func() bool { return n.peers.get(councilID("n2")) != nil })
	p := n.peers.get(councilID("n2"))
	c.do(agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageLeave, Node: councilID("n2")}})
	until(t, "there is none any more", func() bool { return n.peers.get(councilID("n2")) == nil })
	if err := p.Connect(t.Context()); !errors.Is(err, object.CodeStopping) {
		t.Errorf("the way to who is gone is not closed: %v", err)
	}
}

// TestAnnounced: all know which history the others have adopted, although nobody puts
// or gets anything.
func TestAnnounced(t *testing.T) {
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	c.do(agreed.Command{Kind: agreed.Down, Node: councilID("n3")})
	v := c.present().History.Version()
	c.join("n4")
	nodes = append(nodes, c.startAll("n4")...)
	for i, n := range nodes {
		for _, p := range n.peers.each() {
			until(t, fmt.Sprintf("node %d knows what %v has adopted", i, p.Node()), func() bool { return !p.Seen().Before(v) })
		}
	}
}

// TestAloneNoMore: what a node alone has, and what it does not have, it knows for
// certain when others have come.
func TestAloneNoMore(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, "n1")
	nodes := c.startAll("n1")
	epoch := c.clock.Load()
	rec := c.blobAt(epoch, 1)
	if err := putOnce(t, nodes[0], rec); err != nil {
		t.Fatal(err)
	}
	c.join("n2", "n3")
	nodes = append(nodes, c.startAll("n2", "n3")...)
	c.commit()
	boundary := c.awaitFixed()
	for i, n := range nodes {
		until(t, "it is adopted", func() bool { return n.ring().Len() == 2 })
		var got string
		var err error
		known := func() bool { return !errors.Is(err, object.CodeUnknown) } // while it has not met the owner
		until(t, "it can tell what it has", func() bool { got, err = get(n, rec); return known() })
		if err != nil || got != string(rec.Value()) {
			t.Errorf("node %d: %q, %v", i, got, err)
		}
		for chunk := range uint64(20) { // in all partitions
			until(t, "it can tell what is not there", func() bool { _, err = get(n, c.blobAt(epoch, 100+chunk)); return known() })
			if !errors.Is(err, object.CodeAbsent) {
				t.Errorf("node %d: what was never put: %v", i, err)
			}
		}
	}
	c.clock.Store(boundary*councilSlot + 1)
	young := c.blobAt(boundary*councilSlot, 2)
	until(t, "it is put", func() bool { return putOnce(t, nodes[0], young) == nil })
	row, certain, err := nodes[2].Store().Row(t.Context(), event.IndexKey{Epoch: boundary * councilSlot, DC: "ams"})
	if err != nil || !certain || row.Len() != 1 {
		t.Errorf("%d entries, certain %v, %v", row.Len(), certain, err)
	}
	if n := bucket.DefaultSet().Lookup(bucket.DefaultType, bucket.Events).N; nodes[0].ring().At(boundary).N() != n {
		t.Errorf("%d owners of a partition, want %d", nodes[0].ring().At(boundary).N(), n)
	}
}

// TestRepairOfSources: a node takes what replicas give each other where it is owner
// or source, and nowhere else.
func TestRepairOfSources(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 4)...)
	n := start(t, c.config("n4"))
	slot := c.present().History.SlotOf(c.clock.Load())
	owns := map[bool]object.Record{}
	for i := range uint64(50) {
		rec := c.blobAt(c.clock.Load(), i)
		h := c.present().History
		r, p := h.For(true, ring.Hash(rec.Type, rec.Bucket, rec.Key), c.clock.Load())
		owns[r.Owns(n.id, p)] = rec
	}
	repair := func(rec object.Record) error {
		return mergeLocal{n}.RepairRecord(t.Context(), rec, object.Version{})
	}
	if err := repair(owns[true]); err != nil {
		t.Errorf("an owner: %v", err)
	}
	if err := repair(owns[false]); !errors.Is(err, object.CodeWrongOwner) {
		t.Errorf("one who is none: %v", err)
	}
	c.do(agreed.Command{Kind: agreed.Down, Node: n.id})
	until(t, "it is a source", func() bool {
		h := n.ring()
		return slices.ContainsFunc(slices.Collect(h.At(slot).Partitions()), func(p ring.Partition) bool { return slices.Contains(h.Sources(slot, p), n.id) })
	})
	if err := repair(owns[true]); err != nil {
		t.Errorf("a source: %v", err)
	}
}
