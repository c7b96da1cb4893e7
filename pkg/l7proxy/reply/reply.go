// Package reply makes the responses of the proxy itself, over HTTP/1, HTTP/2 and gRPC,
// from the table of reasons in package mesh.
package reply

import (
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// ReasonHeader is a field of every response of the proxy itself, except redirects. Its
// value is the name of the reason, followed by "; unsent" if the agent adds that the
// request was not sent to an application.
const ReasonHeader = "underlane-reason"

const unsentSuffix = "; unsent"

// ParseReason parses a value of ReasonHeader. reason is ReasonNone if it is none.
func ParseReason(value string) (reason mesh.Reason, unsent bool) {
	value, unsent = strings.CutSuffix(value, unsentSuffix)
	reason = mesh.ParseReason(value)
	return reason, unsent && reason != mesh.ReasonNone
}

// Reply is a response of the proxy itself.
type Reply struct {
	Status   int         // HTTP status; a failed gRPC request is answered with 200
	GRPC     int         // value of grpc-status
	Reason   mesh.Reason // ReasonNone: a redirect
	Unsent   bool        // no application has seen the request, which Reason leaves open
	Location string      // of a redirect; "" otherwise
	// Detail is more than Reason says of what is wrong, or "". It has no quotes, backslashes
	// and control characters.
	Detail string
	// Own is what an external authorizer has answered instead. nil: the text of Reason.
	Own *Own
}

// Own is the response of an authorizer.
type Own struct {
	Fields []mesh.HeaderField // without those that frame the response; names in lower case
	Body   []byte
}

// GRPCOfHTTP returns the gRPC status for an HTTP status (doc/http-grpc-status-mapping.md of
// gRPC).
func GRPCOfHTTP(status int) int {
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcDenied
	case 404:
		return grpcUnimplemented
	case 429, 502, 503, 504:
		return grpcUnavailable
	}
	return grpcUnknown
}

// Of returns the reply for reason from the table of package mesh. Its status is 0 if no
// response is ever made for the reason.
func Of(reason mesh.Reason) Reply {
	return Reply{Status: reason.HTTPStatus(), GRPC: reason.GRPCCode(), Reason: reason}
}

// reason returns the value of ReasonHeader.
func (r *Reply) reason() string {
	if r.Unsent {
		return r.Reason.String() + unsentSuffix
	}
	return r.Reason.String()
}

// text is what people read.
func (r *Reply) text() string {
	if r.Own != nil && len(r.Own.Body) > 0 && len(r.Own.Body) <= messageMost {
		return string(r.Own.Body)
	}
	if r.Detail == "" {
		return r.Reason.Text()
	}
	return r.Reason.Text() + ": " + r.Detail
}

// messageMost is the longest body of an authorizer that becomes a grpc-message, in bytes.
const messageMost = 1 << 10

// challenge returns the value of WWW-Authenticate (RFC 6750 §3, RFC 9110 §11.6.1), or "" if
// the reply has none.
func (r *Reply) challenge() string {
	if r.Reason != mesh.ReasonBadToken {
		return ""
	}
	if r.Detail == "" {
		return `Bearer error="invalid_token"`
	}
	return `Bearer error="invalid_token", error_description="` + r.Detail + `"`
}

// Fault returns the reply to a request that a route makes fail. status is the HTTP status
// or, for gRPC, the grpc-status.
func Fault(status int, grpc bool) Reply {
	if grpc {
		return Reply{Status: 200, GRPC: status, Reason: mesh.ReasonFault}
	}
	return Reply{Status: status, Reason: mesh.ReasonFault}
}

// gRPC status codes (doc/statuscodes.md of gRPC) that this package uses in addition to
// those of the table in package mesh.
const (
	grpcCancelled       = 1
	grpcUnknown         = 2
	grpcDenied          = 7
	grpcExhausted       = 8
	grpcUnimplemented   = 12
	grpcInternal        = 13
	grpcUnavailable     = 14
	grpcUnauthenticated = 16
)

// NoGRPCStatus stands for a missing gRPC status.
const NoGRPCStatus = -1

// GRPCStatus returns the number in the value of a grpc-status field, or NoGRPCStatus if it
// is not a number.
func GRPCStatus(value string) int {
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	return NoGRPCStatus
}

// GRPCOfReset returns the gRPC status that a client makes of an RST_STREAM with this code
// (PROTOCOL-HTTP2 of gRPC, "Errors").
func GRPCOfReset(code http2.ErrCode) int {
	switch code {
	case http2.Cancel:
		return grpcCancelled
	case http2.RefusedStream:
		return grpcUnavailable
	case http2.EnhanceYourCalm:
		return grpcExhausted
	}
	return grpcInternal
}

// FinalGRPCStatus returns the status that the client of a gRPC call sees: seen, or UNKNOWN
// if seen is NoGRPCStatus.
func FinalGRPCStatus(seen int) int {
	if seen < 0 {
		return grpcUnknown
	}
	return seen
}

// appendPercent appends s encoded as a grpc-message: printable ASCII except '%' stays as it
// is.
func appendPercent(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
