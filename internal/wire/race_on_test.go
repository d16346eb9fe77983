//go:build race || invariants

package wire

// poisoned says that released buffers are overwritten, which makes tests with
// very large ones slow.
const poisoned = true
