package vfs

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxBuffers is how many buffers one writev takes: the kernel's IOV_MAX.
const maxBuffers = 1024

func writev(fd int, bufs [][]byte, off int64) (int, error) {
	return unix.Pwritev(fd, bufs[:min(len(bufs), maxBuffers)], off)
}

// Allocate implements [File].
func (f *osFile) Allocate(off, sizeBytes int64) error {
	for {
		switch err := unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, off, sizeBytes); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return f.fail("allocate", err)
		}
	}
}

// Sync implements [File] with fdatasync: the length counts as data, the times
// do not, which spares a journal commit where the length did not change.
func (f *osFile) Sync() error {
	for {
		switch err := unix.Fdatasync(f.fd); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return f.fail("sync", err)
		}
	}
}

// BootID returns a text that is the same as long as the machine has not been
// started anew, and differs afterwards: what a killed process had written is
// still there if it is the same. Where it cannot be told, it is empty.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
