package bitcask

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Dumped is a record as it lies on the disk.
type Dumped struct {
	File   string // relative to the data directory
	Offset int64  // of its frame, bytes
	Record object.Record
}

// Dump yields every record of a data directory (dead ones too: lesser versions,
// and what is below a horizon), file by file in the order they were appended;
// only those of one file, relative to the directory, if file is not empty. A
// record is valid until the next step unless it is retained. What is no record
// is yielded as an error that names file and offset, and the walk goes on.
// Nothing is changed; the directory may be in use.
func Dump(fsys vfs.FS, file string) iter.Seq2[Dumped, error] {
	return func(yield func(Dumped, error) bool) {
		files := []string{file}
		if file == "" {
			var err error
			if files, err = segmentFiles(fsys); err != nil {
				yield(Dumped{}, err)
				return
			}
		}
		for _, name := range files {
			if !dumpFile(fsys, name, yield) {
				return
			}
		}
	}
}

// segmentFiles returns the paths of all segments, in order.
func segmentFiles(fsys vfs.FS) ([]string, error) {
	parts, err := partitionsOn(fsys)
	if err != nil {
		return nil, err
	}
	buckets, err := bucketsOn(fsys)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, b := range buckets {
		for _, p := range parts {
			entries, err := fsys.ReadDir(laneDir(b, p))
			if err != nil && !vfs.IsNotExist(err) {
				return nil, err
			}
			var ids []segID
			for _, e := range entries {
				stem, ok := strings.CutSuffix(e.Name, segSuffix)
				if slot, seq, good := parseStem(stem); ok && good && e.Regular {
					ids = append(ids, segID{laneID{b, slot}, seq})
				}
			}
			slices.SortFunc(ids, compareSegs)
			for _, id := range ids {
				files = append(files, segName(id, p))
			}
		}
	}
	return files, nil
}

// dumpFile yields one segment; it reports whether to go on.
func dumpFile(fsys vfs.FS, name string, yield func(Dumped, error) bool) bool {
	fault := func(offset int64, what string) bool {
		return yield(Dumped{File: name, Offset: offset}, fmt.Errorf("%s: offset %d: %s", fsys.Path(name), offset, what))
	}
	f, err := fsys.Open(name)
	if err != nil {
		return yield(Dumped{File: name}, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return yield(Dumped{File: name}, err)
	}
	sc := &scanner{f: f, end: size}
	h, err := readSegHeader(f, size)
	switch {
	case err == nil:
		sc.pos, sc.generation, sc.typ, sc.name = int64(h.size()), h.generation, h.bucket.Type, h.bucket.Name
	case err == errShortHeader:
		return true // nothing was ever in it
	case !fault(0, err.Error()):
		return false
	}
	for {
		st, ok := sc.next()
		if !ok {
			return true
		}
		if st.kind == gapPart {
			continue
		}
		if st.kind != wholeRecord {
			if !fault(st.offset, st.what) {
				return false
			}
			continue
		}
		if !dumpRecord(f, name, &st, fault, yield) {
			return false
		}
	}
}

func dumpRecord(f vfs.File, name string, st *stretch, fault func(int64, string) bool, yield func(Dumped, error) bool) bool {
	buf := object.NewBuffer(st.header.RecordSize())
	if err := readFull(f, buf.Bytes(), st.offset+frameSize); err != nil {
		buf.Release()
		return fault(st.offset, err.Error())
	}
	rec, err := object.ParseBuffer(buf)
	if err != nil {
		buf.Release()
		return fault(st.offset, err.Error())
	}
	defer rec.Release()
	return yield(Dumped{File: name, Offset: st.offset, Record: rec}, nil)
}
