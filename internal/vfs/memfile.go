package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

const (
	pageSize   = 4096 // bytes; what a disk loses or keeps as one
	sectorSize = 512  // bytes; what it writes whole even when power fails
)

// A memFile is a file's bytes: as programs read them, and as the disk has them.
type memFile struct {
	data   []byte
	stable []byte
	dirty  map[int64]bool // pages of data that differ, perhaps, from stable
	lost   map[int64]bool // pages that a failed sync dropped: no later sync writes them
}

// resize sets the length, with zeros where it grows.
func (f *memFile) resize(size int64) {
	old := int64(len(f.data))
	if size <= old {
		f.data = f.data[:size:size]
		if size < old && size%pageSize != 0 {
			f.dirty[size/pageSize] = true // its tail reads as zero from now on
		}
		return
	}
	f.data = append(f.data, make([]byte, size-old)...)
	for p := old / pageSize; p*pageSize < size; p++ {
		f.dirty[p] = true
	}
}

func (f *memFile) write(p []byte, off int64) {
	if end := off + int64(len(p)); end > int64(len(f.data)) {
		f.resize(end)
	}
	copy(f.data[off:], p)
	for page := off / pageSize; page*pageSize < off+int64(len(p)); page++ {
		f.dirty[page] = true
		delete(f.lost, page)
	}
}

// sync brings stable up to data, except for lost pages.
func (f *memFile) sync() {
	f.stable = fit(f.stable, int64(len(f.data)))
	for page := range f.dirty {
		if !f.lost[page] {
			copyPage(f.stable, f.data, page, pageSize)
		}
	}
	clear(f.dirty)
	for page := range f.lost {
		f.dirty[page] = true
	}
}

// drop marks what is not on the disk as never to be: what a kernel does with
// pages it could not write.
func (f *memFile) drop() {
	if f.lost == nil {
		f.lost = map[int64]bool{}
	}
	for page := range f.dirty {
		f.lost[page] = true
	}
}

// fit returns b with that length, zeros where it grew.
func fit(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// copyPage copies the first n bytes of a page, as far as both have it.
func copyPage(dst, src []byte, page int64, n int64) {
	at := page * pageSize
	if at >= int64(len(dst)) || at >= int64(len(src)) {
		return
	}
	copy(dst[at:], src[at:min(at+n, int64(len(src)))])
}

// A memHandle is an open file of a Mem.
type memHandle struct {
	m     *Mem
	file  *memFile
	name  string
	write bool
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.m.beginLocked(Op{Kind: OpRead, Name: h.name, Offset: off, Bytes: int64(len(p))}); err != nil {
		return 0, err
	}
	if off >= int64(len(h.file.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, h.file.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WritevAt(bufs [][]byte, off int64) (int64, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	var total int64
	for _, b := range bufs {
		total += int64(len(b))
	}
	if !h.write {
		return 0, &fs.PathError{Op: "write", Path: h.name, Err: syscall.EBADF}
	}
	err := h.m.beginLocked(Op{Kind: OpWrite, Name: h.name, Offset: off, Bytes: total})
	take := total
	if part, ok := err.(*Partial); ok {
		take, err = min(part.Bytes, total), part.Err
	} else if err != nil {
		return 0, err
	}
	if h.m.crashed { // this is the operation that crashes: some prefix of it is done
		take = int64(h.m.ops*7919) % (total + 1)
		err = ErrCrashed
	}
	if room := h.m.roomLocked(h.file, off); err == nil && take > room {
		take, err = room, &fs.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
	}
	before := int64(len(h.file.data))
	done := h.put(bufs, off, take)
	h.m.used += int64(len(h.file.data)) - before
	return done, err
}

func (h *memHandle) put(bufs [][]byte, off, take int64) (done int64) {
	for _, b := range bufs {
		b = b[:min(int64(len(b)), take-done)]
		if len(b) > 0 {
			h.file.write(b, off+done)
		}
		done += int64(len(b))
	}
	return done
}

// roomLocked returns how many bytes a write at off may take before the disk is full.
func (m *Mem) roomLocked(f *memFile, off int64) int64 {
	if m.capacity == 0 {
		return 1 << 62
	}
	return max(0, m.capacity-m.used) + max(0, int64(len(f.data))-off)
}

func (h *memHandle) Sync() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.m.beginLocked(Op{Kind: OpSync, Name: h.name}); err != nil {
		if err != ErrCrashed {
			h.file.drop()
		}
		return err
	}
	if h.m.crashed {
		return ErrCrashed
	}
	h.file.sync()
	return nil
}

// Allocate asks the rule, and changes nothing: a Mem has no blocks.
func (h *memHandle) Allocate(off, sizeBytes int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return h.m.beginLocked(Op{Kind: OpAllocate, Name: h.name, Offset: off, Bytes: sizeBytes})
}

func (h *memHandle) Truncate(sizeBytes int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.m.beginLocked(Op{Kind: OpTruncate, Name: h.name, Bytes: sizeBytes}); err != nil {
		return err
	}
	before := int64(len(h.file.data))
	h.file.resize(sizeBytes)
	h.m.used += int64(len(h.file.data)) - before
	return h.m.endLocked()
}

func (h *memHandle) Size() (int64, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.m.crashed {
		return 0, ErrCrashed
	}
	return int64(len(h.file.data)), nil
}

// Close does nothing: a Mem does not count its open files.
func (h *memHandle) Close() error { return nil }
