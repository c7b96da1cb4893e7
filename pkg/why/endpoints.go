package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
)

// target is a port of a Service, or the pods of a workload, to which the call may go.
type target struct {
	service    *mesh.Service
	port       *mesh.ServicePort // nil: the Service has no such port
	missing    string            // without port: what does not exist
	weight     string            // its share, "" for all
	candidates []candidate
}

// candidate is an endpoint that may be chosen.
type candidate struct {
	ep      mesh.Endpoint
	server  capture
	ejected string      // the cause, "" if it is not
	reason  mesh.Reason // why the call fails there; ReasonNone: it does not
	how     string      // how it is reached, or why it is not
}

// endpoints chooses as the client's agent does, or as kube-proxy if it is not captured.
func (x *inquiry) endpoints() tapv1alpha1.WhyStep {
	s := step("endpoints", tapv1alpha1.WhyOK, "")
	usable, known, ejected := 0, 0, 0
	missing := false // a target is not known
	var used, left []string
	for i := range x.targets {
		t := &x.targets[i]
		if t.port == nil {
			left = append(left, t.missing)
			missing = true
			continue
		}
		known += len(t.port.Endpoints)
		left = append(left, x.choose(t)...)
		for _, c := range t.candidates {
			line := fmt.Sprintf("%s%s: %s", endpointName(&c.ep), t.weight, c.how)
			if c.ejected != "" {
				ejected++
				line += ", but the agent of the client's node avoids it for a while: " + c.ejected
			} else {
				usable++
			}
			used = append(used, line)
		}
	}
	switch {
	case len(used) == 0 && x.facts.Alone && missing:
		s.Result, s.Text = tapv1alpha1.WhyUnknown, knowsNo+"endpoint: a backend of the route is not among what its pods have used."
	case len(used) == 0 && known == 0:
		s.Result, s.Text = tapv1alpha1.WhyProblem, "There is no endpoint: no pod is behind it."
	case len(used) == 0:
		s.Result, s.Text = tapv1alpha1.WhyProblem, "No endpoint can be chosen: calls fail with no-endpoints."
	case usable == 0:
		s.Result, s.Text = tapv1alpha1.WhyWarning, "All endpoints are avoided, because calls to them failed lately. One of them is tried all the same."
	case ejected > 0:
		s.Result, s.Text = tapv1alpha1.WhyWarning, fmt.Sprintf("%s can be chosen, and %d more after a while.", plural(usable, "endpoint", "endpoints"), ejected)
	default:
		s.Text = plural(usable, "endpoint", "endpoints") + " can be chosen."
	}
	sayAll(&s, used)
	sayAll(&s, left)
	return s
}

// choose sets the candidates of t. It returns a line for each other endpoint.
func (x *inquiry) choose(t *target) (left []string) {
	near, far := mesh.Eligible(t.service, t.port, x.client)
	list := slices.DeleteFunc(slices.Clone(near), unready)
	why := "it is for clients of other nodes or zones"
	if len(list) == 0 {
		list = slices.DeleteFunc(slices.Clone(far), unready)
	} else if len(far) > 0 {
		why += ", and used while no nearer one is available"
	}
	if t.service.NodeLocal {
		why = "internalTrafficPolicy is Local, and it is not on " + x.client.Node
	}
	family := func(e mesh.Endpoint) bool { return !x.dst.IsValid() || sameFamily(e.Addr.Addr(), x.dst.Addr()) }
	if slices.ContainsFunc(list, family) {
		list = slices.DeleteFunc(list, func(e mesh.Endpoint) bool { return !family(e) })
	}
	for _, e := range list {
		t.candidates = append(t.candidates, x.judge(t, e))
	}
	for _, e := range t.port.Endpoints {
		has := func(o mesh.Endpoint) bool { return o.Addr == e.Addr }
		line := endpointName(&e) + " is not chosen: "
		switch {
		case slices.ContainsFunc(list, has):
			continue
		case !e.Ready && e.Workload != nil && e.Workload.Terminating:
			line += "it is being deleted"
		case !e.Ready:
			line += "it is not ready"
		case !family(e) && slices.ContainsFunc(list, family):
			line += "it is of the other address family"
		default:
			line += why
			if len(e.ForZones)+len(e.ForNodes) > 0 {
				line += " (" + strings.Join(slices.Concat(e.ForNodes, e.ForZones), ", ") + ")"
			}
		}
		left = append(left, line)
	}
	return left
}

