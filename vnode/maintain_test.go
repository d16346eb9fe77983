package vnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// isSealed reports whether a slot of a bucket is sealed in every vnode that has
// it.
func (n *node) isSealed(bucketName string, at time.Time) bool {
	n.t.Helper()
	r, err := n.set.rulebook.of([]byte("default"), []byte(bucketName))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, v := range n.set.Vnodes() {
		open, err := v.openSlots(r)
		if err != nil {
			n.t.Fatal(err)
		}
		if slices.Contains(open, expiry.SlotOf(at.Unix(), testSlotSeconds)) {
			return false
		}
	}
	return true
}

func (n *node) recover() (added int) {
	n.t.Helper()
	added, err := n.set.Recover(n.t.Context(), n.now, n.set.Index(n.clock))
	if err != nil {
		n.t.Fatal(err)
	}
	return added
}

// A slot is sealed two minutes after its end, or after its last record; then
// each of its rows is one record more that says it all.
func TestSealing(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		second := func(i int) event.IndexKey { return event.IndexKey{Epoch: noon.Unix() + int64(i), DC: "ams"} }
		for i := range 3 {
			n.want("put", n.put("events", blobKey(noon.Unix(), i), "blob"), "stored")
			n.append(second(0), deltaOf(t, noon.Unix(), i))
		}
		n.append(second(1), deltaOf(t, noon.Unix()+1, 0))
		n.want("a blob without an entry", n.put("events", blobKey(noon.Unix()+2, 5), "blob"), "stored")

		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds - 1) * time.Second)
		n.maintain()
		if n.isSealed("events", noon) || n.isSealed("epochs", noon) || n.records(second(0)) != 3 {
			t.Error("sealed a second too early")
		}
		n.now = n.now.Add(time.Second)
		at := n.now
		n.maintain()
		if !n.isSealed("events", noon) {
			t.Error("events are not sealed")
		}
		if n.isSealed("epochs", noon) {
			t.Error("the index took a late entry and is sealed at once")
		}
		n.now = n.now.Add(DefaultSealAfterSeconds * time.Second)
		n.maintain()
		for range 2 {
			if !n.isSealed("events", noon) || !n.isSealed("epochs", noon) {
				t.Error("not sealed")
			}
			for i, want := range []int{4, 1, 1} {
				if got := n.records(second(i)); got != want {
					t.Errorf("second %d: %d records, want %d", i, got, want)
				}
			}
			n.wantRow(second(0), suffix(0), suffix(1), suffix(2))
			n.wantRow(second(1), suffix(0))
			n.wantRow(second(2), suffix(5)+"+")
			n.wantRow(index.LateKey(second(2), at.Unix()), fmt.Sprintf("%d:%s+", noon.Unix()+2, suffix(5)))
			n.restart()
		}
	})
}

// A sealed slot that gets more opens a further segment, and is sealed again.
func TestLateRecordsAreSealedToo(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.append(noonRow, deltaOf(t, noon.Unix(), 0))
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		n.sealAll(noon)
		if !n.isSealed("epochs", noon) || n.records(noonRow) != 3 {
			t.Fatal("not sealed")
		}
		late := n.now.Add(time.Hour)
		n.now = late
		if err := n.set.Add(n.now, noonRow, deltaOf(t, noon.Unix(), 2)); err != nil {
			t.Fatal(err)
		}
		n.maintain()
		if n.isSealed("epochs", noon) {
			t.Error("sealed while it is written to")
		}
		n.now = late.Add(DefaultSealAfterSeconds * time.Second)
		n.maintain()
		if !n.isSealed("epochs", noon) {
			t.Error("not sealed again")
		}
		if got := n.records(noonRow); got != 4 {
			t.Errorf("%d records, want 4: a late one is not merged again", got)
		}
		n.restart()
		n.wantRow(noonRow, suffix(0), suffix(1), suffix(2)+"+")
		if s := n.set.Stats(); s.WaitingSlots > 0 {
			t.Errorf("%d slots wait", s.WaitingSlots)
		}
	})
}

