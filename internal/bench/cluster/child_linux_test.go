package cluster

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// beParent makes the test binary start a node, tell its process id and wait.
func beParent() {
	c, err := startChild(os.Args[0], nil, append(os.Environ(), beNode+"=serving"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-c.out.serving // or it would die of what it has yet to say
	fmt.Fprintln(os.Stderr, c.pid)
	<-c.done
}

// A benchmark that is killed takes its nodes with it.
func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), beNode+"=parent")
	said, err := parent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		parent.Process.Kill() //nolint:errcheck // it has usually ended
		parent.Wait()         //nolint:errcheck // it was killed
	})
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skipf("this kernel cannot watch a process: %v", err)
	}
	defer unix.Close(fd) //nolint:errcheck // it was only watched
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, 60_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			t.Errorf("node %d goes on without the benchmark: %v", pid, err)
			unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // the test has failed
		}
		return
	}
}
