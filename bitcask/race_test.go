//go:build race

package bitcask

// raceEnabled tells that the race detector makes everything ten times slower:
// what is repeated at every operation is then repeated at some.
const raceEnabled = true
