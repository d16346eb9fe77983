package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Usage is what a set of processes has used since they were started, and the
// memory they occupy now. It comes from /proc, which Linux has.
type Usage struct {
	CPU        time.Duration // user and system
	AnonBytes  int64         // resident memory that is no file's
	FileBytes  int64         // resident pages of files: the program itself, mostly
	CallBytes  int64         // given to write calls, to files and to sockets
	DiskBytes  int64         // sent towards the disk, in whole pages (write_bytes)
	WriteCalls int64         // write calls, to files and to sockets
}

// UsageOf sums up processes that are running.
func UsageOf(pids []int) (sum Usage, err error) {
	for _, pid := range pids {
		u, err := usageOf(pid)
		if err != nil {
			return Usage{}, fmt.Errorf("what process %d uses: %w", pid, err)
		}
		sum.CPU += u.CPU
		sum.AnonBytes += u.AnonBytes
		sum.FileBytes += u.FileBytes
		sum.CallBytes += u.CallBytes
		sum.DiskBytes += u.DiskBytes
		sum.WriteCalls += u.WriteCalls
	}
	return sum, nil
}

// Since returns what was used after an earlier look; memory is as it is now.
func (u Usage) Since(before Usage) Usage {
	u.CPU -= before.CPU
	u.CallBytes -= before.CallBytes
	u.DiskBytes -= before.DiskBytes
	u.WriteCalls -= before.WriteCalls
	return u
}

func usageOf(pid int) (u Usage, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err == nil {
		u.CPU, err = parseStat(string(stat))
	}
	if err != nil {
		return Usage{}, err
	}
	status, err := readNumbers(dir+"status", "RssAnon", "RssFile", "RssShmem")
	if err != nil {
		return Usage{}, err
	}
	io, err := readNumbers(dir+"io", "wchar", "write_bytes", "syscw")
	if err != nil {
		return Usage{}, err
	}
	u.AnonBytes, u.FileBytes = (status[0]+status[2])<<10, status[1]<<10 // in kB there
	u.CallBytes, u.DiskBytes, u.WriteCalls = io[0], io[1], io[2]
	return u, nil
}

// tick is the unit of times in /proc on every Linux.
const tick = 10 * time.Millisecond

// parseStat returns the processor time in a /proc/PID/stat. The second field, a
// name in parentheses, may hold blanks and parentheses itself.
func parseStat(line string) (time.Duration, error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat has %d fields", len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64) // utime, the 14th of all
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

func readNumbers(file string, names ...string) ([]int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseNumbers(string(text), names...)
}

// parseNumbers finds lines "name: number" and returns their numbers.
func parseNumbers(text string, names ...string) ([]int64, error) {
	found := make([]int64, len(names))
next:
	for i, name := range names {
		for line := range strings.Lines(text) {
			value, ok := strings.CutPrefix(line, name+":")
			if fields := strings.Fields(value); ok && len(fields) > 0 {
				n, err := strconv.ParseInt(fields[0], 10, 64)
				if err != nil {
					return nil, err
				}
				found[i] = n
				continue next
			}
		}
		return nil, fmt.Errorf("there is no %q", name)
	}
	return found, nil
}

// OwnCPU returns the processor time this process has used.
func OwnCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// HostCPU returns the processor time that the whole machine has spent at work
// since it was started, and what its host withheld meanwhile.
func HostCPU() (busy, stolen time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseHost(string(text))
}

// parseHost reads the first line of /proc/stat:
//
//	cpu user nice system idle iowait irq softirq steal guest guest_nice
//
// user and nice hold the guests' times already.
func parseHost(text string) (busy, stolen time.Duration, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %.60q", line)
	}
	var n [9]time.Duration
	for i := 1; i < 9; i++ {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		n[i] = time.Duration(ticks) * tick
	}
	return n[1] + n[2] + n[3] + n[6] + n[7], n[8], nil
}
