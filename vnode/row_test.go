package vnode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

var noonRow = event.IndexKey{Epoch: noon.Unix(), DC: "ams"}

// deltaOf is the delta of some blobs of a second, of one writer.
func deltaOf(t testing.TB, epoch int64, blobs ...int) index.Row {
	t.Helper()
	var rows []index.Row
	for _, n := range blobs {
		rec := recordOf(t, object.Value, "events", blobKey(epoch, n), "blob", time.Unix(epoch, 0))
		_, row, err := index.DeltaOf(&rec.Header)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return index.Merge(rows...)
}

// blobsOf names the blobs a row lists, "+" marking those that are late and
// listed.
func blobsOf(r index.Row) (names []string) {
	for _, e := range r.Blobs() {
		mark := ""
		if e.Flags&index.Listed != 0 {
			mark = "+"
		}
		names = append(names, e.Suffix+mark)
	}
	return names
}

func sorted(blobs ...string) []string { slices.Sort(blobs); return blobs }

func suffix(n int) string { return fmt.Sprintf("web:sub%d:%d", n%3, n) }

func (n *node) wantRow(key event.IndexKey, want ...string) {
	n.t.Helper()
	a, err := n.set.Row(n.now, key)
	if err != nil {
		n.t.Fatalf("row %v: %v", key, err)
	}
	if got := blobsOf(a.Row); !slices.Equal(got, sorted(want...)) || !a.Complete {
		n.t.Errorf("row %v: got %v, complete %v, want %v", key, got, a.Complete, want)
	}
}

func (n *node) append(key event.IndexKey, delta index.Row) {
	n.t.Helper()
	if _, err := n.set.AppendDelta(n.now, key, delta); err != nil {
		n.t.Fatalf("delta for %v: %v", key, err)
	}
}

// records counts the records of a row.
func (n *node) records(key event.IndexKey) (count int) {
	n.t.Helper()
	v, hash, err := n.set.rowVnode(key)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, err := range v.store.Each(n.set.rulebook.rows().engine, hash, key.Epoch, n.now.Unix(), []byte(key.String())) {
		if err != nil {
			n.t.Fatal(err)
		}
		count++
	}
	return count
}

func TestRows(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		epoch := noon.Unix()
		n.wantRow(noonRow)
		n.append(noonRow, deltaOf(t, epoch, 1, 2))
		n.wantRow(noonRow, suffix(1), suffix(2))
		n.append(noonRow, deltaOf(t, epoch, 0, 2))
		n.wantRow(noonRow, suffix(0), suffix(1), suffix(2))
		n.wantRow(event.IndexKey{Epoch: epoch, DC: "ber"})
		n.wantRow(event.IndexKey{Epoch: epoch + 1, DC: "ams"})
		n.restart()
		n.wantRow(noonRow, suffix(0), suffix(1), suffix(2))
		n.append(noonRow, deltaOf(t, epoch, 4))
		n.wantRow(noonRow, suffix(0), suffix(1), suffix(2), suffix(4))
	})
}

// A delta that is there already, byte by byte, is known; one that says the same
// under another stamp is a record more and changes nothing.
func TestDeltaAgain(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		delta := deltaOf(t, noon.Unix(), 1)
		for i, want := range []Ack{Stored, Known, Stored} {
			if i == 2 {
				n.now = n.now.Add(time.Microsecond)
			}
			if ack, err := n.set.AppendDelta(n.now, noonRow, delta); err != nil || ack != want {
				t.Errorf("%d: got %v, %v, want %v", i, ack, err, want)
			}
		}
		n.wantRow(noonRow, suffix(1))
		if got := n.records(noonRow); got != 2 {
			t.Errorf("%d records, want 2", got)
		}
	})
}

func TestRowState(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		state := func() State {
			t.Helper()
			a, err := n.set.Row(n.now, noonRow)
			if err != nil {
				t.Fatal(err)
			}
			return a.State
		}
		if got := state(); got != Absent {
			t.Errorf("before anything: %v", got)
		}
		n.append(noonRow, index.Row{Sections: []index.Section{{Writer: index.Writer{Name: "agg", Incarnation: 7}, Final: &index.Final{}}}})
		if got := state(); got != Found {
			t.Errorf("after an empty final: %v", got)
		}
		n.now = noon.Add(bucket.DefaultEventsTTL * time.Second)
		if got := state(); got != Expired {
			t.Errorf("at its deadline: %v", got)
		}
		n.now = n.now.Add(testSlotSeconds * time.Second)
		n.sys.maintain(n.now)
		ttl := int64(2 * bucket.DefaultEventsTTL)
		n.declare(bucket.Declaration{Name: "events", TTLSeconds: &ttl})
		if got := state(); got != Expired {
			t.Errorf("below the drop horizon, though still in memory: %v", got)
		}
	})
}

