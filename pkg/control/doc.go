// Package control is the contract of the state stream between the controller and
// the node agents. It holds what both ends must agree on: pkg/control/client (the
// agent's end) and pkg/control/server (the controller's end). The protocol itself
// is api/control/v1; pkg/control/codec converts its messages to the mesh's values.
//
// Each agent has one stream. The answer to a small Delta may be some seconds late, and is
// the answer to those before it, too; only some may be without one. The server then waits, and
// when the agent has answered it sends the difference between the agent's state and the
// newest snapshot. A slow agent therefore skips intermediate states, and the server
// needs no queue for it. While the controller is away the agent keeps its state.
// When the agent reconnects it sends the versions that it holds, and gets only the
// differences.
package control

import (
	"net/netip"
	"time"
)

// ServerName is the name in the controller's certificate. It does not depend on the
// address that the agent connects to.
const ServerName = "controller.underlane-system.svc"

// MaxSubscriptions bounds the addresses that one agent may subscribe to. A client
// stays below it: it drops the addresses whose last use is the oldest.
const MaxSubscriptions = 100_000

// Keepalive of the HTTP/2 connections. Each end notices within half a minute that
// the other has vanished without closing the connection. The server must accept
// pings at this rate.
const (
	KeepaliveTime    = 20 * time.Second
	KeepaliveTimeout = 10 * time.Second
)

// How many bytes one side of a connection may send before the other has read them. They do not
// adapt: what is sent is small but for the first deltas, and agents are near.
const (
	ServerWindow = 64 << 10  // to the controller: requests
	AgentWindow  = 512 << 10 // to an agent: deltas
)

// MoveOn is the text of the status Aborted with which a controller ends a stream so that the
// agent connects again, perhaps to another replica: this one has more agents than its share.
const MoveOn = "another replica has fewer agents"

// Kinds of resources that not every agent understands. The agent's first request
// names the kinds that it understands; it refuses a delta with any other kind.
const (
	KindRoute  = "route"
	KindRanges = "ranges"
	KindAuthz  = "authz"
	KindEgress = "egress"
)

// PodStatus is the state of a labelled pod at its node.
type PodStatus struct {
	UID     string
	State   string // mesh.PodEnrolled and so on; "" when the pod has lost its label or is gone
	Reason  string // why it is pending, failed or left out
	PreMesh uint32 // connections that were open before the pod was enrolled; the mesh does not carry them
	// Addrs are the IPv4 and the IPv6 address of an enrolled pod. The agent has them from
	// the pod's sandbox, and often before the cluster has them. The zero Addr stands for
	// none.
	Addrs [2]netip.Addr
	// Leaving, with State "", says that the pod is not in the mesh any more, and that the
	// agent still carries connections that it opened before.
	Leaving bool
}

// ByFamily returns the first IPv4 and the first IPv6 address of addrs, for
// PodStatus.Addrs.
func ByFamily(addrs []netip.Addr) (first [2]netip.Addr) {
	for _, a := range addrs {
		a = a.Unmap()
		i := 0
		if a.Is6() {
			i = 1
		}
		if !first[i].IsValid() {
			first[i] = a
		}
	}
	return first
}
