//go:build race

package vnode

// raceBuild thins out what is not about concurrency: it runs ten times slower.
const raceBuild = true
