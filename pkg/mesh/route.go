package mesh

import (
	"iter"
	"slices"
	"time"
)

// Route is what an HTTPRoute, a GRPCRoute or an object translated to one says
// about the requests to one Service. An object with several parents gives
// several Routes. Like a Service, a Route is immutable once published.
type Route struct {
	GRPC bool // the route matches gRPC methods and does not apply to other requests
	// Layer says what the route is about. Other layers than LayerHTTP are of routes whose
	// parent is an EgressNetwork.
	Layer RouteLayer
	// Egress: Parent names an EgressNetwork and not a Service.
	Egress bool
	// Kind, Namespace and Name identify the object: HTTPRoute, GRPCRoute,
	// TrafficSplit, or Service for annotations. They label metrics.
	Kind, Namespace, Name string
	Created               time.Time // the older of two routes with equal matches wins
	Parent                ServicePortRef
	// Hostnames are the hosts that the route applies to; none: all hosts.
	// "*.example.com" stands for all names below. A mesh route has none: GEP-1294
	// reserves the field.
	Hostnames []string
	Rules     []RouteRule
}

// Consumer reports whether r is a consumer route: its namespace is not that of
// its Service. Such a route applies only to clients of its own namespace
// (GEP-1294).
func (r *Route) Consumer() bool { return r.Namespace != r.Parent.Namespace }

// RouteLayer is what a route is about.
type RouteLayer uint8

const (
	LayerHTTP RouteLayer = iota // requests
	LayerTLS                    // TLS that the client speaks with the server: hostnames are compared with the SNI
	LayerTCP                    // connections, whatever they carry
)

// Services yields the backends to which r sends requests or copies of them. A
// backend may come more than once.
func (r *Route) Services() iter.Seq[ServicePortRef] {
	return func(yield func(ServicePortRef) bool) {
		for i := range r.Rules {
			rule := &r.Rules[i]
			if !rule.Filters.mirrors(yield) {
				return
			}
			for j := range rule.Backends {
				b := &rule.Backends[j]
				if b.Invalid == "" && !b.Original && !yield(b.Service) || !b.Filters.mirrors(yield) {
					return
				}
			}
		}
	}
}

// Asks reports whether an external authorizer has to allow requests of r.
func (r *Route) Asks() bool {
	for i := range r.Rules {
		rule := &r.Rules[i]
		if rule.Filters.External != nil || slices.ContainsFunc(rule.Backends, func(b RouteBackend) bool { return b.Filters.External != nil }) {
			return true
		}
	}
	return false
}

// ServicePortRef names a port of a Service.
type ServicePortRef struct {
	Namespace, Name string
	Port            uint16 // in Route.Parent, 0 stands for all ports
}

// RouteRule says what to do with the requests that match.
type RouteRule struct {
	Name     string       // unique within the route, or ""
	Matches  []RouteMatch // at least one has to match; with none, every request matches
	Filters  RouteFilters
	Backends []RouteBackend
	Timeouts RouteTimeouts
	Retry    *RouteRetry // nil: the proxy's default, which never repeats a request that a server may have seen
}

// RouteMatch matches a request that satisfies all of its conditions. The zero
// RouteMatch matches every request.
type RouteMatch struct {
	Path    PathMatch // HTTP routes only
	Method  string    // HTTP routes only; "": any
	Headers []ValueMatch
	Query   []ValueMatch    // HTTP routes only
	GRPC    GRPCMethodMatch // gRPC routes only
}

// PathMatchKind is how a path is compared. Comparison is always case-sensitive
// and ignores the query.
type PathMatchKind uint8

const (
	PathPrefix PathMatchKind = iota // whole elements: /a matches /a, /a/ and /a/b, not /ab
	PathExact
	PathRegex // RE2, must match the whole path
	// PathUnknown: it is not known how. Every path of which the value is a prefix (of whole elements)
	// may match, before all that is known: the rule refuses requests.
	PathUnknown
)

// PathMatch compares a path. The zero PathMatch matches every path.
type PathMatch struct {
	Kind  PathMatchKind
	Value string
}

// ValueMatch compares the value of a header field or query parameter with a
// string, or with a regular expression (RE2) that must match the whole value. If
// a request repeats the name, only the first value is compared.
type ValueMatch struct {
	Name  string // header names in any case
	Value string
	Regex bool
	// Unknown: it is not known how. Every request may match, also one without the field or
	// parameter: the rule refuses requests.
	Unknown bool
}

// GRPCMethodMatch compares the service and the method of a gRPC call. Empty
// parts match any.
type GRPCMethodMatch struct {
	Service, Method string
	Regex           bool // both are RE2 and must match the whole name
}

// RouteBackend is a Service that gets a share of a rule's requests.
type RouteBackend struct {
	Service ServicePortRef
	// Original: the backend is where the client wanted to connect to, and Service is empty.
	// Routes of EgressNetworks have that.
	Original bool
	Weight   uint32 // the share is Weight divided by the sum of the rule's weights
	Filters  RouteFilters
	// Invalid is why the backend cannot be used, or "". The share of an invalid
	// backend is answered 500.
	Invalid string
}

// RouteTimeouts bound a request. Zero: no bound.
type RouteTimeouts struct {
	Request        time.Duration // all attempts together, from the request's head to the response's end
	BackendRequest time.Duration // one attempt
}

// RouteRetry says when a failed request is sent again (GEP-1731): on a listed
// code, whatever the method, and on connection errors and timeouts.
type RouteRetry struct {
	Codes     []uint16 // HTTP status, 400 to 599
	GRPCCodes []uint8  // grpc-status, 1 to 16
	Attempts  int      // after the first; 0: none
	Backoff   time.Duration
	// AnyMethod also repeats requests that are not idempotent after a connection
	// error or a timeout, though the server may have begun to act on them.
	AnyMethod bool
}
