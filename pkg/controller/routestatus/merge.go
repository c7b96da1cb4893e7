package routestatus

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// mostParents returns the maximum number of parents that the API allows in a
// status.
func mostParents(kind string) int {
	if formOf(kind) == parents {
		return 32
	}
	return 16
}

// Merge returns the new parents of a route's status. It keeps the entries of other
// controllers as they are, and replaces Underlane's by want. A condition keeps the
// time of its last transition while its status stays the same. Conditions of other
// types on Underlane's parents stay. changed reports whether there is anything to
// write.
func Merge(now []gatewayv1.RouteParentStatus, want []gatewayv1.RouteParentStatus, at metav1.Time, most int) (merged []gatewayv1.RouteParentStatus, changed bool) {
	merged = []gatewayv1.RouteParentStatus{} // the API requires a list, not null
	ours := map[int]bool{}
	for _, have := range now {
		if have.ControllerName != translate.ControllerName {
			merged = append(merged, have)
			continue
		}
		i := slices.IndexFunc(want, func(w gatewayv1.RouteParentStatus) bool { return sameParent(&w.ParentRef, &have.ParentRef) })
		if i < 0 || ours[i] {
			continue // the route no longer has this parent
		}
		ours[i] = true
		merged = append(merged, update(*have.DeepCopy(), want[i].Conditions, at))
	}
	for i, w := range want {
		if !ours[i] && len(merged) < most {
			merged = append(merged, update(gatewayv1.RouteParentStatus{ParentRef: w.ParentRef, ControllerName: w.ControllerName}, w.Conditions, at))
		}
	}
	return merged, len(merged) != len(now) || !equality.Semantic.DeepEqual(merged, now)
}

func update(p gatewayv1.RouteParentStatus, conditions []metav1.Condition, at metav1.Time) gatewayv1.RouteParentStatus {
	for _, c := range conditions {
		c.LastTransitionTime = at
		meta.SetStatusCondition(&p.Conditions, c)
	}
	return p
}

func sameParent(a, b *gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(a, b) }
