// Package control is the state stream between the controller and the node
// agents, both ends.
//
// The Server holds one immutable Snapshot. Each agent has one stream, on which
// at most one Delta is under way: when the agent has answered it, the next is
// the difference between what the agent has and the newest Snapshot. A slow
// agent so skips intermediate states, and costs the server no queue.
//
// The Client keeps a state.Store current, and asks for certificates. While the
// controller is away the Store keeps what it has; on reconnecting the Client
// says which versions it holds and gets only what differs.
package control

// ServerName is the name in the controller's certificate, whatever address it
// is reached at.
const ServerName = "controller.underlane-system.svc"

// maxSubscriptions bounds what one agent may subscribe to. A Client stays below
// it by forgetting the addresses that were unused longest.
const maxSubscriptions = 100_000