// Sealing interrupted at any point is done again, and writes no second merged
// record.
func TestMergingTwice(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.append(noonRow, deltaOf(t, noon.Unix(), 0))
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		for range 3 {
			v, _, err := n.set.rowVnode(noonRow)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.mergeRows(t.Context(), n.now, n.set.rulebook.rows(), expiry.SlotOf(noon.Unix(), testSlotSeconds)); err != nil {
				t.Fatal(err)
			}
			if got := n.records(noonRow); got != 3 {
				t.Errorf("%d records, want 3", got)
			}
			n.restart()
		}
		n.wantRow(noonRow, suffix(0), suffix(1))
	})
}

// A row of which one record says it all already is not written again.
func TestMergingNothing(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.append(noonRow, deltaOf(t, noon.Unix(), 0, 1))
		n.now = n.now.Add(time.Second)
		n.append(noonRow, deltaOf(t, noon.Unix(), 1))
		n.sealAll(noon)
		if got := n.records(noonRow); got != 2 || !n.isSealed("epochs", noon) || n.set.Stats().MergedRows != 0 {
			t.Errorf("%d records, want the 2 that were appended", got)
		}
	})
}

// A process killed between a blob and its index entry leaves no blob that
// nobody can find.
func TestRecover(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		epoch := noon.Unix()
		for i := range 4 {
			n.want("put", n.put("events", blobKey(epoch, i), "blob"), "stored")
		}
		n.append(noonRow, deltaOf(t, epoch, 0, 1))
		n.want("erase", n.putAt(object.Tombstone, "events", blobKey(epoch, 1), "", n.now.Add(time.Second)), "stored")
		n.restart()
		if added := n.recover(); added != 3 {
			t.Errorf("%d entries added, want 3: two blobs and an erasure", added)
		}
		n.wantRow(noonRow, suffix(0), suffix(1), suffix(2), suffix(3))
		a, err := n.set.Row(n.now, noonRow)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range a.Row.Blobs() {
			if erased := e.Flags&index.Erased != 0; erased != (e.Suffix == suffix(1)) {
				t.Errorf("%s: erased %v", e.Suffix, erased)
			}
		}
		n.restart()
		if added := n.recover(); added != 0 {
			t.Errorf("%d entries added by a second start", added)
		}

		n.want("a blob", n.put("events", blobKey(epoch+3, 7), "blob"), "stored")
		n.now = noon.Add(time.Minute)
		n.restart()
		if added := n.recover(); added != 1 {
			t.Errorf("%d entries added to a closed second, want 1", added)
		}
		n.wantRow(event.IndexKey{Epoch: epoch + 3, DC: "ams"}, suffix(7)+"+")
		n.wantRow(index.LateKey(noonRow, n.now.Unix()), fmt.Sprintf("%d:%s+", epoch+3, suffix(7)))

		first, asked := noon, 0
		for range 4 {
			n.sealAll(n.now)
			n.want("a blob", n.put("events", blobKey(n.now.Unix(), 0), "blob"), "stored")
		}
		n.sealAll(n.now)
		n.restart()
		idx := &asking{n.set.Index(n.clock), func() error { asked++; return nil }}
		if _, err := n.set.Recover(t.Context(), n.now, idx); err != nil || asked > 4*newestSlots {
			t.Errorf("%d rows were asked for, those of slots sealed long ago too; %v", asked, err)
		}
		if !n.isSealed("events", first) {
			t.Error("not sealed")
		}
	})
}

// shaky is an Index that fails as it is told to.
type shaky struct {
	Index
	uncertain bool
	rowErr    error
	addErr    error
}

func (s *shaky) Row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	if s.rowErr != nil {
		return index.Row{}, false, s.rowErr
	}
	row, certain, err := s.Index.Row(ctx, key)
	return row, certain && !s.uncertain, err
}

