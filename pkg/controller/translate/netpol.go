package translate

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/pkg/controller/depend"
)

type podSelector = labels.Selector

// namespaceUnit is a namespace with what selects its pods beside policies.
type namespaceUnit struct {
	depend.Node
	tr       *Translator
	name     string
	object   *corev1.Namespace
	policies map[string]*networkingv1.NetworkPolicy
	foreign  int // policies of a CNI
	value    namespace
}

// Compute reads the namespace. It depends on its NetworkPolicies, and on the policies of CNIs.
// Where only its NetworkPolicies have changed, it marks the pods that these select.
func (u *namespaceUnit) Compute() bool {
	t := u.tr.translation()
	old := u.value
	ns := namespace{settings: u.tr.config.Policy.settings(), mode: u.tr.config.Policy.mode}
	if u.object != nil {
		t.readNamespace(u.object, &ns)
	}
	u.tr.graph.Read(&u.tr.wire)
	// The selectors of a CNI's policies are not read: one with a namespace counts for all pods
	// of that, another for all pods.
	ns.wire = ns.wire || u.foreign > 0 || u.tr.foreign > 0 || u.tr.foreignUnknown
	for _, np := range slices.SortedFunc(maps.Values(u.policies), func(a, b *networkingv1.NetworkPolicy) int { return cmp.Compare(a.Name, b.Name) }) {
		ns.policies = append(ns.policies, t.networkPolicy(np))
	}
	u.value = ns
	u.tr.out.say(&u.Node, &t.Result)
	if !ns.equal(&old) {
		return true
	}
	if selectors := ns.otherPolicies(&old); len(selectors) > 0 {
		for w := range u.tr.pods(u.name).selected(selectors) {
			u.tr.graph.Mark(&w.base.Node)
		}
	}
	return false
}

// networkPolicy returns which pods np selects. The CNI enforces the policy's rules. A selector
// that cannot be read selects every pod: traffic then takes the longer way over the network,
// which is safer than bypassing the policy.
func (t *translation) networkPolicy(np *networkingv1.NetworkPolicy) podSelector {
	sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
	if err != nil {
		t.problem("NetworkPolicy", np.Namespace, np.Name, "podSelector: %v; taken to select every pod", err)
		return labels.Everything()
	}
	return sel
}

func (ns *namespace) selectedByPolicy(podLabels map[string]string) bool {
	for _, sel := range ns.policies {
		if sel.Matches(labels.Set(podLabels)) {
			return true
		}
	}
	return false
}
