package l7proxy

import (
	"errors"
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// malformed refuses a request that breaks the protocol (RFC 9113 §8.1.1). The
// answer says why, and has no end but the reset, which is what the protocol wants.
// A gRPC call's answer is whole: its status is the reason.
func (srv *h2server) malformed(ev *http2.Event, b *h2batch) {
	const reason = mesh.ReasonBadRequest
	s := srv.session
	s.proxy.Log.Debug("malformed HTTP/2 request", "src", s.Source.Addr, "dst", s.Original, "cause", ev.Reason)
	line := requestLine(ev.Fields)
	grpc := line.GRPC
	var x Exchange
	x.Begin(s, uint64(ev.Stream), RequestLine{Protocol: line.Protocol, GRPC: grpc}) // its strings may be anything
	reply := http1.ReplyOf(reason)
	fields := []http2.Field{{Name: ":status", Value: strconv.Itoa(reply.Status)}, {Name: http1.ReasonHeader, Value: reason.String()}}
	if grpc {
		fields = grpcReply(&reply)
	}
	_ = srv.headers(ev.Stream, fields, grpc, b)
	srv.reset(ev.Stream, http2.ProtocolError, b)
	x.End(End{Reason: reason, Status: reply.Status, GRPCStatus: reply.GRPC, Reset: true, ResetCode: uint32(http2.ProtocolError)})
}

// endReason says why reading from an HTTP/2 client ended.
func endReason(err error) mesh.Reason {
	broken := new(http2.ConnError)
	switch {
	case !errors.As(err, &broken):
		return mesh.ReasonClientReset
	case broken.Code == http2.EnhanceYourCalm:
		return mesh.ReasonOverload
	}
	return mesh.ReasonBadRequest
}