func (s *shaky) Add(ctx context.Context, key event.IndexKey, delta index.Row) error {
	if s.addErr != nil {
		return s.addErr
	}
	return s.Index.Add(ctx, key, delta)
}

// What cannot be compared is not sealed by the vnode, and is tried again, each
// time after a longer while.
func TestSealingWaitsForTheIndex(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("events", blobKey(noon.Unix(), 0), "blob"), "stored")
		idx := &shaky{Index: n.set.Index(n.clock)}
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		try := func(wait time.Duration) error {
			n.now = n.now.Add(wait)
			return n.set.Maintain(t.Context(), n.now, idx)
		}
		down := errors.New("no owner answers")

		idx.rowErr = down
		if err := try(0); !errors.Is(err, down) || !strings.Contains(err.Error(), noonRow.String()) {
			t.Errorf("got %v, want the row and the cause", err)
		}
		if err := try(29 * time.Second); err != nil {
			t.Errorf("tried again too early: %v", err)
		}
		idx.rowErr, idx.uncertain = nil, true
		if err := try(time.Second); !errors.Is(err, errUncertain) {
			t.Errorf("got %v, want errUncertain", err)
		}
		if err := try(59 * time.Second); err != nil {
			t.Errorf("tried again too early: %v", err)
		}
		idx.uncertain, idx.addErr = false, down
		if err := try(time.Second); !errors.Is(err, down) {
			t.Errorf("got %v", err)
		}
		if n.isSealed("events", noon) {
			t.Error("sealed although its blobs could not be indexed")
		}
		idx.addErr = nil
		if err := try(2 * time.Minute); err != nil {
			t.Error(err)
		}
		if !n.isSealed("events", noon) {
			t.Error("not sealed")
		}
		n.wantRow(noonRow, suffix(0)+"+")
	})
}

// A certain row that has everything needs no adding; nor is an uncertain one a
// trouble if it has everything.
func TestSealingAFullRow(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("events", blobKey(noon.Unix(), 0), "blob"), "stored")
		n.append(noonRow, deltaOf(t, noon.Unix(), 0))
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		idx := &shaky{Index: n.set.Index(n.clock), uncertain: true, addErr: errors.New("nothing was to be added")}
		if err := n.set.Maintain(t.Context(), n.now, idx); err != nil {
			t.Error(err)
		}
		if !n.isSealed("events", noon) || !n.isSealed("epochs", noon) {
			t.Error("not sealed")
		}
	})
}

// Blobs come before rows: what is found missing goes into rows that are open.
func TestBlobsAreSealedBeforeRows(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("events", blobKey(noon.Unix(), 0), "blob"), "stored")
		n.append(noonRow, deltaOf(t, noon.Unix(), 0))
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		idx := &putting{Index: n.set.Index(n.clock), put: func() {
			if n.isSealed("epochs", noon) {
				t.Error("the index is sealed before its blobs were compared with it")
			}
		}}
		if err := n.set.Maintain(t.Context(), n.now, idx); err != nil {
			t.Fatal(err)
		}
		if idx.put != nil || !n.isSealed("epochs", noon) {
			t.Error("nothing was compared, or not sealed")
		}
	})
}

// A put that comes while its slot is being sealed makes the slot wait anew.
func TestPutWhileSealing(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		partition := func(blob int) ring.Partition {
			return ring.PartitionOf(refOf("events", blobKey(noon.Unix(), blob)).Hash, 2)
		}
		beside := 1 // a blob of the same vnode
		for partition(beside) != partition(0) {
			beside++
		}
		n.want("put", n.put("events", blobKey(noon.Unix(), 0), "blob"), "stored")
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		idx := &putting{Index: n.set.Index(n.clock), put: func() {
			n.want("put", n.put("events", blobKey(noon.Unix(), beside), "blob"), "stored")
		}}
		if err := n.set.Maintain(t.Context(), n.now, idx); err != nil {
			t.Fatal(err)
		}
		if n.isSealed("events", noon) {
			t.Error("sealed with a blob whose entry was not looked for")
		}
		n.now = n.now.Add(DefaultSealAfterSeconds * time.Second)
		n.maintain()
		n.maintain()
		if !n.isSealed("events", noon) {
			t.Error("not sealed")
		}
		n.wantRow(noonRow, suffix(0)+"+", suffix(beside)+"+")
	})
}

