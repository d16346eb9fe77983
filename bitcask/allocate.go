package bitcask

import (
	"errors"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// Blocks are asked for ahead of a segment's end, as many again as it has, so that a
// write and its sync need not each look for some and note where they are: a fifth of
// the processor time of small durable puts, a tenth of that of large ones (see
// docs/engine.md). The file's length stays what was written. What is left over when a
// segment is sealed is given back. So it is when a failed write is cut off: what is
// written then asks for it again.
//
// How much is asked for is bounded by the free space: a thousand segments that have just been
// given some cannot fill a disk. Whether the file system does it changes nothing else.
const (
	minAllocation   = 256 << 10 // bytes; less is not worth a call
	maxAllocation   = 8 << 20   // bytes
	allocationShare = 1024      // of the free space one call may ask for
)

// A blocks is a part of a file, of no length mostly.
type blocks struct{ offset, size int64 } // bytes

// wantBlocks returns what is to be allocated before a segment is written to from one
// offset to another, and takes it for allocated. The caller holds the lane's mu, or
// has the role.
func (l *lane) wantBlocks(seg *segment, from, to int64) blocks {
	if to <= seg.allocated {
		return blocks{}
	}
	space := &l.store.disk.space
	n := min(max(to, minAllocation), maxAllocation, (space.free.Load()-space.minFree)/allocationShare)
	from = max(from, seg.allocated)
	n = min(n, l.maxBytes()-from)
	if n < minAllocation || from+n < to || space.fixed.Load() {
		return blocks{}
	}
	seg.allocated = from + n
	return blocks{from, n}
}

// allocate asks for blocks. If that fails, writing will do.
func (d *Disk) allocate(seg *segment, b blocks) {
	if b.size == 0 {
		return
	}
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return // the write will say
	}
	defer d.handles.release(&seg.data)
	d.stats.allocations.Add(1)
	if err := f.Allocate(b.offset, b.size); errors.Is(err, vfs.ErrUnsupported) {
		d.space.fixed.Store(true)
	}
}
