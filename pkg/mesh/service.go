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
	// RetryBudget bounds retries; nil: DefaultRetryBudget.
	RetryBudget *RetryBudget
}

// ServicePort is one TCP port of a Service and the endpoints behind it.
type ServicePort struct {
	Name        string
	Port        uint16
	AppProtocol string
	Endpoints   []Endpoint
	// External are addresses besides VIPs at which this port is reached: external
	// IPs and those of load balancers. At another port they may belong to another
	// Service, or to something outside the mesh.
	External []netip.Addr
	// NodePort is the port at which it is also reached at the addresses of all nodes; 0:
	// none.
	NodePort uint16
}

// Endpoint is one backend of a service port.
type Endpoint struct {
	Addr  netip.AddrPort
	Ready bool
	// WorkloadUID is the UID of the pod that has this address, "" when none is
	// known. Workload is that pod. It is nil where it is not known (yet), and in a
	// state.Delta, where services and workloads travel apart.
	WorkloadUID string
	Workload    *Workload `json:"-"`
	// ForZones and ForNodes are the zones and nodes whose clients are to be sent
	// here (EndpointSlice hints, which follow the Service's trafficDistribution).
	// Either all endpoints of a port have them or none.
	ForZones []string
	ForNodes []string
}

// Same reports whether e and o are equal, with the same Workload value.
func (e Endpoint) Same(o Endpoint) bool {
	return e.Addr == o.Addr && e.WorkloadUID == o.WorkloadUID && e.Workload == o.Workload && e.Ready == o.Ready &&
		slices.Equal(e.ForZones, o.ForZones) && slices.Equal(e.ForNodes, o.ForNodes)
}
