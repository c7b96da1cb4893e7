package codec

import (
	"fmt"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// askUnknown is RouteFilters.invalid of a rule with an external authorizer. An agent that
// knows of no such thing refuses the requests for it, instead of letting them through.
const askUnknown = "this agent cannot ask the external authorizer: it is older than the controller"

func encodeExternal(e *mesh.ExternalAuth) *pb.ExternalAuth {
	out := &pb.ExternalAuth{
		Grpc: e.GRPC, Service: encodeRef(e.Service), Timeout: encodeDuration(e.Timeout), FailOpen: e.FailOpen,
		StatusOnError: uint32(e.StatusOnError), PathPrefix: e.PathPrefix, RequestHeaders: e.RequestHeaders,
		AddHeaders: encodeFields(e.AddHeaders), UpstreamHeaders: e.UpstreamHeaders, DenyHeaders: e.DenyHeaders,
		AllowHeaders: e.AllowHeaders, MaxBody: uint32(e.MaxBody), PartialBody: e.PartialBody,
	}
	for _, a := range e.Addrs {
		out.Addrs = append(out.Addrs, a.AsSlice())
	}
	return out
}

func decodeExternal(e *pb.ExternalAuth) (*mesh.ExternalAuth, error) {
	if hasUnknown(e.ProtoReflect()) {
		return nil, fmt.Errorf("external authorizer: %s", notKnown)
	}
	out := &mesh.ExternalAuth{
		GRPC: e.GetGrpc(), FailOpen: e.GetFailOpen(), StatusOnError: int(e.GetStatusOnError()), PathPrefix: e.GetPathPrefix(),
		RequestHeaders: e.GetRequestHeaders(), AddHeaders: decodeFields(e.GetAddHeaders()), UpstreamHeaders: e.GetUpstreamHeaders(),
		DenyHeaders: e.GetDenyHeaders(), AllowHeaders: e.GetAllowHeaders(), MaxBody: int(e.GetMaxBody()), PartialBody: e.GetPartialBody(),
	}
	var err error
	if out.Service, err = decodeRef(e.GetService()); err != nil {
		return nil, err
	}
	if out.Timeout, err = decodeDuration(e.GetTimeout()); err != nil {
		return nil, err
	}
	if out.Addrs, err = decodeAddrs(e.GetAddrs()); err != nil {
		return nil, err
	}
	return out, nil
}

func (d *authzDecoder) authorizer(a *pb.AuthzAuthorizer) authz.Authorizer {
	if hasUnknown(a.ProtoReflect()) || a.GetAuth() == nil {
		d.fail(fmt.Errorf("authorizer %q: %s", a.GetName(), notKnown))
		return authz.Authorizer{}
	}
	auth, err := decodeExternal(a.GetAuth())
	if err != nil {
		d.fail(fmt.Errorf("authorizer %q: %w", a.GetName(), err))
		return authz.Authorizer{}
	}
	return authz.Authorizer{Name: a.GetName(), ExternalAuth: *auth}
}
