package vnode

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

func TestDecideRepair(t *testing.T) {
	a1, a2, b1, b2 := head(object.Value, 1, "a"), head(object.Value, 2, "a"), head(object.Value, 1, "b"), head(object.Value, 2, "b")
	gone1, gone3 := head(object.Tombstone, 1, ""), head(object.Tombstone, 3, "")
	none := object.Version{}
	for _, test := range []struct {
		claim       string
		old, next   *object.Header
		over        object.Version
		plain, once bitcask.Action
	}{
		{"what is lacking is stored", nil, a1, none, bitcask.Append, bitcask.Append},
		{"the same is there", a1, a1, none, bitcask.Same, bitcask.Same},
		{"something greater is there", a2, a1, none, bitcask.Same, bitcask.Same},
		{"another value, greater, is there", b2, a1, none, bitcask.Same, bitcask.Conflict},
		{"the same value under a greater stamp", a1, a2, none, bitcask.Append, bitcask.Append},
		{"another value that nobody has kept", a1, b2, none, bitcask.Append, bitcask.Conflict},
		{"another value that was kept", a1, b2, a1.Version(), bitcask.Append, bitcask.Append},
		{"another one was kept than is there", b1, a2, a1.Version(), bitcask.Append, bitcask.Conflict},
		{"a tombstone over a value", a2, gone3, none, bitcask.Append, bitcask.Append},
		{"a tombstone that is older", a2, gone1, none, bitcask.Same, bitcask.Same},
		{"a value over an older tombstone", gone1, a2, none, bitcask.Append, bitcask.Append},
		{"a value under a newer tombstone", gone3, a2, none, bitcask.Same, bitcask.Same},
	} {
		if got, why := decideRepair(false, test.over, test.old, test.next); got != test.plain || why != noConflict {
			t.Errorf("%s, ordinary: got %v, %v, want %v", test.claim, got, why, test.plain)
		}
		if got, why := decideRepair(true, test.over, test.old, test.next); got != test.once || (why != noConflict) != (got == bitcask.Conflict) {
			t.Errorf("%s, write-once: got %v, %v, want %v", test.claim, got, why, test.once)
		}
	}
}

// vnodeOf returns the vnode of a key, and its hash.
func (n *node) vnodeOf(bucketName, key string) (*Vnode, uint64) {
	n.t.Helper()
	hash := ring.Hash(bucket.DefaultType, bucketName, key)
	v, err := n.set.Vnode(n.history.Newest().PartitionOf(hash))
	if err != nil {
		n.t.Fatal(err)
	}
	return v, hash
}

// repair gives the node a record of another replica and says what came of it.
func (n *node) repair(rec object.Record, over object.Version) string {
	n.t.Helper()
	v, hash := n.vnodeOf(string(rec.Bucket), string(rec.Key))
	ack, err := v.Repair(n.now, hash, rec, over)
	if err != nil {
		return object.AsError(err).Code.String()
	}
	return ack.String()
}

