// Package vfs is the file system as the storage engine sees it, so that the
// engine can be run over one that crashes. [Dir] is a directory of the
// operating system; [Mem] is a file system in memory that keeps apart what was
// written from what was synced, loses power at a chosen operation, and fails
// by rule.
//
// An FS is rooted: names are relative, slash-separated paths below one
// directory, "." being that directory; none leads out of it, not even by a
// symbolic link.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// An FS is one directory tree. Its methods may be called by any goroutine.
//
// What is durable when: the bytes of a file after [File.Sync]; the name of a
// created, renamed or removed file, or of a created directory, after
// [FS.SyncDir] of the directory it is in. Before that a loss of power may undo
// any of it, in any order.
type FS interface {
	// Create makes a new file for reading and writing. It is an error, and
	// satisfies errors.Is(err, fs.ErrExist), if the name is taken.
	Create(name string) (File, error)

	// Open opens an existing file for reading.
	Open(name string) (File, error)

	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)

	// MkdirAll makes a directory and those above it that are missing. When it
	// returns, the path is durable, also where it was there already.
	MkdirAll(name string) error

	// ReadDir lists a directory in ascending order of name, without sizes: it
	// does not look at each file, as Stat does.
	ReadDir(name string) ([]Entry, error)

	// Rename gives a file another name in the same directory, replacing what
	// had it, atomically.
	Rename(oldName, newName string) error

	// Remove removes a file, or an empty directory.
	Remove(name string) error

	// Stat describes one name.
	Stat(name string) (Entry, error)

	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error

	// Lock takes an exclusive lock on a file, making it if it is missing, and
	// holds it until the Closer is closed or the process ends. It does not
	// wait: a lock held elsewhere, by another process or by this one, is
	// ErrLocked.
	Lock(name string) (io.Closer, error)

	// Space returns how many bytes of the file system are free for this
	// process and how many it has in all.
	Space() (freeBytes, totalBytes int64, err error)

	// Path returns name as a user would recognise it, for messages.
	Path(name string) string
}

// A File is an open file. Its methods may be called by any goroutine, except
// that Close must come after all others have returned.
type File interface {
	// ReadAt reads len(p) bytes from offset off. Fewer come only with an
	// error, which is io.EOF at the file's end.
	io.ReaderAt

	// WritevAt writes the buffers one after the other from offset off, with
	// one system call where the kernel takes all of it at once. It returns how
	// many bytes were written, fewer than given only with an error. It neither
	// keeps nor changes bufs.
	WritevAt(bufs [][]byte, off int64) (int64, error)

	// Sync makes the file's bytes and length durable. After an error they may
	// be lost although they can be read, and syncing again proves nothing.
	Sync() error

	// Allocate reserves blocks for a part of the file, behind its end or not, without
	// changing its length or what can be read. Truncate gives back what is behind the
	// length it sets. ErrUnsupported means that the file system never does it.
	Allocate(off, sizeBytes int64) error

	// Truncate sets the file's length.
	Truncate(sizeBytes int64) error

	// Size returns the file's length, bytes.
	Size() (int64, error)

	// Close ends the use of the file; it syncs nothing.
	Close() error
}

// An Entry is one name in a directory.
type Entry struct {
	Name      string // without the directory
	IsDir     bool
	SizeBytes int64 // of a regular file; only Stat tells
	Regular   bool  // a regular file: neither directory nor link, device or socket
}

// ErrUnsupported says that the file system cannot do it.
var ErrUnsupported = errors.ErrUnsupported

// ErrLocked says that a lock is held, by another process or by this one.
var ErrLocked = errors.New("the lock is held")

// IsNotExist reports whether err says that a name does not exist.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// IsNoSpace reports whether err says that the disk, or the quota, is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsReadOnly reports whether err says that nothing may be written here.
func IsReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}
