package kind

import (
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// arrive returns an object as it comes from the API server: nothing in it is shared.
func arrive[T any, P interface {
	*T
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}](t *testing.T, o P) P {
	t.Helper()
	b, err := o.Marshal()
	out := P(new(T))
	if err == nil {
		err = out.Unmarshal(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// replica is a pod as a ReplicaSet and a kubelet make it, of ten of each ReplicaSet.
func replica(i int) *corev1.Pod {
	app, ip := fmt.Sprint("app-", i/10), fmt.Sprintf("10.1.%d.%d", i>>8, i&255)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-7c5bf8d6f9-%05d", app, i), Namespace: "shop", UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i)),
			Labels:          map[string]string{"app": app, "pod-template-hash": "7c5bf8d6f9", "version": "v1"},
			Annotations:     map[string]string{"underlane.io/enrolled": "true", "underlane.io/status": "enrolled", "foreign": "x"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-7c5bf8d6f9", Controller: &yes}},
		},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprint("node-", i%7), ServiceAccountName: app, DeprecatedServiceAccount: app,
			Containers: []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func storeOf[T metav1.Object](t *testing.T) *StoreOf[T] {
	for _, k := range All {
		if s, ok := k.NewStore(func() {}).(*StoreOf[T]); ok {
			return s
		}
	}
	t.Fatal("no such kind")
	return nil
}

// TestSiblingsShare: pods of a ReplicaSet share what is equal, also after one has changed, and
// are what they would be alone.
func TestSiblingsShare(t *testing.T) {
	s := storeOf[*translate.Pod](t)
	put := func(p *corev1.Pod) *translate.Pod {
		p = arrive(t, p)
		if err := s.Update(p); err != nil {
			t.Fatal(err)
		}
		got, _ := s.Get(p.UID)
		want := PodOf(p)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("-alone +shared:", diff)
		}
		return got
	}
	a, b := put(replica(0)), put(replica(1))
	same := func(when string, want bool, a, b any) {
		t.Helper()
		if got := reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer(); got != want {
			t.Errorf("%s: shared %v", when, got)
		}
	}
	same("labels of siblings", true, a.Labels, b.Labels)
	same("annotations of siblings", true, a.Annotations, b.Annotations)
	same("owners of siblings", true, a.OwnerReferences, b.OwnerReferences)
	same("containers of siblings", true, a.Spec.Containers, b.Spec.Containers)
	other := put(replica(10))
	same("labels of others", false, a.Labels, other.Labels)
	changed := replica(1)
	changed.Status.Conditions[1].Status = corev1.ConditionFalse
	changed.Labels["version"] = "v2"
	b = put(changed)
	same("labels that have changed", false, a.Labels, b.Labels)
	same("annotations that have not", true, a.Annotations, b.Annotations)
	both := replica(2)
	both.Status.PodIPs = append(both.Status.PodIPs, corev1.PodIP{IP: "fd00::1"})
	if err := s.Update(both); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get(both.UID); len(got.Status.PodIPs) != 2 {
		t.Error("an address of the other family is lost")
	}
}

// TestStoreIsSmall holds what a pod and an endpoint take, as they come from the API server.
func TestStoreIsSmall(t *testing.T) {
	const n = 4000
	size := func(fill func()) int {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		fill()
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int(after.HeapAlloc-before.HeapAlloc) / n
	}
	pods, slices := storeOf[*translate.Pod](t), storeOf[*discoveryv1.EndpointSlice](t)
	pod := size(func() {
		for i := range n {
			if err := pods.Update(arrive(t, replica(i))); err != nil {
				t.Fatal(err)
			}
		}
		pods.news = nil
	})
	endpoint := size(func() {
		for i := 0; i < n; i += 100 {
			of := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprint("s-", i), Namespace: "shop", UID: types.UID(fmt.Sprint("u-", i)), Labels: map[string]string{discoveryv1.LabelServiceName: "s"},
			}}
			for j := range 100 {
				p := replica(i + j)
				of.Endpoints = append(of.Endpoints, discoveryv1.Endpoint{
					Addresses: []string{p.Status.PodIP}, NodeName: &p.Spec.NodeName, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
					TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: p.Name, UID: p.UID},
				})
			}
			if err := slices.Update(arrive(t, of)); err != nil {
				t.Fatal(err)
			}
		}
		slices.news = nil
	})
	t.Logf("a pod takes %d bytes, an endpoint %d", pod, endpoint)
	if pod > 900 || endpoint > 380 {
		t.Errorf("a pod takes %d bytes, at most 900 are expected; an endpoint %d, at most 380", pod, endpoint)
	}
	runtime.KeepAlive(pods)
	runtime.KeepAlive(slices)
}

// TestRecentIsBounded: what is kept to be shared has a bound, and what is used stays.
func TestRecentIsBounded(t *testing.T) {
	r := recent[int, int]{most: 10}
	r.put(-1, 7)
	for i := range 1000 {
		r.put(i, i)
		if v, ok := r.get(-1); !ok || v != 7 {
			t.Fatal("what is used is gone")
		}
		if n := len(r.now) + len(r.before); n > 21 {
			t.Fatalf("%d values", n)
		}
	}
}

// TestStrippedOnce: what a list was stripped to is stored as it is, and what an object has been
// before is shared with it.
func TestStrippedOnce(t *testing.T) {
	s := storeOf[*translate.Pod](t)
	of, err := s.Strip(arrive(t, replica(3)))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Strip(of); err != nil || again != of {
		t.Errorf("stripped again it is another object: %v", err)
	}
	if m, is := of.(metav1.ObjectMetaAccessor); !is || m.GetObjectMeta().GetName() != replica(3).Name {
		t.Errorf("a Reflector finds no name in a %T", of)
	}
	if err := s.Replace([]any{of}, ""); err != nil {
		t.Fatal(err)
	}
	uid := replica(3).UID
	stored, _ := s.Get(uid)
	if stored != of.(taken[*translate.Pod]).object {
		t.Error("it was copied")
	}
	if err := s.Update(arrive(t, replica(3))); err != nil {
		t.Fatal(err)
	}
	now, _ := s.Get(uid)
	for what, pair := range map[string][2]string{
		"name": {stored.Name, now.Name}, "UID": {string(stored.UID), string(now.UID)}, "address": {stored.Status.PodIP, now.Status.PodIP},
	} {
		if pair[0] != pair[1] || unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("the %s is there twice: %q, %q", what, pair[0], pair[1])
		}
	}
	if unsafe.StringData(string(stored.UID)) != (*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(stored.Name)), len(stored.Name))) {
		t.Error("name and UID are two objects")
	}
	if err := s.Delete(of); err != nil {
		t.Error(err)
	}
	if _, there := s.Get(uid); there {
		t.Error("it is not deleted")
	}
}
