package codec

import (
	"fmt"
	"math"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

func decodeFilters(f *pb.RouteFilters) (out mesh.RouteFilters, err error) {
	out = mesh.RouteFilters{
		RequestHeaders: decodeHeaders(f.GetRequestHeaders()), ResponseHeaders: decodeHeaders(f.GetResponseHeaders()), Invalid: f.GetInvalid(),
	}
	if r := f.GetRedirect(); r != nil {
		if out.Redirect, err = decodeRedirect(r); err != nil {
			return out, err
		}
	}
	if r := f.GetRewrite(); r != nil {
		out.Rewrite = &mesh.RouteRewrite{Hostname: r.GetHostname()}
		if out.Rewrite.Path, err = decodePath(r.GetPath()); err != nil {
			return out, err
		}
	}
	for _, m := range f.GetMirrors() {
		to, err := decodeRef(m.GetService())
		if err != nil {
			return out, err
		}
		out.Mirrors = append(out.Mirrors, mesh.RouteMirror{Service: to, Share: decodeShare(m.GetShare())})
	}
	if t := f.GetFault(); t != nil {
		if out.Fault, err = decodeFault(t); err != nil {
			return out, err
		}
	}
	if e := f.GetExternalAuth(); e != nil {
		if out.Invalid == askUnknown {
			out.Invalid = ""
		}
		if out.External, err = decodeExternal(e); err != nil {
			out.Invalid = err.Error() // a route that is left out would let the requests through
		}
	}
	return out, nil
}

func decodeHeaders(m *pb.HeaderModifier) *mesh.HeaderModifier {
	if m == nil {
		return nil
	}
	return &mesh.HeaderModifier{Set: decodeFields(m.GetSet()), Add: decodeFields(m.GetAdd()), Remove: m.GetRemove()}
}

func decodeFields(all []*pb.HeaderField) (out []mesh.HeaderField) {
	for _, f := range all {
		out = append(out, mesh.HeaderField{Name: f.GetName(), Value: f.GetValue()})
	}
	return out
}

func decodeRedirect(r *pb.RouteRedirect) (*mesh.RouteRedirect, error) {
	if r.GetPort() > math.MaxUint16 || r.GetStatus() > math.MaxUint16 {
		return nil, fmt.Errorf("redirect to port %d with status %d", r.GetPort(), r.GetStatus())
	}
	path, err := decodePath(r.GetPath())
	return &mesh.RouteRedirect{
		Scheme: r.GetScheme(), Hostname: r.GetHostname(), Port: uint16(r.GetPort()), Path: path, Status: int(r.GetStatus()),
	}, err
}

func decodePath(p *pb.PathRewrite) (mesh.PathRewrite, error) {
	switch p.GetKind() {
	case pb.PathRewrite_KEEP, pb.PathRewrite_FULL, pb.PathRewrite_PREFIX:
		return mesh.PathRewrite{Kind: mesh.PathRewriteKind(p.GetKind()), Value: p.GetValue()}, nil
	}
	return mesh.PathRewrite{}, fmt.Errorf("rewrite of paths %d is not known to this agent", p.GetKind())
}

func decodeShare(f *pb.Fraction) mesh.Fraction {
	return mesh.Fraction{Numerator: f.GetNumerator(), Denominator: f.GetDenominator()}
}

func decodeFault(f *pb.RouteFault) (*mesh.RouteFault, error) {
	if f.GetAbortStatus() > math.MaxUint16 || f.GetAbortGrpc() > math.MaxUint16 {
		return nil, fmt.Errorf("fault with status %d, gRPC status %d", f.GetAbortStatus(), f.GetAbortGrpc())
	}
	delay, err := decodeDuration(f.GetDelay())
	return &mesh.RouteFault{
		Delay: delay, DelayShare: decodeShare(f.GetDelayShare()),
		AbortStatus: int(f.GetAbortStatus()), AbortGRPC: int(f.GetAbortGrpc()), AbortShare: decodeShare(f.GetAbortShare()),
	}, err
}
