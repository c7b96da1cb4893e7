//go:build !race

package l7proxy

// allocSlack is what a request may allocate above its budget: a timer may tick
// meanwhile.
const allocSlack = 0.9

const (
	memoryFactor  = 1
	garbageFactor = 1
)
