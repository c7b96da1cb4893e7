//go:build race

package l7proxy

// allocSlack is what a request may allocate above its budget: under the race
// detector a sync.Pool forgets every fourth thing.
const allocSlack = 4.9

// memoryFactor is what memory costs: its stacks are larger, and pools forget.
const memoryFactor = 4
