package bitcask

import (
	"cmp"
	"slices"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// Puts that are acknowledged unsynced do not wait for each other: each is given a
// place at the segment's end (reserved, under the lane's lock) and writes its
// record there by itself, and shows once it is written. A put that is not scheduled
// for a while, which on a busy machine takes tens of milliseconds, therefore holds up
// nobody. While such puts are under way (the lane's flight) nobody has the
// appender's role, and while somebody has it no place is given.
//
// Puts under SyncAlways, and those that need a segment made or the manifest changed,
// take the role: what is acknowledged as durable has no unfinished put before it.
//
// A put that is killed, or fails, leaves a hole: a part of its record, from the
// front, and zeros. A hole at the end of the segment is cut off. One before other records is
// marked as a gap, which scans step over; the process that finds it does that, be it
// the same or, after a kill, the next one (see gap.go).

// maxAhead bounds how far from the record of the longest unfinished put others are
// put, and so where a killed process may leave holes: in the last maxAhead bytes of a
// segment.
const maxAhead = 16 << 20 // bytes

// A hole is where a put did not finish.
type hole struct{ offset, size int64 } // bytes; multiples of 8

func (h hole) end() int64 { return h.offset + h.size }

// A flight is the puts that write at places of their own. All it knows of them is how
// many there are in each of two groups and where the groups begin: a put joins the
// newer one, which becomes the older when that has ended.
type flight struct {
	puts  [2]int32
	start [2]int64 // offsets; of a group without puts it means nothing
	older uint8
}

func (f *flight) empty() bool { return f.puts == [2]int32{} }

// first returns an offset that no put under way is before, of one that is not empty: the
// longest unfinished one's, or what others of its group have left behind before it.
func (f *flight) first() int64 {
	if f.puts[f.older] > 0 {
		return f.start[f.older]
	}
	return f.start[f.older^1]
}

// add notes a put that has a place behind all others.
func (f *flight) add(op *putOp) {
	if f.puts[f.older] == 0 {
		f.older ^= 1
	}
	newer := f.older ^ 1
	if f.puts[newer] == 0 {
		f.start[newer] = op.offset
	}
	op.group = newer
	f.puts[newer]++
}

func (f *flight) remove(op *putOp) { f.puts[op.group]-- }

// reserveLocked gives op a place at the end of the active segment, if it may have
// one now.
func (l *lane) reserveLocked(op *putOp) bool {
	if !l.mayReserveLocked(op) {
		return false
	}
	l.giveLocked(op)
	return true
}

func (l *lane) mayReserveLocked(op *putOp) bool {
	seg := l.active
	if l.busy || l.waiting > 0 || op.sync == SyncAlways || !l.dirty || seg == nil || seg.retired || seg.syncer.broken.Load() {
		return false
	}
	end := seg.end.Load() + op.size
	return end <= l.maxBytes() && (l.flight.empty() || end-l.flight.first() <= maxAhead)
}

func (l *lane) giveLocked(op *putOp) {
	op.seg, op.offset = l.active, l.active.end.Load()
	op.seg.end.Store(op.offset + op.size)
	op.blocks = l.wantBlocks(op.seg, op.offset, op.offset+op.size)
	l.careless = true
	l.flight.add(op)
}

// writeReserved writes op's record at its place, and shows it.
func (l *lane) writeReserved(op *putOp) error {
	d, seg := l.store.disk, op.seg
	d.allocate(seg, op.blocks)
	written, err := d.writev(op.stripe, seg, op.frameIn(op.vector[:0]), op.offset)
	seg.wrote()
	if err == nil && op.sync == SyncInterval {
		d.syncLater(l.store, seg)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.putFailed(op, written, err)
	}
	l.flight.remove(op)
	l.settleLocked(op)
	if l.flight.empty() && l.waiting > 0 {
		l.changed.Broadcast()
	}
	if err != nil {
		l.takeRoleLocked()
		l.mendActiveLocked(seg, err)
		l.releaseRoleLocked()
	}
	return op.err
}

// putFailed sets the result of a put whose write ended early, and notes the hole.
func (l *lane) putFailed(op *putOp, written int64, cause error) {
	l.store.disk.stats.writeErrors.Add(1)
	if written == op.size {
		return // the kernel took it whole
	}
	op.err = l.writeError(op.seg, cause)
	op.seg.holes = append(op.seg.holes, hole{op.offset, op.size})
}

// mendActiveLocked does away with a segment's holes after a failed write, if puts
// still go to it; otherwise they wait until it is sealed. If that fails, or the
// disk did not say that it is merely full, nothing more is appended to the segment. The
// caller has the role and holds mu, which is released meanwhile.
func (l *lane) mendActiveLocked(seg *segment, cause error) {
	if seg != l.active || len(seg.holes) == 0 {
		return
	}
	l.mu.Unlock()
	cut := seg.cutHoles()
	if !vfs.IsNoSpace(cause) || cut && l.store.disk.truncate(seg, seg.end.Load()) != nil || l.store.disk.markHoles(seg) != nil {
		seg.retired = true
	}
	l.mu.Lock()
}

// cutHoles takes the holes at the segment's end off it. Nobody else uses holes or end
// meanwhile.
func (s *segment) cutHoles() (cut bool) {
	slices.SortFunc(s.holes, func(a, b hole) int { return cmp.Compare(a.offset, b.offset) })
	for n := len(s.holes); n > 0 && s.holes[n-1].end() == s.end.Load(); n-- {
		s.end.Store(s.holes[n-1].offset)
		s.holes, cut = s.holes[:n-1], true
	}
	return cut
}

// markHoles marks a segment's holes as gaps. Those that cannot be marked are kept.
func (d *Disk) markHoles(s *segment) error {
	for len(s.holes) > 0 {
		h := s.holes[len(s.holes)-1]
		if _, err := d.writev(d.stripes.first(), s, [][]byte{appendGap(nil, h.size, s.generation)}, h.offset); err != nil {
			return err
		}
		s.wrote()
		s.holes = s.holes[:len(s.holes)-1]
	}
	return nil
}
