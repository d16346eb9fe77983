//go:build race || invariants

package object

// poisonDefault: released buffers are overwritten, so that a use after Release
// shows.
const poisonDefault = true
