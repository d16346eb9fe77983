package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Prototypes of hints have pages like the engine's: 4 bytes of CRC-32C, 4 of
// others, entries of 15 bytes that begin with a hash, ascending.
const (
	pageSize     = 4096
	pageHead     = 8
	entrySize    = 15
	entriesAPage = (pageSize - pageHead) / entrySize
)

// hintFiles are prototypes of hints, open and mapped at once.
type hintFiles struct {
	dir    string
	files  []*os.File
	mapped [][]byte
	hashes [][]uint32 // that are in them, ascending
}

func (r *runner) newHintFiles(files, keys int) (*hintFiles, error) {
	h := &hintFiles{dir: r.fresh()}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range files {
		hashes := make([]uint32, keys)
		for j := range hashes {
			hashes[j] = rng.Uint32()
		}
		slices.Sort(hashes)
		var b []byte
		for page := range slices.Chunk(hashes, entriesAPage) {
			start := len(b)
			b = append(b, make([]byte, pageSize)...)
			for j, hash := range page {
				binary.LittleEndian.PutUint32(b[start+pageHead+j*entrySize:], hash)
			}
			binary.LittleEndian.PutUint32(b[start+4:], uint32(len(page)))
			binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
		}
		name := filepath.Join(h.dir, fmt.Sprint(i))
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return nil, err
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, len(b), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil, err
		}
		h.files, h.mapped, h.hashes = append(h.files, f), append(h.mapped, m), append(h.hashes, hashes)
	}
	return h, nil
}

func (h *hintFiles) close() error {
	var faults []error
	for i, f := range h.files {
		faults = append(faults, unix.Munmap(h.mapped[i]), f.Close())
	}
	return errors.Join(append(faults, os.RemoveAll(h.dir))...)
}

// A pageReader returns a page of a file; it may use buf.
type pageReader func(file, page int, buf *[pageSize]byte) ([]byte, error)

func (h *hintFiles) pread(file, page int, buf *[pageSize]byte) ([]byte, error) {
	_, err := unix.Pread(int(h.files[file].Fd()), buf[:], int64(page)*pageSize)
	return buf[:], err
}

func (h *hintFiles) inMap(file, page int, _ *[pageSize]byte) ([]byte, error) {
	return h.mapped[file][page*pageSize:][:pageSize], nil
}

var pageBuffers = sync.Pool{New: func() any { return new([pageSize]byte) }}

var (
	errBadPage = errors.New("a page of a hint is damaged")
	errNoEntry = errors.New("a hash is not in its hint")
)

// find looks a hash up as the engine does: by interpolation, then in the page.
func (h *hintFiles) find(file int, hash uint32, check bool, read pageReader) error {
	buf := pageBuffers.Get().(*[pageSize]byte)
	defer pageBuffers.Put(buf)
	pages := len(h.mapped[file]) / pageSize
	lo, hi := 0, pages-1
	at := int(uint64(hash) * uint64(pages) >> 32)
	for lo <= hi {
		at = min(max(at, lo), hi)
		b, err := read(file, at, buf)
		if err != nil {
			return err
		}
		if check && crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) {
			return errBadPage
		}
		n := int(binary.LittleEndian.Uint32(b[4:]))
		entry := func(i int) uint32 { return binary.LittleEndian.Uint32(b[pageHead+i*entrySize:]) }
		switch {
		case hash < entry(0):
			hi = at - 1
			at--
		case hash > entry(n-1):
			lo = at + 1
			at++
		default:
			i, j := 0, n
			for i < j {
				if mid := (i + j) / 2; entry(mid) < hash {
					i = mid + 1
				} else {
					j = mid
				}
			}
			if entry(i) != hash {
				return errNoEntry
			}
			return nil
		}
	}
	return errNoEntry
}

// lookups measures the finding of random hashes.
func (h *hintFiles) lookups(readers int, ops int64, check bool, read pageReader) (Sample, error) {
	rngs := make([]*rand.Rand, readers)
	for g := range rngs {
		rngs[g] = rand.New(rand.NewPCG(uint64(g), 9))
	}
	return measure(readers, ops, entrySize, func(g int, _ int64) error {
		file := rngs[g].IntN(len(h.files))
		return h.find(file, h.hashes[file][rngs[g].IntN(len(h.hashes[file]))], check, read)
	})
}

// runHints compares ways to read the page of a hint that a lookup needs, of 5
// million keys in 64 hints.
func runHints(ctx context.Context, r *runner) error {
	r.steps(5 * r.Pairs)
	h, err := r.newHintFiles(64, int(r.scale(78_125)))
	if err != nil {
		return err
	}
	defer h.close() //nolint:errcheck // a prototype's files
	ops := r.scale(200_000)
	pread := func(readers int, ops int64) side {
		return side{"pread, page checked", func() (Sample, error) { return h.lookups(readers, ops, true, h.pread) }}
	}
	for _, readers := range []int{1, 8} {
		err := errors.Join(
			r.compare(ctx, "warm, "+plural(readers, "reader"), 0, pread(readers, ops),
				side{"mapped, page checked", func() (Sample, error) { return h.lookups(readers, ops, true, h.inMap) }}),
			r.compare(ctx, "warm, "+plural(readers, "reader"), 0, pread(readers, ops),
				side{"mapped, not checked", func() (Sample, error) { return h.lookups(readers, ops, false, h.inMap) }}))
		if err != nil {
			return err
		}
	}
	cold := func(s side) side {
		return side{s.name, func() (Sample, error) {
			for _, m := range h.mapped { // a mapped page stays in the cache
				if err := unix.Madvise(m, unix.MADV_DONTNEED); err != nil {
					return Sample{}, err
				}
			}
			return forgetThen(h.dir, s.run)
		}}
	}
	few := r.scale(1000)
	return r.compare(ctx, "cold, 1 reader", 0, cold(pread(1, few)),
		cold(side{"mapped, page checked", func() (Sample, error) { return h.lookups(1, few, true, h.inMap) }}))
}
