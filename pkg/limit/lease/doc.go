// Package lease limits rates that nodes share. An agent decides each request with the state
// that it has: no request waits for a controller. The controller lends the nodes parts of
// the rate, and lends what one does not use to others. The package is pure: it has no clock,
// and the caller moves the messages. All times count from any fixed moment of a monotonic
// clock, which agent and controller do not share.
//
// # Shares
//
// A bucket is one value of what a limit distinguishes: a client, a header's value. Its
// requests have the limit's rate R on all nodes together, and its burst B at once. N nodes
// have pods that the limit is about, and everybody knows N from the state.
//
//   - Each node owns R/N. It has that rate whenever no lease says otherwise: before the first
//     one, and while it is cut off from the controller.
//   - The Ledger, in the controller, pools what the connected nodes own and divides it among
//     those with demand (see Divide). It keeps R/N for each node that is not connected.
//   - A lease ends TTL after the agent has sent the report that the lease answers. The agent
//     counts from when it sent, the Ledger from when it received, which is later. For another
//     TTL the agent has the lower of its last share and R/N, because leases of other nodes,
//     from a controller that is gone, end within this time. Then it has R/N.
//   - The Ledger raises a share only by what is free: a share that was lowered counts as its
//     old one until the agent has confirmed the lower one, or until the lease has ended.
//
// So the rates in force never add up to more than R, with one exception: a node that has seen
// no request of a bucket for IdleAfter holds no share of it, and has R/N when one comes, until
// the Ledger has heard of it and has lowered the shares of others (0.3 s), or, if it cannot be
// reached, until these have ended.
//
// # Bound
//
// A share is spent through a token bucket. Its credit is counted in requests and does not grow
// when the rate is raised. It holds B times the share's part of R, at least one request. A
// node that is new to a bucket begins with B/N. In any time T all nodes together therefore let
// in at most
//
//	R·T + B + M·(B/N + R/N·D + 1)
//
// where M counts the times that a node came to the bucket anew in T, N at most if none was
// idle for IdleAfter, and D is 0.3 s, or TTL if the controller is lost at that moment. With one second's worth as the burst (B = R·1s) that is the rate,
// plus two to three seconds of it once.
//
// # Several controllers
//
// Any replica of the controller serves agents with state. Buckets would need an agreement
// between the replicas if each of them lent, so one does: the leader that is elected for
// writing (pkg/controller/cluster). The others answer with the leader's address, and agents
// connect to it. State in the Ledger is only soft: a new leader lends nothing for the first TTL
// after it has begun to lead, when all leases of its predecessor have ended, and then learns
// everything from the agents' reports. Two leaders at once, by a process that was stopped and
// has not noticed yet that it lost the election, can lend up to R each, for one TTL.
package lease

import "time"

const (
	// TTL is how long a lease holds after the agent has sent the report that it answers.
	TTL = 2 * time.Second
	// Every is the time between two reports of an agent.
	Every = 500 * time.Millisecond
	// IdleAfter is how long a bucket is kept without a request. It is kept longer while it
	// has less credit than an unused one.
	IdleAfter = 10 * time.Second
	// MostKeys bounds the buckets of a limit on a node. The requests of further values share
	// one.
	MostKeys = 1024
	// MostOfClient bounds the buckets that one client can have made.
	MostOfClient = MostKeys / 4
	// MostShared bounds the buckets of one limit in a Ledger. Of further ones each node has
	// R/N.
	MostShared = 16 * MostKeys
	// MostHolds bounds the buckets of which a Ledger lends one node a share, and MostHeld
	// those of all nodes, each counted for each node. Of further ones the node has R/N.
	MostHolds = 8 * MostKeys
	MostHeld  = 512 * MostKeys
)
