package mesh

import "time"

// RouteFilters change requests and responses on their way, or answer them. Of
// each kind there is at most one, mirrors apart, so that their order means
// nothing; those of a backend are applied after the rule's.
type RouteFilters struct {
	RequestHeaders  *HeaderModifier
	ResponseHeaders *HeaderModifier
	Redirect        *RouteRedirect
	Rewrite         *RouteRewrite
	Mirrors         []RouteMirror
	Fault           *RouteFault
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

// HeaderField is a field of a request's or response's head.
type HeaderField struct{ Name, Value string }

// HeaderModifier changes header fields: a name is in one of the three lists.
type HeaderModifier struct {
	Set    []HeaderField // instead of all of that name
	Add    []HeaderField // besides those of that name
	Remove []string
}

// PathRewriteKind is which part of a path is replaced.
type PathRewriteKind uint8

const (
	PathKeep          PathRewriteKind = iota
	PathReplaceFull                   // all of it; the query stays
	PathReplacePrefix                 // what a PathPrefix matched
)

// PathRewrite replaces a path or a part of it.
type PathRewrite struct {
	Kind  PathRewriteKind
	Value string
}

// RouteRedirect answers a request with another place to go to. Empty parts are
// the request's, but for the port: see Port.
type RouteRedirect struct {
	Scheme   string // http, https or ""
	Hostname string
	Port     uint16 // 0: the scheme's, where Scheme is given, else the parent's
	Path     PathRewrite
	Status   int // 301, 302, 303, 307 or 308
}

// RouteRewrite changes the target of a request that is forwarded.
type RouteRewrite struct {
	Hostname string // new value of Host and :authority, "" keeps it
	Path     PathRewrite
}

// RouteMirror sends copies of requests elsewhere, whose answers nobody reads.
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

// Fraction of all requests. The zero Fraction is all of them.
type Fraction struct{ Numerator, Denominator uint32 }
