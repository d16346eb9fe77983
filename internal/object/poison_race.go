//go:build race || invariants

package object

// poison overwrites released buffers, so that a use after Release shows.
const poison = true
