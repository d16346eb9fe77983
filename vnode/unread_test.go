package vnode

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// newMemNode is a node on a file system in memory.
func newMemNode(t *testing.T) (*node, *vfs.Mem) {
	fsys := vfs.NewMem()
	return newNode(t, 0, func(ttl func(uint64) int64) system { return newEngine(t, fsys, ttl) }), fsys
}

// failText fails reads of the one place where text is on the disk.
func (n *node) failText(fsys *vfs.Mem, text string) {
	n.t.Helper()
	name, at := n.locate([]byte(text))
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && op.Name == name && op.Offset <= at && at < op.Offset+op.Bytes {
			return syscall.EIO
		}
		return nil
	})
}

// TestRepairOfUnread: a record whose value the disk fails to read now is stored once
// more when another replica gives it; one that is given in its place is not.
func TestRepairOfUnread(t *testing.T) {
	for _, name := range []string{bucket.Events, "plain"} {
		n, fsys := newMemNode(t)
		value := string(make([]byte, 9000)) + "a value that cannot be read"
		rec := recordOf(t, object.Value, name, noonKey, value, n.now)
		n.want("it is put", n.repair(rec, object.Version{}), "stored")
		n.failText(fsys, "a value that cannot be read")
		older := recordOf(t, object.Value, name, noonKey, value, n.now.Add(-time.Second))
		n.want("an older copy is given", n.repair(older, object.Version{}), "known")
		n.want("it is given again", n.repair(rec, object.Version{}), "stored")
		n.want("it is whole", n.get(name, noonKey), value)
		n.want("and again", n.repair(rec, object.Version{}), "known")
	}
}

// TestRepairOfDamagedConflict: a damaged value stands in nobody's way, be it the greater
// or the lesser one.
func TestRepairOfDamagedConflict(t *testing.T) {
	for _, later := range []time.Duration{-time.Millisecond, time.Millisecond} {
		n, _ := newMemNode(t)
		n.want("a value is put", n.repair(recordOf(t, object.Value, bucket.Events, noonKey, "the first value", n.now), object.Version{}), "stored")
		other := recordOf(t, object.Value, bucket.Events, noonKey, "another value", n.now.Add(later))
		n.want("another one is given", n.repair(other, object.Version{}), "conflict")
		n.damage([]byte("the first value"))
		n.want("it is given again", n.repair(other, object.Version{}), "stored")
		n.want("it is there", n.get(bucket.Events, noonKey), "another value")
		if v, _ := n.vnodeOf(bucket.Events, noonKey); len(v.Doubts()) != 1 {
			t.Errorf("doubts %+v, want one", v.Doubts())
		}
	}
}

// TestRepairWithDamage: what is damaged itself takes nobody's place.
func TestRepairWithDamage(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		rec := recordOf(t, object.Value, bucket.Events, noonKey, "a value", n.now)
		value := rec.Value()
		value[0] ^= 1
		n.want("a damaged record", n.repair(rec, object.Version{}), "corrupt")
		n.want("is not there", n.get(bucket.Events, noonKey), "absent")
		value[0] ^= 1
		n.want("the whole one", n.repair(rec, object.Version{}), "stored")
	})
}

// TestDamagedDelta: a delta whose value is damaged makes the node doubt the slot, no page
// calls the row whole before another replica gave what it said, and then it is.
func TestDamagedDelta(t *testing.T) {
	for _, listed := range []bool{false, true} { // a page meets it first, or a read of the row
		n, _ := newMemNode(t)
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		n.append(noonRow, deltaOf(t, noon.Unix(), 2))
		n.damage([]byte(suffix(1)))
		v, _ := n.vnodeOf(bucket.Epochs, noonRow.String())
		page := func() (damaged bool) {
			_, damaged, err := v.Page(n.now, []byte(bucket.DefaultType), []byte(bucket.Epochs), expiry.SlotOf(noon.Unix(), testSlotSeconds), 0,
				func(uint64, *object.Header, object.Digest) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			return damaged
		}
		if listed && !page() {
			t.Error("the page says that it is whole")
		}
		if a, err := v.Row(n.now, noonRow); err != nil || a.Complete || len(a.Row.Blobs()) != 1 {
			t.Errorf("a row of %v, complete %v, %v", blobsOf(a.Row), a.Complete, err)
		}
		if len(v.Doubts()) != 1 {
			t.Fatalf("doubts %+v, want one", v.Doubts())
		}
		rec, err := EncodeDelta(noonRow, deltaOf(t, noon.Unix(), 1, 2), noon.UnixMicro())
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Release()
		n.want("what others have is given", n.repair(rec, object.Version{}), "stored")
		n.want("and again", n.repair(rec, object.Version{}), "known")
		if err := v.ClearDoubt(v.Doubts()[0]); err != nil {
			t.Fatal(err)
		}
		n.maintain()
		if page() {
			t.Error("the page says that it is damaged")
		}
		n.wantRow(noonRow, suffix(1), suffix(2))
	}
}

// TestSealingUnread: what cannot be read when a slot is to be sealed is not left out of
// its rows: they are merged when it can be, or stay as they are.
func TestSealingUnread(t *testing.T) {
	for _, recovers := range []bool{false, true} { // in time
		n, fsys := newMemNode(t)
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		n.append(noonRow, deltaOf(t, noon.Unix(), 2))
		n.failText(fsys, suffix(1))
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		if err := n.set.Maintain(t.Context(), n.now, n.set.Index(n.clock)); !errors.Is(err, object.CodeDisk) {
			t.Errorf("sealing says %v", err)
		}
		want := 2
		if recovers {
			fsys.Inject(nil)
			n.now = n.now.Add(firstRetrySeconds * time.Second)
			n.maintain()
			want = 3
		}
		n.sys.maintain(n.now)
		fsys.Inject(nil)
		n.now = n.now.Add(maxRetrySeconds * time.Second)
		n.maintain()
		if got := n.records(noonRow); got != want {
			t.Errorf("%d records, want %d", got, want)
		}
		v, _ := n.vnodeOf(bucket.Epochs, noonRow.String())
		for _, d := range v.Doubts() {
			if err := v.ClearDoubt(d); err != nil {
				t.Fatal(err)
			}
		}
		n.wantRow(noonRow, suffix(1), suffix(2))
		n.restart()
		n.wantRow(noonRow, suffix(1), suffix(2))
	}
}
