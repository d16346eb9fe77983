package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// forget syncs all files below dir and has the page cache drop them.
func forget(dir string) error {
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = f.Sync()
		if err == nil {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		return errors.Join(err, f.Close())
	})
}

// sizesBelow returns the lengths of all files below dir with that suffix, and
// how many there are.
func sizesBelow(dir, suffix string) (sizeBytes, files int64, err error) {
	err = eachFile(dir, func(path string, info fs.FileInfo) error {
		if strings.HasSuffix(path, suffix) {
			sizeBytes += info.Size()
			files++
		}
		return nil
	})
	return sizeBytes, files, err
}

func eachFile(dir string, visit func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return visit(path, info)
	})
}
