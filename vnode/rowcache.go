package vnode

import (
	"sync"

	"github.com/mayflydb/mayfly/ring"
)

// DefaultRowCacheBytes bounds the index rows a node keeps in memory.
const DefaultRowCacheBytes = 64 << 20

type rowKey struct {
	partition ring.Partition
	key       string // canonical
}

// A rowCache holds the index rows of a node's vnodes that are in use, and those
// used last, within a bound of bytes. Rows that still change are forgotten only
// when no packed one is left: a reader that passes through old seconds must not
// push the newest ones out.
//
// The bound is exceeded by what is in use at once and by nothing else.
type rowCache struct {
	maxBytes int64

	mu        sync.Mutex
	rows      map[rowKey]*row
	changing  list
	packed    list
	usedBytes int64
}

// A list is a doubly linked one, the row used last in front.
type list struct {
	newest, oldest *row
	len            int
}

func newRowCache(maxBytes int64) *rowCache {
	return &rowCache{maxBytes: maxBytes, rows: make(map[rowKey]*row)}
}

// acquire returns the row of a key. If it was not there, the caller must load
// it and close loaded. In any case the caller releases it.
func (c *rowCache) acquire(p ring.Partition, key []byte) (r *row, load bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r = c.rows[rowKey{p, string(key)}]
	if r == nil {
		r = &row{key: rowKey{p, string(key)}, loaded: make(chan struct{})}
		c.rows[r.key] = r
		c.changing.push(r)
		load = true
	} else {
		r.list.remove(r)
		r.list.push(r)
	}
	r.users++
	return r, load
}

// release ends a use of a row, and forgets what there is no room for.
func (c *rowCache) release(r *row) {
	cost, changing := r.estimate()
	c.mu.Lock()
	defer c.mu.Unlock()
	r.users--
	c.settleLocked(r, cost, changing)
	c.shrinkLocked()
}

// settleLocked brings the accounts of a row up to date.
func (c *rowCache) settleLocked(r *row, cost int64, changing bool) {
	if r.list == nil {
		return // forgotten
	}
	c.usedBytes += cost - r.cost
	r.cost = cost
	to := &c.packed
	if changing {
		to = &c.changing
	}
	if r.list != to {
		r.list.remove(r)
		to.push(r)
	}
}

func (c *rowCache) shrinkLocked() {
	for _, l := range []*list{&c.packed, &c.changing} {
		for r := l.oldest; r != nil && c.usedBytes > c.maxBytes; {
			next := r.newer
			if r.users == 0 {
				c.forgetLocked(r)
			}
			r = next
		}
	}
}

func (c *rowCache) forgetLocked(r *row) {
	if r.list == nil {
		return
	}
	r.list.remove(r)
	r.list = nil
	c.usedBytes -= r.cost
	delete(c.rows, r.key)
}

// forget drops a row that could not be read. Those who wait for it learn so from
// the row itself; the next one to ask reads again.
func (c *rowCache) forget(r *row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(r)
}

// tidy packs the rows that are not in use and that settled says will not change
// soon. It forgets damaged ones, to be read again: they may have been repaired.
func (c *rowCache) tidy(settled func(key string) bool) {
	for _, r := range c.idle() {
		switch {
		case r.isDamaged():
			c.release(r)
			c.forgetIdle(r)
		case settled(r.key.key):
			r.pack()
			c.release(r)
		default:
			c.release(r)
		}
	}
}

// idle returns the changing rows nobody uses, in use by the caller now.
func (c *rowCache) idle() []*row {
	c.mu.Lock()
	defer c.mu.Unlock()
	var idle []*row
	for r := c.changing.oldest; r != nil; r = r.newer {
		if r.users == 0 {
			r.users++
			idle = append(idle, r)
		}
	}
	return idle
}

// forgetIdle drops a row unless somebody uses it.
func (c *rowCache) forgetIdle(r *row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.users == 0 {
		c.forgetLocked(r)
	}
}

func (c *rowCache) size() (changing, packed int, usedBytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changing.len, c.packed.len, c.usedBytes
}

func (l *list) push(r *row) {
	r.list, r.newer, r.older = l, nil, l.newest
	if l.newest != nil {
		l.newest.newer = r
	} else {
		l.oldest = r
	}
	l.newest = r
	l.len++
}

func (l *list) remove(r *row) {
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		l.newest = r.older
	}
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		l.oldest = r.newer
	}
	r.newer, r.older = nil, nil
	l.len--
}
