//go:build race

package replication

// raceBuild drops what its pools keep, so that allocations mean nothing.
const raceBuild = true