// TestRepair: what another replica has is taken by other rules than puts.
func TestRepair(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		at := func(ms int) time.Time { return n.now.Add(time.Duration(ms) * time.Millisecond) }
		rec := func(kind object.Kind, name, key, value string, ms int) object.Record {
			return recordOf(t, kind, name, key, value, at(ms))
		}
		one, two := rec(object.Value, "events", noonKey, "one", 1), rec(object.Value, "events", noonKey, "two", 2)
		n.want("a blob", n.repair(one, object.Version{}), "stored")
		n.want("the same again", n.repair(one, object.Version{}), "known")
		n.want("another value", n.repair(two, object.Version{}), "conflict")
		n.want("the first one stays", n.get("events", noonKey), "one")
		n.want("another value, the first one being safe", n.repair(two, one.Version()), "stored")
		n.want("it took its place", n.get("events", noonKey), "two")
		n.want("the first one comes again", n.repair(one, object.Version{}), "conflict")
		n.want("the second one stays", n.get("events", noonKey), "two")
		n.want("an erasure", n.repair(rec(object.Tombstone, "events", noonKey, "", 3), object.Version{}), "stored")
		n.want("it is gone", n.get("events", noonKey), "absent")

		n.want("a plain object", n.repair(rec(object.Value, "plain", "k", "v", 1), object.Version{}), "stored")
		n.want("a tombstone of it", n.repair(rec(object.Tombstone, "plain", "k", "", 2), object.Version{}), "stored")
		n.want("it is gone", n.get("plain", "k"), "absent")

		large := rec(object.Value, "events", blobKey(noon.Unix(), 5), string(make([]byte, 2<<20)), 1)
		n.want("a put that is too large", n.put("events", blobKey(noon.Unix(), 5), string(make([]byte, 2<<20))), "too large")
		n.want("one that others took when it was not", n.repair(large, object.Version{}), "stored")
		n.want("a stamp far ahead", n.repair(rec(object.Value, "plain", "k2", "v", 60_000), object.Version{}), "too far ahead")
		n.now = n.now.Add(20 * 24 * time.Hour)
		n.want("what has expired", n.repair(one, object.Version{}), "expired")
		n.now = noon
		if s := n.set.Stats(); s.Repaired != 6 {
			t.Errorf("%d repaired", s.Repaired)
		}
	})
}

// TestRepairOfDamage: a record whose value was damaged where it lies is stored anew
// when another replica gives it, and its slot is doubted; it stays so.
func TestRepairOfDamage(t *testing.T) {
	for _, name := range []string{bucket.Events, "plain"} {
		n := newNode(t, 0, func(ttl func(uint64) int64) system { return newEngine(t, vfs.NewMem(), ttl) })
		rec := recordOf(t, object.Value, name, noonKey, "a value that is found by its bytes", n.now)
		n.want("it is put", n.repair(rec, object.Version{}), "stored")
		n.damage([]byte("found by its bytes"))
		v, hash := n.vnodeOf(name, noonKey)
		a, err := v.Get(n.now, Ref{Type: rec.Type, Bucket: rec.Bucket, Key: rec.Key, Hash: hash})
		if err != nil || a.State != Found || a.Record.Verify() == nil || !a.Complete {
			t.Fatalf("%s: before it is known: %v, complete %v, %v", name, a.State, a.Complete, err)
		}
		a.Release()
		n.want("it is given again", n.repair(rec, object.Version{}), "stored")
		n.want("it is whole", n.get(name, noonKey), "a value that is found by its bytes")
		if v, _ := n.vnodeOf(name, noonKey); len(v.Doubts()) != 1 {
			t.Errorf("%s: doubts %+v, want one", name, v.Doubts())
		}
		n.want("and again", n.repair(rec, object.Version{}), "known")
		n.restart()
		n.want("it stays whole", n.get(name, noonKey), "a value that is found by its bytes")
	}
}

