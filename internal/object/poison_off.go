//go:build !race && !invariants

package object

// poisonDefault is off in ordinary builds: poison costs a pass over every
// released byte. [DebugBuffers] turns it on for a process.
const poisonDefault = false
