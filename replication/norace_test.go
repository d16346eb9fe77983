//go:build !race

package replication

const raceBuild = false
