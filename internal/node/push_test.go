package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// quintet is a cluster of five nodes on loopback, each of which owns three fifths
// of everything.
type quintet struct {
	cfg   [5]Config
	nodes [5]*Node
}

func startQuintet(t testing.TB) *quintet {
	t.Helper()
	c := &quintet{}
	startNow(t, c.cfg[:], c.nodes[:])
	c.meet(t)
	return c
}

// meet waits until every two nodes that run are connected.
func (c *quintet) meet(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, n := range c.nodes {
		for _, other := range c.nodes {
			if n == other || n.server == nil || other.server == nil {
				continue
			}
			if err := n.peers.get(other.id).Connect(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// eventually waits until a claim holds.
func eventually(t testing.TB, claim string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("it did not become true that %s", claim)
		}
	}
}

// subscribe begins a tail on a node that is told by that many others.
func subscribe(t testing.TB, n *Node, others int, o tail.Options) *tail.Subscription {
	t.Helper()
	sub, err := n.Store().Subscribe(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	eventually(t, "all others push", func() bool { return n.pushes.received.Stats().Live == int64(others) })
	return sub
}

func ownsBlob(n *Node, rec object.Record, epoch int64) bool {
	return slices.Contains(n.pushes.owners(ring.Hash(rec.Type, rec.Bucket, rec.Key), epoch), n.id)
}

// foreignRow returns a row that the node does not own and the others do, of a
// second that is still to come: until it is over, nobody reads the row.
func foreignRow(n *Node, others ...ring.NodeID) event.IndexKey {
	for i := 0; ; i++ {
		key := event.IndexKey{Epoch: time.Now().Unix() + 8 - int64(i%4), DC: fmt.Sprint("dc", i/4)}
		owners := n.pushes.owners(vnode.RowHash(key), key.Epoch)
		if !slices.Contains(owners, n.id) && !slices.ContainsFunc(others, func(id ring.NodeID) bool { return !slices.Contains(owners, id) }) {
			return key
		}
	}
}

func blobOf(t testing.TB, row event.IndexKey, chunk int) object.Record {
	t.Helper()
	key := event.Key{Epoch: row.Epoch, DC: row.DC, Type: "WEB", Subtype: "app", Chunk: event.Chunk(7, uint64(chunk))}
	return record(t, bucket.Events, key.String(), fmt.Sprint("value ", chunk))
}

// TestPushedToANodeThatOwnsNothing: on a node that does not own the row, all blobs
// are told by pushes, each of their bodies crosses the wire once, and none of those
// the node stores itself.
func TestPushedToANodeThatOwnsNothing(t *testing.T) {
	c := startQuintet(t)
	hub := c.nodes[0]
	row := foreignRow(hub)
	sub := subscribe(t, hub, 4, tail.Options{DC: row.DC})
	const blobs = 100
	foreign := 0
	var wg sync.WaitGroup
	for i := range blobs {
		rec := blobOf(t, row, i)
		if !ownsBlob(hub, rec, row.Epoch) {
			foreign++
		}
		wg.Go(func() {
			if err := c.nodes[1+i%4].Store().Put(t.Context(), rec); err != nil {
				t.Error(err)
			}
		})
	}
	got := map[string]string{}
	for len(got) < blobs {
		item := nextBlob(t, sub)
		key := item.Blob.Key.String()
		if _, twice := got[key]; twice {
			t.Errorf("%s came twice", key)
		}
		if err := item.Blob.Record.Verify(); err != nil {
			t.Error(err)
		}
		got[key] = string(item.Blob.Record.Value())
		item.Release()
	}
	wg.Wait()
	for i := range blobs {
		if rec := blobOf(t, row, i); got[string(rec.Key)] != fmt.Sprint("value ", i) {
			t.Errorf("%s has %q", rec.Key, got[string(rec.Key)])
		}
	}
	eventually(t, "all foreign bodies were pushed", func() bool { return hub.pushes.received.Stats().Bodies >= uint64(foreign) })
	told, tails, bodies := hub.pushes.received.Stats(), hub.hub.Counters(), hub.pushes.bodies.stats()
	if tails.Unannounced != 0 || tails.RowReads > 0 && told.Deltas == 0 {
		t.Errorf("the index told of %d blobs before a push did: %+v", tails.Unannounced, told)
	}
	if foreign == 0 || foreign == blobs || told.Bodies != uint64(foreign) {
		t.Errorf("%d bodies were pushed of %d blobs, of which %d are stored elsewhere", told.Bodies, blobs, foreign)
	}
	if bodies.taken == 0 || bodies.taken+uint64(tails.BodyReads) < blobs { // a delta may overtake its blob
		t.Errorf("of %d blobs %d were at hand and %d were read", blobs, bodies.taken, tails.BodyReads)
	}
	t.Logf("told %+v; bodies %+v; %d read", told, bodies, tails.BodyReads)
	for i, n := range c.nodes {
		if s := n.pushes.door.Stats(); i > 0 && s.DroppedBodies+s.DroppedDeltas+s.TooLarge != 0 {
			t.Errorf("node %d dropped: %+v", i, s)
		}
	}
}

// TestNothingIsPushedBack: what the node of the tail takes itself, and owns
// nothing of, does not come back to it.
func TestNothingIsPushedBack(t *testing.T) {
	c := startQuintet(t)
	hub := c.nodes[0]
	row := foreignRow(hub)
	sub := subscribe(t, hub, 4, tail.Options{})
	const blobs = 20
	for i := range blobs {
		if err := hub.Store().Put(t.Context(), blobOf(t, row, i)); err != nil {
			t.Fatal(err)
		}
	}
	for range blobs {
		item := nextBlob(t, sub)
		item.Release()
	}
	// Pushes of one node come in their order: these would come after those.
	rec := blobOf(t, row, blobs)
	if err := c.nodes[1].Store().Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	item := nextBlob(t, sub)
	item.Release()
	bodies := uint64(1)
	if ownsBlob(hub, rec, row.Epoch) {
		bodies = 0
	}
	eventually(t, "the last one is pushed", func() bool { s := hub.pushes.received.Stats(); return s.Deltas >= 3 && s.Bodies >= bodies })
	if told, tails := hub.pushes.received.Stats(), hub.hub.Counters(); told.Deltas != 3 || told.Bodies != bodies || tails.BodyReads > 1 {
		t.Errorf("of one blob of another node: %+v; %d read", told, tails.BodyReads)
	}
}

// TestFinalsAndLateListsArePushed: not only the entries of blobs in time, but not
// what is so old that it must be a repair.
func TestFinalsAndLateListsArePushed(t *testing.T) {
	c := startQuintet(t)
	hub, door := c.nodes[0], c.nodes[1].Store()
	row := foreignRow(hub)
	sub := subscribe(t, hub, 4, tail.Options{})
	w := index.Writer{Name: "agg", Incarnation: 7}
	hello := index.Row{Sections: []index.Section{{Writer: w, Hello: true}}}
	old := row
	for old.Epoch -= 1000; !hub.pushes.PushesDelta(hub.id, old); old.Epoch-- {
	}
	pusher := c.nodes[2].pushes
	pusher.accepted(pusher.me, old, hello)
	pusher.accepted(pusher.me, row, hello)
	eventually(t, "the new one was pushed", func() bool { s := pusher.door.Stats(); return s.Deltas > 0 && s.WaitingItems == 0 })
	if s := pusher.door.Stats(); s.Deltas != 1 {
		t.Errorf("a repair of %v was pushed: %+v", old, s)
	}
	for i, s := range []index.Section{{Writer: w, Hello: true}, {Writer: w, Final: &index.Final{}}, {Writer: w, Goodbye: true}} {
		if err := door.AppendIndex(t.Context(), row, index.Row{Sections: []index.Section{s}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it was pushed", func() bool { return hub.pushes.received.Stats().Deltas >= uint64(1+2*(i+1)) }) // two owners at least
	}
	late := blob(t, time.Now().Unix()-30, 1, "late")
	if err := door.Put(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	item := nextBlob(t, sub)
	if item.Blob.Key.String() != string(late.Key) || !item.Blob.Late || string(item.Blob.Record.Value()) != "late" {
		t.Errorf("got %v, late %v", item.Blob.Key, item.Blob.Late)
	}
	item.Release()

	kept := hub.pushes.bodies.stats().kept
	ancient := blob(t, time.Now().Unix()-1000, 1, "ancient")
	hub.pushes.stored(c.nodes[2].id, ring.Hash(ancient.Type, ancient.Bucket, ancient.Key), ancient)
	if s := hub.pushes.bodies.stats(); s.kept != kept {
		t.Errorf("a repaired blob is kept: %+v", s)
	}
}

// TestOwnersAreNotPushedTo: of three nodes each owns everything; nothing crosses
// the wire twice, and the tail has the blobs in memory that the node has stored.
func TestOwnersAreNotPushedTo(t *testing.T) {
	c := startTrio(t)
	hub := c.nodes[0]
	sub := subscribe(t, hub, 2, tail.Options{})
	const blobs = 50
	row := event.IndexKey{Epoch: time.Now().Unix() + 8, DC: "ams"}
	for i := range blobs {
		if err := c.nodes[1+i%2].Store().Put(t.Context(), blobOf(t, row, i)); err != nil {
			t.Fatal(err)
		}
	}
	for range blobs {
		item := nextBlob(t, sub)
		item.Release()
	}
	told, tails, bodies := hub.pushes.received.Stats(), hub.hub.Counters(), hub.pushes.bodies.stats()
	if told.Deltas+told.Bodies != 0 {
		t.Errorf("an owner was pushed to: %+v", told)
	}
	if bodies.taken == 0 || bodies.taken+uint64(tails.BodyReads) < blobs { // a delta may overtake its blob
		t.Errorf("of %d blobs %d were at hand and %d were read", blobs, bodies.taken, tails.BodyReads)
	}
}

// TestPushesFollowDemand: nodes are told only while anybody tails, and of what is
// wanted; then nothing is held.
func TestPushesFollowDemand(t *testing.T) {
	c := startTrio(t)
	hub := c.nodes[0]
	a := subscribe(t, hub, 2, tail.Options{DC: "ams", WithoutBodies: true})
	if w := hub.pushes.wanted.Load(); w.Bodies || !slices.Equal(w.DCs, []string{"ams"}) {
		t.Errorf("wanted: %+v", w)
	}
	b := subscribe(t, hub, 2, tail.Options{})
	eventually(t, "everything is wanted", func() bool { w := hub.pushes.wanted.Load(); return w.Bodies && w.DCs == nil })
	eventually(t, "each node is subscribed to once", func() bool {
		s := hub.pushes.received.Stats()
		return s.Live == 2 && s.Streams >= 4 && /* more, if a connection was lost */ c.nodes[1].pushes.door.Stats().Subscribers == 1 && c.nodes[2].pushes.door.Stats().Subscribers == 1
	})
	hub.pushes.bodies.keep(time.Now(), blob(t, time.Now().Unix(), 1, "x"))
	a.Close()
	b.Close()
	eventually(t, "nobody is subscribed", func() bool {
		return hub.pushes.received.Stats().Live == 0 && !c.nodes[1].pushes.door.Subscribed() && !c.nodes[2].pushes.door.Subscribed()
	})
	eventually(t, "nothing is held", func() bool { return hub.pushes.bodies.stats().items == 0 })
	if hub.pushes.wanted.Load() != nil {
		t.Error("something is still wanted")
	}
	hub.pushes.bodies.keep(time.Now(), blob(t, time.Now().Unix(), 2, "y"))
	if s := hub.pushes.bodies.stats(); s.items != 0 {
		t.Errorf("a blob is kept for nobody: %+v", s)
	}
}

// TestPushingNodeGoesAway: of what is acknowledged, a tail loses nothing and gets
// nothing twice when a node that pushes is closed in mid-stream, and when it is
// back.
func TestPushingNodeGoesAway(t *testing.T) {
	c := startQuintet(t)
	hub := c.nodes[0]
	sub := subscribe(t, hub, 4, tail.Options{})
	leaver := c.nodes[1].id
	var keys []string
	put := func(doors ...int) {
		row := foreignRow(hub, leaver)
		var wg sync.WaitGroup
		for i := range 60 {
			key := event.Key{Epoch: row.Epoch, DC: row.DC, Type: "WEB", Subtype: "app", Chunk: event.Chunk(7, uint64(len(keys)))}
			keys = append(keys, key.String())
			rec := record(t, bucket.Events, key.String(), "of "+key.String())
			wg.Go(func() {
				var err error
				for try := range 30 { // with the identical record
					err = c.nodes[doors[(i+try)%len(doors)]].Store().Put(t.Context(), rec)
					if e := object.AsError(err); e == nil || !e.Code.Retryable() {
						break
					}
				}
				if err != nil {
					t.Errorf("put: %v", err)
				}
			})
		}
		wg.Wait()
	}
	put(1, 2, 3, 4)
	eventually(t, "the node that will go away pushes", func() bool { return c.nodes[1].pushes.door.Stats().Deltas > 0 })
	var closing sync.WaitGroup
	closing.Go(func() { stop(t, c.nodes[1]) })
	put(2, 3, 4)
	closing.Wait()
	put(2, 3, 4)
	eventually(t, "it pushes no more", func() bool { s := hub.pushes.received.Stats(); return s.Ended > 0 && s.Live == 3 })
	c.nodes[1] = start(t, c.cfg[1])
	c.meet(t)
	eventually(t, "it pushes again", func() bool { return hub.pushes.received.Stats().Live == 4 })
	put(1, 2, 3, 4)
	eventually(t, "its pushes come", func() bool { return c.nodes[1].pushes.door.Stats().Deltas > 0 })
	got := make(map[string]bool)
	take := func() string {
		item := nextBlob(t, sub)
		defer item.Release()
		key := item.Blob.Key.String()
		if value := string(item.Blob.Record.Value()); got[key] || value != "of "+key {
			t.Errorf("%s has %q, twice %v", key, value, got[key])
		}
		got[key] = true
		return key
	}
	for range keys {
		take()
	}
	for _, key := range keys {
		if !got[key] {
			t.Errorf("%s did not come", key)
		}
	}
	put(2)
	for range 60 { // what would come twice would come before these
		take()
	}
	t.Logf("told %+v; tails %+v", hub.pushes.received.Stats(), hub.hub.Counters())
}
