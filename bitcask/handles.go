package bitcask

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A handle is a file that is opened when it is needed and closed when too many
// are open. Its zero value but for the name is a closed one.
type handle struct {
	state atomic.Int64 // 0: closed; otherwise open, with one user less than that
	file  vfs.File     // set while state is 0, by the one that opens or closes it
	used  atomic.Bool  // since eviction last came by
	gone  atomic.Bool  // dropped: it may not be opened again
	write bool         // opened for writing too
	name  string

	next, prev *handle // neighbours among the open; guarded by handles.mu
}

// errGone says that a file was dropped with its expired slot.
var errGone = errors.New("bitcask: the file was dropped")

// handles opens files on demand and keeps at most max of them open that are
// not in use; those in use are as many as there are calls at work. Using an open
// file takes no lock: a handle's state counts its users, and it is closed only
// when there are none. Which one that is, second chance decides: the open
// handles form a ring, and what was used since the last round stays.
type handles struct {
	fs  vfs.FS
	max int64

	open atomic.Int64 // files open now

	mu     sync.Mutex
	opened uint64 // since the start
	closed uint64
	hand   handle // in the ring; where eviction goes on
}

func newHandles(fsys vfs.FS, limit int) *handles {
	c := &handles{fs: fsys, max: int64(limit)}
	c.hand.prev, c.hand.next = &c.hand, &c.hand
	return c
}

// acquire returns h's open file. Each success is followed by one release.
func (c *handles) acquire(h *handle) (vfs.File, error) {
	if h.gone.Load() {
		return nil, errGone
	}
	if h.use() {
		return h.file, nil
	}
	return c.openNow(h)
}

// use adds a user if the file is open.
func (h *handle) use() bool {
	for {
		n := h.state.Load()
		if n == 0 {
			return false
		}
		if h.state.CompareAndSwap(n, n+1) {
			if !h.used.Load() {
				h.used.Store(true)
			}
			return true
		}
	}
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
	switch {
	case h.gone.Load():
		c.mu.Unlock()
		_ = f.Close()
		return nil, errGone
	case h.use():
		c.mu.Unlock()
		return h.file, f.Close()
	}
	h.file = f
	h.used.Store(true)
	h.linkBefore(&c.hand)
	c.open.Add(1)
	c.opened++
	h.state.Store(2)
	surplus := c.evictLocked(c.max, false)
	c.mu.Unlock()
	closeAll(surplus)
	return f, nil
}

// release ends one use of h's file.
func (c *handles) release(h *handle) {
	n := h.state.Add(-1)
	if n < 1 {
		panic("bitcask: BUG: a file is released twice: " + h.name)
	}
	if n == 1 && (h.gone.Load() || c.open.Load() > c.max) {
		c.tidy(h)
	}
}

// tidy closes h if it was dropped and is not in use, and others if too many are
// open.
func (c *handles) tidy(h *handle) {
	c.mu.Lock()
	surplus := c.evictLocked(c.max, false)
	if h.gone.Load() {
		surplus = c.closeLocked(h, surplus)
	}
	c.mu.Unlock()
	closeAll(surplus)
}

// evictLocked takes files that nobody uses out of the ring until no more than
// limit are open, or all that may be taken are: with force also those used lately.
func (c *handles) evictLocked(limit int64, force bool) (list []vfs.File) {
	for left := 2 * c.open.Load(); left > 0 && c.open.Load() > limit; left-- {
		h := c.hand.next
		if h == &c.hand {
			break
		}
		c.hand.unlink()
		c.hand.linkBefore(h.next)
		if force || !h.used.Swap(false) {
			list = c.closeLocked(h, list)
		}
	}
	return list
}

// closeLocked takes h's file away, unless it is closed or in use.
func (c *handles) closeLocked(h *handle, list []vfs.File) []vfs.File {
	if !h.state.CompareAndSwap(1, 0) {
		return list
	}
	h.unlink()
	list = append(list, h.file)
	h.file = nil
	c.open.Add(-1)
	c.closed++
	return list
}

// drop closes h's file as soon as nobody uses it and never opens it again, so
// that unlinking it frees its space.
func (c *handles) drop(h *handle) {
	h.gone.Store(true) // from here on whoever is the last to release it closes it
	c.tidy(h)
}

// closeIdle closes what nobody uses.
func (c *handles) closeIdle() {
	c.mu.Lock()
	surplus := c.evictLocked(0, true)
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
	return int(c.open.Load()), c.opened, c.closed
}

func (h *handle) unlink() {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
}

func (h *handle) linkBefore(at *handle) {
	h.prev, h.next = at.prev, at
	h.prev.next, at.prev = h, h
}
