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

// A hintReader looks hashes up in one hint: in pages that are kept, and in its file,
// which is not opened before a page is not.
type hintReader struct {
	header *hintHeader
	number uint64 // its pages' in kept
	kept   *hintCache
	files  *handles
	handle *handle
	file   vfs.File            // handle's, once it is needed
	buf    *[hintPageSize]byte // of pagePool, once it is needed
}

// lookup appends to dst the locations listed under hash: one page is looked into where
// hashes are evenly spread.
func (r *hintReader) lookup(dst []location, hash uint32) ([]location, error) {
	h := r.header
	lo, hi := 0, h.pages()-1
	for tries := 0; lo <= hi; tries++ {
		guess := (lo + hi) / 2
		if tries < 4 { // then halve: the hashes are not spread as they should be
			guess = min(max(int(uint64(hash)*uint64(h.records)>>32-(hintFullPage-hintFirstPage))/hintFullPage, lo), hi)
		}
		found, at, err := r.search(dst, guess, hash)
		switch {
		case err != nil:
			return dst, err
		case at == ahead:
			hi = guess - 1
		case at == behind:
			lo = guess + 1
		case at == atEdge:
			return r.collect(dst, hash, guess)
		default:
			return found, nil
		}
	}
	return dst, nil
}

// search is hintPage.search in one page.
func (r *hintReader) search(dst []location, page int, hash uint32) ([]location, bearing, error) {
	id, first, last := pageID{r.number, uint32(page)}, page == 0, page == r.header.pages()-1
	if found, at, ok := r.kept.search(dst, id, hash, first, last); ok {
		return found, at, nil
	}
	p, err := r.read(page)
	if err != nil {
		return dst, 0, err
	}
	r.kept.keep(id, p)
	found, at := p.search(dst, hash, first, last)
	return found, at, nil
}

// read reads and checks a page, which is valid until the next is read.
func (r *hintReader) read(page int) (hintPage, error) {
	if r.buf == nil {
		r.buf = pagePool.Get().(*[hintPageSize]byte)
	}
	if r.file == nil {
		var err error
		if r.file, err = r.files.acquire(r.handle); err != nil {
			return nil, err
		}
	}
	return readHintPage(r.file, r.header, page, r.buf)
}

// done gives back what was used.
func (r *hintReader) done() {
	if r.file != nil {
		r.files.release(r.handle)
	}
	if r.buf != nil {
		pagePool.Put(r.buf)
	}
}

// collect appends the entries with that hash around a page that must hold it, and
// in which it may go on over an edge: it is rare and reads the file.
func (r *hintReader) collect(dst []location, hash uint32, at int) ([]location, error) {
	page, err := r.read(at)
	for err == nil && at > 0 && page.len() > 0 && page.hash(0) == hash {
		at--
		page, err = r.read(at)
	}
	for err == nil {
		i := sort.Search(page.len(), func(i int) bool { return page.hash(i) >= hash })
		for ; i < page.len() && page.hash(i) == hash; i++ {
			dst = append(dst, page.at(i))
		}
		if i < page.len() || at == r.header.pages()-1 {
			return dst, nil
		}
		at++
		page, err = r.read(at)
	}
	return dst, err
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
