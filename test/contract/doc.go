// Package contract is the mesh's contract with traffic, under faults. A run brings up
// the lab, has clients make attempts all the time, strikes with the faults of a seed, one
// after the other or several at once, and checks what clients, servers and the link
// between the nodes saw against what the mesh promises (test/contract/check).
//
// `make contract SEED=7 TIME=10m` makes schedules from that seed on, each on a lab of
// its own, until the time has passed. A schedule that violates an invariant leaves its
// history in a file.
package contract
