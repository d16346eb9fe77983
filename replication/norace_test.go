//go:build !race

package replication

const raceBuild = false

// crashStride is by how many operations crashes are apart.
const crashStride = 1
