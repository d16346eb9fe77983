package bitcask

import (
	"strings"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Usage calls visit with the size of each segment of a partition that has taken
// records: its bucket's id, its slot (-1 in a plain bucket), and its bytes on the
// disk. It looks at files only, and opens none; one that is so small that it may
// have been made ahead, and hold nothing, is left out.
func (d *Disk) Usage(p Partition, visit func(bucketID uint64, slot expiry.Slot, sizeBytes int64)) error {
	if !d.gate.enter() {
		return ErrStopping
	}
	defer d.gate.leave()
	buckets, err := d.bucketsOf(p)
	if err != nil {
		return err
	}
	for _, id := range buckets {
		dir := laneDir(id, p)
		entries, err := d.fs.ReadDir(dir)
		if err != nil && !vfs.IsNotExist(err) {
			return diskError(object.NotDone, "reading directory "+d.fs.Path(dir), err)
		}
		for _, e := range entries {
			stem, ok := strings.CutSuffix(e.Name, segSuffix)
			if !ok || !e.Regular {
				continue
			}
			slot, _, ok := parseStem(stem)
			if !ok {
				continue
			}
			size, err := d.fileSize(dir + "/" + e.Name)
			switch {
			case vfs.IsNotExist(err): // it expired just now
			case err != nil:
				return diskError(object.NotDone, "looking at "+d.fs.Path(dir+"/"+e.Name), err)
			case size > segHeaderMax:
				visit(id, slot, size)
			}
		}
	}
	return nil
}
