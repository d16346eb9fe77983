package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
)

// complete waits until the nodes are complete for all they own.
func (c *trio) complete(t testing.TB, nodes ...int) {
	t.Helper()
	for _, i := range nodes {
		until(t, fmt.Sprint("complete: node ", i), func() bool { return c.nodes[i].doubted() == 0 })
	}
}

// doubted counts the partitions for which a node is not complete.
func (n *Node) doubted() (doubted int) {
	for p := range n.ring().Newest().OwnedBy(n.id) {
		if (mergeLocal{n}).InDoubt(p) {
			doubted++
		}
	}
	return doubted
}

// contents returns what a node's disks hold, as walks show it: objects verbatim,
// rows merged.
func contents(t testing.TB, n *Node) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for p := range n.ring().Newest().OwnedBy(n.id) {
		v, err := n.vnodes.Vnode(p)
		if err != nil {
			t.Fatal(err)
		}
		buckets, err := v.Buckets()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range buckets {
			slots := []expiry.Slot{-1}
			if b.Timed {
				if slots, err = v.Slots([]byte(b.Type), []byte(b.Name)); err != nil {
					t.Fatal(err)
				}
			}
			for _, slot := range slots {
				for from := uint64(0); from < bitcask.PageEnd; {
					from, _, err = v.Page(time.Now(), []byte(b.Type), []byte(b.Name), slot, from, func(_ uint64, h *object.Header, _ object.Digest) bool {
						rec, err := mergeLocal{n}.Fetch(t.Context(), laneOf(p, b, slot), string(h.Key))
						if err != nil {
							t.Fatalf("node %s: %q: %v", n.cfg.Name, h.Key, err)
						}
						defer rec.Release()
						content := rec.Raw()
						if b.KeepAll {
							content = rec.Value() // the rows of equal content may be stamped differently
						}
						all[fmt.Sprintf("%s/%s/%s", b.Type, b.Name, h.Key)] = bytes.Clone(content)
						return true
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	return all
}

func laneOf(p ring.Partition, b bitcask.Bucket, slot expiry.Slot) replication.Lane {
	return replication.Lane{Type: b.Type, Bucket: b.Name, Timed: b.Timed, Partition: p, Slot: int64(slot)}
}

// sameContents fails unless all nodes hold the same.
func (c *trio) sameContents(t testing.TB, claim string, least int) {
	t.Helper()
	first := contents(t, c.nodes[0])
	if len(first) < least {
		t.Errorf("%s: node 0 holds %d things, want at least %d", claim, len(first), least)
	}
	for i := 1; i < 3; i++ {
		other := contents(t, c.nodes[i])
		keys := map[string]bool{}
		for k := range first {
			keys[k] = true
		}
		for k := range other {
			keys[k] = true
		}
		for k := range keys {
			if !bytes.Equal(first[k], other[k]) {
				t.Errorf("%s: %s: node 0 has %d bytes, node %d has %d, or others", claim, k, len(first[k]), i, len(other[k]))
			}
		}
	}
}

// wipe stops a node and empties its directory.
func (c *trio) wipe(t testing.TB, i int) {
	t.Helper()
	stop(t, c.nodes[i])
	for _, dir := range c.cfg[i].Data {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// plainObject is an object of a bucket that nobody declared.
func plainObject(t testing.TB, key, value string) object.Record {
	t.Helper()
	rec, err := object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: time.Now().UnixMicro(),
		Type: []byte("default"), Bucket: []byte("notes"), Key: []byte(key),
	}, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// fill puts blobs of some seconds of two slots, and plain objects.
func (c *trio) fill(t testing.TB, n int) (recs []object.Record) {
	t.Helper()
	now := time.Now().Unix()
	for i := range n {
		epoch := now - int64(i%3)*20 // tests' slots have 10 seconds: three of them
		recs = append(recs, blob(t, epoch, uint64(i), fmt.Sprint("value ", i)))
		recs = append(recs, plainObject(t, fmt.Sprint("note ", i), fmt.Sprint("text ", i)))
	}
	for i, rec := range recs {
		if err := c.nodes[i%3].Store().Put(t.Context(), rec); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	c.quiet(t)
	return recs
}

// quiet waits until the copies of all writes have been given.
func (c *trio) quiet(t testing.TB) {
	t.Helper()
	until(t, "all copies are given", func() bool {
		return !slices.ContainsFunc(c.nodes[:], func(n *Node) bool { return n.server != nil && n.coord.Stats().Active > 0 })
	})
}

// until waits for something that is bound to happen.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("this does not come true: %s", what)
		}
	}
}

// allThere fails unless a node finds all records and calls another one absent.
func allThere(t testing.TB, claim string, n *Node, recs []object.Record) {
	t.Helper()
	for _, rec := range recs {
		got, err := n.Store().Get(t.Context(), rec.Type, rec.Bucket, rec.Key)
		if err != nil {
			t.Fatalf("%s: %s: %q: %v", claim, n.cfg.Name, rec.Key, err)
		}
		if !bytes.Equal(got.Raw(), rec.Raw()) {
			t.Errorf("%s: %s: %q has other bytes", claim, n.cfg.Name, rec.Key)
		}
		got.Release()
	}
	for _, rec := range []object.Record{blob(t, time.Now().Unix()-40, 1<<40, ""), plainObject(t, "never", "")} {
		if _, err := n.Store().Get(t.Context(), rec.Type, rec.Bucket, rec.Key); !errors.Is(err, object.CodeAbsent) {
			t.Errorf("%s: %s: what was never put: %v", claim, n.cfg.Name, err)
		}
	}
}

// TestWipedNodeComesBack: a node whose directory was lost and that starts under
// its name again takes everything back from the others. While it has not, it
// vouches for nothing that was before; then the three hold the same, byte for
// byte, and any two of them answer.
func TestWipedNodeComesBack(t *testing.T) {
	c := startTrio(t)
	recs := c.fill(t, 60)
	for i := range 3 {
		c.wipe(t, i)
		c.restart(t, i)
		for _, rec := range recs[:10] { // no false "absent" at any time
			if _, err := c.nodes[i].Store().Get(t.Context(), rec.Type, rec.Bucket, rec.Key); errors.Is(err, object.CodeAbsent) {
				t.Fatalf("node %d, just back: %q is absent", i, rec.Key)
			}
		}
		c.complete(t, i)
		allThere(t, fmt.Sprint("node ", i, " is back"), c.nodes[i], recs)
	}
	c.sameContents(t, "all were wiped, one after the other", len(recs))
	for i := range 3 { // and each pair has everything
		stop(t, c.nodes[i])
		allThere(t, fmt.Sprint("without node ", i), c.nodes[(i+1)%3], recs)
		c.restart(t, i)
	}
}

// TestWipedNodeNeedsTwo: with one of the others away, a wiped node stays
// incomplete: one replica's word that there was nothing proves nothing.
func TestWipedNodeNeedsTwo(t *testing.T) {
	c := startTrio(t)
	recs := c.fill(t, 9)
	c.wipe(t, 0)
	stop(t, c.nodes[2])
	c.restart(t, 0)
	owned := c.nodes[0].doubted()
	for range 20 { // rounds of its own, so that nothing depends on time
		c.nodes[0].newMerger().Round(t.Context())
	}
	if got := c.nodes[0].doubted(); got != owned || owned == 0 {
		t.Fatalf("in doubt about %d partitions, then about %d, with one other node", owned, got)
	}
	for _, rec := range recs {
		if _, err := c.nodes[0].Store().Get(t.Context(), rec.Type, rec.Bucket, rec.Key); errors.Is(err, object.CodeAbsent) {
			t.Fatalf("%q is absent", rec.Key)
		}
	}
	if _, err := get(c.nodes[0], blob(t, time.Now().Unix(), 1<<40, "")); errors.Is(err, object.CodeAbsent) {
		t.Error("a second before it was wiped: absent by the word of one")
	}
	c.restart(t, 2)
	c.complete(t, 0, 1, 2)
	allThere(t, "all are back", c.nodes[0], recs)
	c.sameContents(t, "all are back", len(recs))
}

// TestUncleanStop: a node whose machine stopped, with appends not synced, doubts
// their slots, and is complete again when they were merged.
func TestUncleanStop(t *testing.T) {
	c := startTrio(t)
	recs := c.fill(t, 30)
	dir := c.cfg[0].Data[0]
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil { // as a machine leaves it: the manifests say "dirty"
		t.Fatal(err)
	}
	c.wipe(t, 0)
	if err := os.CopyFS(dir, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	lost := loseTails(t, dir)
	c.cfg[0].bootID = "another boot"
	c.restart(t, 0)
	c.complete(t, 0)
	if lost == 0 {
		t.Error("no file lost anything: the test tests nothing")
	}
	if st := c.nodes[0].merger.Stats(); st.Pulled == 0 || st.DoubtsCleared == 0 {
		t.Errorf("nothing was brought back: %+v", st)
	}
	allThere(t, "after the stop", c.nodes[0], recs)
	c.sameContents(t, "after the stop", len(recs))
}

// loseTails cuts the last bytes off each segment, as pages that were never
// written back.
func loseTails(t testing.TB, dir string) (cut int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 400 {
			if err := os.Truncate(path, info.Size()-150); err != nil {
				t.Fatal(err)
			}
			cut++
		}
	}
	return cut
}

// TestOwedCopiesArrive: what was put while a node was away is given to it when it
// is back, without anybody reading it.
func TestOwedCopiesArrive(t *testing.T) {
	c := startTrio(t)
	c.fill(t, 6)
	stop(t, c.nodes[2])
	now := time.Now().Unix()
	for i := range 30 {
		rec := blob(t, now, uint64(1000+i), fmt.Sprint("while away ", i))
		if err := c.nodes[i%2].Store().Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	c.quiet(t)
	if c.nodes[0].coord.Owed().Stats().Places == 0 {
		t.Fatal("nothing is owed")
	}
	c.restart(t, 2)
	c.paid(t, 0, 1)
	c.sameContents(t, "what was owed is paid", 30)
}

// paid waits until nodes owe nothing.
func (c *trio) paid(t testing.TB, nodes ...int) {
	t.Helper()
	for _, i := range nodes {
		until(t, fmt.Sprint("all debts paid: node ", i), func() bool {
			st := c.nodes[i].coord.Owed().Stats()
			return st.Places+st.Nodes == 0
		})
	}
}

// TestTwoBodies: where owners took two values for one key, the greater version
// keeps it and the other one is kept beside it, listed.
func TestTwoBodies(t *testing.T) {
	c := startTrio(t)
	now := time.Now().Unix()
	one, two := blob(t, now, 7, "one"), blob(t, now, 7, "two, later")
	lesser, greater := one, two
	if one.Version().Compare(two.Version()) > 0 {
		lesser, greater = two, one
	}
	hash := ring.Hash(one.Type, one.Bucket, one.Key)
	for i, rec := range []object.Record{lesser, greater, greater} {
		v, err := c.nodes[i].vnodes.Vnode(c.nodes[i].ring().Newest().PartitionOf(hash))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Put(time.Now(), hash, rec); err != nil {
			t.Fatal(err)
		}
	}
	n := c.nodes[0]
	n.coord.Owed().Add(replication.Place{
		Node: n.id, Type: bucket.DefaultType, Bucket: bucket.Events, Timed: true,
		Partition: n.ring().Newest().PartitionOf(hash), Slot: n.ring().SlotOf(now),
	}, nil)
	c.paid(t, 0)
	if got, err := get(n, one); err != nil || got != string(greater.Value()) {
		t.Errorf("the key has %q, %v", got, err)
	}
	key, err := event.ParseKey(string(lesser.Key))
	if err != nil {
		t.Fatal(err)
	}
	loser := key.LoserKey(lesser.Checksum)
	rec, err := n.Store().Get(t.Context(), one.Type, one.Bucket, []byte(loser.String()))
	if err != nil || !bytes.Equal(rec.Value(), lesser.Value()) {
		t.Fatalf("the value that lost its key: %v", err)
	}
	rec.Release()
	row, certain, err := n.Store().Row(t.Context(), key.Index())
	if err != nil || !certain || !slices.ContainsFunc(row.Blobs(), func(e index.Entry) bool { return e.Suffix == loser.Suffix() }) {
		t.Errorf("it is not listed: certain %v, %v", certain, err)
	}
}
