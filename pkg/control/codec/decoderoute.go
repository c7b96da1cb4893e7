package codec

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// decodeRoute checks that every value is in its range. The meaning of the values is
// checked where a route is compiled.
func decodeRoute(r *pb.Route) (*mesh.Route, error) {
	out := &mesh.Route{
		GRPC: r.GetGrpc(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName(), Hostnames: r.GetHostnames(),
		Layer: mesh.RouteLayer(r.GetLayer()), Egress: r.GetEgress(),
	}
	if r.GetLayer() < 0 || r.GetLayer() > pb.Route_TCP {
		return nil, fmt.Errorf("layer %d is not known to this agent", r.GetLayer())
	}
	if r.GetCreated() != nil {
		out.Created = r.GetCreated().AsTime()
	}
	var err error
	if out.Parent, err = decodeRef(r.GetParent()); err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	for i, rule := range r.GetRules() {
		decoded, err := decodeRule(rule)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		out.Rules = append(out.Rules, decoded)
	}
	return out, nil
}

// decodeRef accepts port 0, which stands for all ports of a parent.
func decodeRef(r *pb.ServicePortRef) (mesh.ServicePortRef, error) {
	if r.GetPort() > math.MaxUint16 {
		return mesh.ServicePortRef{}, fmt.Errorf("%d is not a port", r.GetPort())
	}
	return mesh.ServicePortRef{Namespace: r.GetNamespace(), Name: r.GetName(), Port: uint16(r.GetPort())}, nil
}

func decodeRule(r *pb.RouteRule) (out mesh.RouteRule, err error) {
	out.Name = r.GetName()
	for _, m := range r.GetMatches() {
		match, err := decodeMatch(m)
		if err != nil {
			return out, err
		}
		out.Matches = append(out.Matches, match)
	}
	if out.Filters, err = decodeFilters(r.GetFilters()); err != nil {
		return out, err
	}
	for _, b := range r.GetBackends() {
		backend := mesh.RouteBackend{Weight: b.GetWeight(), Invalid: b.GetInvalid(), Original: b.GetOriginal()}
		if backend.Service, err = decodeRef(b.GetService()); err != nil {
			return out, err
		}
		if backend.Filters, err = decodeFilters(b.GetFilters()); err != nil {
			return out, err
		}
		out.Backends = append(out.Backends, backend)
	}
	if out.Timeouts.Request, err = decodeDuration(r.GetRequestTimeout()); err != nil {
		return out, err
	}
	if out.Timeouts.BackendRequest, err = decodeDuration(r.GetBackendRequestTimeout()); err != nil {
		return out, err
	}
	out.Retry, err = decodeRetry(r.GetRetry())
	return out, err
}

func decodeMatch(m *pb.RouteMatch) (out mesh.RouteMatch, err error) {
	switch m.GetPathKind() {
	case pb.RouteMatch_PREFIX, pb.RouteMatch_EXACT, pb.RouteMatch_REGEX:
	default:
		return out, fmt.Errorf("match of paths %d is not known to this agent", m.GetPathKind())
	}
	out = mesh.RouteMatch{
		Path:    mesh.PathMatch{Kind: mesh.PathMatchKind(m.GetPathKind()), Value: m.GetPath()},
		Method:  m.GetMethod(),
		Headers: decodeValues(m.GetHeaders()), Query: decodeValues(m.GetQuery()),
		GRPC: mesh.GRPCMethodMatch{Service: m.GetGrpcService(), Method: m.GetGrpcMethod(), Regex: m.GetGrpcRegex()},
	}
	if m.GetPathUnknown() {
		out.Path, out.GRPC = mesh.PathMatch{Kind: mesh.PathUnknown, Value: m.GetPath()}, mesh.GRPCMethodMatch{}
	}
	return out, nil
}

func decodeValues(all []*pb.ValueMatch) (out []mesh.ValueMatch) {
	for _, v := range all {
		out = append(out, mesh.ValueMatch{Name: v.GetName(), Value: v.GetValue(), Regex: v.GetRegex(), Unknown: v.GetUnknown()})
	}
	return out
}

func decodeDuration(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, err
	}
	return d.AsDuration(), nil
}

func decodeRetry(r *pb.RouteRetry) (*mesh.RouteRetry, error) {
	if r == nil {
		return nil, nil
	}
	if r.GetAttempts() > math.MaxInt32 {
		return nil, fmt.Errorf("%d attempts", r.GetAttempts())
	}
	out := &mesh.RouteRetry{Attempts: int(r.GetAttempts()), AnyMethod: r.GetAnyMethod()}
	for _, c := range r.GetCodes() {
		if c > math.MaxUint16 {
			return nil, fmt.Errorf("HTTP status %d", c)
		}
		out.Codes = append(out.Codes, uint16(c))
	}
	for _, c := range r.GetGrpcCodes() {
		if c > math.MaxUint8 {
			return nil, fmt.Errorf("gRPC status %d", c)
		}
		out.GRPCCodes = append(out.GRPCCodes, uint8(c))
	}
	var err error
	out.Backoff, err = decodeDuration(r.GetBackoff())
	return out, err
}
