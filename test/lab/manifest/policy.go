package manifest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// linkerdPolicies adds the kinds of Linkerd's policies, which the lab only hands on.
func linkerdPolicies(s *runtime.Scheme) error {
	for _, r := range []custom.Resource{custom.LinkerdServers, custom.LinkerdPolicies, custom.LinkerdMeshTLS, custom.LinkerdNetworks} {
		for _, gv := range r.GroupVersions() {
			s.AddKnownTypeWithName(gv.WithKind(r.Kind), &custom.PolicyObject{})
			metav1.AddToGroupVersion(s, gv)
		}
	}
	return nil
}
