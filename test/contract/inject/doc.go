// Package inject has the faults that no signal and no command can make: a wall clock that
// is wrong for one process only, and maps of a node's programs that are full.
package inject
