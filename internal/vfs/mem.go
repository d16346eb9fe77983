package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrCrashed is what every operation of a [Mem] returns once it has crashed.
var ErrCrashed = errors.New("the file system has crashed")

// A Mem is a file system in memory for tests. It keeps what was written apart
// from what was synced, so that [Mem.PowerCut] can say what a disk would hold.
// It can crash at a chosen operation ([Mem.CrashAt]), fail by rule
// ([Mem.Inject]) and be full ([Mem.SetCapacity]). It is meant to be harsher
// than any file system: nothing survives that was not synced, unless chance says so.
type Mem struct {
	mu       sync.Mutex
	dirs     map[string]*memDir // by path; "." is the root
	locks    map[string]bool
	ops      int // operations that change something, so far
	crashAt  int // the operation that crashes; negative: none
	crashed  bool
	rule     func(Op) error
	capacity int64 // bytes; 0: no bound
	used     int64 // bytes in files that have a name
}

// A memDir holds the names of one directory: as programs see them, as the disk
// has them, and what leads from these to those.
type memDir struct {
	now     map[string]*memFile
	stable  map[string]*memFile
	pending []nameChange
	durable bool // the directory's own name is
}

// A nameChange sets and clears names of one directory, all or nothing.
type nameChange struct {
	set   string
	file  *memFile
	clear string // "" if none
}

func (c nameChange) apply(names map[string]*memFile) {
	if c.clear != "" {
		delete(names, c.clear)
	}
	if c.set != "" {
		names[c.set] = c.file
	}
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{dirs: map[string]*memDir{".": newMemDir(true)}, locks: map[string]bool{}, crashAt: -1}
}

func newMemDir(durable bool) *memDir {
	return &memDir{now: map[string]*memFile{}, stable: map[string]*memFile{}, durable: durable}
}

// Path returns the name itself.
func (m *Mem) Path(name string) string { return name }

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpCreate, Name: name}); err != nil {
		return nil, err
	}
	dir, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	base := path.Base(name)
	if dir.now[base] != nil || m.dirs[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	file := &memFile{dirty: map[int64]bool{}}
	dir.change(nameChange{set: base, file: file})
	return m.finishOpenLocked(&memHandle{m: m, file: file, name: name, write: true})
}

// finishOpenLocked crashes, if it is this operation's turn, after its effect.
func (m *Mem) finishOpenLocked(h *memHandle) (File, error) {
	if m.crashed {
		return nil, ErrCrashed
	}
	return h, nil
}

func (d *memDir) change(c nameChange) {
	c.apply(d.now)
	d.pending = append(d.pending, c)
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements [FS].
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpOpen, Name: name}); err != nil {
		return nil, err
	}
	file, err := m.lookupLocked("open", name)
	if err != nil {
		return nil, err
	}
	return &memHandle{m: m, file: file, name: name, write: write}, nil
}

