package h2

import (
	"errors"
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// malformed refuses a malformed request (RFC 9113 §8.1.1). The response names the reason,
// and is ended by the RST_STREAM that the protocol requires. The response to a gRPC call is
// complete before that, because its status is the reason.
func (srv *session) malformed(ev *http2.Event, b *h2conn.Batch) {
	const reason = mesh.ReasonBadRequest
	s := srv.s
	s.Log.Debug("malformed HTTP/2 request", "src", s.Source.Addr, "dst", s.Original, "cause", ev.Reason)
	line := requestLine(ev.Fields)
	grpc := line.GRPC
	var x request.Exchange
	x.Begin(s, uint64(ev.Stream), request.Line{Protocol: line.Protocol, GRPC: grpc}) // its fields are not validated: none is shown
	r := reply.Of(reason)
	fields := []http2.Field{{Name: ":status", Value: strconv.Itoa(r.Status)}, {Name: reply.ReasonHeader, Value: reason.String()}}
	if grpc {
		fields = reply.GRPC(&r)
	}
	_ = srv.Headers(ev.Stream, fields, grpc, b)
	srv.Reset(ev.Stream, http2.ProtocolError, b)
	x.End(request.End{Reason: reason, Status: r.Status, GRPCStatus: r.GRPC, Reset: true, ResetCode: uint32(http2.ProtocolError)})
}

// EndReason is the reason for which reading from an HTTP/2 client ended with err.
func EndReason(err error) mesh.Reason {
	broken := new(http2.ConnError)
	switch {
	case !errors.As(err, &broken):
		return mesh.ReasonClientReset
	case broken.Code == http2.EnhanceYourCalm:
		return mesh.ReasonOverload
	}
	return mesh.ReasonBadRequest
}