// damage flips a bit of the one place where text is on the disk, whose node is
// stopped meanwhile.
func (n *node) damage(text []byte) {
	n.t.Helper()
	e := n.sys.(*engine)
	e.shut()
	name, at := n.locate(text)
	f, err := e.fs.OpenReadWrite(name)
	if err == nil {
		_, err = f.WritevAt([][]byte{{text[0] ^ 1}}, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		n.t.Fatal(err)
	}
	e.open()
	n.open()
}

// locate returns the segment that has text, and where; it must be there once.
func (n *node) locate(text []byte) (name string, at int64) {
	n.t.Helper()
	fsys := n.sys.(*engine).fs
	found := 0
	var look func(dir string)
	look = func(dir string) {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, entry := range entries {
			file := path.Join(dir, entry.Name)
			switch {
			case entry.IsDir:
				look(file)
			case strings.HasSuffix(file, ".seg"):
				all, err := vfs.ReadFile(fsys, file, 1<<30)
				if err != nil {
					n.t.Fatal(err)
				}
				if i := bytes.Index(all, text); i >= 0 {
					name, at = file, int64(i)
					found += bytes.Count(all, text)
				}
			}
		}
	}
	look(".")
	if found != 1 {
		n.t.Fatalf("%q is in %d places", text, found)
	}
	return name, at
}

// TestRepairRow: a row takes what it lacks, as one record, although its second is
// long closed, and nothing if it lacks nothing.
func TestRepairRow(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.append(noonRow, deltaOf(t, noon.Unix(), 1, 2))
		n.now = noon.Add(time.Hour)
		give := func(blobs ...int) string {
			rec, err := EncodeDelta(noonRow, deltaOf(t, noon.Unix(), blobs...), noon.UnixMicro())
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			return n.repair(rec, object.Version{})
		}
		n.want("what it has", give(1, 2), "known")
		if got := n.records(noonRow); got != 1 {
			t.Errorf("%d records", got)
		}
		n.want("more than it has", give(2, 3), "stored")
		n.wantRow(noonRow, suffix(1), suffix(2), suffix(3))
		n.want("the same again", give(1, 2, 3), "known")
		if got := n.records(noonRow); got != 2 {
			t.Errorf("%d records, want the first and what was lacking", got)
		}
		n.restart()
		n.wantRow(noonRow, suffix(1), suffix(2), suffix(3))

		bad := recordOf(t, object.Delta, bucket.Epochs, noonRow.String(), "no row", noon)
		n.want("what is no row", n.repair(bad, object.Version{}), "bad request")
	})
}

// pagesOf reads a lane of all vnodes in pages of at most n items.
func (n *node) pagesOf(name string, slot expiry.Slot, most int) map[string]string {
	n.t.Helper()
	all := map[string]string{}
	for _, v := range n.set.Vnodes() {
		for from := uint64(0); from < bitcask.PageEnd; {
			count, last := 0, from
			next, damaged, err := v.Page(n.now, []byte(bucket.DefaultType), []byte(name), slot, from, func(at uint64, h *object.Header, row object.Digest) bool {
				if at < last || at != position(ring.Hash(bucket.DefaultType, name, string(h.Key))) {
					n.t.Fatalf("%q at %d, after %d", h.Key, at, last)
				}
				if _, twice := all[string(h.Key)]; twice {
					n.t.Fatalf("%q twice", h.Key)
				}
				all[string(h.Key)] = fmt.Sprint(h.Version(), row)
				last = at
				count++
				return count < most
			})
			if err != nil || damaged || next <= from {
				n.t.Fatalf("the page from %d ends at %d, damaged %v, %v", from, next, damaged, err)
			}
			from = next
		}
	}
	return all
}

// TestPages: a page shows objects with their versions, and of an index each row
// with the digest of what its records say together.
func TestPages(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
		want, rows := map[string]string{}, map[string]string{}
		for i := range 9 {
			n.put("events", blobKey(noon.Unix(), i), "v")
			rec := recordOf(t, object.Value, "events", blobKey(noon.Unix(), i), "v", n.now)
			want[blobKey(noon.Unix(), i)] = fmt.Sprint(rec.Version(), object.Digest{})
			key := event.IndexKey{Epoch: noon.Unix(), DC: fmt.Sprint("dc", i)}
			n.append(key, deltaOf(t, noon.Unix(), 1))
			n.append(key, deltaOf(t, noon.Unix(), 2))
			rows[key.String()] = fmt.Sprint(object.Version{}, index.Merge(deltaOf(t, noon.Unix(), 1), deltaOf(t, noon.Unix(), 2)).Digest())
		}
		for _, most := range []int{1, 4, 100} {
			if got := n.pagesOf("events", slot, most); !maps.Equal(got, want) {
				t.Errorf("pages of %d: %v, want %v", most, got, want)
			}
			if got := n.pagesOf(bucket.Epochs, slot, most); !maps.Equal(got, rows) {
				t.Errorf("pages of %d: %v, want %v", most, got, rows)
			}
		}
		if got := n.pagesOf("events", slot+1, 10); len(got) > 0 {
			t.Errorf("another slot: %v", got)
		}
	})
}

