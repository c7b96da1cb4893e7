package enrol

import (
	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// A pod that starts while the controller is away is enrolled by what is known without it:
// its own label and annotations, which the runtime tells, and those of its namespace, which
// other pods of the namespace show that the controller has told of before. What is not
// known is taken to be the stricter: a pod that is open for some minutes although its
// namespace is strict is worse than one that its clients outside the mesh cannot reach.

// inherited is what the pods of a namespace inherit from it.
type inherited struct {
	labelled bool // false also if no pod shows it
	// authorized: policies apply to pods of the namespace. They may apply to the pod as
	// well, so it refuses all clients until the controller has sent the pod.
	authorized bool
	settings   mesh.Settings
}

// namespaceOf returns what the pods of a namespace that the view has show of it. If none
// shows its settings, the policy is strict.
func namespaceOf(view *state.View, namespace string) inherited {
	out := inherited{settings: mesh.Settings{Policy: mesh.PolicyStrict}}
	if namespace == mesh.SystemNamespace {
		return out // its pods are labelled in vain
	}
	for w := range view.InNamespace(namespace) {
		out.authorized = out.authorized || w.Authorized
		if !w.OwnLabel {
			out.labelled = w.Meshed || w.LeftOut != ""
		}
		if !w.OwnSettings {
			out.settings.Policy, out.settings.FailClosed = w.Settings.Policy, w.Settings.FailClosed
		}
	}
	return out
}

// unconfirmed makes the workload of a pod of which the controller has not told yet. It has
// no identity until then.
func (s *Sandboxes) unconfirmed(box nri.Sandbox, from inherited) *mesh.Workload {
	w := &mesh.Workload{
		UID: box.UID, Name: box.Name, Namespace: box.Namespace, Node: s.Node,
		OwnerKind: "pod", OwnerName: box.Name, Meshed: true, Settings: from.settings,
		Authorized: from.authorized,
	}
	switch box.Annotations[mesh.AnnotationPolicy] {
	case mesh.PolicyStrict.String():
		w.Settings.Policy = mesh.PolicyStrict
	case mesh.PolicyAllow.String():
		w.Settings.Policy = mesh.PolicyAllow
	case "":
	default:
		w.Authorized = true // by a mode that only the controller reads
	}
	if box.Annotations[mesh.AnnotationLinkerdPolicy] != "" {
		w.Authorized = true
	}
	switch box.Annotations[mesh.AnnotationFailMode] {
	case "":
	case "open":
		w.Settings.FailClosed = false
	default: // as the controller takes what it does not know
		w.Settings.FailClosed = true
	}
	return w
}
