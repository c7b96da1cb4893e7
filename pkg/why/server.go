package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// findServer finds out what the client connects to.
func (x *inquiry) findServer() tapv1alpha1.WhyStep {
	x.port = x.q.Port
	if x.to.Kind == filter.KindService {
		return x.findService()
	}
	pods := x.facts.matching(x.to)
	switch {
	case len(pods) == 0:
		return x.facts.absent("server", "pod of "+name(x.to), "this agent knows only what the pods of its node have used in the last ten minutes")
	case x.port == 0:
		return step("server", tapv1alpha1.WhyProblem, "To which port of %s? Give it, as in %s:8080.", name(x.to), x.to)
	}
	port := &mesh.ServicePort{Port: x.port}
	for _, w := range pods {
		if len(w.Addrs) > 0 {
			port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(w.Addrs[0], x.port), Ready: true, WorkloadUID: w.UID, Workload: w})
		}
	}
	if len(port.Endpoints) == 0 {
		return step("server", tapv1alpha1.WhyProblem, "No pod of %s has an address yet.", name(x.to))
	}
	x.dst = port.Endpoints[0].Addr
	x.targets = []target{{port: port, service: &mesh.Service{Namespace: x.to.Namespace}}}
	if x.to.Kind == filter.KindPod {
		return step("server", tapv1alpha1.WhyOK, "%s has the address %s.", name(x.to), x.dst.Addr())
	}
	return step("server", tapv1alpha1.WhyOK, "%s has %s.", name(x.to), plural(len(pods), "pod", "pods"))
}

// knowsNo begins what the agent of one node says of what it does not know.
const knowsNo = "The agent of this node knows no "

// absent says that there is no what. The agent of one node only knows that it does not know
// it, for the reason because.
func (f *Facts) absent(name, what, because string) tapv1alpha1.WhyStep {
	if !f.Alone {
		return step(name, tapv1alpha1.WhyProblem, "There is no %s.", what)
	}
	s := step(name, tapv1alpha1.WhyUnknown, knowsNo+"%s.", what)
	say(&s, "%s", because)
	return s
}

func (x *inquiry) findService() tapv1alpha1.WhyStep {
	var others []string
	for _, svc := range x.facts.Services {
		if svc.Namespace == x.to.Namespace && svc.Name == x.to.Name {
			x.service = svc
		} else if svc.Namespace == x.to.Namespace {
			others = append(others, svc.Name)
		}
	}
	if x.service == nil {
		s := x.facts.absent("server", name(x.to), "this agent knows only what the pods of its node have used in the last ten minutes")
		if slices.Sort(others); len(others) > 0 {
			say(&s, "the namespace has %s", some(others))
		}
		return s
	}
	port := x.servicePort()
	if port == nil {
		var ports []string
		for _, p := range x.service.Ports {
			ports = append(ports, portName(&p))
		}
		text := fmt.Sprintf("%s has no port %d.", name(x.to), x.port)
		if x.port == 0 {
			text = fmt.Sprintf("Which port of %s? Give one, as in %s:%d.", name(x.to), x.to, firstPort(x.service))
		}
		s := step("server", tapv1alpha1.WhyProblem, "%s", text)
		say(&s, "its TCP ports are: %s", some(ports))
		return s
	}
	x.port = port.Port
	x.targets = []target{{service: x.service, port: port}}
	s := step("server", tapv1alpha1.WhyOK, "%s has port %s.", name(x.to), portName(port))
	switch {
	case len(x.service.VIPs) > 0:
		x.dst = netip.AddrPortFrom(x.service.VIPs[0], x.port)
		say(&s, "its ClusterIP is %s", x.service.VIPs[0])
	case len(port.Endpoints) > 0:
		x.dst = port.Endpoints[0].Addr
		say(&s, "it is headless: the client connects to the address of one of its pods")
	}
	return s
}

func (x *inquiry) servicePort() *mesh.ServicePort {
	for i := range x.service.Ports {
		if p := &x.service.Ports[i]; p.Port == x.port || x.port == 0 && len(x.service.Ports) == 1 {
			return p
		}
	}
	return nil
}

func firstPort(s *mesh.Service) uint16 {
	if len(s.Ports) == 0 {
		return 80
	}
	return s.Ports[0].Port
}

func portName(p *mesh.ServicePort) string {
	if p.Name == "" {
		return fmt.Sprint(p.Port)
	}
	return fmt.Sprintf("%d (%s)", p.Port, p.Name)
}

// some joins words, and leaves out the last ones of many.
func some(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	if len(words) > maxLines {
		return strings.Join(words[:maxLines], ", ") + fmt.Sprintf(" and %d more", len(words)-maxLines)
	}
	return strings.Join(words, ", ")
}

// server completes the step about the server by its pods.
func (x *inquiry) server(s *tapv1alpha1.WhyStep) {
	total, captured, failing := 0, 0, 0
	unknown := false // some agents were not asked
	var lines []string
	for _, t := range x.targets {
		for _, c := range t.candidates {
			w := c.ep.Workload
			total++
			switch {
			case w == nil:
				lines = append(lines, c.ep.Addr.String()+" is no pod that is known")
				continue
			case c.server.is:
				captured++
				unknown = unknown || c.server.unknown
			case c.reason == mesh.ReasonAgentDown:
				failing++
			}
			lines = append(lines, podName(w)+" "+c.server.why)
			if w.NetworkPolicy {
				lines = append(lines, "a NetworkPolicy selects "+podName(w)+": the network's CNI applies it, and this answer does not know its rules")
			}
		}
	}
	switch {
	case total == 0:
	case failing == total:
		s.Result = tapv1alpha1.WhyProblem
		s.Text += " No agent answers for its pods, and plaintext is not allowed: calls fail with agent-down."
	case failing > 0:
		s.Result = tapv1alpha1.WhyWarning
		s.Text += fmt.Sprintf(" For %d of %s no agent answers.", failing, plural(total, "endpoint", "endpoints"))
	case captured == total && unknown:
		s.Text += " Its pods are in the mesh."
	case captured == total:
		s.Text += " Its pods are captured."
	default:
		s.Result = tapv1alpha1.WhyWarning
		s.Text += fmt.Sprintf(" %d of %s are captured: the others are reached in plaintext.", captured, plural(total, "endpoint", "endpoints"))
	}
	sayAll(s, lines)
}
