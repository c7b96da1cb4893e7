package manifest

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// policies adds the kinds of authorization policies, and those of networks' policies that only a
// CNI understands. The lab only hands them on.
func policies(s *runtime.Scheme) error {
	for _, r := range slices.Concat(custom.PolicyObjects, custom.ForeignPolicies) {
		for _, gv := range r.GroupVersions() {
			s.AddKnownTypeWithName(gv.WithKind(r.Kind), &custom.PolicyObject{})
			metav1.AddToGroupVersion(s, gv)
		}
	}
	return nil
}

// ofCluster reports whether an object is a network policy of a kind without namespaces.
func ofCluster(obj metav1.Object) bool {
	p, is := obj.(*custom.PolicyObject)
	return is && custom.IsForeign(p.GroupVersionKind().Group) &&
		slices.ContainsFunc([]string{"Cluster", "Global", "Admin"}, func(word string) bool { return strings.Contains(p.Kind, word) })
}

// egress adds EgressNetworks and the routes that have one as parent.
func egress(s *runtime.Scheme) error {
	for _, of := range []struct {
		custom.Resource
		object runtime.Object
	}{
		{custom.TLSRoutes, &gatewayv1.TLSRoute{}}, {custom.TCPRoutes, &gatewayv1.TCPRoute{}}, {custom.EgressNetworks, &custom.EgressNetwork{}},
	} {
		for _, gv := range of.GroupVersions() {
			s.AddKnownTypeWithName(gv.WithKind(of.Kind), of.object)
			metav1.AddToGroupVersion(s, gv)
		}
	}
	return nil
}
