package bitcask

import (
	"errors"
	"sync"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A handle is a file that is opened when it is needed and closed when too many
// are open. The zero value of its list fields means it is in no list.
type handle struct {
	name  string
	write bool // opened for writing too

	// Guarded by handles.mu.
	file       vfs.File // nil while closed
	users      int
	gone       bool    // dropped: it may not be opened again
	prev, next *handle // neighbours among the open and unused, the longest unused first
}

// errGone says that a file was dropped with its expired slot.
var errGone = errors.New("bitcask: the file was dropped")

// handles opens files on demand and keeps at most max of them open that are
// not in use; those in use are as many as there are calls at work.
type handles struct {
	fs  vfs.FS
	max int

	mu     sync.Mutex
	open   int    // files open now
	opened uint64 // since the start
	closed uint64
	idle   handle // head of the ring of open and unused handles
}

func newHandles(fsys vfs.FS, limit int) *handles {
	c := &handles{fs: fsys, max: limit}
	c.idle.prev, c.idle.next = &c.idle, &c.idle
	return c
}

// acquire returns h's open file. Each success is followed by one release.
func (c *handles) acquire(h *handle) (vfs.File, error) {
	c.mu.Lock()
	if h.gone {
		c.mu.Unlock()
		return nil, errGone
	}
	if h.file != nil {
		f := c.useLocked(h)
		c.mu.Unlock()
		return f, nil
	}
	c.mu.Unlock()
	return c.openNow(h)
}

func (c *handles) useLocked(h *handle) vfs.File {
	if h.users == 0 {
		h.unlink()
	}
	h.users++
	return h.file
}

// openNow opens the file without the lock: two callers may do so at once, and
// the second one's file is closed again.
func (c *handles) openNow(h *handle) (vfs.File, error) {
	var f vfs.File
	var err error
	if h.write {
		f, err = c.fs.OpenReadWrite(h.name)
	} else {
		f, err = c.fs.Open(h.name)
	}
	if err != nil {
		return nil, err
	}
	return c.adopt(h, f)
}

// adopt makes f, just opened or created, h's file, in use by the caller.
func (c *handles) adopt(h *handle, f vfs.File) (vfs.File, error) {
	c.mu.Lock()
	if h.gone || h.file != nil {
		gone := h.gone
		var other vfs.File
		if !gone {
			other = c.useLocked(h)
		}
		c.mu.Unlock()
		err := f.Close()
		if gone {
			return nil, errGone
		}
		return other, err
	}
	h.file, h.users = f, 1
	c.open++
	c.opened++
	surplus := c.surplusLocked(nil)
	c.mu.Unlock()
	closeAll(surplus)
	return f, nil
}

// release ends one use of h's file.
func (c *handles) release(h *handle) {
	c.mu.Lock()
	h.users--
	if h.users > 0 {
		c.mu.Unlock()
		return
	}
	if h.users < 0 {
		panic("bitcask: BUG: a file is released twice: " + h.name)
	}
	var surplus []vfs.File
	if h.gone {
		surplus = c.closeLocked(h, nil)
	} else {
		h.linkBefore(&c.idle)
		surplus = c.surplusLocked(nil)
	}
	c.mu.Unlock()
	closeAll(surplus)
}

// surplusLocked takes files out of the cache, the longest unused first, until no
// more than max are open.
func (c *handles) surplusLocked(list []vfs.File) []vfs.File {
	for c.open > c.max && c.idle.next != &c.idle {
		h := c.idle.next
		h.unlink()
		list = c.closeLocked(h, list)
	}
	return list
}

func (c *handles) closeLocked(h *handle, list []vfs.File) []vfs.File {
	if h.file != nil {
		list = append(list, h.file)
		h.file = nil
		c.open--
		c.closed++
	}
	return list
}

// drop closes h's file as soon as nobody uses it and never opens it again, so
// that unlinking it frees its space.
func (c *handles) drop(h *handle) {
	c.mu.Lock()
	h.gone = true
	var surplus []vfs.File
	if h.users == 0 && h.file != nil {
		h.unlink()
		surplus = c.closeLocked(h, nil)
	}
	c.mu.Unlock()
	closeAll(surplus)
}

// closeIdle closes what nobody uses.
func (c *handles) closeIdle() {
	c.mu.Lock()
	limit := c.max
	c.max = 0
	surplus := c.surplusLocked(nil)
	c.max = limit
	c.mu.Unlock()
	closeAll(surplus)
}

// closeAll closes files that are synced, or whose loss is accounted for
// elsewhere: an error has nothing more to say.
func closeAll(files []vfs.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// counts returns how many files are open, and how many were opened and closed.
func (c *handles) counts() (open int, opened, closed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.opened, c.closed
}

func (h *handle) unlink() {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
}

func (h *handle) linkBefore(at *handle) {
	h.prev, h.next = at.prev, at
	h.prev.next, at.prev = h, h
}
