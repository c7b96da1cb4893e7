// Package why says whether a call from one pod to a Service or pod should work, and why:
// what each end is, what the policy says, which route and which endpoints there are, and
// what happened lately. It is pure: it judges facts that its callers have collected, by
// the rules that the agents follow (pkg/policy, pkg/route, mesh.Eligible).
package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Facts are what is known. Its methods look things up in it, and inquiry judges.
type Facts struct {
	Workloads []*mesh.Workload
	Services  []*mesh.Service
	Routes    []*mesh.Route
	// Agents are those that were asked, by node. A node without one has no agent, or, with
	// Alone, was not asked.
	Agents map[string]*Agent
	// Alone is true if the facts are those of one node's agent. It knows the pods of its
	// node, and the destinations that these use.
	Alone bool
	// Recent has the figures of the last minute from the client to the server; nil: they
	// are not known, for RecentErr.
	Recent    *tapv1alpha1.Figures
	RecentErr string
}

// Agent is what the agent of a node has told.
type Agent struct {
	Status    *agentv1.StatusResponse // nil: it does not answer
	Err       string                  // why it does not
	Unasked   bool                    // it was not asked
	Ejections []*agentv1.Ejection
}

// inquiry is the work on one question.
type inquiry struct {
	q      *tapv1alpha1.WhyQuery
	facts  *Facts
	report *tapv1alpha1.WhyReport

	from, to filter.Resource

	client   *mesh.Workload
	captured capture        // of client's connections to port
	service  *mesh.Service  // nil: the destination is a pod or a workload
	port     uint16         // that the client connects to
	dst      netip.AddrPort // likewise
	targets  []target
}

// Answer is what Explain has found.
type Answer struct {
	*tapv1alpha1.WhyReport
	// Client is the pod that was looked at; nil: there is none.
	Client *mesh.Workload
	// Captured is true if the agent of Client's node carries the connection.
	Captured bool
	// Destination is where Client would connect; the zero value: it is not known.
	Destination netip.AddrPort

	http2 bool // see inquiry.speaksHTTP2
}

// Resources returns the two ends of a question. Its error is for users.
func Resources(q *tapv1alpha1.WhyQuery) (from, to filter.Resource, err error) {
	if from, err = filter.ParseResource(q.From, q.Namespace); err != nil {
		return from, to, err
	}
	namespace := q.ToNamespace
	if namespace == "" {
		namespace = q.Namespace
	}
	if to, err = filter.ParseResource(q.To, namespace); err != nil {
		return from, to, err
	}
	switch {
	case from.Name == "" || to.Name == "":
		err = fmt.Errorf("%s → %s: give both a name, as in deploy/web", q.From, q.To)
	case from.Kind == filter.KindService || from.Kind == filter.KindNamespace:
		err = fmt.Errorf("%s makes no calls: give a pod or a workload, as in deploy/web", q.From)
	case to.Kind == filter.KindNamespace:
		err = fmt.Errorf("%s takes no calls: give a Service, a pod or a workload, as in svc/web", q.To)
	}
	return from, to, err
}

// Explain answers q. The error means that q is no question.
func Explain(q *tapv1alpha1.WhyQuery, facts *Facts) (*Answer, error) {
	from, to, err := Resources(q)
	if err != nil {
		return nil, err
	}
	x := &inquiry{q: q, facts: facts, from: from, to: to, report: &tapv1alpha1.WhyReport{
		Kind: "WhyReport", APIVersion: tapv1alpha1.GroupVersion,
		From: name(from), To: name(to), Steps: []tapv1alpha1.WhyStep{},
	}}
	x.explain()
	conclude(x.report)
	return &Answer{WhyReport: x.report, Client: x.client, Captured: x.captured.is, Destination: x.dst, http2: x.speaksHTTP2()}, nil
}

func (x *inquiry) explain() {
	destination := x.findServer()
	found := len(x.targets) > 0
	if !x.findClient(found) {
		return
	}
	if !found {
		x.add(destination)
		return
	}
	route := x.route()
	endpoints := x.endpoints()
	x.server(&destination)
	x.add(destination)
	x.add(x.policy())
	x.add(route)
	x.add(endpoints)
	x.add(x.recent())
}

func (x *inquiry) add(s tapv1alpha1.WhyStep) {
	if s.Evidence == nil {
		s.Evidence = []string{}
	}
	x.report.Steps = append(x.report.Steps, s)
}

// conclude sets what the steps mean together.
func conclude(r *tapv1alpha1.WhyReport) {
	warnings := 0
	unknown := "" // an end of the call that is not known
	r.Works, r.Conclusion = true, "The call should work."
	for _, s := range r.Steps {
		switch s.Result {
		case tapv1alpha1.WhyProblem:
			r.Works, r.Conclusion = false, "The call will not work. "+s.Text
			return
		case tapv1alpha1.WhyWarning, tapv1alpha1.WhyUnknown:
			warnings++
		}
		if s.Result == tapv1alpha1.WhyUnknown && slices.Contains([]string{"client", "server", "endpoints"}, s.Name) && strings.HasPrefix(s.Text, knowsNo) {
			unknown = s.Text
		}
	}
	if unknown != "" {
		r.Conclusion = "Whether the call works is not known. " + unknown + " Ask the whole cluster: underlane why."
		return
	}
	if warnings > 0 {
		r.Conclusion = "The call should work. See the warnings above."
	}
}

func name(r filter.Resource) string { return r.String() + " in namespace " + r.Namespace }

// step makes a step.
func step(name, result, format string, args ...any) tapv1alpha1.WhyStep {
	return tapv1alpha1.WhyStep{Name: name, Result: result, Text: fmt.Sprintf(format, args...)}
}

// say adds evidence to a step.
func say(s *tapv1alpha1.WhyStep, format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.Evidence, text) {
		s.Evidence = append(s.Evidence, text)
	}
}

// maxLines bounds the evidence about many things of one kind.
const maxLines = 10

// sayAll adds a line for each of lines, up to maxLines.
func sayAll(s *tapv1alpha1.WhyStep, lines []string) {
	for i, line := range lines {
		if i == maxLines {
			say(s, "and %d more", len(lines)-maxLines)
			return
		}
		say(s, "%s", line)
	}
}

// worsen makes a step's result at least as bad as result.
func worsen(s *tapv1alpha1.WhyStep, result string) {
	order := []string{tapv1alpha1.WhyOK, tapv1alpha1.WhyUnknown, tapv1alpha1.WhyWarning, tapv1alpha1.WhyProblem}
	if slices.Index(order, result) > slices.Index(order, s.Result) {
		s.Result = result
	}
}

func podName(w *mesh.Workload) string { return "pod " + w.Name }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
