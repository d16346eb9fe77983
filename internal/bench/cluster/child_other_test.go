//go:build !linux

package cluster

// beParent is of a test that only Linux has.
func beParent() {}
