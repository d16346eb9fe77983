//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Dir is a directory of the operating system as an [FS].
type Dir struct {
	path string
	root *os.Root

	mu    sync.Mutex
	names map[string]bool // directories whose own names are known to be durable
}

// OpenDir returns the directory at that path as a file system. It must exist.
// Close releases it.
func OpenDir(dir string) (*Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Dir{path: dir, root: root, names: make(map[string]bool)}, nil
}

// MakeDir is [OpenDir] for a directory that is made, with those above it, if it
// is missing. What it made is durable.
func MakeDir(dir string) (*Dir, error) {
	if err := mkdirDurably(dir); err != nil {
		return nil, err
	}
	return OpenDir(dir)
}

func mkdirDurably(dir string) error {
	dir = filepath.Clean(dir)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := mkdirDurably(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncAndClose(os.Open(parent))
}

// Close releases the directory. Files opened from it stay usable.
func (d *Dir) Close() error { return d.root.Close() }

// Path returns the name below the path the Dir was opened with.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// Create implements [FS].
func (d *Dir) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements [FS].
func (d *Dir) Open(name string) (File, error) { return d.open(name, os.O_RDONLY) }

// OpenReadWrite implements [FS].
func (d *Dir) OpenReadWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }

func (d *Dir) open(name string, flag int) (File, error) {
	f, err := d.root.OpenFile(filepath.FromSlash(name), flag, 0o644)
	if err != nil {
		return nil, d.explain(err)
	}
	return &osFile{f: f, fd: int(f.Fd())}, nil
}

// MkdirAll implements [FS]. A directory that is there may have been made just
// before a crash, or before a sync that failed: its name is synced once by each Dir.
func (d *Dir) MkdirAll(name string) error {
	for at := range slices.Values(ancestry(name)) {
		if d.isDurable(at) {
			continue
		}
		if err := d.root.Mkdir(filepath.FromSlash(at), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return d.explain(err)
		}
		if err := d.SyncDir(path.Dir(at)); err != nil {
			return err
		}
		d.mu.Lock()
		d.names[at] = true
		d.mu.Unlock()
	}
	return nil
}

// isDurable reports whether a directory is there and its name is known to be durable.
func (d *Dir) isDurable(name string) bool {
	d.mu.Lock()
	known := d.names[name]
	d.mu.Unlock()
	if !known {
		return false
	}
	_, err := d.root.Lstat(filepath.FromSlash(name)) // it may have been removed
	return err == nil
}

// ancestry returns a path and those above it below the root, the highest first.
func ancestry(name string) []string {
	name = path.Clean(name)
	if name == "." {
		return nil
	}
	var all []string
	for i, r := range name {
		if r == '/' {
			all = append(all, name[:i])
		}
	}
	return append(all, name)
}

// ReadDir implements [FS].
func (d *Dir) ReadDir(name string) ([]Entry, error) {
	f, err := d.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, d.explain(err)
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, d.explain(err)
	}
	entries := make([]Entry, 0, len(list))
	for _, e := range list {
		entries = append(entries, Entry{Name: e.Name(), IsDir: e.IsDir(), Regular: e.Type().IsRegular()})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// Rename implements [FS].
func (d *Dir) Rename(oldName, newName string) error {
	return d.explain(d.root.Rename(filepath.FromSlash(oldName), filepath.FromSlash(newName)))
}

// Remove implements [FS].
func (d *Dir) Remove(name string) error { return d.explain(d.root.Remove(filepath.FromSlash(name))) }

// Stat implements [FS].
func (d *Dir) Stat(name string) (Entry, error) {
	info, err := d.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return Entry{}, d.explain(err)
	}
	return Entry{Name: info.Name(), IsDir: info.IsDir(), SizeBytes: info.Size(), Regular: info.Mode().IsRegular()}, nil
}

// SyncDir implements [FS].
func (d *Dir) SyncDir(name string) error {
	return d.explain(syncAndClose(d.root.Open(filepath.FromSlash(name))))
}

func syncAndClose(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Lock implements [FS], with flock: the kernel releases it when the process
// ends however it ends, and an old lock file blocks nobody. The holder's
// process id is written into the file for people to read.
func (d *Dir) Lock(name string) (io.Closer, error) {
	f, err := d.root.OpenFile(filepath.FromSlash(name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, d.explain(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Only people read what is in it: not being able to write it harms nothing.
		if f.Truncate(0) == nil {
			_, _ = fmt.Fprintln(f, os.Getpid())
		}
		return f, nil
	}
	holder := make([]byte, 20)
	n, _ := f.ReadAt(holder, 0)
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w by process %s", ErrLocked, strings.TrimSpace(string(holder[:n])))
	}
	return nil, &fs.PathError{Op: "lock", Path: d.Path(name), Err: err}
}

// Space implements [FS].
func (d *Dir) Space() (freeBytes, totalBytes int64, err error) {
	var st unix.Statfs_t
	f, err := d.root.Open(".")
	if err != nil {
		return 0, 0, d.explain(err)
	}
	defer f.Close()
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: d.path, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// explain puts the whole path into an error that carries only the name.
func (d *Dir) explain(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: strings.TrimSuffix(pe.Op, "at"), Path: d.Path(pe.Path), Err: pe.Err}
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return &os.LinkError{Op: strings.TrimSuffix(le.Op, "at"), Old: d.Path(le.Old), New: d.Path(le.New), Err: le.Err}
	}
	return err
}

// An osFile calls the kernel by descriptor: what it does has no counterpart in
// os.File, or costs more there. Close comes last by contract, so the
// descriptor is never another file's.
type osFile struct {
	f  *os.File
	fd int
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, f.fail("read", err)
		case n == 0:
			return done, io.EOF
		}
		done += max(n, 0)
	}
	return done, nil
}

func (f *osFile) WritevAt(bufs [][]byte, off int64) (int64, error) {
	var total int64
	for _, b := range bufs {
		total += int64(len(b))
	}
	n, err := writev(f.fd, bufs, off)
	if int64(n) == total && err == nil {
		return total, nil
	}
	return f.writeRest(bufs, off, total, int64(max(n, 0)), err)
}

// writeRest goes on after a write that took less than all: too many buffers for
// one call, a signal, or a disk that became full on the way.
func (f *osFile) writeRest(bufs [][]byte, off, total, done int64, err error) (int64, error) {
	for {
		if err != nil && err != unix.EINTR {
			return done, f.fail("write", err)
		}
		if done == total {
			return done, nil
		}
		n, again := writev(f.fd, skip(bufs, done), off+done)
		if n == 0 && again == nil {
			return done, f.fail("write", io.ErrShortWrite)
		}
		done, err = done+int64(max(n, 0)), again
	}
}

// skip returns bufs without their first n bytes.
func skip(bufs [][]byte, n int64) [][]byte {
	for len(bufs) > 0 && n >= int64(len(bufs[0])) {
		n -= int64(len(bufs[0]))
		bufs = bufs[1:]
	}
	if n == 0 {
		return bufs
	}
	rest := slices.Clone(bufs)
	rest[0] = rest[0][n:]
	return rest
}

func (f *osFile) Truncate(sizeBytes int64) error { return f.f.Truncate(sizeBytes) }

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Close() error { return f.f.Close() }

func (f *osFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.f.Name(), Err: err}
}
