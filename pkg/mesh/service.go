package mesh

import (
	"net/netip"
	"slices"
)

// Service is a Kubernetes Service. Values are immutable once published in a
// snapshot: a change makes new ones.
type Service struct {
	Name      string
	Namespace string
	VIPs      []netip.Addr // ClusterIPs; none for a headless service
	Ports     []ServicePort
	// SessionAffinity sends a client pod to the same endpoint each time
	// (sessionAffinity: ClientIP).
	SessionAffinity bool
	// NodeLocal lets a client reach endpoints of its own node only
	// (internalTrafficPolicy: Local).
	NodeLocal bool
	// FailureAccrual takes endpoints out that answer with failures; nil: only
	// those that cannot be reached.
	FailureAccrual *FailureAccrual
	// RetryBudget is nil where nobody has set one: DefaultRetryBudget.
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
	// ForZones and ForNodes are the zones and nodes whose clients are to be sent
	// here (EndpointSlice hints, which follow the Service's trafficDistribution).
	// Either all endpoints of a port have them or none.
	ForZones []string
	ForNodes []string
}

// Same reports whether e and o say the same, of the same Workload value.
func (e Endpoint) Same(o Endpoint) bool {
	return e.Addr == o.Addr && e.Workload == o.Workload && e.Ready == o.Ready &&
		slices.Equal(e.ForZones, o.ForZones) && slices.Equal(e.ForNodes, o.ForNodes)
}
