//go:build race

package destination

// allocSlack is what a call may allocate: under the race detector a sync.Pool forgets every
// fourth thing.
const allocSlack = 2
