//go:build !race

package bitcask

import (
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Neither a put nor a get allocates, but for the growing of a keydir.
func TestAllocations(t *testing.T) {
	fsys, err := vfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	_, s := openAll(t, fsys, testConfig())
	const runs = 500
	var all []*testObject
	for i := range 4 * (runs + 1) {
		all = append(all, make1(t, events, t0, fmt.Sprintf("k%d", i), t0*1e6, bytesOf(1, 2000)))
	}
	next := 0
	put := testing.AllocsPerRun(runs, func() {
		o := all[next]
		next++
		if _, err := s.Put(o.b, o.hash(), o.epoch, t0, o.rec, nil); err != nil {
			t.Fatal(err)
		}
	})
	hash := testing.AllocsPerRun(runs, func() { _ = all[0].hash() }) // the test's own
	if put -= hash; put >= 1 {
		t.Errorf("a put allocates %v times", put)
	}
	for _, state := range []string{"open", "sealed"} {
		next = 0
		get := testing.AllocsPerRun(runs, func() {
			o := all[next]
			next++
			rec, err := s.Get(o.b, 0, o.epoch, t0, o.rec.Key)
			if err == nil {
				rec.Release()
			} else if err != error(ErrAbsent) {
				t.Fatal(err)
			}
		})
		next = 0
		found := testing.AllocsPerRun(runs, func() {
			o := all[next]
			next++
			rec, err := s.Get(o.b, o.hash(), o.epoch, t0, o.rec.Key)
			if err != nil {
				t.Fatal(err)
			}
			rec.Release()
		})
		if get >= 1 || found-hash >= 1 {
			t.Errorf("%s: a get allocates %v times, %v if nothing is there", state, found-hash, get)
		}
		if err := s.Seal(events, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
	}
	if buffers, _ := object.Live(); buffers != int64(len(all)) {
		t.Errorf("%d buffers are in use, want the %d of the test", buffers, len(all))
	}
}