// putting is an Index that lets a put come in between, once.
type putting struct {
	Index
	put func()
}

func (p *putting) Row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	if p.put != nil {
		p.put()
		p.put = nil
	}
	return p.Index.Row(ctx, key)
}

// What is left when the time is over is left for the next round.
func TestMaintainEndsWithItsContext(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("events", blobKey(noon.Unix(), 0), "blob"), "stored")
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.set.Maintain(canceled, n.now, n.set.Index(n.clock)); err != nil || n.isSealed("events", noon) {
			t.Errorf("a round whose context has ended sealed something: %v", err)
		}
		n.maintain()
		if !n.isSealed("events", noon) {
			t.Error("not sealed")
		}
	})
}

// A pass gives up where row after row fails, and goes on past a few of them.
func TestFailingRows(t *testing.T) {
	for _, test := range []struct{ rows, failing, asked int }{
		{40, 10, 40},
		{40, 40, maxFailedRows},
	} {
		n := newNode(t, 0, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
		for i := range test.rows {
			n.want("put", n.put("events", fmt.Sprintf("%d:dc%d:web:a:0", noon.Unix(), i), "blob"), "stored")
		}
		n.now = noon.Add((testSlotSeconds + DefaultSealAfterSeconds) * time.Second)
		asked := 0
		idx := &asking{n.set.Index(n.clock), func() error {
			if asked++; asked <= test.failing {
				return errors.New("no owner answers")
			}
			return nil
		}}
		err := n.set.Maintain(t.Context(), n.now, idx)
		if err == nil || asked != test.asked {
			t.Errorf("%d of %d rows fail: %d were asked for, want %d; %v", test.failing, test.rows, asked, test.asked, err)
		}
		if got := n.set.Stats().RepairedEntries; got != uint64(test.rows-test.failing) {
			t.Errorf("%d of %d rows fail: %d entries added", test.failing, test.rows, got)
		}
	}
}

// asking is an Index whose reads fail as ask says.
type asking struct {
	Index
	ask func() error
}

func (a *asking) Row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	if err := a.ask(); err != nil {
		return index.Row{}, false, err
	}
	return a.Index.Row(ctx, key)
}

// Slots that expire before they are sealed are forgotten.
func TestDeadSlotsAreNotSealed(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("events", noonKey, "blob"), "stored")
		n.now = noon.Add(864_000*time.Second + testSlotSeconds*time.Second)
		n.maintain()
		if s := n.set.Stats(); s.WaitingSlots != 0 || s.Seals != 0 {
			t.Errorf("%d slots wait, %d were sealed", s.WaitingSlots, s.Seals)
		}
	})
}

// A slot with more blobs than are compared at once.
func TestManyMissing(t *testing.T) {
	const blobs = missingBatch + 100
	n := newNode(t, 0, func(ttl func(uint64) int64) system { return newEngine(t, vfs.NewMem(), ttl) })
	for i := range blobs {
		n.want("put", n.put("events", blobKey(noon.Unix()+int64(i%7), i), "blob"), "stored")
	}
	if added := n.recover(); added != blobs {
		t.Errorf("%d entries added, want %d", added, blobs)
	}
	listed := 0
	for i := range 7 {
		a, err := n.set.Row(n.now, event.IndexKey{Epoch: noon.Unix() + int64(i), DC: "ams"})
		if err != nil {
			t.Fatal(err)
		}
		listed += a.Row.Len()
	}
	if listed != blobs {
		t.Errorf("%d entries listed, want %d", listed, blobs)
	}
}
