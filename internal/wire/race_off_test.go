//go:build !race && !invariants

package wire

const poisoned = false
