package bitcask

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// A hintCache keeps pages of hints that were read and found right, up to a fixed
// number of bytes for the whole disk: most gets of sealed slots go to a few of
// them, and reading and checking a page again costs as much as a small record. What
// it holds is memory's, like a keydir: a page that goes bad on the disk is served
// from here until it is pushed out, and found by check and by whoever reads the
// hint itself.
//
// Pages are found by the sealedHint they were read for, which has a number that is
// never used again. One that is replaced, set aside, or gone with its slot is no
// longer asked for, so that its pages need not be looked for: others take their
// places.
//
// A page's place is one of a few that its number chooses (a set). What is in
// them decides by second chance who makes room. A set's lock is held for a search in a
// page, never across input or output.
type hintCache struct {
	sets []hintSet // none: nothing is kept
	last atomic.Uint64
}

// hintWays is how many pages a set has room for.
const hintWays = 8

// A hintSet is locked by mu.
type hintSet struct {
	mu     sync.Mutex
	hand   uint8 // where the next page that needs room looks first
	ways   [hintWays]hintWay
	pages  []byte // of hintWays pages, once the first is kept; without pointers
	hits   int64
	misses int64
}

// A hintWay says which page is in a place.
type hintWay struct {
	pageID  // hint is 0 if there is none
	entries uint16
	used    bool // since second chance last came by
}

// A pageID names a page of a hint.
type pageID struct {
	hint uint64 // sealedHint.number; 0: its pages are not kept
	page uint32
}

// newHintCache returns a cache of at most that many bytes of pages.
func newHintCache(sizeBytes int64) *hintCache {
	return &hintCache{sets: make([]hintSet, max(0, sizeBytes)/(hintWays*hintPageSize))}
}

// number returns a number that no sealedHint has had.
func (c *hintCache) number() uint64 { return c.last.Add(1) }

// set returns where a page may be, locked; nil if nothing is kept.
func (c *hintCache) set(id pageID) *hintSet {
	if len(c.sets) == 0 || id.hint == 0 {
		return nil
	}
	const mix = 0x9e37_79b9_7f4a_7c15 // 2^64 over the golden ratio
	at, _ := bits.Mul64((id.hint*mix^uint64(id.page))*mix, uint64(len(c.sets)))
	s := &c.sets[at]
	s.mu.Lock()
	return s
}

// search is hintPage.search in a page that is kept; known is false if it is not.
func (c *hintCache) search(dst []location, id pageID, hash uint32, first, last bool) (found []location, at bearing, known bool) {
	s := c.set(id)
	if s == nil {
		return dst, 0, false
	}
	defer s.mu.Unlock()
	for i := range s.ways {
		w := &s.ways[i]
		if w.pageID != id {
			continue
		}
		w.used = true
		s.hits++
		found, at = hintPage(s.pages[i*hintPageSize:][:int(w.entries)*hintEntrySize]).search(dst, hash, first, last)
		return found, at, true
	}
	s.misses++
	return dst, 0, false
}

// keep copies a page that was read and checked.
func (c *hintCache) keep(id pageID, p hintPage) {
	s := c.set(id)
	if s == nil {
		return
	}
	defer s.mu.Unlock()
	if s.pages == nil {
		s.pages = make([]byte, hintWays*hintPageSize)
	}
	for i := range s.ways {
		if s.ways[i].pageID == id {
			return // somebody else has read it meanwhile
		}
	}
	for s.ways[s.hand].used {
		s.ways[s.hand].used = false
		s.hand = (s.hand + 1) % hintWays
	}
	copy(s.pages[int(s.hand)*hintPageSize:], p)
	s.ways[s.hand] = hintWay{pageID: id, entries: uint16(p.len())}
	s.hand = (s.hand + 1) % hintWays
}

// hintCacheStats is what there is to tell of a hintCache.
type hintCacheStats struct{ hits, misses, sizeBytes int64 }

func (c *hintCache) stats() (st hintCacheStats) {
	for i := range c.sets {
		s := &c.sets[i]
		s.mu.Lock()
		st.hits += s.hits
		st.misses += s.misses
		st.sizeBytes += int64(len(s.pages))
		s.mu.Unlock()
	}
	return st
}
