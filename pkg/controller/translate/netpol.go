package translate

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

type podSelector = labels.Selector

// addNetworkPolicy records which pods np selects. The CNI enforces the policy's
// rules. A selector that cannot be read selects every pod: traffic then takes the
// longer way over the network, which is safer than bypassing the policy.
func (t *translation) addNetworkPolicy(np *networkingv1.NetworkPolicy) {
	sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
	if err != nil {
		t.problem("NetworkPolicy", np.Namespace, np.Name, "podSelector: %v; taken to select every pod", err)
		sel = labels.Everything()
	}
	ns := t.namespace(np.Namespace)
	ns.policies = append(ns.policies, sel)
}

func (ns *namespace) selectedByPolicy(podLabels map[string]string) bool {
	for _, sel := range ns.policies {
		if sel.Matches(labels.Set(podLabels)) {
			return true
		}
	}
	return false
}

// addForeignPolicies records which pods the policies of a CNI may select. Their selectors
// are not read: one with a namespace counts for all pods of that, another for all pods.
func (t *translation) addForeignPolicies(o *Objects) {
	t.wire = o.ForeignUnknown
	for _, p := range o.ForeignPolicies {
		if p.Namespace == "" {
			t.wire = true
		} else {
			t.namespace(p.Namespace).wire = true
		}
	}
}
