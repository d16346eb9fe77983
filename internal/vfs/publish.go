package vfs

import (
	"errors"
	"path"
)

// TempSuffix ends the name under which a file is written before [Publish] gives
// it its own. A file with it is the leaving of a crash and may be removed.
const TempSuffix = ".tmp"

// Publish makes a file appear under name whole and durable, or not at all: it
// writes a temporary file beside it, syncs it, renames it, and syncs the
// directory. What had the name is replaced. Every file of mayfly that is not
// appended to is made this way.
//
// After an error the file is the old one, or none; only if the directory's
// sync failed may it be the new one. Two goroutines must not publish one name at
// once.
func Publish(fsys FS, name string, write func(File) error) error {
	temp := name + TempSuffix
	if err := fsys.Remove(temp); err != nil && !IsNotExist(err) {
		return err
	}
	if err := writeTemp(fsys, temp, write); err != nil {
		return errors.Join(err, removeTemp(fsys, temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return errors.Join(err, removeTemp(fsys, temp))
	}
	return fsys.SyncDir(path.Dir(name))
}

// PublishBytes is [Publish] of one run of bytes.
func PublishBytes(fsys FS, name string, data []byte) error {
	return Publish(fsys, name, func(f File) error {
		_, err := f.WritevAt([][]byte{data}, 0)
		return err
	})
}

func writeTemp(fsys FS, temp string, write func(File) error) error {
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removeTemp frees the space a failed publication took: on a full disk it is
// needed. What cannot be removed now is removed by the next publication.
func removeTemp(fsys FS, temp string) error {
	if err := fsys.Remove(temp); err != nil && !IsNotExist(err) {
		return err
	}
	return nil
}

// ReadFile returns the whole of a file that may have at most maxBytes; a
// longer one is an error before anything is allocated for it.
func ReadFile(fsys FS, name string, maxBytes int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxBytes {
		return nil, &TooLongError{Path: fsys.Path(name), SizeBytes: size, MaxBytes: maxBytes}
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, err
	}
	return data, nil
}
