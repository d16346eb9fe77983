package bitcask

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// lookupHint looks a hash up in a file: without a cache, in one that has room for
// a page and is empty, and in the same again.
func lookupHint(t testing.TB, f vfs.File, h *hintHeader, hash uint32) ([]location, error) {
	t.Helper()
	look := func(kept *hintCache) ([]location, error) {
		r := hintReader{header: h, number: 1, kept: kept, file: f}
		found, err := r.lookup(nil, hash)
		if r.buf != nil {
			pagePool.Put(r.buf)
		}
		return found, err
	}
	found, err := look(newHintCache(0))
	kept := newHintCache(hintWays * hintPageSize)
	for range 2 {
		if again, errAgain := look(kept); !slices.Equal(found, again) || (err == nil) != (errAgain == nil) {
			t.Fatalf("hash %x: found %v, %v; with kept pages %v, %v", hash, found, err, again, errAgain)
		}
	}
	return found, err
}

// pageOf makes up the page with that id: what is in it tells whose it is.
func pageOf(id pageID) hintPage {
	entries := make([]location, 0, 3)
	for i := range uint32(3) {
		entries = append(entries, location{hash: 10 * (i + 1), offset8: uint32(id.hint), size8: 1 + id.page, digest: i})
	}
	b := appendHintPage(nil, entries, true, true)
	return hintPage(b[hintPageHead:])
}

// A cache keeps no more than it may, and gives back what was kept.
func TestHintCache(t *testing.T) {
	for _, sets := range []int64{0, 1, 5} {
		t.Run(fmt.Sprint(sets, " sets"), func(t *testing.T) {
			c := newHintCache(sets*hintWays*hintPageSize + hintPageSize) // the rest is too little for a set
			rng := rand.New(rand.NewPCG(1, uint64(sets)))
			var hits, misses int64
			for range 10_000 {
				id := pageID{1 + rng.Uint64N(8), rng.Uint32N(8)}
				found, at, known := c.search(nil, id, 20, true, true)
				if !known {
					misses++
					c.keep(id, pageOf(id))
					continue
				}
				hits++
				if want := (location{20, uint32(id.hint), 1 + id.page, 1}); at != inside || !slices.Equal(found, []location{want}) {
					t.Fatalf("%v: found %v, %d, want %v", id, found, at, want)
				}
			}
			st := c.stats()
			if st.sizeBytes > sets*hintWays*hintPageSize || sets > 0 && (st.hits != hits || st.misses != misses || hits == 0 || misses == 0) {
				t.Errorf("%+v after %d hits and %d misses", st, hits, misses)
			}
			if sets == 0 && hits > 0 {
				t.Error("a cache of nothing keeps pages")
			}
		})
	}
}

// Who was asked for again stays, who was not makes room; a page is in one place.
func TestHintCacheSecondChance(t *testing.T) {
	c := newHintCache(hintWays * hintPageSize)
	known := func(page uint32) bool {
		_, _, known := c.search(nil, pageID{1, page}, 20, true, true)
		return known
	}
	keep := func(page uint32) { c.keep(pageID{1, page}, pageOf(pageID{1, page})) }
	keep(0)
	for page := uint32(1); page < 100; page++ {
		keep(page)
		keep(page)
		if !known(0) {
			t.Fatalf("page 0 made room for page %d", page)
		}
	}
	for page := uint32(1); page < 100-hintWays; page++ {
		if known(page) {
			t.Fatalf("page %d is still there", page)
		}
	}
	c.keep(pageID{}, pageOf(pageID{}))
	if _, _, known := c.search(nil, pageID{}, 20, true, true); known {
		t.Error("a page of no hint is kept")
	}
}

func TestHintCacheConcurrently(t *testing.T) {
	c := newHintCache(2 * hintWays * hintPageSize)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(g)))
			for range 5000 {
				id := pageID{1 + rng.Uint64N(3), rng.Uint32N(20)}
				found, _, known := c.search(nil, id, 30, true, true)
				if known && (len(found) != 1 || found[0].offset8 != uint32(id.hint) || found[0].size8 != 1+id.page) {
					t.Errorf("%v: found %v", id, found)
					return
				}
				if !known {
					c.keep(id, pageOf(id))
				}
			}
		})
	}
	wg.Wait()
}

// A page that goes bad on the disk after it was read is served from memory. It is found
// by check, and costs a scan once it is read anew; a hint made anew is asked with its
// own pages.
func TestHintDamagedBehindCache(t *testing.T) {
	for _, pushedOut := range []bool{false, true} {
		t.Run(fmt.Sprint("pushed out ", pushedOut), func(t *testing.T) {
			fsys := vfs.NewMem()
			d, s := openAll(t, fsys, testConfig())
			first, second := make1(t, events, t0, "a", 1, []byte("1")), make1(t, events, t0, "b", 1, []byte("2"))
			getBoth := func() { mustGet(t, s, first); mustGet(t, s, second) }
			mustPut(t, s, first)
			mustPut(t, s, second)
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
			getBoth()
			name := hintName(segmentsOf(t, fsys)[0])
			edit(t, fsys, name, func(b []byte) []byte { b[hintHeaderSize+hintPageHead+3] ^= 1; return b })
			getBoth()
			if st := d.Stats(); st.Damage != 0 || st.HintPageHits != 3 || st.HintPageMisses != 1 || st.HintCacheBytes == 0 {
				t.Errorf("%d damaged, %d pages found, %d not, %d bytes", st.Damage, st.HintPageHits, st.HintPageMisses, st.HintCacheBytes)
			}
			if !pushedOut {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				if found, _ := checkAll(t, fsys); len(found) == 0 || found[0].File != name {
					t.Errorf("check found %v", found)
				}
				return
			}
			for i := range d.hints.sets { // others take its place
				d.hints.sets[i].ways = [hintWays]hintWay{}
			}
			d.handles.closeIdle()
			getBoth()
			if st := d.Stats(); st.Damage != 1 || st.OpenSegments != 1 {
				t.Errorf("%d damaged, %d scanned", st.Damage, st.OpenSegments)
			}
			if _, err := s.SealDue(t0 + 2000); err != nil {
				t.Fatal(err)
			}
			misses := d.Stats().HintPageMisses
			getBoth()
			if st := d.Stats(); st.OpenSegments != 0 || st.HintPageMisses != misses+1 {
				t.Errorf("%d open, %d pages read of the new hint, want 1", st.OpenSegments, st.HintPageMisses-misses)
			}
		})
	}
}
