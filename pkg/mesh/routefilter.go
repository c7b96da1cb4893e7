package mesh

import "time"

// RouteFilters change requests and responses, or answer requests. There is at
// most one filter of each kind, except mirrors, so their order has no meaning. A
// backend's filters are applied after the rule's.
type RouteFilters struct {
	RequestHeaders  *HeaderModifier
	ResponseHeaders *HeaderModifier
	Redirect        *RouteRedirect
	Rewrite         *RouteRewrite
	Mirrors         []RouteMirror
	Fault           *RouteFault
	External        *ExternalAuth // has to allow the request; nil: nobody is asked
	// Invalid is why a filter cannot be applied, or "". It must not be skipped:
	// the requests are answered 500.
	Invalid string
}

func (f *RouteFilters) mirrors(yield func(ServicePortRef) bool) bool {
	for i := range f.Mirrors {
		if !yield(f.Mirrors[i].Service) {
			return false
		}
	}
	return true
}

// HeaderField is a header field of a request or response.
type HeaderField struct{ Name, Value string }

// HeaderModifier changes header fields. A name is in only one of the three
// lists.
type HeaderModifier struct {
	Set    []HeaderField // replace all fields of that name
	Add    []HeaderField // keep existing fields of that name
	Remove []string
}

// PathRewriteKind says which part of a path is replaced.
type PathRewriteKind uint8

const (
	PathKeep          PathRewriteKind = iota
	PathReplaceFull                   // the whole path; the query stays
	PathReplacePrefix                 // the prefix that a PathPrefix matched
)

// PathRewrite replaces a path or a part of it.
type PathRewrite struct {
	Kind  PathRewriteKind
	Value string
}

// RouteRedirect answers a request with a redirect. Parts that are empty are
// copied from the request, except for the port: see Port.
type RouteRedirect struct {
	Scheme   string // http, https or ""
	Hostname string
	Port     uint16 // 0: the default port of Scheme if that is set, else the parent's port
	Path     PathRewrite
	Status   int // 301, 302, 303, 307 or 308
}

// RouteRewrite changes the target of a request that is forwarded.
type RouteRewrite struct {
	Hostname string // new value of Host and :authority, "" keeps it
	Path     PathRewrite
}

// RouteMirror sends copies of requests to another Service. The responses to the
// copies are discarded.
type RouteMirror struct {
	Service ServicePortRef
	Share   Fraction
}

// RouteFault makes requests fail on purpose: Underlane's experimental filter.
type RouteFault struct {
	Delay      time.Duration // before the request is sent; 0: none
	DelayShare Fraction
	// AbortStatus, or for gRPC calls AbortGRPC, answers the request; both 0: none.
	AbortStatus int
	AbortGRPC   int
	AbortShare  Fraction
}

// Fraction is a share of all requests. The zero Fraction is all of them.
type Fraction struct{ Numerator, Denominator uint32 }
