package tapapi

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// selection is a target and a selector for the labels of its pods.
type selection struct {
	filter.Resource
	selector labels.Selector // nil selects every pod
	labels   func(uid string) map[string]string
}

// Matches reports whether w is a pod of the target and the selector selects its
// labels.
func (s selection) Matches(w *mesh.Workload) bool {
	return s.Resource.Matches(w) && (s.selector == nil || s.selector.Matches(labels.Set(s.labels(w.UID))))
}

// pods returns the pods that match, for the agents. It returns nil when the target
// alone is sufficient.
func (s selection) pods(workloads []*mesh.Workload) *agentv1.TapRequest_PodSet {
	if s.selector == nil {
		return nil
	}
	set := &agentv1.TapRequest_PodSet{}
	for _, w := range workloads {
		if s.Matches(w) {
			set.Uids = append(set.Uids, w.UID)
		}
	}
	slices.Sort(set.Uids)
	return set
}

// String returns the target's name and selector.
func (s selection) String() string {
	if s.selector == nil {
		return s.Resource.String()
	}
	return s.Resource.String() + " with labels " + s.selector.String()
}

// concerned returns the nodes whose agents report events of target. These are the
// nodes of its meshed pods. Traffic to a service is reported by the agents of its
// clients, and so is the traffic of meshed pods to a target without meshed pods. In
// both cases the result is every node that has a meshed pod.
func concerned(target selection, workloads []*mesh.Workload, nodes []fanin.Node) []fanin.Node {
	own, all := map[string]bool{}, map[string]bool{}
	for _, w := range workloads {
		if w.Meshed {
			all[w.Node] = true
			own[w.Node] = own[w.Node] || target.Matches(w)
		}
	}
	wanted := all
	if slices.ContainsFunc(workloads, func(w *mesh.Workload) bool { return w.Meshed && target.Matches(w) }) {
		wanted = own
	}
	var out []fanin.Node
	for _, n := range nodes {
		if wanted[n.Name] {
			out = append(out, n)
		}
	}
	return out
}

// examine checks a named target. It returns err when there is nothing to tap, and a
// warning when the tap shows less than the user may expect.
func examine(target selection, workloads []*mesh.Workload, services []*mesh.Service) (warning string, err error) {
	if target.Kind == filter.KindService {
		for _, s := range services {
			if s.Name == target.Name && s.Namespace == target.Namespace {
				return "", nil
			}
		}
		return "", notFound("services", target.Name, fmt.Sprintf("there is no service %s in namespace %s", target.Name, target.Namespace))
	}
	pods, meshed := 0, 0
	for _, w := range workloads {
		if target.Matches(w) {
			pods++
			if w.Meshed {
				meshed++
			}
		}
	}
	switch {
	case pods == 0 && target.selector == nil && target.Name != "" && target.Kind != filter.KindNamespace:
		return "", notFound(string(target.Kind)+"s", target.Name, fmt.Sprintf("there is no pod of %s in namespace %s", target, target.Namespace))
	case pods == 0:
		return fmt.Sprintf("%s has no pods yet", target), nil
	case meshed == 0:
		return fmt.Sprintf("no pod of %s is in the mesh: only what meshed pods send to it is seen (label %s: %s)", target, mesh.LabelMesh, mesh.LabelEnabled), nil
	case meshed < pods:
		return fmt.Sprintf("%d of %d pods of %s are not in the mesh", pods-meshed, pods, target), nil
	}
	return "", nil
}