// TestHorizonsAndSync: what a newcomer takes over and makes durable.
func TestHorizonsAndSync(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		v, _ := n.vnodeOf("events", noonKey)
		n.want("put", n.put("events", noonKey, "v"), "stored")
		events, typ := []byte("events"), []byte(bucket.DefaultType)
		if err := v.Sync(typ, events, expiry.SlotOf(noon.Unix(), testSlotSeconds)); err != nil {
			t.Fatal(err)
		}
		to := expiry.Horizon(noon.Unix() - 1000)
		for _, h := range []expiry.Horizon{to, to - 500} {
			if err := v.RaiseHorizon(typ, events, h); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := v.Horizon(typ, events); err != nil || got != to {
			t.Errorf("horizon %d, %v", got, err)
		}
		if got, err := v.Horizon(typ, []byte("plain")); err != nil || got != 0 {
			t.Errorf("horizon of a plain bucket: %d, %v", got, err)
		}
		buckets, err := v.Buckets()
		if err != nil || len(buckets) != 1 || buckets[0].Name != "events" {
			t.Errorf("%v, %v", buckets, err)
		}
		if err := v.Sync(typ, []byte{}, 0); err == nil || !errors.Is(err, object.CodeBadRequest) {
			t.Errorf("a bucket without a name: %v", err)
		}
	})
}

// TestCompleteInSlots: doubts and what is vouched for, slot by slot.
func TestCompleteInSlots(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	v, _ := n.vnodeOf("events", noonKey)
	events := uint64(bucket.IDOf(bucket.DefaultType, "events"))
	disk.stores[ring.Partition{}].doubts = []bitcask.Doubt{{Bucket: events, Slot: 12}}
	v.since.Store(&Since{Slot: 10})
	var complete []expiry.Slot
	for slot := expiry.Slot(-1); slot < 14; slot++ {
		ok, err := v.Complete([]byte(bucket.DefaultType), []byte("events"), slot)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			complete = append(complete, slot)
		}
	}
	if !slices.Equal(complete, []expiry.Slot{10, 11, 13}) {
		t.Errorf("complete in %v", complete)
	}
}

// TestRepairInDoubt: while a slot is in doubt, what the disk lacks is shown and
// taken, though the cache has it: the doubt ends when the other replicas have
// nothing more to give, and then a restart must lose nothing.
func TestRepairInDoubt(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.append(noonRow, deltaOf(t, noon.Unix(), 1))
	n.append(noonRow, deltaOf(t, noon.Unix(), 2))
	n.wantRow(noonRow, suffix(1), suffix(2)) // in the cache
	store, id, slot := disk.stores[ring.Partition{}], uint64(bucket.IDOf(bucket.DefaultType, bucket.Epochs)), expiry.SlotOf(noon.Unix(), testSlotSeconds)
	lost := store.buckets[id]
	lost.records = lost.records[:1]
	store.doubts = []bitcask.Doubt{{Bucket: id, Slot: slot, Reason: bitcask.ReasonDamage}}

	both := deltaOf(t, noon.Unix(), 1, 2)
	shown := func() string { return n.pagesOf(bucket.Epochs, slot, 10)[noonRow.String()] }
	if got, want := shown(), fmt.Sprint(object.Version{}, deltaOf(t, noon.Unix(), 1).Digest()); got != want {
		t.Errorf("the page shows %s, want %s, which is what the disk has", got, want)
	}
	rec, err := EncodeDelta(noonRow, both, noon.UnixMicro())
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	n.want("what the disk lacks", n.repair(rec, object.Version{}), "stored")
	n.want("the same again", n.repair(rec, object.Version{}), "known")
	if got, want := shown(), fmt.Sprint(object.Version{}, both.Digest()); got != want {
		t.Errorf("the page shows %s, want %s", got, want)
	}
	store.doubts = nil
	n.restart()
	n.wantRow(noonRow, suffix(1), suffix(2))
}
