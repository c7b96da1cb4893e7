package rehearse

import (
	"fmt"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// maxCalls bounds the different calls that are judged at once.
const maxCalls = 20_000

// FiguresQuery returns the question for the figures that Collect takes.
func FiguresQuery(namespace string) tapv1alpha1.FiguresQuery {
	return tapv1alpha1.FiguresQuery{
		By: tapv1alpha1.ByWorkload, Side: tapv1alpha1.SideDestination, Namespace: namespace, Window: tapv1alpha1.AuthzWindow,
	}
}

// Collect puts together what is known of the calls to workloads of a namespace, "" for all:
// what agents have recorded of pods with policies, and for the others the figures, which have
// neither ports nor requests. Notes say what is not known.
func Collect(answers []*agentv1.CallsResponse, figures *tapv1alpha1.Figures, namespace string) (*Calls, []string) {
	calls, notes := NewCalls(maxCalls), []string(nil)
	ruled := map[Target]bool{}
	var lost uint64
	for _, m := range answers {
		lost += m.GetLost()
		for _, pod := range m.GetPods() {
			ruled[Target{pod.GetNamespace(), pod.GetOwnerKind(), pod.GetOwnerName()}] = true
		}
		FromAgent(m, func(c Call, count uint64) {
			if namespace == "" || c.Target.Namespace == namespace {
				calls.Add(c, count)
			}
		})
	}
	if lost > 0 {
		notes = append(notes, fmt.Sprintf("%d calls since the agents' start were not recorded, because there were too many different ones", lost))
	}
	coarse := map[Target]bool{}
	if figures != nil {
		FromFigures(figures, func(c Call, count uint64) {
			if ruled[c.Target] || namespace != "" && c.Target.Namespace != namespace {
				return
			}
			coarse[c.Target] = true
			calls.Add(c, count)
		})
	}
	if len(coarse) > 0 {
		notes = append(notes, fmt.Sprintf("%d workloads have no policy, so that ports and requests of their calls are not recorded: with the annotation underlane.io/policy: audit they are", len(coarse)))
	}
	return calls, notes
}
