package demo

import "syscall"

// childAttributes makes a node's process one that a terminal's Ctrl-C does not
// reach, and that the kernel kills when the demo ends, however it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
