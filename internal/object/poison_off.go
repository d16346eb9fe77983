//go:build !race && !invariants

package object

// poison is off in ordinary builds: it costs a pass over every released byte.
const poison = false
