package kind

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

func fullPod() *corev1.Pod {
	now := metav1.NewTime(time.Unix(1, 0))
	controls := true
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "b", UID: "c", Labels: map[string]string{"l": "v"}, Annotations: map[string]string{mesh.AnnotationPolicy: "strict", mesh.AnnotationStatus: "x"},
			DeletionTimestamp: &now, CreationTimestamp: now, OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: "j", Controller: &controls}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n", ServiceAccountName: "s", DeprecatedServiceAccount: "d", HostNetwork: true,
			Containers: []corev1.Container{{Ports: ports}}, InitContainers: []corev1.Container{{Ports: ports}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

// TestSamePod: pods differ if one field does, whichever of those that are kept.
func TestSamePod(t *testing.T) {
	a, b := PodOf(fullPod()), PodOf(fullPod())
	b.Annotations[mesh.AnnotationStatus] = "y"
	if !samePod(a, b) {
		t.Error("equal pods are not the same")
	}
	delete(b.Annotations, mesh.AnnotationStatus)
	if !samePod(a, b) || !samePod(b, a) {
		t.Error("the annotation that the controller writes makes a difference")
	}
	if n := testing.AllocsPerRun(10, func() { samePod(a, a) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	fields := 0
	for _, part := range []func(p *translate.Pod) reflect.Value{
		func(p *translate.Pod) reflect.Value { return reflect.ValueOf(&p.ObjectMeta).Elem() },
		func(p *translate.Pod) reflect.Value { return reflect.ValueOf(&p.Spec).Elem() },
		func(p *translate.Pod) reflect.Value { return reflect.ValueOf(&p.Status).Elem() },
	} {
		for i := range part(a).NumField() {
			without := PodOf(fullPod())
			field := part(without).Field(i)
			if field.IsZero() {
				continue // it is not kept
			}
			fields++
			field.SetZero()
			if name := part(without).Type().Field(i).Name; samePod(a, without) || samePod(without, a) {
				t.Errorf("%s makes no difference", name)
			}
		}
	}
	if want := 8 + reflect.TypeFor[translate.PodSpec]().NumField() + reflect.TypeFor[translate.PodStatus]().NumField(); fields != want {
		t.Errorf("%d fields were looked at, want %d", fields, want)
	}
	for what, change := range map[string]func(*translate.Pod){
		"a label":       func(p *translate.Pod) { p.Labels["l"] = "w" },
		"an annotation": func(p *translate.Pod) { p.Annotations[mesh.AnnotationPolicy] = "allow" },
		"a port":        func(p *translate.Pod) { p.Spec.Containers[0].Ports = nil },
		"readiness":     func(p *translate.Pod) { p.Status.Conditions = conditions[1] },
	} {
		other := PodOf(fullPod())
		if change(other); samePod(a, other) {
			t.Errorf("%s makes no difference", what)
		}
	}
}

func fullSlice() *discoveryv1.EndpointSlice {
	now, ready, node, port, name := metav1.NewTime(time.Unix(1, 0)), true, "n", int32(80), "http"
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "b", UID: "c", Labels: map[string]string{discoveryv1.LabelServiceName: "s"},
			Annotations: map[string]string{mesh.AnnotationPolicy: "x"}, DeletionTimestamp: &now,
		},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &ready},
			NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "b", Name: "p"},
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}},
		}},
	}
}

