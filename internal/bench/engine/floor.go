package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/internal/object"
)

// A floor appends records to files, and that is all: a frame of 16 bytes under a
// CRC and the record, with one pwritev each, at an offset taken from a counter.
// It has no index and knows no keys. Each file has a directory of its own, as each
// partition has: the file system spreads directories over the disk, which makes
// syncing dearer.
type floor struct {
	bits   uint8 // 1<<bits files; the top bits of the hash choose one
	files  []*floorFile
	always bool // sync before put returns
}

type floorFile struct {
	f   *os.File
	end atomic.Int64
	group
}

func openFloor(dir string, bits uint8, always bool) (*floor, error) {
	f := &floor{bits: bits, always: always}
	for i := range 1 << bits {
		name := filepath.Join(dir, "bucket", fmt.Sprint(i), "0")
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		var file *os.File
		if err == nil {
			file, err = os.Create(name)
		}
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		ff := &floorFile{f: file}
		ff.changed.L = &ff.mu
		f.files = append(f.files, ff)
	}
	return f, nil
}

func (f *floor) close() error {
	var faults []error
	for _, ff := range f.files {
		faults = append(faults, ff.f.Close())
	}
	return errors.Join(faults...)
}

// file returns which file takes records of a hash.
func (f *floor) file(hash uint64) *floorFile {
	if f.bits == 0 {
		return f.files[0]
	}
	return f.files[hash>>(64-f.bits)]
}

func (f *floor) put(hash uint64, rec *object.Record) error {
	ff := f.file(hash)
	if _, err := ff.append(rec); err != nil || !f.always {
		return err
	}
	return ff.sync(func() error { return unix.Fdatasync(int(ff.f.Fd())) })
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// append writes a record behind its frame and returns where.
func (ff *floorFile) append(rec *object.Record) (offset int64, err error) {
	var frame [16]byte
	raw := rec.Raw()
	binary.LittleEndian.PutUint32(frame[0:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(frame[4:], 1)
	binary.LittleEndian.PutUint32(frame[8:], rec.CRC)
	binary.LittleEndian.PutUint32(frame[12:], crc32.Checksum(frame[:12], castagnoli))
	size := framed(len(raw))
	at := ff.end.Add(size) - size
	n, err := unix.Pwritev(int(ff.f.Fd()), [][]byte{frame[:], raw}, at)
	if err == nil && n != len(frame)+len(raw) {
		err = fmt.Errorf("%d of %d bytes were written", n, len(frame)+len(raw))
	}
	return at, err
}

// framed returns the bytes that a record of n bytes takes in a file.
func framed(n int) int64 { return (16 + int64(n) + 7) &^ 7 }

// A group lets one system call sync what several writers wrote: group commit.
type group struct {
	mu      sync.Mutex
	changed sync.Cond
	written uint64 // writes finished
	synced  uint64 // of these, how many are durable
	running bool
}

// sync returns when everything the caller has written before is durable.
func (g *group) sync(call func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written++
	mine := g.written
	for g.synced < mine {
		if g.running {
			g.changed.Wait()
			continue
		}
		g.running = true
		covers := g.written
		g.mu.Unlock()
		err := call()
		g.mu.Lock()
		g.running = false
		g.changed.Broadcast()
		if err != nil {
			return err
		}
		g.synced = max(g.synced, covers)
	}
	return nil
}
