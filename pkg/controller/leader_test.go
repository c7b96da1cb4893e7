package controller

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestAddressOfLeader: the leader is found on the pods' network and on the host's.
func TestAddressOfLeader(t *testing.T) {
	workloads := []*mesh.Workload{
		{Namespace: "a", Name: "leader", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}},
		{Namespace: "underlane-system", Name: "pod", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}},
	}
	pods := []*translate.Pod{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "host"}, Status: translate.PodStatus{PodIP: "192.0.2.9"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "underlane-system", Name: "host"}, Spec: translate.PodSpec{HostNetwork: true}, Status: translate.PodStatus{PodIP: "192.0.2.1"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "underlane-system", Name: "six"}, Status: translate.PodStatus{PodIPs: []corev1.PodIP{{IP: "2001:db8::1"}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "underlane-system", Name: "starting"}},
	}
	for name, want := range map[string]string{"pod": "10.0.0.1", "host": "192.0.2.1", "six": "2001:db8::1", "starting": "invalid IP", "gone": "invalid IP"} {
		if got := addrOf("underlane-system", name, slices.Values(workloads), func() []*translate.Pod { return pods }); got.String() != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
}
