package tapv1alpha1

import (
	"net/url"
	"path"
	"time"
)

// RoutesPath is the path of the routes of a namespace, or of all of them with "".
func RoutesPath(namespace string) string {
	if namespace == "" {
		return Prefix + "/routes"
	}
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), "routes")
}

// RouteList is the answer of …/routes: the routes that are or whose Services are in a
// namespace, and what their requests did. Its parameters are those of …/figures.
type RouteList struct {
	Kind       string    `json:"kind"` // RouteList
	APIVersion string    `json:"apiVersion"`
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	Nodes      Nodes     `json:"nodes"`
	Warnings   []string  `json:"warnings"`
	Items      []Route   `json:"items"`
}

// Route is one object that routes requests to one Service.
type Route struct {
	Kind      string      `json:"kind"` // HTTPRoute, GRPCRoute, TrafficSplit; Service: annotations; "": requests that no route had a say in
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	Parent    ServiceName `json:"parent"`
	Rules     []RouteRule `json:"rules"`
}

// RouteRule is one rule of a route.
type RouteRule struct {
	Name     string         `json:"name"`    // or its index from 0
	Matches  []string       `json:"matches"` // as text; one has to match
	Backends []RouteBackend `json:"backends"`
	Timeouts string         `json:"timeouts,omitempty"` // as text
	Retries  string         `json:"retries,omitempty"`  // as text
	Total    RouteTotal     `json:"total"`
	// CoveredSeconds is that of Edge.
	CoveredSeconds float64 `json:"coveredSeconds,omitempty"`
}

// RouteBackend is a Service that gets a share of a rule's requests.
type RouteBackend struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Weight    uint32 `json:"weight"`
	Invalid   string `json:"invalid,omitempty"` // why it cannot be used
	// Total is what went to the workloads behind the Service. Two backends with the same
	// workloads have the same.
	Total *Sums `json:"total,omitempty"`
}

// RouteTotal is what became of the requests: as clients see it (effective), and as servers
// do, retries included (actual).
type RouteTotal struct {
	Effective *Sums `json:"effective"`
	Actual    *Sums `json:"actual"`
}

// ReasonRetried stands in the Failures of RouteTotal.Actual for attempts that a retry
// followed.
const ReasonRetried = "retried"
