//go:build !race

package history

const slowdown = 1
