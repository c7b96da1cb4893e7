package translate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// external translates the filter ExternalAuth (GEP-1494). If there is something about it that
// cannot be done, the requests are refused.
func (d *routeDraft) external(f *gatewayv1.HTTPExternalAuthFilter, out *mesh.RouteFilters, where string) {
	e := &mesh.ExternalAuth{DenyHeaders: mesh.FieldNames{"*"}}
	switch {
	case f.ExternalAuthProtocol == gatewayv1.HTTPRouteExternalAuthGRPCProtocol && f.HTTPAuthConfig == nil:
		e.GRPC, e.RequestHeaders = true, mesh.FieldNames{"*"}
		if c := f.GRPCAuthConfig; c != nil && len(c.AllowedRequestHeaders) > 0 {
			e.RequestHeaders = fieldNames(c.AllowedRequestHeaders)
		}
	case f.ExternalAuthProtocol == gatewayv1.HTTPRouteExternalAuthHTTPProtocol && f.GRPCAuthConfig == nil:
		e.UpstreamHeaders = mesh.FieldNames{"*"}
		if c := f.HTTPAuthConfig; c != nil {
			e.RequestHeaders = fieldNames(c.AllowedRequestHeaders)
			if len(c.AllowedResponseHeaders) > 0 {
				e.UpstreamHeaders = fieldNames(c.AllowedResponseHeaders)
			}
			if path := strings.Trim(c.Path, "/"); path != "" {
				e.PathPrefix = "/" + path
			}
		}
	default:
		d.refuse(out, where, fmt.Sprintf("the protocol %q of an external authorizer, or the fields for it, are not known", f.ExternalAuthProtocol))
		return
	}
	if b := f.ForwardBody; b != nil {
		e.MaxBody = int(b.MaxSize)
	}
	to, why := d.backend(&f.BackendRef, where)
	if why != "" {
		out.Invalid = "external authorizer: " + why
		return
	}
	svc, _ := d.t.service(to.Namespace, to.Name)
	e.Service, e.Addrs = to, svc.VIPs
	if len(e.Addrs) == 0 {
		d.refuse(out, where, fmt.Sprintf("external authorizer: Service %s/%s has no cluster IP", to.Namespace, to.Name))
		return
	}
	out.External = e
}

// refuse makes requests fail, because a filter cannot be applied.
func (d *routeDraft) refuse(out *mesh.RouteFilters, where, why string) {
	out.Invalid = why
	d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: %s", where, why)
	d.refusals++
}

func fieldNames(names []string) (out mesh.FieldNames) {
	for _, name := range names {
		out = append(out, strings.ToLower(name))
	}
	return out
}

// providers are Istio's for external authorization, with the addresses of their Services.
type providers map[string]provider

type provider struct {
	*mesh.ExternalAuth
	problem string // why nobody can be asked; "": they can
}

func (t *translation) providers(services []*corev1.Service) providers {
	out := providers{}
	for i := range t.config.Providers {
		p := &t.config.Providers[i]
		e := p.ExternalAuth
		out[p.Name] = provider{&e, p.Problem}
	}
	for _, s := range services {
		for name, p := range out {
			if p.Service.Namespace == s.Namespace && p.Service.Name == s.Name && s.Spec.Type != corev1.ServiceTypeExternalName {
				p.Addrs = t.clusterIPs(s)
				if !servesPort(s, p.Service.Port) && p.problem == "" {
					p.problem = fmt.Sprintf("Service %s/%s has no TCP port %d", s.Namespace, s.Name, p.Service.Port)
					out[name] = p
				}
			}
		}
	}
	return out
}

func servesPort(s *corev1.Service, port uint16) bool {
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.Port == int32(port) && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
			return true
		}
	}
	return false
}

// problem says why the provider of a name cannot be asked, or "".
func (p providers) problem(name string) string {
	one, ok := p[name]
	switch {
	case !ok:
		return "is not among the extension providers of the installation (policy.extensionProviders)"
	case one.problem != "":
		return "the extension provider is not understood: " + one.problem
	case len(one.Addrs) == 0:
		return fmt.Sprintf("there is no Service %s/%s with a cluster IP", one.Service.Namespace, one.Service.Name)
	}
	return ""
}

// problems returns what is wrong with the provider of a policy.
func (p providers) problems(o *istiopolicy.Object) []authz.Problem {
	name := o.Provider()
	if name == "" {
		return nil
	}
	if why := p.problem(name); why != "" {
		return []authz.Problem{{Policy: o.String(), Field: "spec.provider", Text: fmt.Sprintf("%q %s: what the rules match is denied", name, why)}}
	}
	return nil
}

// resolve takes the names of providers that cannot be asked out of policies, which then deny
// what they match, and returns the others.
func (p providers) resolve(policies []authz.Policy) (out []authz.Authorizer) {
	for i := range policies {
		name := policies[i].Provider
		if policies[i].Action != authz.ActionExternal || name == "" {
			continue
		}
		if p.problem(name) != "" {
			policies[i].Provider = ""
			continue
		}
		known := false
		for j := range out {
			known = known || out[j].Name == name
		}
		if !known {
			out = append(out, authz.Authorizer{Name: name, ExternalAuth: *p[name].ExternalAuth})
		}
	}
	return out
}
