package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func eachFS(t *testing.T, test func(t *testing.T, fsys FS)) {
	t.Run("Mem", func(t *testing.T) { test(t, NewMem()) })
	t.Run("Dir", func(t *testing.T) {
		d, err := MakeDir(filepath.Join(t.TempDir(), "x", "y"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, d)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, f File, off int64, parts ...string) {
	t.Helper()
	var bufs [][]byte
	total := 0
	for _, p := range parts {
		bufs = append(bufs, []byte(p))
		total += len(p)
	}
	n, err := f.WritevAt(bufs, off)
	if err != nil || n != int64(total) {
		t.Fatalf("wrote %d of %d bytes: %v", n, total, err)
	}
}

func content(t *testing.T, fsys FS, name string) string {
	t.Helper()
	b, err := ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What both file systems promise.
func TestConformance(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		must(t, fsys.MkdirAll("a/b"))
		must(t, fsys.MkdirAll("a/b"))
		f, err := fsys.Create("a/b/f")
		must(t, err)
		if _, err := fsys.Create("a/b/f"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("created twice: %v", err)
		}
		write(t, f, 0, "hello", "", " ", "world")
		write(t, f, 6, "there")
		write(t, f, 16, "far")
		must(t, f.Sync())
		must(t, fsys.SyncDir("a/b"))
		if got := content(t, fsys, "a/b/f"); got != "hello there\x00\x00\x00\x00\x00far" {
			t.Errorf("got %q", got)
		}
		var p [5]byte
		if n, err := f.ReadAt(p[:], 17); n != 2 || err != io.EOF || string(p[:n]) != "ar" {
			t.Errorf("read over the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(p[:], 100); n != 0 || err != io.EOF {
			t.Errorf("read behind the end: %d, %v", n, err)
		}
		must(t, f.Truncate(5))
		if size, err := f.Size(); size != 5 || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		if err := f.Allocate(3, 1<<20); err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("allocating: %v", err)
		}
		if size, err := f.Size(); size != 5 || err != nil || content(t, fsys, "a/b/f") != "hello" {
			t.Errorf("allocating changed the file: %d bytes, %v", size, err)
		}
		must(t, f.Truncate(7))
		if got := content(t, fsys, "a/b/f"); got != "hello\x00\x00" {
			t.Errorf("cut and grown: %q", got)
		}
		must(t, f.Close())

		r, err := fsys.Open("a/b/f")
		must(t, err)
		if _, err := r.WritevAt([][]byte{{1}}, 0); err == nil {
			t.Error("written to a file opened for reading")
		}
		must(t, r.Close())
		w, err := fsys.OpenReadWrite("a/b/f")
		must(t, err)
		write(t, w, 0, "J")
		must(t, w.Close())

		must(t, fsys.Rename("a/b/f", "a/b/g"))
		if _, err := fsys.Open("a/b/f"); !IsNotExist(err) {
			t.Errorf("the old name: %v", err)
		}
		if !strings.HasPrefix(content(t, fsys, "a/b/g"), "Jello") {
			t.Error("the new name has other bytes")
		}
		must(t, PublishBytes(fsys, "a/b/z", []byte("zz")))
		if e, err := fsys.Stat("a/b/g"); err != nil || e != (Entry{"g", false, 7, true}) {
			t.Errorf("%+v, %v", e, err)
		}
		entries, err := fsys.ReadDir("a/b")
		if err != nil || len(entries) != 2 || entries[0] != (Entry{"g", false, 0, true}) || entries[1] != (Entry{"z", false, 0, true}) {
			t.Errorf("listed %+v, %v", entries, err)
		}
		entries, err = fsys.ReadDir("a")
		if err != nil || len(entries) != 1 || entries[0].Name != "b" || !entries[0].IsDir || entries[0].Regular {
			t.Errorf("listed %+v, %v", entries, err)
		}
		if err := fsys.Remove("a/b"); err == nil {
			t.Error("removed a directory with files in it")
		}
		must(t, fsys.Remove("a/b/g"))
		must(t, fsys.Remove("a/b/z"))
		must(t, fsys.Remove("a/b"))
		if _, err := fsys.Stat("a/b"); !IsNotExist(err) {
			t.Errorf("a removed directory: %v", err)
		}
		if e, err := fsys.Stat("a"); err != nil || !e.IsDir {
			t.Errorf("%+v, %v", e, err)
		}
		for _, name := range []string{"missing", "missing/x", "../x", "/etc/passwd"} {
			if _, err := fsys.Open(name); err == nil {
				t.Errorf("opened %q", name)
			}
			if _, err := fsys.Create(name); err == nil && name != "missing" {
				t.Errorf("created %q", name)
			}
		}
		if err := fsys.SyncDir("missing/x"); err == nil {
			t.Error("synced a directory that is not there")
		}
		free, total, err := fsys.Space()
		if err != nil || free <= 0 || total < free {
			t.Errorf("space %d of %d, %v", free, total, err)
		}
	})
}

// A lock is held once, by whoever it is, and free after its Close.
func TestLock(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		l, err := fsys.Lock("lock")
		must(t, err)
		if _, err := fsys.Lock("lock"); !errors.Is(err, ErrLocked) {
			t.Errorf("locked twice: %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock("lock")
		must(t, err)
		must(t, l.Close())
	})
}

// One call writes more buffers than the kernel takes at once.
func TestManyBuffers(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		f, err := fsys.Create("f")
		must(t, err)
		var parts []string
		for i := range 3000 {
			parts = append(parts, fmt.Sprint(i, ","))
		}
		write(t, f, 10, parts...)
		must(t, f.Close())
		if got := content(t, fsys, "f"); got[10:] != strings.Join(parts, "") {
			t.Error("the bytes are not those written")
		}
	})
}

