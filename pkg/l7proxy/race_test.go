//go:build race

package l7proxy

// allocSlack is what a request may allocate above its budget: under the race
// detector a sync.Pool forgets every fourth thing.
const allocSlack = 4.9

// memoryFactor is what memory costs: its stacks are larger, and pools forget.
const memoryFactor = 4

// garbageFactor is what the garbage of a new connection costs: each buffer that goes back to a
// pool is forgotten every fourth time, and a request gives several back.
const garbageFactor = 6
