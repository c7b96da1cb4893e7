package manifest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// policies adds the kinds of authorization policies, which the lab only hands on.
func policies(s *runtime.Scheme) error {
	for _, r := range custom.PolicyObjects {
		for _, gv := range r.GroupVersions() {
			s.AddKnownTypeWithName(gv.WithKind(r.Kind), &custom.PolicyObject{})
			metav1.AddToGroupVersion(s, gv)
		}
	}
	return nil
}
