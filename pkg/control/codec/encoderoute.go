package codec

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func EncodeRoute(r *mesh.Route) *pb.Resource {
	out := &pb.Route{
		Grpc: r.GRPC, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name,
		Parent: encodeRef(r.Parent), Hostnames: r.Hostnames,
		Layer: pb.Route_Layer(r.Layer), Egress: r.Egress,
	}
	if !r.Created.IsZero() {
		out.Created = timestamppb.New(r.Created)
	}
	for i := range r.Rules {
		out.Rules = append(out.Rules, encodeRule(&r.Rules[i]))
	}
	return &pb.Resource{Name: state.RouteName(r), Content: &pb.Resource_Route{Route: out}}
}

func encodeRef(r mesh.ServicePortRef) *pb.ServicePortRef {
	return &pb.ServicePortRef{Namespace: r.Namespace, Name: r.Name, Port: uint32(r.Port)}
}

func encodeRule(r *mesh.RouteRule) *pb.RouteRule {
	out := &pb.RouteRule{
		Name: r.Name, Filters: encodeFilters(&r.Filters),
		RequestTimeout: encodeDuration(r.Timeouts.Request), BackendRequestTimeout: encodeDuration(r.Timeouts.BackendRequest),
	}
	for i := range r.Matches {
		out.Matches = append(out.Matches, encodeMatch(&r.Matches[i]))
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		out.Backends = append(out.Backends, &pb.RouteBackend{
			Service: encodeRef(b.Service), Weight: b.Weight, Filters: encodeFilters(&b.Filters), Invalid: b.Invalid, Original: b.Original,
		})
	}
	if r.Retry != nil {
		out.Retry = &pb.RouteRetry{
			Attempts: uint32(max(r.Retry.Attempts, 0)), Backoff: encodeDuration(r.Retry.Backoff), AnyMethod: r.Retry.AnyMethod,
		}
		for _, c := range r.Retry.Codes {
			out.Retry.Codes = append(out.Retry.Codes, uint32(c))
		}
		for _, c := range r.Retry.GRPCCodes {
			out.Retry.GrpcCodes = append(out.Retry.GrpcCodes, uint32(c))
		}
	}
	return out
}

// encodeMatch encodes a path that may match for agents that do not know PathUnknown as any path, or
// as a prefix. Agents that do not know that it may have a value take it for any path.
func encodeMatch(m *mesh.RouteMatch) *pb.RouteMatch {
	out := &pb.RouteMatch{Method: m.Method, Headers: encodeValues(m.Headers), Query: encodeValues(m.Query)}
	if m.Path.Kind == mesh.PathUnknown {
		out.PathUnknown, out.Path = true, m.Path.Value
		return out
	}
	out.PathKind, out.Path = pb.RouteMatch_Path(m.Path.Kind), m.Path.Value
	out.GrpcService, out.GrpcMethod, out.GrpcRegex = m.GRPC.Service, m.GRPC.Method, m.GRPC.Regex
	return out
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func encodeValues(all []mesh.ValueMatch) (out []*pb.ValueMatch) {
	for _, v := range all {
		out = append(out, &pb.ValueMatch{Name: v.Name, Value: v.Value, Regex: v.Regex, Unknown: v.Unknown})
	}
	return out
}

func encodeFilters(f *mesh.RouteFilters) *pb.RouteFilters {
	out := &pb.RouteFilters{
		RequestHeaders: encodeHeaders(f.RequestHeaders), ResponseHeaders: encodeHeaders(f.ResponseHeaders), Invalid: f.Invalid,
	}
	if r := f.Redirect; r != nil {
		out.Redirect = &pb.RouteRedirect{
			Scheme: r.Scheme, Hostname: r.Hostname, Port: uint32(r.Port), Path: encodePath(r.Path), Status: uint32(r.Status),
		}
	}
	if r := f.Rewrite; r != nil {
		out.Rewrite = &pb.RouteRewrite{Hostname: r.Hostname, Path: encodePath(r.Path)}
	}
	for _, m := range f.Mirrors {
		out.Mirrors = append(out.Mirrors, &pb.RouteMirror{Service: encodeRef(m.Service), Share: encodeShare(m.Share)})
	}
	if t := f.Fault; t != nil {
		out.Fault = &pb.RouteFault{
			Delay: encodeDuration(t.Delay), DelayShare: encodeShare(t.DelayShare),
			AbortStatus: uint32(t.AbortStatus), AbortGrpc: uint32(t.AbortGRPC), AbortShare: encodeShare(t.AbortShare),
		}
	}
	if f.External != nil {
		out.ExternalAuth = encodeExternal(f.External)
		if out.Invalid == "" {
			out.Invalid = askUnknown
		}
	}
	return out
}

func encodePath(p mesh.PathRewrite) *pb.PathRewrite {
	return &pb.PathRewrite{Kind: pb.PathRewrite_Kind(p.Kind), Value: p.Value}
}

func encodeShare(f mesh.Fraction) *pb.Fraction {
	if f == (mesh.Fraction{}) {
		return nil
	}
	return &pb.Fraction{Numerator: f.Numerator, Denominator: f.Denominator}
}

func encodeHeaders(m *mesh.HeaderModifier) *pb.HeaderModifier {
	if m == nil {
		return nil
	}
	return &pb.HeaderModifier{Set: encodeFields(m.Set), Add: encodeFields(m.Add), Remove: m.Remove}
}

func encodeFields(all []mesh.HeaderField) (out []*pb.HeaderField) {
	for _, f := range all {
		out = append(out, &pb.HeaderField{Name: f.Name, Value: f.Value})
	}
	return out
}
