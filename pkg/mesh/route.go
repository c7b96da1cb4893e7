package mesh

import (
	"iter"
	"time"
)

// Route is what an HTTPRoute, a GRPCRoute or an object translated to one says
// about the requests to one Service. An object with several parents gives
// several Routes. Like a Service it is immutable once published.
type Route struct {
	GRPC bool // matches gRPC methods, and says nothing of other requests
	// Kind, Namespace and Name are the object's: HTTPRoute, GRPCRoute,
	// TrafficSplit, or Service for annotations. They label metrics.
	Kind, Namespace, Name string
	Created               time.Time // of routes that match alike the older wins
	Parent                ServicePortRef
	// Hostnames that requests must be for; none: any. "*.example.com" stands
	// for all below. A mesh route has none: GEP-1294 reserves the field.
	Hostnames []string
	Rules     []RouteRule
}

// Consumer reports a route of another namespace than its Service's. It holds
// for clients of that namespace only (GEP-1294).
func (r *Route) Consumer() bool { return r.Namespace != r.Parent.Namespace }

// Services are those that r sends requests, or copies of them, to; some more
// than once.
func (r *Route) Services() iter.Seq[ServicePortRef] {
	return func(yield func(ServicePortRef) bool) {
		for i := range r.Rules {
			rule := &r.Rules[i]
			if !rule.Filters.mirrors(yield) {
				return
			}
			for j := range rule.Backends {
				b := &rule.Backends[j]
				if b.Invalid == "" && !yield(b.Service) || !b.Filters.mirrors(yield) {
					return
				}
			}
		}
	}
}

// ServicePortRef names a port of a Service.
type ServicePortRef struct {
	Namespace, Name string
	Port            uint16 // of a parent: 0 stands for all ports
}

// RouteRule says what to do with the requests that match.
type RouteRule struct {
	Name     string       // unique within the route, or ""
	Matches  []RouteMatch // one has to match; none: every request does
	Filters  RouteFilters
	Backends []RouteBackend
	Timeouts RouteTimeouts
	Retry    *RouteRetry // nil: the proxy's own, which never sends twice what a server may have seen
}

// RouteMatch matches a request that satisfies all of it. The zero RouteMatch
// matches every request.
type RouteMatch struct {
	Path    PathMatch // of an HTTP route
	Method  string    // of an HTTP route, "" is any
	Headers []ValueMatch
	Query   []ValueMatch    // of an HTTP route
	GRPC    GRPCMethodMatch // of a gRPC route
}

// PathMatchKind is how a path is compared: always with case, and without the
// query.
type PathMatchKind uint8

const (
	PathPrefix PathMatchKind = iota // whole elements: /a matches /a, /a/ and /a/b, not /ab
	PathExact
	PathRegex // RE2, the whole path
)

// PathMatch compares a path. The zero PathMatch matches every path.
type PathMatch struct {
	Kind  PathMatchKind
	Value string
}

// ValueMatch compares the value of a header field or query parameter with a
// string, or with a regular expression (RE2) that it must match as a whole. Of
// several with one name the first counts.
type ValueMatch struct {
	Name  string // header names in any case
	Value string
	Regex bool
}

// GRPCMethodMatch compares the service and the method of a gRPC call. Empty
// parts match any.
type GRPCMethodMatch struct {
	Service, Method string
	Regex           bool // both are RE2, to match as a whole
}

// RouteBackend is a place where requests go.
type RouteBackend struct {
	Service ServicePortRef
	Weight  uint32 // share: weight by the sum of the rule's weights
	Filters RouteFilters
	// Invalid is why there is no such backend, or "". Its share is answered 500.
	Invalid string
}

// RouteTimeouts bound a request. Zero: no bound.
type RouteTimeouts struct {
	Request        time.Duration // with all its attempts, from its head to the response's end
	BackendRequest time.Duration // one attempt
}

// RouteRetry says when a failed request is sent again (GEP-1731): on a listed
// code, whatever the method, and on connection errors and timeouts.
type RouteRetry struct {
	Codes     []uint16 // HTTP status, 400 to 599
	GRPCCodes []uint8  // grpc-status, 1 to 16
	Attempts  int      // after the first; 0: none
	Backoff   time.Duration
	// AnyMethod also repeats after a connection error or timeout what is not
	// idempotent, though the server may have begun to act on it.
	AnyMethod bool
}
