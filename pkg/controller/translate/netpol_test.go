package translate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
)

// TestPoliciesOfCNIs: a policy of a kind whose selectors are not read keeps the pods that it
// may select from the same-node shortcut, in every version of its kind.
func TestPoliciesOfCNIs(t *testing.T) {
	const pods = `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: other}
status: {podIP: 10.0.0.2}
---
`
	const spec = "\nspec: {endpointSelector: {matchLabels: {app: x}}, tier: Admin}\nspecs: [{nodeSelector: {}}]\n"
	for policy, want := range map[string][2]bool{ // of shop, of other
		"": {},
		"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}" + spec:                                        {true, false},
		"apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}" + spec:                                              {true, true},
		"apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}" + spec:                                   {true, true},
		"apiVersion: policy.networking.k8s.io/v1beta9\nkind: ClusterNetworkPolicy\nmetadata: {name: p}" + spec:                                    {true, true},
		"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: p}" + spec:                                     {true, true},
		"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: p}" + spec:                             {true, true},
		"apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: other}" + spec:                                     {false, true},
		"apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {name: p}" + spec:                                             {true, true},
		"apiVersion: cilium.io/v2\nkind: CiliumEndpoint\nmetadata: {name: p, namespace: shop}" + spec:                                             {},
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: {podSelector: {matchLabels: {x: z}}}": {},
	} {
		o, err := watch.Decode([]byte(pods + policy))
		if err != nil {
			t.Fatal(err)
		}
		got := [2]bool{}
		for _, w := range translate.Translate(o, "td").Workloads {
			got[map[string]int{"shop": 0, "other": 1}[w.Namespace]] = w.NetworkPolicy
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got: %s", policy, diff)
		}
		o.ForeignUnknown = true
		for _, w := range translate.Translate(o, "td").Workloads {
			if !w.NetworkPolicy {
				t.Errorf("%s: there may be others, and %s uses the shortcut", policy, w.Name)
			}
		}
	}
}
