package translate

import (
	"fmt"
	"math"
	"regexp"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// defaultAttempts is the number of retries for a rule that enables retries without
// a number.
const defaultAttempts = 1

// httpRule translates a rule. where is its name in problems.
func (d *routeDraft) httpRule(r *gatewayv1.HTTPRouteRule, where string) mesh.RouteRule {
	out := mesh.RouteRule{Name: valueOf(r.Name), Filters: d.filters(r.Filters, where)}
	for i := range r.Matches {
		out.Matches = append(out.Matches, d.httpMatch(&r.Matches[i], fmt.Sprintf("%s.matches[%d]", where, i)))
	}
	for i := range r.BackendRefs {
		ref, at := &r.BackendRefs[i], fmt.Sprintf("%s.backendRefs[%d]", where, i)
		out.Backends = append(out.Backends, d.routeBackend(&ref.BackendRef, ref.Filters, at))
	}
	out.Retry, out.Timeouts = d.policy.retry, d.policy.timeouts
	if t := r.Timeouts; t != nil {
		out.Timeouts.Request = d.duration(t.Request, where+".timeouts.request")
		out.Timeouts.BackendRequest = d.duration(t.BackendRequest, where+".timeouts.backendRequest")
	}
	if r.Retry != nil {
		out.Retry = d.retry(r.Retry, where+".retry")
	}
	if r.SessionPersistence != nil {
		d.ignore("%s.sessionPersistence", where)
	}
	return out
}

// grpcRule translates a rule. where is its name in problems.
func (d *routeDraft) grpcRule(r *gatewayv1.GRPCRouteRule, where string) mesh.RouteRule {
	out := mesh.RouteRule{
		Name: valueOf(r.Name), Filters: d.filters(httpFilters(r.Filters), where),
		Retry: d.policy.retry, Timeouts: d.policy.timeouts,
	}
	for i := range r.Matches {
		out.Matches = append(out.Matches, d.grpcMatch(&r.Matches[i], fmt.Sprintf("%s.matches[%d]", where, i)))
	}
	for i := range r.BackendRefs {
		ref, at := &r.BackendRefs[i], fmt.Sprintf("%s.backendRefs[%d]", where, i)
		out.Backends = append(out.Backends, d.routeBackend(&ref.BackendRef, httpFilters(ref.Filters), at))
	}
	if r.SessionPersistence != nil {
		d.ignore("%s.sessionPersistence", where)
	}
	return out
}

func (d *routeDraft) routeBackend(ref *gatewayv1.BackendRef, filters []gatewayv1.HTTPRouteFilter, where string) mesh.RouteBackend {
	out := mesh.RouteBackend{Weight: 1, Filters: d.filters(filters, where)}
	if ref.Weight != nil {
		if *ref.Weight < 0 {
			d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: a weight of %d", where, *ref.Weight)
		}
		out.Weight = uint32(max(*ref.Weight, 0))
	}
	if out.Original = d.original(&ref.BackendObjectReference); out.Original {
		return out
	}
	out.Service, out.Invalid = d.backend(&ref.BackendObjectReference, where)
	return out
}

func (d *verdicts) httpMatch(m *gatewayv1.HTTPRouteMatch, where string) mesh.RouteMatch {
	out := mesh.RouteMatch{Method: valueOf(m.Method)}
	if p := m.Path; p != nil {
		out.Path.Value = "/"
		if p.Value != nil {
			out.Path.Value = *p.Value
		}
		switch kind := valueOf(p.Type); gatewayv1.PathMatchType(kind) {
		case "", gatewayv1.PathMatchPathPrefix:
		case gatewayv1.PathMatchExact:
			out.Path.Kind = mesh.PathExact
		case gatewayv1.PathMatchRegularExpression:
			out.Path.Kind = mesh.PathRegex
		default:
			out.Path = mesh.PathMatch{Kind: mesh.PathUnknown}
			d.unknown(where+".path", kind)
		}
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		out.Headers = append(out.Headers, d.value(string(h.Name), h.Value, valueOf(h.Type), where+".headers"))
	}
	for i := range m.QueryParams {
		q := &m.QueryParams[i]
		out.Query = append(out.Query, d.value(string(q.Name), q.Value, valueOf(q.Type), where+".queryParams"))
	}
	return out
}

func (d *verdicts) grpcMatch(m *gatewayv1.GRPCRouteMatch, where string) (out mesh.RouteMatch) {
	if g := m.Method; g != nil {
		out.GRPC = mesh.GRPCMethodMatch{Service: valueOf(g.Service), Method: valueOf(g.Method)}
		var known bool
		if out.GRPC.Regex, known = d.isRegex(valueOf(g.Type), where+".method"); !known {
			out.GRPC, out.Path.Kind = mesh.GRPCMethodMatch{}, mesh.PathUnknown
		}
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		out.Headers = append(out.Headers, d.value(string(h.Name), h.Value, valueOf(h.Type), where+".headers"))
	}
	return out
}

func (d *verdicts) value(name, value, kind, where string) mesh.ValueMatch {
	regex, known := d.isRegex(kind, where)
	return mesh.ValueMatch{Name: name, Value: value, Regex: regex, Unknown: !known}
}

// isRegex reads the type of a match. The types have the same names for headers,
// query parameters and methods.
func (d *verdicts) isRegex(kind, where string) (is, known bool) {
	switch kind {
	case "", string(gatewayv1.HeaderMatchExact):
		return false, true
	case string(gatewayv1.HeaderMatchRegularExpression):
		return true, true
	}
	d.unknown(where, kind)
	return false, false
}

func (d *verdicts) unknown(where, kind string) {
	d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: type %q is not known", where, kind)
}

// gepDuration is the Gateway API's form of a duration (GEP-2257).
var gepDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// duration returns 0, which stands for no limit, for nil and for "0s".
func (d *verdicts) duration(v *gatewayv1.Duration, where string) time.Duration {
	if v == nil {
		return 0
	}
	out, err := gepDurationOf(*v)
	if err != nil {
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: %v", where, err)
	}
	return out
}

func gepDurationOf(v gatewayv1.Duration) (time.Duration, error) {
	out, err := time.ParseDuration(string(v))
	if err != nil || !gepDuration.MatchString(string(v)) {
		return 0, fmt.Errorf("%q is not a duration such as 1m30s or 250ms", v)
	}
	return out, nil
}

func (d *verdicts) retry(r *gatewayv1.HTTPRouteRetry, where string) *mesh.RouteRetry {
	out := &mesh.RouteRetry{Attempts: defaultAttempts, Backoff: d.duration(r.Backoff, where+".backoff")}
	if r.Attempts != nil {
		out.Attempts = *r.Attempts
	}
	for _, code := range r.Codes {
		if code < 0 || code > math.MaxUint16 {
			d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: HTTP status %d", where, code)
			continue
		}
		out.Codes = append(out.Codes, uint16(code))
	}
	return out
}

// valueOf returns "" for nil.
func valueOf[T ~string](v *T) string {
	if v == nil {
		return ""
	}
	return string(*v)
}
