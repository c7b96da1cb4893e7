package mesh

import (
	"net/netip"
	"strings"
	"time"
)

// ExternalAuth is an external authorizer, and how it is asked about a request before the
// request is forwarded. Like a Route, it is immutable once published.
type ExternalAuth struct {
	// GRPC: it is asked by envoy.service.auth.v3.Authorization/Check, otherwise by a request
	// of HTTP/1.
	GRPC    bool
	Service ServicePortRef
	Addrs   []netip.Addr // cluster IPs of Service, at which it is reached
	// Timeout bounds a question with its answer. 0: DefaultExternalAuthTimeout.
	Timeout time.Duration
	// FailOpen lets requests through while the authorizer cannot be asked.
	FailOpen bool
	// StatusOnError is the HTTP status of the answer to a request that could not be asked
	// about. 0: that of ReasonExternalUnavailable.
	StatusOnError int

	PathPrefix string // HTTP: before the path of the request
	// RequestHeaders are the fields of the request that the authorizer sees. HTTP: besides
	// Host, Content-Length and Authorization, which it always sees.
	RequestHeaders FieldNames
	AddHeaders     []HeaderField // HTTP: for the authorizer
	// UpstreamHeaders, HTTP: fields of an answer that allows which replace those of the
	// request.
	UpstreamHeaders FieldNames
	// DenyHeaders, HTTP: fields of an answer that refuses which the client gets.
	DenyHeaders FieldNames
	// AllowHeaders, HTTP: fields of an answer that allows which are added to the response
	// for the client.
	AllowHeaders FieldNames

	// MaxBody is how much of the request's body the authorizer sees, in bytes. 0: nothing.
	MaxBody int
	// PartialBody: of a longer body it sees the begin. Otherwise the request is refused with
	// 413.
	PartialBody bool
}

// DefaultExternalAuthTimeout is the time limit of a question to an authorizer that has none.
const DefaultExternalAuthTimeout = time.Second

// Limit returns the time limit of a question.
func (e *ExternalAuth) Limit() time.Duration {
	if e.Timeout <= 0 {
		return DefaultExternalAuthTimeout
	}
	return e.Timeout
}

// FieldNames says which header fields are meant: their names in lower case. A name with '*'
// at its end or begin stands for all that begin or end so, "*" for all. An empty list is none.
type FieldNames []string

// Has reports whether the field of a name, in lower case, is meant.
func (f FieldNames) Has(name string) bool {
	for _, pattern := range f {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, prefix) {
			return true
		}
		if suffix, ok := strings.CutPrefix(pattern, "*"); ok && strings.HasSuffix(name, suffix) {
			return true
		}
		if pattern == name {
			return true
		}
	}
	return false
}
