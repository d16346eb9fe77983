package bitcask

import (
	"io"
	"sort"
	"sync"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// pagePool holds buffers of one hint page each.
var pagePool = sync.Pool{New: func() any { return new([hintPageSize]byte) }}

// readHintHeader opens a hint: its header is right and the file as long as it says.
func readHintHeader(f vfs.File) (hintHeader, error) {
	var b [hintHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); err == io.EOF {
		return hintHeader{}, badFormat(0, "the hint ends inside its header")
	} else if err != nil {
		return hintHeader{}, err
	}
	h, err := parseHintHeader(b[:])
	if err != nil {
		return hintHeader{}, err
	}
	size, err := f.Size()
	if err != nil {
		return hintHeader{}, err
	}
	if size != h.size() {
		return hintHeader{}, badFormat(min(size, h.size()), "the hint has %d bytes, %d are right", size, h.size())
	}
	return h, nil
}

// readHintPage reads one page into buf and checks it.
func readHintPage(f vfs.File, h *hintHeader, i int, buf *[hintPageSize]byte) (hintPage, error) {
	offset, entries := h.page(i)
	n := hintPageHead + entries*hintEntrySize
	switch {
	case i == h.pages()-1:
	case i == 0:
		n = hintPageSize - hintHeaderSize
	default:
		n = hintPageSize
	}
	if _, err := f.ReadAt(buf[:n], offset); err == io.EOF {
		return nil, badFormat(offset, "the hint ends inside a page")
	} else if err != nil {
		return nil, err
	}
	page, err := parseHintPage(buf[:n], entries)
	if fault, ok := err.(*formatError); ok {
		fault.offset += offset
	}
	return page, err
}

// readHintMinutes reads the footer, and sets h.plain.
func readHintMinutes(f vfs.File, h *hintHeader) (minutes, error) {
	b := make([]byte, h.footerSize())
	if _, err := f.ReadAt(b, h.minutesOffset()); err == io.EOF {
		return nil, badFormat(h.minutesOffset(), "the hint ends inside its footer")
	} else if err != nil {
		return nil, err
	}
	m, err := parseHintFooter(h, b)
	if fault, ok := err.(*formatError); ok {
		fault.offset += h.minutesOffset()
	}
	return m, err
}

// lookupHint appends to dst the locations listed under hash: one page read where
// hashes are evenly spread.
func lookupHint(dst []location, f vfs.File, h *hintHeader, hash uint32) ([]location, error) {
	buf := pagePool.Get().(*[hintPageSize]byte)
	defer pagePool.Put(buf)
	pages := h.pages()
	lo, hi := 0, pages-1
	for tries := 0; lo <= hi; tries++ {
		guess := (lo + hi) / 2
		if tries < 4 { // then halve: the hashes are not spread as they should be
			guess = min(max(int(uint64(hash)*uint64(h.records)>>32-(hintFullPage-hintFirstPage))/hintFullPage, lo), hi)
		}
		page, err := readHintPage(f, h, guess, buf)
		if err != nil {
			return dst, err
		}
		switch {
		case page.len() > 0 && hash < page.hash(0):
			hi = guess - 1
		case page.len() == 0 || hash > page.hash(page.len()-1):
			lo = guess + 1
		default:
			return collectHint(dst, f, h, hash, guess, page, buf)
		}
	}
	return dst, nil
}

// collectHint appends the entries with that hash around a page that must hold it.
// Equal hashes may go on over its edges.
func collectHint(dst []location, f vfs.File, h *hintHeader, hash uint32, at int, page hintPage, buf *[hintPageSize]byte) ([]location, error) {
	for at > 0 && page.hash(0) == hash {
		before, err := readHintPage(f, h, at-1, buf)
		if err != nil {
			return dst, err
		}
		at, page = at-1, before
	}
	for {
		i := sort.Search(page.len(), func(i int) bool { return page.hash(i) >= hash })
		for ; i < page.len() && page.hash(i) == hash; i++ {
			dst = append(dst, page.at(i))
		}
		if i < page.len() || at == h.pages()-1 {
			return dst, nil
		}
		var err error
		if at, page, err = nextHintPage(f, h, at, buf); err != nil {
			return dst, err
		}
	}
}

func nextHintPage(f vfs.File, h *hintHeader, at int, buf *[hintPageSize]byte) (int, hintPage, error) {
	page, err := readHintPage(f, h, at+1, buf)
	return at + 1, page, err
}

// loadHint returns all entries of a hint in their order.
func loadHint(f vfs.File, h *hintHeader) ([]location, error) {
	buf := pagePool.Get().(*[hintPageSize]byte)
	defer pagePool.Put(buf)
	all := make([]location, 0, h.records) // bounded by the segment's length, which was checked
	for i := range h.pages() {
		page, err := readHintPage(f, h, i, buf)
		if err != nil {
			return all, err
		}
		for j := range page.len() {
			all = append(all, page.at(j))
		}
	}
	return all, nil
}
