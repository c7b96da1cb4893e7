// Package reply makes the responses that the proxy itself gives, over HTTP/1, HTTP/2
// and gRPC, of one table: that of reasons in package mesh.
package reply

import (
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// ReasonHeader is the field of every response that the proxy itself gives: its value
// is the reason's name.
const ReasonHeader = "underlane-reason"

// Reply is a response that the proxy itself gives.
type Reply struct {
	Status   int         // of HTTP; a gRPC request is answered with 200
	GRPC     int         // value of grpc-status
	Reason   mesh.Reason // ReasonNone: a redirect
	Location string      // of a redirect, else ""
}

// Of is the reply that reason has in the table of package mesh; without a status
// where no response is ever made for it.
func Of(reason mesh.Reason) Reply {
	return Reply{Status: reason.HTTPStatus(), GRPC: reason.GRPCCode(), Reason: reason}
}

// Fault answers a request that a route makes to fail: with status, for gRPC the code
// of grpc-status.
func Fault(status int, grpc bool) Reply {
	if grpc {
		return Reply{Status: 200, GRPC: status, Reason: mesh.ReasonFault}
	}
	return Reply{Status: status, Reason: mesh.ReasonFault}
}

// Codes of gRPC (its doc/statuscodes.md) that are made here, beside those of mesh's
// table.
const (
	grpcCancelled   = 1
	grpcUnknown     = 2
	grpcExhausted   = 8
	grpcInternal    = 13
	grpcUnavailable = 14
)

// NoGRPCStatus stands for a gRPC status that was not seen.
const NoGRPCStatus = -1

// GRPCStatus is the number in a field grpc-status, NoGRPCStatus if there is none.
func GRPCStatus(value string) int {
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	return NoGRPCStatus
}

// GRPCOfReset is the status that RST_STREAM with that code is for a gRPC client
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

// FinalGRPCStatus is the status that the client of a gRPC call sees, also where none
// was sent.
func FinalGRPCStatus(seen int) int {
	if seen < 0 {
		return grpcUnknown
	}
	return seen
}

// appendPercent encodes a grpc-message: printable ASCII but '%' stands for itself.
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
