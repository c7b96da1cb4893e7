// Package contract is the mesh's contract with traffic, under faults. A run brings up
// the lab, has clients make attempts all the time, strikes with the faults of a seed, one
// after the other or several at once, and checks what clients, servers and the link
// between the nodes saw against what the mesh promises (test/contract/check).
//
// TestContract is the short form, a part of `make test`: two schedules, which have every
// kind of fault. TestFullContract has more, and is a part of `make test-full`.
//
// `make contract SEED=7 TIME=10m` makes schedules from that seed on, each on a lab of
// its own, until the time has passed. A schedule that violates an invariant leaves its
// history in a file.
//
// What is lost or hangs while the machine is overloaded does not count (see check.Untold).
package contract