// A second closes ten seconds after it began; what comes later is written to the
// late list of the second in which it comes, and to the row, marked so.
func TestLateEntries(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		epoch := noon.Unix()
		n.now = noon.Add(9 * time.Second)
		n.append(noonRow, deltaOf(t, epoch, 1))
		n.now = noon.Add(10 * time.Second)
		if _, err := n.set.AppendDelta(n.now, noonRow, deltaOf(t, epoch, 2)); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		n.wantRow(noonRow, suffix(1))
		for range 2 { // a retry changes nothing
			if err := n.set.Add(n.now, noonRow, deltaOf(t, epoch, 2)); err != nil {
				t.Fatal(err)
			}
		}
		list := index.LateKey(noonRow, n.now.Unix())
		for range 2 {
			n.wantRow(noonRow, suffix(1), suffix(2)+"+")
			n.wantRow(list, fmt.Sprintf("%d:%s+", epoch, suffix(2)))
			n.restart()
		}
		moved := n.now.Add(6 * time.Second)
		_, entries := index.Relist(noonRow, deltaOf(t, epoch, 3), n.now.Unix())
		if _, err := n.set.AppendDelta(moved, list, entries); !errors.Is(err, ErrClosed) {
			t.Errorf("a late list six seconds old took an entry: %v", err)
		}
		if err := n.set.Add(moved, list, entries); err != nil {
			t.Fatal(err)
		}
		n.now = moved
		n.wantRow(index.LateKey(noonRow, moved.Unix()), fmt.Sprintf("%d:%s+", epoch, suffix(3)))

		hello := index.Row{Sections: []index.Section{{Writer: index.Writer{Name: "agg", Incarnation: 7}, Hello: true}}}
		if err := n.set.Add(moved, noonRow, hello); err != nil {
			t.Errorf("a hello that comes too late is dropped, not an error: %v", err)
		}
	})
}

func TestBadDeltas(t *testing.T) {
	n := newNode(t, 0, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
	v, err := n.set.Vnode(ring.Partition{})
	if err != nil {
		t.Fatal(err)
	}
	send := func(key string, value []byte) error {
		rec, err := object.Encode(object.Header{
			Kind: object.Delta, TimestampMicros: n.now.UnixMicro(),
			Type: []byte("default"), Bucket: []byte("epochs"), Key: []byte(key),
		}, value)
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Release()
		_, _, err = v.AppendDelta(n.now, ring.Hash("default", "epochs", key), rec)
		return err
	}
	good := index.AppendRow(nil, deltaOf(t, noon.Unix(), 1))
	for _, test := range []struct {
		claim, key string
		value      []byte
	}{
		{"no row", noonRow.String(), []byte("a|b|c")},
		{"an empty value", noonRow.String(), nil},
		{"a row that says nothing", noonRow.String(), index.AppendRow(nil, index.Row{})},
		{"a row with bytes behind it", noonRow.String(), append(slices.Clone(good), 0)},
		{"a row in a late list", index.LateKey(noonRow, noon.Unix()).String(), good},
		{"another spelling of the key", fmt.Sprintf("%d-ams", noon.Unix()), good},
	} {
		if err := send(test.key, test.value); !errors.Is(err, object.CodeBadRequest) || object.AsError(err).Outcome != object.NotDone {
			t.Errorf("%s: %v", test.claim, err)
		}
	}
	rec, err := EncodeDelta(noonRow, deltaOf(t, noon.Unix(), 1), n.now.UnixMicro())
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	rec.Value()[len(rec.Value())-1] ^= 1
	if _, _, err := v.AppendDelta(n.now, RowHash(noonRow), rec); !errors.Is(err, object.CodeCorrupt) {
		t.Errorf("a delta damaged on its way: %v", err)
	}
	if _, err := v.Put(n.now, RowHash(noonRow), rec); !errors.Is(err, object.CodeBadRequest) {
		t.Errorf("a delta sent as an object: %v", err)
	}
	blob := recordOf(t, object.Value, "events", noonKey, "blob", n.now)
	if _, _, err := v.AppendDelta(n.now, refOf("events", noonKey).Hash, blob); !errors.Is(err, object.CodeBadRequest) {
		t.Errorf("an object sent as a delta: %v", err)
	}
	n.wantRow(noonRow)
}

// A get of an index row gives the merged row as one record, the same one
// whichever way it was merged.
func TestRowAsObject(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		get := func() (raw []byte) {
			t.Helper()
			a, err := n.set.Get(n.now, refOf("epochs", noonRow.String()))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Release()
			if a.State != Found {
				return nil
			}
			return bytes.Clone(a.Record.Raw())
		}
		if raw := get(); raw != nil {
			t.Errorf("an absent row has the record %x", raw)
		}
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		stamp := n.now.Add(time.Millisecond)
		n.now = stamp
		n.append(noonRow, deltaOf(t, noon.Unix(), 2))
		want, err := EncodeDelta(noonRow, deltaOf(t, noon.Unix(), 1, 2), stamp.UnixMicro())
		if err != nil {
			t.Fatal(err)
		}
		defer want.Release()
		for _, after := range []func(){func() {}, n.restart, func() { n.sealAll(noon) }, n.restart} {
			after()
			if !bytes.Equal(get(), want.Raw()) {
				t.Errorf("got %x, want %x", get(), want.Raw())
			}
		}
	})
}