func (m *Mem) parentLocked(op, name string) (*memDir, error) {
	dir := m.dirs[path.Dir(name)]
	if dir == nil || !fs.ValidPath(name) || name == "." {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return dir, nil
}

func (m *Mem) lookupLocked(op, name string) (*memFile, error) {
	dir, err := m.parentLocked(op, name)
	if err != nil {
		return nil, err
	}
	file := dir.now[path.Base(name)]
	if file == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return file, nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(name string) error {
	for _, at := range ancestry(name) {
		if err := m.mkdir(at); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes one directory and then its name durable: two operations, and a
// crash may fall between them. One that is there and not durable is made so.
func (m *Mem) mkdir(name string) error {
	m.mu.Lock()
	dir := m.dirs[name]
	m.mu.Unlock()
	if dir != nil && dir.durable {
		return nil
	}
	if dir == nil {
		if err := m.addDir(name); err != nil {
			return err
		}
	}
	return m.SyncDir(path.Dir(name))
}

func (m *Mem) addDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpMkdir, Name: name}); err != nil {
		return err
	}
	parent, err := m.parentLocked("mkdir", name)
	if err != nil {
		return err
	}
	if parent.now[path.Base(name)] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	m.dirs[name] = newMemDir(false)
	return m.endLocked()
}

// ReadDir implements [FS].
func (m *Mem) ReadDir(name string) ([]Entry, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpReadDir, Name: name}); err != nil {
		return nil, err
	}
	dir := m.dirs[name]
	if dir == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var entries []Entry
	for base := range dir.now {
		entries = append(entries, Entry{Name: base, Regular: true})
	}
	for sub := range m.dirs {
		if sub != "." && path.Dir(sub) == name {
			entries = append(entries, Entry{Name: path.Base(sub), IsDir: true})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldName, newName string) error {
	oldName, newName = path.Clean(oldName), path.Clean(newName)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpRename, Name: oldName, To: newName}); err != nil {
		return err
	}
	file, err := m.lookupLocked("rename", oldName)
	if err != nil {
		return err
	}
	if path.Dir(oldName) != path.Dir(newName) || m.dirs[newName] != nil {
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrInvalid}
	}
	dir := m.dirs[path.Dir(oldName)]
	if over := dir.now[path.Base(newName)]; over != nil && over != file {
		m.used -= int64(len(over.data))
	}
	dir.change(nameChange{set: path.Base(newName), file: file, clear: path.Base(oldName)})
	return m.endLocked()
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpRemove, Name: name}); err != nil {
		return err
	}
	if dir := m.dirs[name]; dir != nil && name != "." {
		if len(dir.now) > 0 || m.hasSubdirLocked(name) {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		delete(m.dirs, name) // at once durable: an empty directory more or less harms nobody
		return m.endLocked()
	}
	file, err := m.lookupLocked("remove", name)
	if err != nil {
		return err
	}
	m.used -= int64(len(file.data))
	m.dirs[path.Dir(name)].change(nameChange{clear: path.Base(name)})
	return m.endLocked()
}

func (m *Mem) hasSubdirLocked(name string) bool {
	for sub := range m.dirs {
		if strings.HasPrefix(sub, name+"/") {
			return true
		}
	}
	return false
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (Entry, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpStat, Name: name}); err != nil {
		return Entry{}, err
	}
	if m.dirs[name] != nil {
		return Entry{Name: path.Base(name), IsDir: true}, nil
	}
	file, err := m.lookupLocked("stat", name)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Name: path.Base(name), SizeBytes: int64(len(file.data)), Regular: true}, nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpSyncDir, Name: name}); err != nil {
		return err
	}
	dir := m.dirs[name]
	if dir == nil {
		return &fs.PathError{Op: "sync", Path: name, Err: fs.ErrNotExist}
	}
	if m.crashed {
		return ErrCrashed // it died before the disk had answered
	}
	dir.pending, dir.stable = nil, maps.Clone(dir.now)
	for sub, d := range m.dirs {
		if path.Dir(sub) == name {
			d.durable = true
		}
	}
	return nil
}

// Lock implements [FS]. A clone made by [Mem.Kill] or [Mem.PowerCut] has no locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	name = path.Clean(name)
	if f, err := m.Create(name); err == nil {
		_ = f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, fmt.Errorf("%w by a user of this Mem", ErrLocked)
	}
	m.locks[name] = true
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.name)
	})
	return nil
}

// Space implements [FS]. Without a capacity there is a terabyte.
func (m *Mem) Space() (freeBytes, totalBytes int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(Op{Kind: OpSpace}); err != nil {
		return 0, 0, err
	}
	total := int64(1) << 40
	if m.capacity > 0 {
		total = m.capacity
	}
	return max(0, total-m.used), total, nil
}

// SetCapacity bounds the bytes in all files; writes beyond it take what fits
// and fail with ENOSPC. Zero removes the bound.
func (m *Mem) SetCapacity(sizeBytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = sizeBytes
}
