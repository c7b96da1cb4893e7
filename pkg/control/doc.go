// Package control is the contract of the state stream between the controller
// and the node agents: what its two ends, pkg/control/client (the agent's) and
// pkg/control/server (the controller's), must agree on. The protocol itself is
// api/control/v1; pkg/control/codec converts its messages to the mesh's values.
//
// Each agent has one stream, on which at most one Delta is under way: when the
// agent has answered it, the next is the difference between what the agent has
// and the newest snapshot. A slow agent therefore skips intermediate states, and
// costs the server no queue. While the controller is away the agent keeps its
// state; on reconnecting it says which versions it holds and gets only what
// differs.
package control

import "time"

// ServerName is the name in the controller's certificate, whatever address the
// controller is reached at.
const ServerName = "controller.underlane-system.svc"

// MaxSubscriptions bounds the addresses that one agent may subscribe to. A
// client stays below it by dropping those that it has not used for longest.
const MaxSubscriptions = 100_000

// Keepalive of the HTTP/2 connections: either end notices within half a minute
// that the other vanished without closing the connection. The server must
// tolerate pings as frequent as these.
const (
	KeepaliveTime    = 20 * time.Second
	KeepaliveTimeout = 10 * time.Second
)

// Kinds of resources that not every agent understands. An agent names those
// that it does in its first request; it refuses a delta that has any other.
const (
	KindRoute  = "route"
	KindRanges = "ranges"
)

// PodStatus is what became of a labelled pod at its node.
type PodStatus struct {
	UID     string
	State   string // mesh.PodEnrolled and so on; "" when the pod is no longer labelled, or is gone
	Reason  string // why it is pending, failed or left out
	PreMesh uint32 // connections that were open before it was enrolled, and are not carried
}