// sealAll lets time pass until the slot of a time has been sealed.
func (n *node) sealAll(of time.Time) {
	n.t.Helper()
	n.now = of.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
	for range 8 {
		n.maintain()
	}
}

func (n *node) maintain() {
	n.t.Helper()
	if err := n.set.Maintain(n.t.Context(), n.now, n.set.Index(n.clock)); err != nil {
		n.t.Fatal(err)
	}
}

// A damaged record costs what it said, and the row says that it may lack
// something. Nothing of it is remembered: the record may be repaired.
func TestDamagedRow(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.append(noonRow, deltaOf(t, noon.Unix(), 1))
	n.restart()
	store := disk.stores[ring.Partition{}]
	damaged := func(op string, _ []byte) error {
		if op == "each" {
			return object.Errorf(object.CodeCorrupt, object.NotDone, "damaged")
		}
		return nil
	}
	store.fail = damaged
	a, err := n.set.Row(n.now, noonRow)
	if err != nil || a.Complete || !slices.Equal(blobsOf(a.Row), sorted(suffix(1))) {
		t.Errorf("got %v, complete %v, %v", blobsOf(a.Row), a.Complete, err)
	}
	n.append(noonRow, deltaOf(t, noon.Unix(), 2))
	store.fail = nil
	n.maintain()
	n.wantRow(noonRow, suffix(1), suffix(2))
	if got := n.set.Stats().RowDamage; got != 1 {
		t.Errorf("damage was counted %d times", got)
	}

	n.now = noon.Add(time.Minute) // the second is closed
	n.restart()
	store.fail = damaged
	if a, err := n.set.Row(n.now, noonRow); err != nil || a.Complete {
		t.Errorf("complete %v, %v", a.Complete, err)
	}
	store.fail = nil
	n.maintain()
	n.wantRow(noonRow, suffix(1), suffix(2))
}

func TestDigests(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		other := newNode(t, 2, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
		digests := func(n *node, bucketName string) (all []bitcask.MinuteDigest) {
			t.Helper()
			for _, v := range n.set.Vnodes() {
				d, err := v.Digests(n.now, []byte("default"), []byte(bucketName), expiry.SlotOf(noon.Unix(), testSlotSeconds))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, d...)
			}
			return all
		}
		for i := range 6 {
			for _, n := range []*node{n, other} {
				n.want("put", n.put("events", blobKey(noon.Unix()+int64(i), i), "blob"), "stored")
			}
		}
		// The one gets its deltas one by one, the other all at once.
		for i := range 3 {
			n.append(noonRow, deltaOf(t, noon.Unix(), i))
		}
		other.append(noonRow, deltaOf(t, noon.Unix(), 0, 1, 2))
		for _, name := range []string{"events", "epochs"} {
			if got, want := digests(n, name), digests(other, name); len(got) == 0 || !slices.Equal(got, want) {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
		for _, v := range n.set.Vnodes() {
			slots, err := v.Slots([]byte("default"), []byte("events"))
			if err != nil || !slices.Equal(slots, []expiry.Slot{expiry.SlotOf(noon.Unix(), testSlotSeconds)}) && holdsBlobs(v) {
				t.Errorf("partition %v: slots %v, %v", v.Partition(), slots, err)
			}
		}
		before := digests(n, "epochs")
		n.append(noonRow, deltaOf(t, noon.Unix(), 4))
		if slices.Equal(before, digests(n, "epochs")) {
			t.Error("a new entry did not change the digest")
		}
	})
}

// holdsBlobs reports whether one of the first blobs from noon on is in v.
func holdsBlobs(v *Vnode) bool {
	for i := range 6 {
		if v.Partition().Contains(refOf("events", blobKey(noon.Unix()+int64(i), i)).Hash) {
			return true
		}
	}
	return false
}

