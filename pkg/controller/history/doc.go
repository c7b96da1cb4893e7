// Package history is what the controller remembers of the whole mesh's traffic: 24 hours
// of figures by workload, in steps of one minute for the last hours and of five minutes
// before that. Agents remember 15 minutes (package figures).
//
// A Collector asks the agents once a minute for the minutes that have ended, and gives the
// answers to a Store. Because agents remember 15 minutes, a controller or an agent that
// was away for a shorter time leaves no gap. The Store keeps each step as one compressed
// block, within a budget of bytes, and answers queries from the blocks. A file keeps the
// Store across restarts where the controller has a volume.
//
// Every replica of the controller has a history of its own. Only the leader writes the
// file; the others read it when they start.
package history
