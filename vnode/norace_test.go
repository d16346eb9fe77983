//go:build !race

package vnode

const raceBuild = false
