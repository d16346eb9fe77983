package engine

import (
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// unsynced is a file system that takes the word for the deed: what is only made
// to be measured need not survive a loss of power.
func unsynced(fsys vfs.FS) vfs.FS { return unsyncedFS{fsys} }

type unsyncedFS struct{ vfs.FS }

func (unsyncedFS) SyncDir(string) error { return nil }

func (u unsyncedFS) Create(name string) (vfs.File, error) { return unsyncedFile(u.FS.Create(name)) }

func (u unsyncedFS) OpenReadWrite(name string) (vfs.File, error) {
	return unsyncedFile(u.FS.OpenReadWrite(name))
}

type fileWithoutSync struct{ vfs.File }

func (fileWithoutSync) Sync() error { return nil }

func unsyncedFile(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return fileWithoutSync{f}, nil
}

// A counted file system counts the bytes given to its files.
type counted struct {
	vfs.FS
	bytes *atomic.Int64
}

func (c counted) Create(name string) (vfs.File, error) { return c.file(c.FS.Create(name)) }

func (c counted) OpenReadWrite(name string) (vfs.File, error) {
	return c.file(c.FS.OpenReadWrite(name))
}

func (c counted) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return countedFile{f, c.bytes}, nil
}

type countedFile struct {
	vfs.File
	bytes *atomic.Int64
}

func (f countedFile) WritevAt(bufs [][]byte, off int64) (int64, error) {
	n, err := f.File.WritevAt(bufs, off)
	f.bytes.Add(n)
	return n, err
}
