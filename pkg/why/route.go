package why

import (
	"cmp"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// fields are the header fields of the request.
type fields []string // NAME=VALUE

// Get implements route.Fields.
func (f fields) Get(name string) (string, bool) {
	for _, field := range f {
		if key, value, _ := strings.Cut(field, "="); textproto.TrimString(strings.ToLower(key)) == name {
			return value, true
		}
	}
	return "", false
}

// route finds the rule that applies to the request, and sets the targets.
func (x *inquiry) route() tapv1alpha1.WhyStep {
	if x.service == nil {
		return step("route", tapv1alpha1.WhyOK, "Routes do not apply: the call is to a pod, not to a Service.")
	}
	parent := mesh.ServicePortRef{Namespace: x.service.Namespace, Name: x.service.Name, Port: x.port}
	routes := route.Select(x.facts.Routes, parent, x.client.Namespace)
	switch {
	case len(routes) == 0:
		return step("route", tapv1alpha1.WhyOK, "No route applies: the call goes to the endpoints of the Service.")
	case !x.captured.is:
		s := step("route", tapv1alpha1.WhyWarning, "The Service has routes, and they do not apply: the client is not captured.")
		sayAll(&s, routeNames(routes))
		return s
	case x.opaque():
		s := step("route", tapv1alpha1.WhyWarning, "The Service has routes, and they do not apply: the port is opaque (%s).", mesh.AnnotationOpaquePorts)
		sayAll(&s, routeNames(routes))
		return s
	}
	table, err := route.Compile(routes)
	request := &route.Request{
		GRPC: x.q.GRPC, Method: cmp.Or(x.q.Method, x.method()), Path: cmp.Or(x.q.Path, "/"),
		Authority: cmp.Or(x.q.Authority, x.service.Name+"."+x.service.Namespace), Fields: fields(x.q.Headers),
	}
	hit, verdict := table.Match(request)
	line := request.Method + " " + request.Path
	var s tapv1alpha1.WhyStep
	switch verdict {
	case route.Unrouted:
		s = step("route", tapv1alpha1.WhyOK, "No route is for such requests: the call goes to the endpoints of the Service.")
		sayAll(&s, routeNames(routes))
	case route.NoRule:
		s = step("route", tapv1alpha1.WhyProblem, "The Service has routes, and no rule matches %s: the request is answered with no-route (404).", line)
		x.targets = nil
		sayAll(&s, routeNames(routes))
	case route.Doubt:
		s = step("route", tapv1alpha1.WhyProblem, "A value of %s is too long for a regular expression of the routes: the request is answered with no-route (404).", line)
		x.targets = nil
		sayAll(&s, routeNames(routes))
	default:
		s = x.applyRule(hit.Rule, line)
	}
	if err != nil {
		worsen(&s, tapv1alpha1.WhyWarning)
		say(&s, "without effect: %s", err)
	}
	return s
}

func (x *inquiry) method() string {
	if x.q.GRPC {
		return "POST"
	}
	return "GET"
}

// opaque reports whether the connection is not looked into.
func (x *inquiry) opaque() bool {
	if mesh.InRanges(x.client.Settings.OpaquePorts, x.port) {
		return true
	}
	for _, t := range x.targets {
		for _, e := range t.port.Endpoints {
			if e.Workload != nil && mesh.InRanges(e.Workload.Settings.OpaquePorts, e.Addr.Port()) {
				return true
			}
		}
	}
	return false
}

func routeNames(routes []*mesh.Route) (names []string) {
	for _, r := range routes {
		line := fmt.Sprintf("%s %s/%s", r.Kind, r.Namespace, r.Name)
		if r.Consumer() {
			line += ", of the client's namespace"
		}
		names = append(names, fmt.Sprintf("%s has %s", line, plural(len(r.Rules), "rule", "rules")))
	}
	return names
}

// applyRule sets the targets to the backends of a rule.
func (x *inquiry) applyRule(rule *route.Rule, line string) tapv1alpha1.WhyStep {
	r, spec := rule.Route, &rule.Route.Rules[rule.Index]
	s := step("route", tapv1alpha1.WhyOK, "%s matches rule %s of %s %s/%s.", line, rule.Label, r.Kind, r.Namespace, r.Name)
	if f := spec.Filters.Redirect; f != nil {
		worsen(&s, tapv1alpha1.WhyWarning)
		s.Text += fmt.Sprintf(" It answers with a redirect (%d).", f.Status)
		x.targets = nil
		return s
	}
	if f := spec.Filters.Fault; f != nil {
		worsen(&s, tapv1alpha1.WhyWarning)
		s.Text += " It delays or fails requests on purpose."
		say(&s, "the fault: delay %s, status %d", f.Delay, f.AbortStatus)
	}
	total, bad := uint64(0), 0
	for _, b := range spec.Backends {
		total += uint64(b.Weight)
	}
	x.targets = nil
	for _, b := range spec.Backends {
		ref := fmt.Sprintf("service/%s in namespace %s, port %d", b.Service.Name, b.Service.Namespace, b.Service.Port)
		switch {
		case b.Weight == 0:
			say(&s, "backend %s gets nothing: its weight is 0", ref)
			continue
		case b.Invalid != "":
			bad++
			say(&s, "backend %s cannot be used: %s: its share is answered with bad-backend (500)", ref, b.Invalid)
			continue
		}
		share := ""
		if len(spec.Backends) > 1 {
			share = fmt.Sprintf(", %.0f %% of the requests", 100*float64(b.Weight)/float64(total))
		}
		say(&s, "backend %s%s", ref, share)
		x.targets = append(x.targets, x.facts.backend(b.Service, share))
	}
	switch {
	case len(x.targets) == 0:
		s.Result = tapv1alpha1.WhyProblem
		s.Text += " No backend of it can be used: the request is answered with bad-backend (500)."
	case bad > 0:
		worsen(&s, tapv1alpha1.WhyWarning)
		s.Text += " A part of the requests is answered with bad-backend (500)."
	}
	x.limits(&s, rule)
	return s
}

func (x *inquiry) limits(s *tapv1alpha1.WhyStep, rule *route.Rule) {
	if d := rule.Timeouts.Request; d > 0 {
		say(s, "the request may take %s", d)
	}
	if d := rule.Timeouts.BackendRequest; d > 0 {
		say(s, "an attempt may take %s", d)
	}
	if r := rule.Route.Rules[rule.Index].Retry; r != nil && r.Attempts > 0 {
		say(s, "a failed request is sent again %s", plural(r.Attempts, "time", "times"))
	}
}

// backend finds a port of a Service.
func (f *Facts) backend(ref mesh.ServicePortRef, share string) target {
	t := target{weight: share, service: &mesh.Service{Namespace: ref.Namespace, Name: ref.Name}}
	i := slices.IndexFunc(f.Services, func(s *mesh.Service) bool { return s.Namespace == ref.Namespace && s.Name == ref.Name })
	if i < 0 {
		t.missing = fmt.Sprintf("there is no service/%s in namespace %s", ref.Name, ref.Namespace)
		return t
	}
	t.service = f.Services[i]
	for j := range t.service.Ports {
		if t.service.Ports[j].Port == ref.Port {
			t.port = &t.service.Ports[j]
			return t
		}
	}
	t.missing = fmt.Sprintf("service/%s in namespace %s has no port %d", ref.Name, ref.Namespace, ref.Port)
	return t
}
