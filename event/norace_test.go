//go:build !race

package event

// raceEnabled tells tests that count allocations that sync.Pool, under the race
// detector, drops what it is given at random.
const raceEnabled = false
