package mesh

import "net/netip"

// SystemNamespace is where Underlane's own components live.
const SystemNamespace = "underlane-system"

// Workload is one pod.
type Workload struct {
	UID            string // unique over all pods, past and present
	Name           string
	Namespace      string
	ServiceAccount string
	Node           string
	Zone           string // of its node (topology.kubernetes.io/zone), "" if not known
	OwnerKind      string // lower case, singular: deployment, statefulset, daemonset, job; "pod" for a bare pod
	OwnerName      string
	Labels         Labels
	Addrs          []netip.Addr
	Identity       Identity
	Meshed         bool   // opted in by label, and not on the host network
	Observed       bool   // LabelObserve: not meshed, and its node's agent watches its connections
	Enrolled       bool   // an agent has enrolled it at some time, or should have: plaintext to it then needs Settings.PlaintextFallback
	OwnLabel       bool   // the pod itself has LabelMesh, whatever its namespace has
	Leaving        bool   // not meshed any more, and its agent still carries connections that it opened in the mesh
	LeftOut        string // why a labelled pod is not meshed, such as "host network"; "" if it is meshed or has no label
	HostNetwork    bool
	Ready          bool
	Terminating    bool // it is being deleted, and may still run
	NetworkPolicy  bool // selected by a NetworkPolicy, or set by AnnotationSameNode: the same-node shortcut is disabled
	Authorized     bool // authorization policies apply to it, which its node's agent has; without them it admits no client
	Limited        bool // limits of requests apply to it
	RequestRules   bool // some of them look at requests: what is not read as requests is refused
	Settings       Settings
	OwnSettings    bool // the policy or the fail mode is the pod's own annotation, not its namespace's
}

// KindNode is the OwnerKind of a Workload that is no pod, but a node itself: its own
// processes, such as the kubelet, which probes pods.
const KindNode = "node"

// NodeItself returns the Workload that stands for a node. It has no name, as no pod has.
func NodeItself(name string) *Workload {
	return &Workload{OwnerKind: KindNode, OwnerName: name, Node: name}
}

// Closed reports whether only the agent of its node can say who may connect to w: without
// the agent nobody may.
func (w *Workload) Closed() bool { return w.Authorized || w.Settings.Policy == PolicyStrict }

// Settings are the settings made by annotations of a pod and its namespace.
type Settings struct {
	Policy            PolicyMode
	FailClosed        bool // refuse connections, rather than pass them through, while the agent is away
	PlaintextFallback bool // allow plaintext if the other node's agent does not answer; both sides must allow it
	SkipOutboundPorts []PortRange
	SkipInboundPorts  []PortRange
	OpaquePorts       []PortRange
	RateLimit         *RateLimit // for all requests to the workload together; nil: none
	ClientRateLimit   *RateLimit // for the requests of each client identity; nil: none
	AccessLog         AccessLog
	Ingress           bool           // requests of the workload may name the Service that they are for
	TraceSampling     *TraceSampling // nil: that of the agent
}

// PortRange is an inclusive range of TCP ports.
type PortRange struct{ First, Last uint16 }

// InRanges reports whether port lies in any of ranges.
func InRanges(ranges []PortRange, port uint16) bool {
	for _, r := range ranges {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// PolicyMode is the default authorisation of a workload's inbound traffic.
type PolicyMode uint8

const (
	PolicyAllow  PolicyMode = iota // all clients, with or without an identity
	PolicyStrict                   // mesh identities only
)

func (m PolicyMode) String() string {
	if m == PolicyStrict {
		return "strict"
	}
	return "allow"
}

// Direction is the proxy's side of a connection: Outbound at the client's
// node, Inbound at the server's.
type Direction uint8

const (
	Outbound Direction = iota
	Inbound
)

func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}
