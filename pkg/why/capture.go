package why

import (
	"fmt"
	"slices"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// capture says whether the mesh carries a pod's connections in one direction.
type capture struct {
	is  bool
	why string // a sentence's end: "is captured: …"

	outside bool // it is not to be captured: no label, left out, a skipped port
	away    bool // its agent does not answer, or its node has none
	waits   bool // it is labelled, and its agent has not enrolled it (yet)
	unknown bool // nothing is known of its agent: is is a guess
}

// rank orders captures: a pod of the highest one is looked at.
func (c capture) rank() int {
	switch {
	case c.is && !c.unknown:
		return 2
	case c.is:
		return 1
	}
	return 0
}

// enrolled is the state of an enrolled pod in agentv1.Pod.
const enrolled = mesh.PodEnrolled

// captureOf looks at one pod, and at its connections of one direction with a port of the
// server's side.
func (f *Facts) captureOf(w *mesh.Workload, direction mesh.Direction, port uint16) capture {
	switch {
	case w.LeftOut != "":
		return capture{outside: true, why: "is labelled, and left out of the mesh: " + w.LeftOut}
	case w.Observed:
		return capture{outside: true, why: fmt.Sprintf("is not in the mesh, only watched: the label %s is %q", mesh.LabelMesh, mesh.LabelObserve)}
	case !w.Meshed && w.OwnLabel:
		return capture{outside: true, why: fmt.Sprintf("is not in the mesh: its label %s is not %q", mesh.LabelMesh, mesh.LabelEnabled)}
	case !w.Meshed:
		return capture{outside: true, why: fmt.Sprintf("is not in the mesh: neither the pod nor its namespace has the label %s: %s", mesh.LabelMesh, mesh.LabelEnabled)}
	case w.Node == "":
		return capture{waits: true, why: "is not on a node yet"}
	}
	skipped, annotation := w.Settings.SkipOutboundPorts, mesh.AnnotationSkipOutboundPorts
	if direction == mesh.Inbound {
		skipped, annotation = w.Settings.SkipInboundPorts, mesh.AnnotationSkipInboundPorts
	}
	if port != 0 && mesh.InRanges(skipped, port) {
		return capture{outside: true, why: fmt.Sprintf("is in the mesh, but connections to port %d are left alone (%s)", port, annotation)}
	}
	agent := f.Agents[w.Node]
	switch {
	case agent == nil && f.Alone, agent != nil && agent.Unasked:
		return capture{is: true, unknown: true, why: "is in the mesh; the agent of " + w.Node + " was not asked"}
	case agent == nil:
		return capture{away: true, why: "is labelled, and its node " + w.Node + " has no agent"}
	case agent.Status == nil:
		return capture{away: true, why: "is labelled, and the agent of its node does not answer: " + agent.Err}
	}
	i := slices.IndexFunc(agent.Status.GetPods(), func(p *agentv1.Pod) bool {
		return p.GetNamespace() == w.Namespace && p.GetName() == w.Name
	})
	if i < 0 {
		return capture{waits: true, why: "is labelled, and the agent of " + w.Node + " does not know it yet"}
	}
	if p := agent.Status.GetPods()[i]; p.GetState() != enrolled {
		why := fmt.Sprintf("is labelled, and not enrolled on %s: %s", w.Node, p.GetState())
		if p.GetReason() != "" {
			why += ": " + p.GetReason()
		}
		return capture{waits: true, why: why}
	}
	return capture{is: true, why: "is captured: labelled, and enrolled by the agent of " + w.Node}
}

// agentOf returns the agent of a pod's node if it answers, else nil.
func (f *Facts) agentOf(w *mesh.Workload) *Agent {
	if a := f.Agents[w.Node]; a != nil && a.Status != nil {
		return a
	}
	return nil
}

// preMesh is the number of connections of a pod that the mesh does not carry because they
// are older than its enrolment.
func (f *Facts) preMesh(w *mesh.Workload) uint32 {
	for _, p := range f.agentOf(w).pods() {
		if p.GetNamespace() == w.Namespace && p.GetName() == w.Name {
			return p.GetPreMeshConnections()
		}
	}
	return 0
}

func (a *Agent) pods() []*agentv1.Pod {
	if a == nil {
		return nil
	}
	return a.Status.GetPods()
}

// certificate returns the state of an identity's certificate on a node, and what is wrong
// with it. "" if nothing is known.
func (f *Facts) certificate(w *mesh.Workload) (state, problem string) {
	a := f.agentOf(w)
	if a == nil {
		return "", ""
	}
	for _, c := range a.Status.GetCertificates() {
		if c.GetIdentity() == w.Identity.String() {
			return c.GetState(), c.GetLastError()
		}
	}
	return "", ""
}