func unready(e mesh.Endpoint) bool { return !e.Ready }

func sameFamily(a, b netip.Addr) bool { return a.Unmap().Is4() == b.Unmap().Is4() }

func endpointName(e *mesh.Endpoint) string {
	if e.Workload == nil {
		return e.Addr.String()
	}
	return fmt.Sprintf("%s (%s)", podName(e.Workload), e.Addr)
}

// judge says what becomes of a call to e. The rules are those of package destination in
// pkg/l7proxy, of pkg/policy and, for clients that are not captured, of the kernel's
// programs in the server's namespace.
func (x *inquiry) judge(t *target, e mesh.Endpoint) candidate {
	c := candidate{ep: e, ejected: x.ejected(t, e)}
	w := e.Workload
	if w == nil {
		c.how = "in plaintext, it is not in the mesh"
		return c
	}
	c.server = x.facts.captureOf(w, mesh.Inbound, e.Addr.Port())
	sameNode, closed := w.Node == x.client.Node, w.Closed()
	switch {
	case c.server.outside:
		c.how = "in plaintext, the mesh does not capture what it receives"
	case !c.server.is && closed:
		c.reason, c.how = mesh.ReasonAgentDown, "it is closed: its policy does not let in all clients, and its agent does not answer for it"
	case !c.server.is && x.captured.is && !sameNode && !mayFallBack(x.client, w):
		c.reason, c.how = mesh.ReasonAgentDown, "no agent answers for it, and plaintext is not allowed"
	case !c.server.is:
		c.how = "in plaintext, no agent answers for it"
	default:
		c.how = x.way(w, sameNode)
		c.reason = policy.Decide(policy.Input{Client: x.identity(), Server: w, Port: e.Addr.Port()}).Reason
		if state, _ := x.facts.certificate(x.client); c.reason == mesh.ReasonNone && x.captured.is && !sameNode && state != "" && state != "valid" {
			c.reason = mesh.ReasonNoCertificate
		}
		if c.reason != mesh.ReasonNone {
			c.how = "refused with " + c.reason.String()
		}
	}
	return c
}

func (x *inquiry) identity() mesh.Identity {
	if x.captured.is {
		return x.client.Identity
	}
	return mesh.Identity{}
}

func (x *inquiry) way(w *mesh.Workload, sameNode bool) string {
	switch {
	case !x.captured.is:
		return "in plaintext, the client is not captured"
	case sameNode && !w.NetworkPolicy && !w.RequestRules && !x.client.NetworkPolicy:
		return "within " + w.Node + ", which it does not leave"
	}
	return "by mutual TLS, on " + w.Node
}

// mayFallBack is the rule of the same name in pkg/l7proxy/destination/choose.go.
func mayFallBack(client, server *mesh.Workload) bool {
	from, to := &client.Settings, &server.Settings
	return from.Policy == mesh.PolicyAllow && !server.Closed() && !from.FailClosed &&
		(!server.Enrolled || from.PlaintextFallback && to.PlaintextFallback)
}

// ejected returns why the client's agent avoids an endpoint, or "".
func (x *inquiry) ejected(t *target, e mesh.Endpoint) string {
	a := x.facts.agentOf(x.client)
	if a == nil || !x.captured.is {
		return ""
	}
	for _, j := range a.Ejections {
		if j.GetNamespace() == t.service.Namespace && j.GetService() == t.service.Name && j.GetPort() == uint32(t.port.Port) && j.GetEndpoint() == e.Addr.String() {
			if j.GetCause() == "failures" {
				return "its answers were failures (failure accrual)"
			}
			return "it could not be reached"
		}
	}
	return ""
}
