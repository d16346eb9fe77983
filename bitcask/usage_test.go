package bitcask

import (
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// TestUsage: the sizes are those of the segments that hold something, by slot.
func TestUsage(t *testing.T) {
	d, s := openAll(t, vfs.NewMem(), testConfig())
	defer d.Close()
	usage := func() (slots map[expiry.Slot]int64) {
		t.Helper()
		slots = map[expiry.Slot]int64{}
		if err := d.Usage(s.partition, func(bucketID uint64, slot expiry.Slot, sizeBytes int64) {
			if bucketID != events.ID {
				t.Errorf("bucket %x", bucketID)
			}
			slots[slot] += sizeBytes
		}); err != nil {
			t.Fatal(err)
		}
		return slots
	}
	if got := usage(); len(got) != 0 {
		t.Errorf("an empty partition has %v", got)
	}
	for i := range 5 {
		mustPut(t, s, make1(t, events, t0, string(rune('a'+i)), t0*1e6, bytesOf(uint64(i), 1000)))
	}
	if got := usage(); len(got) != 1 || got[slotAt(t0)] < 5000 || got[slotAt(t0)] > 7000 {
		t.Errorf("5 objects of 1000 bytes in slot %d: %v", slotAt(t0), got)
	}
}