func TestSkip(t *testing.T) {
	bufs := [][]byte{[]byte("ab"), {}, []byte("cde"), []byte("f")}
	for n := range int64(7) {
		var rest strings.Builder
		for _, b := range skip(bufs, n) {
			rest.WriteString(string(b))
		}
		if want := "abcdef"[n:]; rest.String() != want {
			t.Errorf("skipped %d: %q, want %q", n, rest.String(), want)
		}
	}
	if string(bufs[0]) != "ab" || string(bufs[2]) != "cde" {
		t.Error("the caller's buffers were changed")
	}
}

// A directory's files cannot be reached through a link that leads out of it.
func TestNoWayOut(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "root"), 0o755))
	must(t, os.Symlink("../secret", filepath.Join(dir, "root", "link")))
	d, err := OpenDir(filepath.Join(dir, "root"))
	must(t, err)
	defer d.Close()
	if _, err := d.Open("link"); err == nil {
		t.Error("a link led out of the directory")
	}
	if e, err := d.Stat("link"); err != nil || e.Regular {
		t.Errorf("a link is %+v, %v", e, err)
	}
	if _, err := OpenDir(filepath.Join(dir, "missing")); !IsNotExist(err) {
		t.Errorf("a missing directory: %v", err)
	}
}

// Errors name the file as the user knows it.
func TestErrorsNameThePath(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	must(t, PublishBytes(d, "f", []byte("four")))
	f, err := d.Open("f")
	must(t, err)
	defer f.Close()
	_, opening := d.Open("sub/missing")
	_, writing := f.WritevAt([][]byte{{1}}, 0)
	for _, err := range []error{opening, writing, d.Rename("missing", "x")} {
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v does not say where", err)
		}
	}
	var long *TooLongError
	if _, err := ReadFile(d, "f", 3); !errors.As(err, &long) || long.SizeBytes != 4 {
		t.Errorf("a file that is too long: %v", err)
	}
}

func TestErrorKinds(t *testing.T) {
	if IsNoSpace(nil) || IsReadOnly(nil) || IsNotExist(nil) {
		t.Error("no error is an error")
	}
	if first, second := BootID(), BootID(); first != second {
		t.Errorf("the boot id changes: %q, then %q", first, second)
	}
}
