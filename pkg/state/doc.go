// Package state holds what a node knows of the mesh: a Store takes deltas and
// publishes immutable Views. A reader loads one pointer and then looks up
// without locks and without allocation; a writer builds the next View beside
// the current one. Values that did not change keep their pointer from View to
// View, so comparing pointers tells whether a workload or service changed.
package state
