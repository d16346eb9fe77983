//go:build race

package replication

// raceBuild drops what its pools keep, so that allocations mean nothing.
const raceBuild = true

// crashStride is by how many operations crashes are apart: each run is slow enough.
const crashStride = 5
