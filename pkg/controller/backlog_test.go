package controller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/translate"
)

func somePod(name string, ready corev1.ConditionStatus) *translate.Pod {
	return &translate.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID("uid-" + name)},
		Status:     translate.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func someSlice(addrs ...string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "slice", UID: "slice"}}
	for _, a := range addrs {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return out
}

// TestRemovalsGoFirst: of many changes, those by which an endpoint is gone are taken in first,
// with policies; the rest follows, each object once and as it is newest.
func TestRemovalsGoFirst(t *testing.T) {
	objects := map[string]metav1.Object{}
	known := func(o metav1.Object) metav1.Object { return objects[fmt.Sprintf("%T", o)+o.GetName()] }
	apply := func(b translate.Batch) {
		for _, c := range b.Changes {
			if k := fmt.Sprintf("%T", c.Object) + c.Object.GetName(); c.Gone {
				delete(objects, k)
			} else {
				objects[k] = c.Object
			}
		}
	}
	apply(translate.Batch{Changes: []translate.Change{{Object: somePod("old", "True")}, {Object: somePod("sick", "True")}, {Object: someSlice("10.0.0.1", "10.0.0.2")}}})

	var all translate.Batch
	for i := range 5 * atOnce {
		all.Changes = append(all.Changes, translate.Change{Object: somePod(fmt.Sprint("new-", i), "True")})
	}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "policy"}}
	first := []translate.Change{
		{Object: somePod("old", "True"), Gone: true}, {Object: somePod("sick", "False")}, {Object: someSlice("10.0.0.2", "10.0.0.3")}, {Object: policy},
	}
	all.Changes = append(all.Changes, first...)

	var b backlog
	now := b.take(all, known)
	for i, want := range first {
		if now.Changes[i] != want {
			t.Errorf("change %d is %T %s", i, now.Changes[i].Object, now.Changes[i].Object.GetName())
		}
	}
	if len(now.Changes) != atOnce || b.empty() {
		t.Errorf("%d changes at once", len(now.Changes))
	}
	apply(now)

	// Meanwhile one of those that wait changes, one that was taken in is gone, and one that
	// waits is gone.
	waits, there := fmt.Sprint("new-", 5*atOnce-1), now.Changes[4].Object.(*translate.Pod)
	newest := somePod(waits, "False")
	apply(b.take(translate.Batch{Changes: []translate.Change{
		{Object: newest}, {Object: there, Gone: true}, {Object: somePod("new-4000", "True"), Gone: true},
	}}, known))
	if known(there) != nil {
		t.Error("a pod that is gone waits")
	}
	for n := 0; !b.empty(); n++ {
		if n > 10 {
			t.Fatal("it does not end")
		}
		now := b.take(translate.Batch{}, known)
		if len(now.Changes) > atOnce {
			t.Errorf("%d changes at once", len(now.Changes))
		}
		apply(now)
	}
	if known(newest) != metav1.Object(newest) {
		t.Error("an object is not as it is newest")
	}
	if known(somePod("new-4000", "True")) != nil {
		t.Error("a pod that is gone came back")
	}
	if got, want := len(objects), 5*atOnce-2+3; got != want {
		t.Errorf("%d objects in the end, want %d", got, want)
	}
	// Few changes pass as they are.
	few := translate.Batch{Changes: first}
	if got := b.take(few, known); &got.Changes[0] != &few.Changes[0] {
		t.Error("few changes are copied")
	}
}
