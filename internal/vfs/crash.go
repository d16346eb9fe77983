package vfs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// An OpKind names an operation of a [Mem].
type OpKind uint8

// The operations. Those up to OpSyncDir change something, or make a change
// durable; these are counted and can be crashed at.
const (
	OpCreate OpKind = iota + 1
	OpWrite
	OpTruncate
	OpSync
	OpRename
	OpRemove
	OpMkdir
	OpSyncDir
	OpOpen
	OpRead
	OpReadDir
	OpStat
	OpSpace
	OpAllocate
)

// An Op is one operation about to happen, shown to the rule of [Mem.Inject].
type Op struct {
	Kind          OpKind
	Name, To      string // To: of a rename
	Offset, Bytes int64  // of a read, a write or an allocation; Bytes also of a truncation
}

// A Partial, returned by a rule for an OpWrite, lets the first Bytes bytes be
// written and then fails with Err.
type Partial struct {
	Bytes int64
	Err   error
}

func (p *Partial) Error() string { return p.Err.Error() }

// Inject sets the rule that is asked before every operation: what it returns,
// if not nil, is the operation's error, and nothing is done ([Partial] apart).
// A failed sync drops the file's unsynced pages for good, as a kernel does. The
// rule runs under a lock and must not use the Mem; nil removes it.
func (m *Mem) Inject(rule func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rule = rule
}

// CrashAt lets n more changing operations pass; the one after them crashes: its
// effect may happen, in part if it is a write, but it returns ErrCrashed, as
// does everything after it.
func (m *Mem) CrashAt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashAt = m.ops + n
}

// Crashed reports whether the crash has happened.
func (m *Mem) Crashed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// Ops returns how many changing operations there were.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// beginLocked counts an operation and decides its fate. At the operation that
// crashes it sets crashed and returns nil: the caller performs the effect, or
// part of it, and then returns ErrCrashed.
func (m *Mem) beginLocked(op Op) error {
	if m.crashed {
		return ErrCrashed
	}
	if op.Kind <= OpSyncDir {
		m.crashed = m.ops == m.crashAt
		m.ops++
	}
	if m.rule != nil && !m.crashed {
		return m.rule(op)
	}
	return nil
}

// endLocked is the result of an operation whose effect has happened.
func (m *Mem) endLocked() error {
	if m.crashed {
		return ErrCrashed
	}
	return nil
}

// Kill returns what is found when the process has died and the machine has
// not: everything written. The Mem itself stays as it is.
func (m *Mem) Kill() *Mem {
	return m.clone(
		func(*memDir) bool { return true },
		func(d *memDir) map[string]*memFile { return maps.Clone(d.now) },
		func(f *memFile) *memFile {
			c := &memFile{data: slices.Clone(f.data), stable: slices.Clone(f.stable), dirty: maps.Clone(f.dirty), lost: maps.Clone(f.lost)}
			return c
		},
		false)
}

// PowerCut returns what is found when the machine has lost power: what was
// synced, and of the rest what chance leaves: any subset of the unsynced pages,
// some torn between sectors; any length between the synced and the last; any
// subset of the unsynced changes of names. The Mem itself stays as it is.
func (m *Mem) PowerCut(rng *rand.Rand) *Mem {
	luck := []float64{0, 0.5, 0.5, 1}[rng.IntN(4)] // the extremes are cases of their own
	survives := func() bool { return rng.Float64() < luck }
	return m.clone(
		func(d *memDir) bool { return d.durable || survives() },
		func(d *memDir) map[string]*memFile {
			names := maps.Clone(d.stable)
			for _, c := range d.pending {
				if survives() {
					c.apply(names)
				}
			}
			return names
		},
		func(f *memFile) *memFile { return f.afterPowerCut(rng, survives) },
		true)
}

func (f *memFile) afterPowerCut(rng *rand.Rand, survives func() bool) *memFile {
	size := int64(len(f.stable))
	if grown := int64(len(f.data)) - size; grown != 0 && survives() {
		size = int64(len(f.data))
		switch {
		case rng.IntN(3) != 0:
		case grown > 0:
			size -= rng.Int64N(grown + 1)
		default: // a file that was cut: not shorter than it was cut to
			size += rng.Int64N(-grown + 1)
		}
	}
	data := fit(slices.Clone(f.stable), size)
	for _, page := range slices.Sorted(maps.Keys(f.dirty)) {
		switch {
		case !survives():
		case rng.IntN(4) == 0:
			copyPage(data, f.data, page, sectorSize*rng.Int64N(pageSize/sectorSize))
		default:
			copyPage(data, f.data, page, pageSize)
		}
	}
	return &memFile{data: data, stable: slices.Clone(data), dirty: map[int64]bool{}}
}

// clone builds another Mem from the directories, names and bytes that are kept.
// Directories and names are visited in order, so that a seed always says the same.
func (m *Mem) clone(keepDir func(*memDir) bool, names func(*memDir) map[string]*memFile, bytes func(*memFile) *memFile, settled bool) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.capacity = m.capacity
	files := map[*memFile]*memFile{}
	copyOf := func(f *memFile) *memFile {
		if files[f] == nil {
			files[f] = bytes(f)
		}
		return files[f]
	}
	for _, name := range slices.Sorted(maps.Keys(m.dirs)) {
		d := m.dirs[name]
		if name != "." && (c.dirs[path.Dir(name)] == nil || !keepDir(d)) {
			continue
		}
		into := newMemDir(settled || d.durable)
		c.dirs[name] = into
		kept := names(d)
		for _, base := range slices.Sorted(maps.Keys(kept)) {
			into.now[base] = copyOf(kept[base])
			c.used += int64(len(into.now[base].data))
		}
		if settled {
			into.stable = maps.Clone(into.now)
			continue
		}
		for base, f := range d.stable {
			into.stable[base] = copyOf(f)
		}
		for _, ch := range d.pending {
			if ch.file != nil {
				ch.file = copyOf(ch.file)
			}
			into.pending = append(into.pending, ch)
		}
	}
	return c
}