// TestSameIsEqual: the fields of owners, containers and ports all count, and equal ones need no
// allocation.
func TestSameIsEqual(t *testing.T) {
	yes, always, name, port, tcp := true, corev1.ContainerRestartPolicyAlways, "http", int32(80), corev1.ProtocolTCP
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Job", Name: "j", UID: "u", Controller: &yes, BlockOwnerDeletion: &yes}
	stripped := stripContainers([]corev1.Container{{
		Name: "app", Image: "i", Command: []string{"c"}, RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}},
		Env: []corev1.EnvVar{{Name: "e"}}, LivenessProbe: &corev1.Probe{}, Stdin: true,
	}})
	endpointPort := discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &tcp, AppProtocol: &name}
	for _, tc := range []struct {
		what   string
		value  reflect.Value // of which each field that is kept is set to zero
		fields int
		same   func(without any) bool
	}{
		{"owner", reflect.ValueOf(owner), 6, func(o any) bool {
			return sameOwners([]metav1.OwnerReference{owner}, []metav1.OwnerReference{o.(metav1.OwnerReference)})
		}},
		{"container", reflect.ValueOf(stripped[0]), 2, func(o any) bool { return sameContainers(stripped, []corev1.Container{o.(corev1.Container)}) }},
		{"port", reflect.ValueOf(endpointPort), 4, func(o any) bool { return samePort(endpointPort, o.(discoveryv1.EndpointPort)) }},
	} {
		if !tc.same(tc.value.Interface()) {
			t.Errorf("%s: equal ones are not the same", tc.what)
		}
		fields := 0
		for i := range tc.value.NumField() {
			without := reflect.New(tc.value.Type()).Elem()
			without.Set(tc.value)
			if without.Field(i).IsZero() {
				continue
			}
			fields++
			if without.Field(i).SetZero(); tc.same(without.Interface()) {
				t.Errorf("%s: %s makes no difference", tc.what, tc.value.Type().Field(i).Name)
			}
		}
		if fields != tc.fields {
			t.Errorf("%s: %d fields are kept, want %d", tc.what, fields, tc.fields)
		}
	}
	a, b := PodOf(fullPod()), PodOf(fullPod())
	if n := testing.AllocsPerRun(10, func() { samePod(a, b) }); n > 0 {
		t.Errorf("pods that share nothing: %v allocations", n)
	}
	c, d := stripEndpointSlice(fullSlice()), stripEndpointSlice(fullSlice())
	c.Endpoints[0].Hints, d.Endpoints[0].Hints = nil, nil
	if n := testing.AllocsPerRun(10, func() { sameSlice(c, d) }); n > 0 {
		t.Errorf("slices: %v allocations", n)
	}
}

// TestSameSlice: EndpointSlices differ if one field does, whichever of those that are kept.
func TestSameSlice(t *testing.T) {
	of := func() *discoveryv1.EndpointSlice { return stripEndpointSlice(fullSlice()) }
	if !sameSlice(of(), of()) {
		t.Error("equal slices are not the same")
	}
	fields := 0
	for _, part := range []func(s *discoveryv1.EndpointSlice) reflect.Value{
		func(s *discoveryv1.EndpointSlice) reflect.Value { return reflect.ValueOf(s).Elem() },
		func(s *discoveryv1.EndpointSlice) reflect.Value { return reflect.ValueOf(&s.ObjectMeta).Elem() },
		func(s *discoveryv1.EndpointSlice) reflect.Value { return reflect.ValueOf(&s.Endpoints[0]).Elem() },
		func(s *discoveryv1.EndpointSlice) reflect.Value {
			return reflect.ValueOf(&s.Endpoints[0].Conditions).Elem()
		},
		func(s *discoveryv1.EndpointSlice) reflect.Value {
			return reflect.ValueOf(s.Endpoints[0].TargetRef).Elem()
		},
		func(s *discoveryv1.EndpointSlice) reflect.Value { return reflect.ValueOf(&s.Ports[0]).Elem() },
	} {
		for i := range part(of()).NumField() {
			without := of()
			field := part(without).Field(i)
			if field.IsZero() {
				continue // it is not kept
			}
			fields++
			field.SetZero()
			if name := part(without).Type().Field(i).Name; sameSlice(of(), without) || sameSlice(without, of()) {
				t.Errorf("%s makes no difference", name)
			}
		}
	}
	if want := 4 + 6 + 5 + 3 + 3 + 2; fields != want {
		t.Errorf("%d fields were looked at, want %d", fields, want)
	}
	other := of()
	if other.Endpoints[0].Hints.ForZones[0].Name = "y"; sameSlice(of(), other) {
		t.Error("hints make no difference")
	}
}
