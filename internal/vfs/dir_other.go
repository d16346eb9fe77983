//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

// writev writes one buffer a call where the system has no pwritev for us.
func writev(fd int, bufs [][]byte, off int64) (int, error) {
	done := 0
	for _, b := range bufs {
		n, err := unix.Pwrite(fd, b, off+int64(done))
		done += max(n, 0)
		if err != nil || n < len(b) {
			if done > 0 {
				err = nil // the rest is tried again and will say
			}
			return done, err
		}
	}
	return done, nil
}

// Allocate implements [File].
func (f *osFile) Allocate(off, sizeBytes int64) error { return ErrUnsupported }

// Sync implements [File].
func (f *osFile) Sync() error { return f.f.Sync() }

// BootID returns nothing here: every start counts as one of the machine.
func BootID() string { return "" }
