//go:build race

package history

// slowdown is how much more processor time the race detector may take, with room for a busy
// machine.
const slowdown = 40
