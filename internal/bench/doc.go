// Package bench holds what benchmarks share: statistics of paired runs, what
// processes and the machine have used, latencies, and values to store.
package bench
