//go:build !linux

package cluster

import "os/exec"

// dieWithParent does nothing: what a benchmark measures is in /proc, which this
// system lacks, so that it ends with an error and stops its nodes itself.
func dieWithParent(*exec.Cmd) {}
