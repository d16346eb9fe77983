package bench

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TouchMemory takes so many bytes from the system, writes to each page, and
// gives them back. Memory that a virtual machine has not used for a while may
// have been taken back by its host: filling it for the first time would be
// measured instead of what fills it. No more than half of what is free is taken.
func TouchMemory(n int64) error {
	numbers, err := readNumbers("/proc/meminfo", "MemAvailable")
	if err != nil {
		return fmt.Errorf("how much memory is free: %w", err)
	}
	n = min(n, numbers[0]<<10/2)
	if n <= 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("taking %d bytes of memory: %w", n, err)
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return unix.Munmap(b)
}

// MemoryBytes returns the machine's memory, 0 if that is not known.
func MemoryBytes() int64 {
	numbers, err := readNumbers("/proc/meminfo", "MemTotal")
	if err != nil {
		return 0
	}
	return numbers[0] << 10
}
