package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// httpFilters converts the filters of a gRPC route. They are a subset of those of
// HTTP routes, with the same meaning.
func httpFilters(filters []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	out := make([]gatewayv1.HTTPRouteFilter, len(filters))
	for i, f := range filters {
		out[i] = gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier, RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		}
	}
	return out
}

// filters translates the filters of a rule or backend. where is its name in
// problems.
func (d *routeDraft) filters(filters []gatewayv1.HTTPRouteFilter, where string) (out mesh.RouteFilters) {
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i := range filters {
		f, at := &filters[i], fmt.Sprintf("%s.filters[%d]", where, i)
		if seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			d.reject(gatewayv1.RouteReasonIncompatibleFilters, "%s: a second %s", at, f.Type)
		}
		seen[f.Type] = true
		if !d.filter(f, &out, at) {
			d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: of type %s, and does not say what to do", at, f.Type)
		}
	}
	if out.Redirect != nil && out.External != nil {
		d.reject(gatewayv1.RouteReasonIncompatibleFilters, "%s.filters: both a redirect and an external authorizer", where)
	}
	if out.Redirect != nil && out.Rewrite != nil {
		d.reject(gatewayv1.RouteReasonIncompatibleFilters, "%s.filters: both a redirect and a rewrite", where)
	}
	return out
}

// filter adds f to out. It reports whether f has the field that its type requires.
func (d *routeDraft) filter(f *gatewayv1.HTTPRouteFilter, out *mesh.RouteFilters, where string) bool {
	switch f.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		out.RequestHeaders = headerModifier(f.RequestHeaderModifier)
		return out.RequestHeaders != nil
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		out.ResponseHeaders = headerModifier(f.ResponseHeaderModifier)
		return out.ResponseHeaders != nil
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		if f.RequestRedirect == nil {
			return false
		}
		out.Redirect = d.redirect(f.RequestRedirect, where)
	case gatewayv1.HTTPRouteFilterURLRewrite:
		if f.URLRewrite == nil {
			return false
		}
		out.Rewrite = &mesh.RouteRewrite{Hostname: valueOf(f.URLRewrite.Hostname), Path: d.path(f.URLRewrite.Path, where)}
	case gatewayv1.HTTPRouteFilterRequestMirror:
		if f.RequestMirror == nil {
			return false
		}
		// A mirror whose backend does not resolve is left out. The requests are
		// still sent.
		if to, why := d.backend(&f.RequestMirror.BackendRef, where); why == "" {
			out.Mirrors = append(out.Mirrors, mesh.RouteMirror{Service: to, Share: d.share(f.RequestMirror, where)})
		}
	case gatewayv1.HTTPRouteFilterExternalAuth:
		if f.ExternalAuth == nil {
			return false
		}
		d.external(f.ExternalAuth, out, where)
	case gatewayv1.HTTPRouteFilterExtensionRef:
		if isFault(f.ExtensionRef) {
			d.fault(f.ExtensionRef, out, where)
			break
		}
		fallthrough
	default:
		out.Invalid = fmt.Sprintf("filter %s is not supported", f.Type)
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: %s", where, out.Invalid)
		d.refusals++
	}
	return true
}

func headerModifier(f *gatewayv1.HTTPHeaderFilter) *mesh.HeaderModifier {
	if f == nil {
		return nil
	}
	return &mesh.HeaderModifier{Set: headerFields(f.Set), Add: headerFields(f.Add), Remove: f.Remove}
}

func headerFields(fields []gatewayv1.HTTPHeader) []mesh.HeaderField {
	var out []mesh.HeaderField
	for _, f := range fields {
		out = append(out, mesh.HeaderField{Name: string(f.Name), Value: f.Value})
	}
	return out
}

func (d *verdicts) redirect(f *gatewayv1.HTTPRequestRedirectFilter, where string) *mesh.RouteRedirect {
	out := &mesh.RouteRedirect{
		Scheme: valueOf(f.Scheme), Hostname: valueOf(f.Hostname), Path: d.path(f.Path, where), Status: 302,
	}
	if f.StatusCode != nil {
		out.Status = *f.StatusCode
	}
	if f.Port != nil {
		out.Port = uint16(*f.Port)
		if out.Port == 0 || int32(out.Port) != *f.Port {
			d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: %d is not a port", where, *f.Port)
		}
	}
	return out
}

func (d *verdicts) path(m *gatewayv1.HTTPPathModifier, where string) mesh.PathRewrite {
	switch {
	case m == nil:
		return mesh.PathRewrite{}
	case m.Type == gatewayv1.FullPathHTTPPathModifier && m.ReplaceFullPath != nil:
		return mesh.PathRewrite{Kind: mesh.PathReplaceFull, Value: *m.ReplaceFullPath}
	case m.Type == gatewayv1.PrefixMatchHTTPPathModifier && m.ReplacePrefixMatch != nil:
		return mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: *m.ReplacePrefixMatch}
	}
	d.unknown(where+".path", string(m.Type))
	return mesh.PathRewrite{}
}

// share returns the share of the requests that are mirrored. Without a value all
// are mirrored.
func (d *verdicts) share(f *gatewayv1.HTTPRequestMirrorFilter, where string) mesh.Fraction {
	n, of := int32(0), int32(0)
	switch {
	case f.Percent != nil:
		n, of = *f.Percent, 100
	case f.Fraction != nil:
		n, of = f.Fraction.Numerator, 100
		if f.Fraction.Denominator != nil {
			of = *f.Fraction.Denominator
		}
	default:
		return mesh.Fraction{}
	}
	if n < 0 || of < 1 || n > of {
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: a share of %d in %d", where, n, of)
		return mesh.Fraction{}
	}
	return mesh.Fraction{Numerator: uint32(n), Denominator: uint32(of)}
}
