package judged

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Mesh is what Explain knows.
type Mesh struct {
	Workloads []*mesh.Workload
	Services  []*mesh.Service
	// Decide asks who has the policies of a server. by says who answers, and with what.
	Decide func(server *mesh.Workload, r *agentv1.DecideRequest) (answer *agentv1.DecideResponse, by string, err error)
}

// Explain says what decides about a call. The error is for users.
func Explain(q *tapv1alpha1.AuthzExplainQuery, m *Mesh) (*tapv1alpha1.AuthzExplanation, error) {
	out := &tapv1alpha1.AuthzExplanation{Kind: "AuthzExplanation", APIVersion: tapv1alpha1.GroupVersion, From: "a client without an identity", Notes: []string{}}
	server, port, err := m.server(q)
	if err != nil {
		return nil, err
	}
	r := &agentv1.DecideRequest{Uid: server.UID, Port: uint32(port), Method: q.Method, Path: q.Path, Authority: q.Authority, Claims: q.Claims}
	if q.Claims != "" {
		if _, err := jwt.Given([]byte(q.Claims)); err != nil {
			return nil, fmt.Errorf("--claims: want an object of JSON: %w", err)
		}
	}
	if r.Method == "" && (q.Path != "" || len(q.Headers) > 0 || q.Claims != "") {
		r.Method = "GET"
	}
	if r.Method != "" {
		r.Path = cmp.Or(r.Path, "/")
		r.Authority = cmp.Or(r.Authority, fmt.Sprintf("%s.%s:%d", server.OwnerName, server.Namespace, port))
		out.Request = r.Method + " " + r.Path
	}
	for _, h := range q.Headers {
		name, value, _ := strings.Cut(h, "=")
		r.Headers = append(r.Headers, &agentv1.Header{Name: strings.ToLower(name), Value: []byte(value)})
	}
	if q.From != "" {
		client, err := m.pod(q.From, cmp.Or(q.FromNamespace, q.Namespace))
		if err != nil {
			return nil, err
		}
		out.From = "pod " + client.Namespace + "/" + client.Name
		if len(client.Addrs) > 0 {
			r.Address = client.Addrs[0].String()
		}
		if client.Meshed {
			r.Client = client.Identity.String()
		} else {
			out.Notes = append(out.Notes, "the client is not in the mesh: it has no identity")
		}
	}
	out.Client, out.To, out.Port = r.Client, "pod "+server.Namespace+"/"+server.Name, port
	if !server.Meshed {
		out.Allowed, out.Verdict, out.DecidedBy = true, authz.Allow.String(), "nobody"
		out.Conclusion = "allowed: the server is not in the mesh, where no policy of the mesh holds"
		return out, nil
	}
	if mesh.InRanges(server.Settings.SkipInboundPorts, port) {
		out.Allowed, out.Verdict, out.DecidedBy = true, authz.Allow.String(), "nobody"
		out.Conclusion = "allowed: the port is in the server's skip-inbound-ports, so that no policy holds for it"
		return out, nil
	}
	answer, by, err := m.Decide(server, r)
	if err != nil {
		return nil, err
	}
	out.DecidedBy = by
	conclude(out, answer)
	return out, nil
}

func (m *Mesh) pod(text, namespace string) (*mesh.Workload, error) {
	r, err := filter.ParseResource(text, namespace)
	if err != nil {
		return nil, err
	}
	var found *mesh.Workload
	for _, w := range m.Workloads {
		if r.Matches(w) && (found == nil || w.Meshed && !found.Meshed) {
			found = w
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no pod of %s in namespace %s that is known here", r, namespace)
	}
	return found, nil
}

// server returns the pod that is called, and its port.
func (m *Mesh) server(q *tapv1alpha1.AuthzExplainQuery) (*mesh.Workload, uint16, error) {
	r, err := filter.ParseResource(q.To, q.Namespace)
	if err != nil {
		return nil, 0, err
	}
	if r.Kind == filter.KindService {
		return m.behind(r, q.Port)
	}
	w, err := m.pod(q.To, q.Namespace)
	if err != nil || q.Port != 0 {
		return w, q.Port, err
	}
	ports := map[uint16]bool{}
	for _, s := range m.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				if e.Workload != nil && e.Workload.UID == w.UID {
					ports[e.Addr.Port()] = true
					q.Port = e.Addr.Port()
				}
			}
		}
	}
	if len(ports) != 1 {
		return nil, 0, fmt.Errorf("--port: which port of pod %s/%s? %d of its ports are known by Services", w.Namespace, w.Name, len(ports))
	}
	return w, q.Port, nil
}

