package vfs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Blocks behind a file's end are there once allocated, and are given back by a
// truncation to the length it has.
func TestAllocateBehindTheEnd(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	f, err := d.Create("f")
	must(t, err)
	defer f.Close()
	write(t, f, 0, "hello")
	allocated := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, "f"))
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	const size = 4 << 20
	switch err := f.Allocate(5, size); {
	case errors.Is(err, ErrUnsupported):
		t.Skip("this file system does not allocate ahead:", err)
	case err != nil:
		t.Fatal(err)
	}
	if n := allocated(); n < size {
		t.Errorf("%d bytes are allocated, want %d", n, size)
	}
	must(t, f.Truncate(5))
	if n := allocated(); n >= size {
		t.Errorf("%d bytes are allocated still", n)
	}
	r, err := d.Open("f")
	must(t, err)
	defer r.Close()
	if err := r.Allocate(0, size); err == nil {
		t.Error("a file opened for reading takes an allocation")
	}
}