// However little room there is for rows, they are right, and the room is kept.
func TestRowCacheIsBounded(t *testing.T) {
	const room, seconds = 20_000, 60
	onSystems(t, func(t *testing.T, n *node) {
		n.cfg.RowCacheBytes = room
		n.open()
		key := func(i int) event.IndexKey { return event.IndexKey{Epoch: noon.Unix() + int64(i), DC: "ams"} }
		for blob := range 3 {
			for i := range seconds {
				n.now = noon.Add(time.Duration(max(0, i-9)) * time.Second)
				n.append(key(i), deltaOf(t, noon.Unix()+int64(i), blob))
			}
		}
		check := func() {
			t.Helper()
			for i := range seconds {
				n.wantRow(key(i), suffix(0), suffix(1), suffix(2))
				if s := n.set.Stats(); s.RowCacheBytes > room {
					t.Fatalf("%d bytes of rows in memory, the bound is %d", s.RowCacheBytes, room)
				}
			}
		}
		check()
		n.maintain()
		if s := n.set.Stats(); s.ChangingRows == 0 {
			t.Error("rows of open seconds were packed")
		}
		n.now = noon.Add(seconds * 2 * time.Second)
		n.maintain()
		if s := n.set.Stats(); s.ChangingRows > 0 {
			t.Errorf("%d of %d closed rows are not packed", s.ChangingRows, s.ChangingRows+s.PackedRows)
		}
		check()
	})
}

// Old rows that are read do not push out the ones that change.
func TestReadingOldRowsKeepsTheNewest(t *testing.T) {
	n := newNode(t, 0, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
	for i := range 100 {
		epoch := noon.Unix() + int64(i)
		n.now = time.Unix(epoch, 0)
		n.append(event.IndexKey{Epoch: epoch, DC: "ams"}, deltaOf(t, epoch, 1))
	}
	n.cfg.RowCacheBytes = 8 << 10
	n.open()
	newest := event.IndexKey{Epoch: n.now.Unix(), DC: "ams"}
	n.append(newest, deltaOf(t, newest.Epoch, 2))
	for i := range 90 {
		n.wantRow(event.IndexKey{Epoch: noon.Unix() + int64(i), DC: "ams"}, suffix(1))
	}
	before := n.set.Stats().RowLoads
	n.wantRow(newest, suffix(1), suffix(2))
	if after := n.set.Stats().RowLoads; after != before {
		t.Error("the newest row was pushed out by old ones")
	}
}

// A row that would outgrow an object takes no more, counting what is on its way.
func TestRowsDoNotOutgrowObjects(t *testing.T) {
	delta := deltaOf(t, noon.Unix(), 1)
	r := &row{packed: make([]byte, index.MaxRowBytes-2*delta.Size())}
	for i, want := range []bool{true, true, false} {
		if got := r.reserve(delta); got != want {
			t.Errorf("delta %d: got %v, want %v", i, got, want)
		}
	}
	r.release(delta)
	if !r.reserve(delta) {
		t.Error("what was given back is not free")
	}
}

// FuzzDelta sends anything as a delta: it is refused, or what the row says
// afterwards is what it says after a restart.
func FuzzDelta(f *testing.F) {
	f.Add(noonRow.String(), index.AppendRow(nil, deltaOf(f, noon.Unix(), 1, 2)))
	_, list := index.Relist(noonRow, deltaOf(f, noon.Unix(), 1), noon.Unix())
	f.Add(index.LateKey(noonRow, noon.Unix()).String(), index.AppendRow(nil, list))
	f.Add("1763712000-ams", []byte("web:a:0|web:b:0"))
	f.Add("", []byte{})
	n := newNode(f, 0, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if len(key) == 0 || len(key) > object.MaxKeyBytes {
			return // refused before a vnode sees it
		}
		n.t = t
		n.sys = &fakeSystem{newFakeDisk(testSlotSeconds, TTLs(n.buckets.Load))}
		n.open()
		v, err := n.set.Vnode(ring.Partition{})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := object.Encode(object.Header{
			Kind: object.Delta, TimestampMicros: n.now.UnixMicro(),
			Type: []byte("default"), Bucket: []byte("epochs"), Key: []byte(key),
		}, value)
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Release()
		_, _, err = v.AppendDelta(n.now, ring.Hash("default", "epochs", key), rec)
		if err != nil {
			if object.AsError(err).Outcome != object.NotDone {
				t.Errorf("%v: %v", err, object.AsError(err).Outcome)
			}
			return
		}
		k, err := event.ParseIndexKey(key)
		if err != nil {
			t.Fatalf("%q was accepted: %v", key, err)
		}
		before, err := n.set.Row(n.now, k)
		if err != nil {
			t.Fatal(err)
		}
		n.open()
		after, err := n.set.Row(n.now, k)
		if err != nil || before.Row.Digest() != after.Row.Digest() || after.State != Found || !after.Complete {
			t.Errorf("%+v, after a restart %+v, %v", before, after, err)
		}
	})
}
