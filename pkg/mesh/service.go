package mesh

import (
	"net/netip"
	"slices"
)

// Service is a Kubernetes Service. A Service is immutable once published in a
// snapshot: a change makes a new one.
type Service struct {
	Name      string
	Namespace string
	VIPs      []netip.Addr // ClusterIPs; none for a headless service
	Ports     []ServicePort
	// SessionAffinity sends a client pod to the same endpoint each time
	// (sessionAffinity: ClientIP).
	SessionAffinity bool
	// NodeLocal restricts a client to the endpoints of its own node
	// (internalTrafficPolicy: Local).
	NodeLocal bool
	// FailureAccrual ejects endpoints whose responses are failures. With nil only
	// unreachable endpoints are ejected.
	FailureAccrual *FailureAccrual
	// RetryBudget bounds retries to the Service; nil: DefaultRetryBudget.
	RetryBudget *RetryBudget
}

// ServicePort is one TCP port of a Service and the endpoints behind it.
type ServicePort struct {
	Name        string
	Port        uint16
	AppProtocol string
	Endpoints   []Endpoint
}

// Endpoint is one backend of a service port.
type Endpoint struct {
	Addr     netip.AddrPort
	Workload *Workload // nil when no known pod has this address
	Ready    bool
	// ForZones and ForNodes are the zones and nodes whose clients should use this
	// endpoint (EndpointSlice hints, which follow the Service's
	// trafficDistribution). Either all endpoints of a port have them or none.
	ForZones []string
	ForNodes []string
}

// Same reports whether e and o are equal. Workloads are compared by pointer.
func (e Endpoint) Same(o Endpoint) bool {
	return e.Addr == o.Addr && e.Workload == o.Workload && e.Ready == o.Ready &&
		slices.Equal(e.ForZones, o.ForZones) && slices.Equal(e.ForNodes, o.ForNodes)
}
