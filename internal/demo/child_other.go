//go:build !linux

package demo

import "syscall"

// childAttributes makes a node's process one that a terminal's Ctrl-C does not
// reach. A demo that is killed itself leaves it behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
