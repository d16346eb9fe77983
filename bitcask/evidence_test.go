package bitcask

import (
	"sync"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

func openTestEvidence(t testing.TB, fsys vfs.FS) *evidence {
	t.Helper()
	e, err := openEvidence(fsys, ID{1}, Partition{}, "boot", func() (bool, error) { return false, nil })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestDoubtsAreSeenAtOnce: that there were no doubts is remembered, and forgotten
// with the first that is noted; those of the manifest count from the start.
func TestDoubtsAreSeenAtOnce(t *testing.T) {
	fsys := vfs.NewMem()
	if err := fsys.MkdirAll(vnodeDir); err != nil {
		t.Fatal(err)
	}
	e := openTestEvidence(t, fsys)
	id := laneID{bucket: 7, slot: 3}
	for i := range 3 {
		for range 2 {
			if d := e.doubts(); len(d) != 0 {
				t.Fatalf("round %d: doubts %v", i, d)
			}
		}
		e.doubtLater(id, ReasonDamage)
		for range 2 {
			if d := e.doubts(); len(d) != 1 || d[0].Bucket != 7 || d[0].Slot != 3 || d[0].Reason != ReasonDamage {
				t.Fatalf("round %d: doubts %v", i, d)
			}
		}
		e.forgetLater(id)
	}
	e.doubtLater(id, ReasonDamage)
	if err := e.publish(); err != nil {
		t.Fatal(err)
	}
	if d := openTestEvidence(t, fsys).doubts(); len(d) != 1 {
		t.Errorf("a manifest with a doubt opens with %v", d)
	}
}

// TestDoubtsWhileRead: whoever has noted a doubt sees it, whatever others read
// meanwhile.
func TestDoubtsWhileRead(t *testing.T) {
	e := openTestEvidence(t, vfs.NewMem())
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					e.doubts()
				}
			}
		})
	}
	for i := range 2000 {
		id := laneID{bucket: 7, slot: 3}
		e.doubtLater(id, ReasonDamage)
		if len(e.doubts()) != 1 {
			t.Errorf("round %d: the doubt is not seen", i)
		}
		e.forgetLater(id)
	}
	close(stop)
	readers.Wait()
}

func BenchmarkNoDoubts(b *testing.B) {
	e := openTestEvidence(b, vfs.NewMem())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.doubts()
		}
	})
}
