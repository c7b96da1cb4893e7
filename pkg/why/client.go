package why

import (
	"cmp"
	"slices"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

func (f *Facts) matching(r filter.Resource) (pods []*mesh.Workload) {
	for _, w := range f.Workloads {
		if r.Matches(w) {
			pods = append(pods, w)
		}
	}
	slices.SortFunc(pods, func(a, b *mesh.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// findClient adds the step about the client, and reports whether there is one. With known
// set the port that it connects to is known.
func (x *inquiry) findClient(known bool) bool {
	pods := x.facts.matching(x.from)
	if len(pods) == 0 {
		x.add(x.facts.absent("client", "pod of "+name(x.from), "this agent knows the pods of its node, and those that they talk to"))
		return false
	}
	port := x.port
	if !known {
		port = 0
	}
	var lines []string
	best := capture{}
	for _, w := range pods {
		c := x.facts.captureOf(w, mesh.Outbound, port)
		lines = append(lines, podName(w)+" "+c.why)
		// The first one that is captured is looked at, else the first one that runs.
		if x.client == nil || c.rank() > best.rank() || c.rank() == best.rank() && w.Ready && !x.client.Ready {
			x.client, best = w, c
		}
	}
	x.captured = best
	s := x.clientStep(pods)
	sayAll(&s, lines)
	if n := x.facts.preMesh(x.client); n > 0 {
		say(&s, "%s of %s are older than its enrolment: they stay outside the mesh until they end", plural(int(n), "connection", "connections"), podName(x.client))
	}
	x.certificates(&s)
	x.add(s)
	return true
}

func (x *inquiry) clientStep(pods []*mesh.Workload) tapv1alpha1.WhyStep {
	w, c := x.client, x.captured
	which := name(x.from)
	if x.from.Kind != filter.KindPod {
		which += ", of which " + podName(w) + " is looked at,"
	}
	switch {
	case c.away && w.Settings.FailClosed:
		return step("client", tapv1alpha1.WhyProblem, "%s fails closed (%s), and its agent is away: its connections are refused.", which, mesh.AnnotationFailMode)
	case c.away:
		return step("client", tapv1alpha1.WhyWarning, "%s has no agent: its connections pass the mesh by, without an identity.", which)
	case c.waits:
		return step("client", tapv1alpha1.WhyWarning, "%s is not enrolled (yet): its connections pass the mesh by, without an identity.", which)
	case c.outside:
		return step("client", tapv1alpha1.WhyWarning, "%s is not captured: its connections pass the mesh by, without an identity.", which)
	case c.unknown:
		return step("client", tapv1alpha1.WhyUnknown, "%s is in the mesh. Whether its agent works is not known.", which)
	}
	for _, other := range pods {
		if !x.facts.captureOf(other, mesh.Outbound, x.port).is {
			return step("client", tapv1alpha1.WhyWarning, "%s is captured, and other pods are not.", which)
		}
	}
	return step("client", tapv1alpha1.WhyOK, "%s is captured.", which)
}

// certificates judges the client's certificate, and its agent.
func (x *inquiry) certificates(s *tapv1alpha1.WhyStep) {
	if !x.captured.is {
		return
	}
	say(s, "its identity is %s", x.client.Identity)
	switch state, problem := x.facts.certificate(x.client); state {
	case "", "valid":
	default:
		worsen(s, tapv1alpha1.WhyWarning)
		say(s, "the certificate of its identity is %s: calls to pods of other nodes fail with no-certificate %s", state, problem)
	}
	if a := x.facts.agentOf(x.client); a != nil {
		for _, text := range a.Status.GetNotReady() {
			worsen(s, tapv1alpha1.WhyWarning)
			say(s, "the agent of %s is not ready: %s", x.client.Node, text)
		}
	}
}
