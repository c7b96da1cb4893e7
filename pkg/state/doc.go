// Package state holds what a node knows of the mesh. A Store applies deltas and publishes
// immutable Views. A reader loads one pointer and then needs neither locks nor
// allocations. A writer builds the next View while readers use the current one. Values
// that did not change keep their pointer in the next View, so that callers can compare
// pointers to learn whether a workload or service has changed.
package state
