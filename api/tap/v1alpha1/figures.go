package tapv1alpha1

import (
	"net/url"
	"path"
	"time"
)

// FiguresPath is the path of the figures of a namespace, or of all of them with "".
func FiguresPath(namespace string) string {
	if namespace == "" {
		return Prefix + "/figures"
	}
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), "figures")
}

// WatchFiguresPath is the path of a stream of figures (MediaFigures), an answer for each
// step. It has the parameters of FiguresPath but for end. Without a window an answer is of
// the newest step alone.
func WatchFiguresPath(namespace string) string {
	if namespace == "" {
		return Prefix + "/watch/figures"
	}
	return Prefix + path.Join("/watch/namespaces", url.PathEscape(namespace), "figures")
}

// Figures is the answer of …/figures: what resources have done to each other in a time.
type Figures struct {
	Kind        string    `json:"kind"` // Figures
	APIVersion  string    `json:"apiVersion"`
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	Since       time.Time `json:"since"`                 // what was before is not remembered everywhere
	StepSeconds int       `json:"stepSeconds,omitempty"` // that a point covers; absent: there are no points
	Nodes       Nodes     `json:"nodes"`
	Warnings    []string  `json:"warnings"` // a sentence for each node that is missing, and the like
	// Resources are those of Edges and, of the kind that was asked for, all others that the
	// question is about. A resource's ID is its index.
	Resources []Resource `json:"resources"`
	Edges     []Edge     `json:"edges"`

	// History is true if the controller's history has answered, because agents do not
	// remember so long. Then Start, End and StepSeconds are rounded to the steps that it has.
	History bool `json:"history,omitempty"`
	// CoveredSeconds is the part of the time from Start to End of which the history knows
	// something. Rates are to be taken of it.
	CoveredSeconds int `json:"coveredSeconds,omitempty"`
	// Gaps are what the history does not know, in the order of time. Points in them are null,
	// or less than what happened.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Gap is a time of which something is not known.
type Gap struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Nodes []string  `json:"nodes,omitempty"` // whose agents were not heard; absent: nothing is known
}

// AgentsRemember is how long agents remember figures. What is older is in the controller's
// history, if it keeps one.
const AgentsRemember = 15 * time.Minute

// Nodes says how many agents were asked, and how many have answered.
type Nodes struct {
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
}

// Kinds of a Resource that is not a workload, a Service or a namespace.
const (
	KindExternal = "external" // outside the mesh: Name is a host or an address, "" for clients
	KindOther    = "other"    // what agents have counted without a name, because there was too much
	KindNode     = "node"     // a node itself: its own processes, such as the kubelet with its probes
)

// Resource is one end of traffic. If the question is about one namespace, then of a resource
// in another one the pods and nodes are not told.
type Resource struct {
	ID        int      `json:"id"`
	Kind      string   `json:"kind"` // in the singular: deployment, pod, namespace, service …
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Pods      int      `json:"pods,omitempty"`
	Meshed    int      `json:"meshed,omitempty"` // of Pods
	Ready     int      `json:"ready,omitempty"`  // of Pods
	Identity  string   `json:"identity,omitempty"`
	Nodes     []string `json:"nodes,omitempty"`    // of the pods, sorted
	Selected  bool     `json:"selected,omitempty"` // a pod has the labels of labelSelector
	// Partial: it has a pod on a node whose agent has not answered.
	Partial bool `json:"partial,omitempty"`
}

// Edge is what went from one resource to another, in one protocol and one way.
type Edge struct {
	Source      int `json:"source"`      // index in Resources
	Destination int `json:"destination"` // index in Resources
	// Addresses, ADDRESS:PORT, are those of a destination whose name, HOST:PORT, is from DNS: it
	// is what the client's resolver has said. They are sorted, and 64 at most.
	Addresses []string     `json:"addresses,omitempty"`
	Service   *ServiceName `json:"service,omitempty"`
	Protocol  string       `json:"protocol"`
	// Secured is the value of tls= in tap: true, same-node, no-identity, agent-down or
	// not-proxied. SecuredWhy is a sentence, "" if it is secured.
	Secured    string `json:"secured"`
	SecuredWhy string `json:"securedWhy"`
	Partial    bool   `json:"partial,omitempty"` // an agent that may have seen more of it has not answered
	// CoveredSeconds is the time that Total is of, if that is less than the whole: agents
	// remember nothing from before their start. Rates are of this time. It is the mean of
	// the agents that have told of the edge, by what they have counted. In the history that of
	// Figures counts instead, which has gaps.
	CoveredSeconds float64 `json:"coveredSeconds,omitempty"`
	Total          *Sums   `json:"total"`
	Points         []*Sums `json:"points,omitempty"` // by StepSeconds from Start on; null: nothing
}

// ServiceName names a Service.
type ServiceName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Sums is what happened in a time. Times are milliseconds.
type Sums struct {
	Requests uint64 `json:"requests,omitempty"` // that ended
	Success  uint64 `json:"success,omitempty"`
	// Failures are by reason, as in tap; status: the application's own answer, 5xx or a
	// gRPC code.
	Failures map[string]uint64 `json:"failures,omitempty"`
	Retries  uint64            `json:"retries,omitempty"` // attempts after the first
	Latency  *Latency          `json:"latency,omitempty"` // absent: no request
	Split    *Split            `json:"split,omitempty"`
	TCP      *TCP              `json:"tcp,omitempty"` // absent: no connection
	// Requests and connections that the server's policy refused, and those that it let in, to be
	// reported. Only the agent of the server's node knows the latter.
	Denied  uint64 `json:"denied,omitempty"`
	Audited uint64 `json:"audited,omitempty"`
}

// ReasonStatus stands in Sums.Failures for failures that the application itself answered.
const ReasonStatus = "status"

// Latency is the time from a request's head to the head of the response. Percentiles are
// off by at most 4.5 %.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"` // at most 9.1 % too high
	// Buckets are pairs of an index and a count. Bucket i has what is in
	// (2^((i-1)/8), 2^(i/8)] milliseconds. Only with buckets=true.
	Buckets [][2]int64 `json:"buckets,omitempty"`
}

// Split is where the time of a request goes, in the mean.
type Split struct {
	Queue     float64 `json:"queue"` // in the proxy
	Connect   float64 `json:"connect"`
	TLS       float64 `json:"tls"`
	FirstByte float64 `json:"firstByte"`
	Body      float64 `json:"body"`
}

// TCP is about connections.
type TCP struct {
	Open        uint64  `json:"open"` // at the end of the time
	Opened      uint64  `json:"opened,omitempty"`
	Closed      uint64  `json:"closed,omitempty"`
	Failed      uint64  `json:"failed,omitempty"`     // attempts that were not successful
	ReadBytes   uint64  `json:"readBytes,omitempty"`  // from the source
	WriteBytes  uint64  `json:"writeBytes,omitempty"` // to the source
	SRTT        float64 `json:"srtt,omitempty"`       // mean of the smoothed round-trip times, at the close and while they carry something
	MinRTT      float64 `json:"minRTT,omitempty"`     // mean of the lowest ones of these connections; the history does not have it
	Retransmits uint64  `json:"retransmits,omitempty"`
}