// behind returns an endpoint of a Service. port is the Service's.
func (m *Mesh) behind(r filter.Resource, port uint16) (*mesh.Workload, uint16, error) {
	for _, s := range m.Services {
		if s.Name != r.Name || s.Namespace != r.Namespace {
			continue
		}
		if port == 0 && len(s.Ports) > 1 {
			return nil, 0, errors.New("--port: the Service has several ports")
		}
		for _, p := range s.Ports {
			if port != 0 && p.Port != port {
				continue
			}
			for _, e := range p.Endpoints {
				if e.Workload != nil {
					return e.Workload, e.Addr.Port(), nil
				}
			}
			return nil, 0, fmt.Errorf("service %s/%s has no endpoint that is a pod", s.Namespace, s.Name)
		}
		return nil, 0, fmt.Errorf("service %s/%s has no port %d", s.Namespace, s.Name, port)
	}
	return nil, 0, fmt.Errorf("there is no service %s in namespace %s that is known here", r.Name, r.Namespace)
}

// conclude words the answer.
func conclude(out *tapv1alpha1.AuthzExplanation, m *agentv1.DecideResponse) {
	out.Verdict, out.Allowed = m.GetVerdict(), m.GetVerdict() == authz.Allow.String()
	out.Limits = m.GetLimits()
	if m.GetJudged() == nil {
		switch {
		case out.Allowed:
			out.Conclusion = "allowed: no authorization policy is about the pod, and underlane.io/policy is " + m.GetMode()
		default:
			out.Conclusion = "denied (" + m.GetReason() + "): underlane.io/policy is " + m.GetMode()
		}
		return
	}
	f := wire.Finding(m.GetJudged())
	out.Why, out.Object, out.Rule, out.Audit, out.WouldDeny = f.Why.String(), f.Object, f.Rule, f.Audit, f.WouldDeny
	by := By(f)
	switch out.Verdict {
	case authz.Allow.String():
		out.Conclusion = "allowed by " + by
	case authz.NeedsRequest.String():
		out.Conclusion = "it depends on the request: " + by + " looks at requests (give --method and --path). Bytes that are no requests are denied"
	case authz.Ask.String():
		out.Conclusion = by + " asks an external authorizer"
	default:
		out.Conclusion = "denied by " + by
	}
	if f.Audit != "" {
		out.Conclusion += "; reported, as " + authz.ShortName(f.Audit) + " asks"
	}
	if f.Failed != "" {
		out.Conclusion += "; an expression could not be evaluated: " + authz.ShortName(f.Failed)
	}
	if f.WouldDeny != "" {
		out.Conclusion += "; " + authz.ShortName(f.WouldDeny) + " would deny it if it were applied"
	}
}

// By names what decided, in words.
func By(f *authz.Finding) string {
	name := authz.ShortName(f.Object)
	switch {
	case f.Rule != "":
		name += ", rule " + f.Rule
	case f.Why == authz.WhyNothing:
		name = "the agent, which does not have the pod's policies or cannot read them"
	case f.Why == authz.WhyUnruled:
		name = "no policy: none is about this port"
	case f.Why == authz.WhyProbe:
		name = "the node: it is a probe"
	case f.Why == authz.WhyUnmatched && f.Denied:
		name += ": none of its policies allows it"
	case f.Why == authz.WhyDefault && f.Denied:
		name += ": no policy allows it"
	case f.Why == authz.WhyAudit:
		name += ": no policy allows it, and its mode is audit"
	}
	if f.Why == authz.WhyOpaque {
		name += " (the connection is not read as requests)"
	}
	return name
}
